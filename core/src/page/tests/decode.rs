//! Blocks decode to what reading entry by entry gives, whatever their bytes are.

use crate::key::{Pos, Tid};
use crate::page::{BlockView, Entries, encode_block};
use crate::sim::Rng;

fn same_both_ways(view: &BlockView<'_, 1>, columns: &mut Entries<1>) {
    for from in [0, view.len() / 2] {
        let count = view.decode(from, view.len(), columns);
        for i in 0..count {
            assert_eq!(columns.pos(i), view.pos(from + i), "entry {i} from {from}");
        }
    }
}

/// Encodes 60 entries; they have to be what the block decodes to, and reads as.
fn check_block(entries: &[Pos<1>], columns: &mut Entries<1>) {
    let mut bytes = [0; 1200];
    let len = encode_block(entries, None, &mut bytes).unwrap();
    let view = BlockView::<1>::parse(&bytes, len, 60, 0, false, false).unwrap();
    assert_eq!(view.decode(0, 60, columns), 60);
    for (i, pos) in entries.iter().enumerate() {
        assert_eq!(columns.pos(i), *pos);
    }
    same_both_ways(&view, columns);
}

/// The TID of a row of a table with `per_page` on each page.
fn tid(row: u64, per_page: u64) -> Tid {
    (row / per_page) << 16 | (row % per_page + 1)
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
                tid: tid(row, per_page),
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
            check_block(&entries(first, per_page), &mut columns);
        }
    }
}

/// Ordinals of up to 31 bits are divided another way than larger ones, all by a product.
#[test]
fn rows_decode_to_their_pages_whatever_is_on_one() {
    const NARROW: u64 = 1 << 31;
    let mut columns = Entries::default();
    let mut rng = Rng::new(31);
    let stride = if cfg!(miri) { 409 } else { 1 };
    for per_page in (1..=2048).step_by(stride) {
        for most in [300 * per_page, NARROW, 2 * NARROW, per_page << 32] {
            // The ends of pages and of what is below `most`, and rows in no order; one
            // of them is the last of its page, which says how many a page has.
            let last = most / per_page * per_page - 1;
            let mut rows = vec![0, last, most - 1, per_page - 1, per_page];
            rows.extend((0..20).map(|_| rng.below(most / per_page) * per_page + per_page - 1));
            rows.extend((0..20).map(|_| rng.below(most / per_page) * per_page));
            rows.extend((0..15).map(|_| rng.below(most)));
            let entries: Vec<Pos<1>> = (1000..)
                .zip(&rows)
                .map(|(key, row)| Pos {
                    rank: 0,
                    vals: [key],
                    tid: tid(*row, per_page),
                })
                .collect();
            check_block(&entries, &mut columns);
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
