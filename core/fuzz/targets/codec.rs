//! Encoding and decoding columns of any values, and decoding any bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use omen_core::codec::{Codec, Column, Encoded, MAX_VALUES, encode, encode_as};

/// Values whose neighbours have something to do with each other: differences
/// of a byte, a half word or a word, by the first byte.
fn values(data: &[u8]) -> Vec<u64> {
    let [form, data @ ..] = data else {
        return Vec::new();
    };
    let width = [1, 2, 4, 8][usize::from(form % 4)];
    let mut at = 0u64;
    data.chunks(width)
        .take(MAX_VALUES)
        .map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            let word = u64::from_le_bytes(word);
            at = if form & 4 == 0 {
                at.wrapping_add(word)
            } else {
                word
            };
            at
        })
        .collect()
}

fn same(column: &Column<'_>, values: &[u64]) {
    let mut decoded = [0; MAX_VALUES];
    column.decode(0, &mut decoded[..values.len()]);
    assert_eq!(&decoded[..values.len()], values);
    let middle = values.len() / 2;
    column.decode(middle, &mut decoded[..values.len() - middle]);
    assert_eq!(&decoded[..values.len() - middle], &values[middle..]);
    for (i, value) in values.iter().enumerate() {
        assert_eq!(column.get(i), *value);
    }
    if values.is_sorted() {
        for value in values {
            let first = values.partition_point(|v| v < value);
            assert_eq!(column.lower_bound(0, values.len(), *value), first);
            let behind = values.partition_point(|v| v <= value);
            let range = column.equal_range(0, values.len(), *value, |_| ());
            assert_eq!(range, Ok((first, behind)));
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let values = values(data);
    let mut out = [0xa5; 16 * MAX_VALUES + 64];
    match encode(&values, &mut out) {
        Ok(Encoded { len, codec, .. }) => {
            assert!(len <= 8 * values.len() + 2);
            let (column, used) = Column::parse(&out, values.len()).expect("as written");
            assert_eq!((used, column.codec()), (len, codec));
            same(&column, &values);
        }
        Err(_) => assert!(values.is_empty()),
    }
    for codec in Codec::ALL {
        if let Ok(Some(Encoded { len, .. })) = encode_as(codec, &values, &mut out) {
            let (column, used) = Column::parse(&out, values.len()).expect("as written");
            assert_eq!((used, column.codec()), (len, codec));
            same(&column, &values);
        }
    }
    // Any bytes.
    let [n, bytes @ ..] = data else { return };
    let n = usize::from(*n) + 1;
    if let Some((column, used)) = Column::parse(bytes, n) {
        assert!(used <= bytes.len());
        column.decode(0, &mut [0; MAX_VALUES][..n.min(MAX_VALUES)]);
        for x in [0, column.get(n / 2), u64::MAX] {
            assert!(column.lower_bound(0, n, x) <= n);
            let range = column.equal_range(0, n, x, |_| ());
            let (first, behind) = range.unwrap_or_else(|at| (at, at));
            assert!(first <= behind && behind <= n);
        }
    }
});
