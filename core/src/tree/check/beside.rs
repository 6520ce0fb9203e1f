//! Verifying an index while others write to it. What is read under one lock
//! hold has to agree with itself; a link is followed under the lock of the page
//! that it stands on; and every leaf has to be found from the root.

use super::leaf::LeafChecker;
use super::{CheckReport, Witness};
use crate::error::{Error, Result};
use crate::key::{Block, INVALID_BLOCK, Pos};
use crate::page::{self, Header, Kind};
use crate::store::{PageGuard, PageStore};
use crate::tree::descend::{Arrival, Target, arrive, fences};
use crate::tree::{MAX_DESCENTS, MAX_HOPS, Tree};

/// Checks every leaf from left to right, and passes it to `witness`. Of a leaf
/// that was merged away meanwhile, the rest of the leaf that took it over is
/// passed. Finds no more than the stretch of the tree that is on the way:
/// [`super::check`] wants quiet and sees all.
///
/// # Errors
/// [`Error::Corrupt`] for the first fault found, [`Error::OutOfMemory`], or what
/// the witness returns.
pub fn check_beside_writers<S: PageStore, const V: usize>(
    tree: &Tree<'_, S, V>,
    witness: &mut impl Witness<V>,
) -> Result<CheckReport> {
    let mut report = CheckReport {
        height: tree.meta()?.root_level,
        ..CheckReport::default()
    };
    let mut checker = LeafChecker::new();
    let mut low = Pos::MIN;
    loop {
        let (guard, header) = find_linked_leaf(tree, low)?;
        let block = guard.block();
        let (_, high) = fences::<V>(&guard, &header);
        check_right_sibling::<S, V>(tree, &guard, &header)?;
        let entries = checker.entries(&guard, block)?;
        let new = entries.get(entries.partition_point(|pos| *pos < low)..);
        let pin = guard.into_pin();
        let new = new.unwrap_or(&[]);
        witness.leaf(block, new)?;
        drop(pin);
        report.leaves += 1;
        report.entries += new.len() as u64;
        report.incomplete += u32::from(header.split_incomplete());
        tree.store().breathe()?;
        match high {
            Some(high) => low = high,
            None => return Ok(report),
        }
    }
}

/// The leaf that owns `low`, found from the root. A parent has to point to it,
/// or its left sibling has to say that its split is not finished.
fn find_linked_leaf<S: PageStore, const V: usize>(
    tree: &Tree<'_, S, V>,
    low: Pos<V>,
) -> Result<(S::Shared, Header)> {
    let target = Target::At(low);
    let mut last = 0;
    for _ in 0..MAX_DESCENTS {
        let start = tree.fresh_root()?;
        let mut at = match tree.down(start, 0, &target)? {
            Ok(found) => found,
            Err(block) => {
                last = block;
                tree.store().breathe()?;
                continue;
            }
        };
        let mut linked = true;
        for _ in 0..MAX_HOPS {
            last = at.block;
            let Some(guard) = tree.store().read(at.block)? else {
                break;
            };
            let header = page::header(&guard, at.block)?;
            match arrive(&guard, &header, 0, &target, &at.promise) {
                // A split that was finished after the parent was read looks
                // like a missing downlink, but not twice.
                Arrival::Owns if linked => return Ok((guard, header)),
                Arrival::Owns | Arrival::Stale => break,
                Arrival::Right(right) => {
                    linked &= header.split_incomplete();
                    let (_, high) = fences::<V>(&guard, &header);
                    at.promise = at.promise.of_right_sibling(high);
                    at.block = right;
                }
            }
        }
        tree.store().breathe()?;
    }
    Err(Error::Corrupt {
        block: last,
        what: "no parent leads to this page",
    })
}

/// Compares the links and fences of a locked leaf and its right sibling, unless
/// that is locked by somebody: to wait could be a deadlock with recovery.
fn check_right_sibling<S: PageStore, const V: usize>(
    tree: &Tree<'_, S, V>,
    guard: &S::Shared,
    header: &Header,
) -> Result<()> {
    let (_, high) = fences::<V>(guard, header);
    let corrupt = |block: Block, what| Err(Error::Corrupt { block, what });
    let right = match (high, header.right) {
        (None, INVALID_BLOCK) => return Ok(()),
        (Some(_), right) if right != INVALID_BLOCK && right != guard.block() => right,
        _ => {
            let what = "the right link does not fit the high fence";
            return corrupt(guard.block(), what);
        }
    };
    if right >= tree.store().pages()? {
        return corrupt(guard.block(), "the right link leads out of the index");
    }
    let Some(sibling) = tree.store().try_write(right)? else {
        return Ok(());
    };
    let found = page::header(&sibling, right)?;
    if found.kind != Kind::Leaf {
        return corrupt(
            guard.block(),
            "the right link leads to a page of another kind",
        );
    }
    if Some(fences::<V>(&sibling, &found).0) != high {
        return corrupt(right, "the low fence is not the left sibling's high fence");
    }
    if found.left != guard.block() {
        return corrupt(right, "the left link does not lead to the left sibling");
    }
    Ok(())
}
