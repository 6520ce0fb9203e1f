//! Sorting what may be much.

use pgrx::check_for_interrupts;

/// Elements sorted at once, between two looks at interrupts: some tenths of a
/// second.
const SORT_PIECE: usize = 1 << 22;

/// Sorts, looking at interrupts now and then. After an ERROR the list has the same
/// elements, in any order.
pub(super) fn sort<T: Ord>(list: &mut [T]) {
    check_for_interrupts!();
    if list.len() <= SORT_PIECE {
        list.sort_unstable();
        return;
    }
    let middle = list.len() / 2;
    let (low, _, high) = list.select_nth_unstable(middle);
    sort(low);
    sort(high);
}
