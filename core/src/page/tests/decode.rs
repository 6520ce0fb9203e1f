//! Blocks decode to what reading entry by entry gives, whatever their bytes are.

use crate::key::{Pos, Tid};
use crate::page::{BlockView, Entries, encode_block};

fn same_both_ways(view: &BlockView<'_, 1>, columns: &mut Entries<1>) {
    for from in [0, view.len() / 2] {
        let count = view.decode(from, view.len(), columns);
        for i in 0..count {
            assert_eq!(columns.pos(i), view.pos(from + i), "entry {i} from {from}");
        }
    }
}

/// Entries with consecutive keys, whose rows are consecutive with `per_page` a page
/// from `first` on.
fn entries(first: Tid, per_page: u64) -> Vec<Pos<1>> {
    let (block, offset) = (first >> 16, first & 0xffff);
    (0..60)
        .map(|i| {
            let row = block * per_page + offset - 1 + i;
            Pos {
                rank: 0,
                vals: [1000 + i],
                tid: (row / per_page) << 16 | (row % per_page + 1),
            }
        })
        .collect()
}

#[test]
fn consecutive_rows_decode_page_by_page() {
    let mut columns = Entries::default();
    for per_page in [1, 2, 7, 59, 60, 61, 226, 2048] {
        for first in [
            1,
            1 << 16 | 1,
            5 << 16 | per_page,
            (u64::from(u32::MAX) - 60) << 16 | 1,
        ] {
            let entries = entries(first, per_page);
            let mut bytes = [0; 600];
            let len = encode_block(&entries, None, &mut bytes).unwrap();
            let view = BlockView::<1>::parse(&bytes, len, 60, 0, false, false).unwrap();
            assert_eq!(view.decode(0, 60, &mut columns), 60);
            for (i, pos) in entries.iter().enumerate() {
                assert_eq!(columns.pos(i), *pos);
            }
            same_both_ways(&view, &mut columns);
        }
    }
}

#[test]
fn a_block_with_another_byte_decodes_as_it_reads() {
    let mut columns = Entries::default();
    let mut parsed = 0;
    for first in [3, 5 << 16 | 1] {
        let mut bytes = [0; 600];
        let len = encode_block(&entries(first, 7), None, &mut bytes).unwrap();
        for at in 0..len {
            for value in 0..=u8::MAX {
                let mut bytes = bytes;
                bytes[at] = value;
                if let Some(view) = BlockView::<1>::parse(&bytes, len, 60, 0, false, false) {
                    same_both_ways(&view, &mut columns);
                    parsed += 1;
                }
            }
        }
    }
    assert!(parsed > 1000, "{parsed}");
}
