//! Datum <-> lanes in ascending order of the type, before `DESC` is applied.
//!
//! Integers and the types made of them are sign-extended to 64 bits and
//! biased, so that a constant of another integer width has a lane in the same
//! order even where it is out of the column's range. The wider lane costs
//! nothing: leaves store differences.

use pgrx::pg_sys::Datum;

use super::KeyType;

pub(super) const SIGN64: u64 = 1 << 63;
const SIGN32: u32 = 1 << 31;

/// The lane of a signed integer.
#[inline]
pub(super) const fn from_i64(value: i64) -> u64 {
    value.cast_unsigned() ^ SIGN64
}

/// The integer of a lane.
#[inline]
const fn to_i64(lane: u64) -> i64 {
    (lane ^ SIGN64).cast_signed()
}

/// The lane of a `float8`. Equal values have one lane: -0.0 that of 0.0, and
/// NaNs of any sign and payload that of the positive quiet NaN, which is above
/// infinity as in `float8_cmp_internal`.
#[inline]
pub(super) fn from_f64(value: f64) -> u64 {
    let bits = if value.is_nan() {
        0x7FF8_0000_0000_0000
    } else {
        // -0.0 + 0.0 is 0.0; all other values stay.
        (value + 0.0).to_bits()
    };
    bits ^ ((bits.cast_signed() >> 63).cast_unsigned() | SIGN64)
}

/// The value of a `float8` lane; 0.0 for a zero of either sign.
#[inline]
fn to_f64(lane: u64) -> f64 {
    let flip = if lane & SIGN64 == 0 { u64::MAX } else { SIGN64 };
    f64::from_bits(lane ^ flip)
}

/// The lane of a `float4`, canonical as in [`from_f64`].
#[inline]
pub(super) fn from_f32(value: f32) -> u64 {
    let bits = if value.is_nan() {
        0x7FC0_0000
    } else {
        (value + 0.0).to_bits()
    };
    u64::from(bits ^ ((bits.cast_signed() >> 31).cast_unsigned() | SIGN32))
}

/// The value of a `float4` lane.
#[inline]
fn to_f32(lane: u64) -> f32 {
    // A float4 lane has 32 bits by construction.
    let lane = lane as u32;
    let flip = if lane & SIGN32 == 0 { u32::MAX } else { SIGN32 };
    f32::from_bits(lane ^ flip)
}

/// A by-value datum's 32-bit pattern. The upper half is whatever the datum was
/// made with.
#[inline]
fn low32(datum: Datum) -> u32 {
    datum.value() as u32
}

/// `int2` of a datum.
#[inline]
fn int2(datum: Datum) -> i16 {
    datum.value() as i16
}

/// `int4` or `date` of a datum.
#[inline]
pub(super) fn int4(datum: Datum) -> i32 {
    low32(datum).cast_signed()
}

/// `int8`, `time`, `timestamp` or `timestamptz` of a datum.
#[inline]
pub(super) fn int8(datum: Datum) -> i64 {
    (datum.value() as u64).cast_signed()
}

/// `float4` of a datum.
#[inline]
pub(super) fn float4(datum: Datum) -> f32 {
    f32::from_bits(low32(datum))
}

/// `float8` of a datum.
#[inline]
pub(super) fn float8(datum: Datum) -> f64 {
    f64::from_bits(datum.value() as u64)
}

/// Key lane and second lane (key or payload) of a value. The second lane of a
/// type that has but one is 0.
///
/// # Safety
/// `datum` is a non-NULL value of `key_type`.
#[inline]
pub(super) unsafe fn of_datum(key_type: KeyType, datum: Datum) -> [u64; 2] {
    match key_type {
        KeyType::Int2 => [from_i64(i64::from(int2(datum))), 0],
        KeyType::Int4 | KeyType::Date => [from_i64(i64::from(int4(datum))), 0],
        KeyType::Int8 | KeyType::Time | KeyType::Timestamp | KeyType::TimestampTz => {
            [from_i64(int8(datum)), 0]
        }
        KeyType::Oid => [u64::from(low32(datum)), 0],
        KeyType::Float4 => {
            let value = float4(datum);
            [from_f32(value), u64::from(value.to_bits() == SIGN32)]
        }
        KeyType::Float8 => {
            let value = float8(datum);
            [from_f64(value), u64::from(value.to_bits() == SIGN64)]
        }
        KeyType::Uuid => {
            // SAFETY: by the caller, the datum points to a uuid: 16 bytes,
            // aligned as char, never toasted.
            let bytes = unsafe { datum.cast_mut_ptr::<[u8; 16]>().read_unaligned() };
            let both = u128::from_be_bytes(bytes);
            [(both >> 64) as u64, both as u64]
        }
    }
}

/// A narrow integer as PostgreSQL's `fetch_att` makes it from a heap tuple:
/// sign-extended, so that comparisons of whole datums hold.
#[inline]
fn extended(value: i32) -> Datum {
    Datum::from(value as isize as usize)
}

/// The value of a pair of lanes; a uuid is written to `buf` and pointed at.
#[inline]
pub(super) fn to_datum(key_type: KeyType, lanes: [u64; 2], buf: &mut [u8; 16]) -> Datum {
    let [first, second] = lanes;
    match key_type {
        KeyType::Int2 => extended(i32::from(to_i64(first) as i16)),
        KeyType::Int4 | KeyType::Date => extended(to_i64(first) as i32),
        KeyType::Int8 | KeyType::Time | KeyType::Timestamp | KeyType::TimestampTz => {
            Datum::from(to_i64(first).cast_unsigned() as usize)
        }
        KeyType::Oid => extended((first as u32).cast_signed()),
        KeyType::Float4 => {
            let sign = if second == 0 { 0 } else { SIGN32 };
            extended((to_f32(first).to_bits() | sign).cast_signed())
        }
        KeyType::Float8 => {
            let sign = if second == 0 { 0 } else { SIGN64 };
            Datum::from((to_f64(first).to_bits() | sign) as usize)
        }
        KeyType::Uuid => {
            let both = (u128::from(first) << 64) | u128::from(second);
            *buf = both.to_be_bytes();
            Datum::from(buf.as_mut_ptr())
        }
    }
}

#[cfg(not(target_pointer_width = "64"))]
compile_error!("int8, timestamp and float8 must be passed by value: 64-bit platforms only");
