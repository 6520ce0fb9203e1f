//! Where a constant of any type of the operator family is among the values of
//! the column.

use pgrx::pg_sys::Datum;

use super::cut::{Cut, Located};
use super::{KeyType, lanes, zone};

/// Microseconds of a day, `USECS_PER_DAY`.
const DAY: i64 = 86_400_000_000;

/// The first timestamp that is out of range, `END_TIMESTAMP`: midnight of
/// 294277-01-01. A multiple of [`DAY`]; dates go on behind it.
pub(super) const END_TIMESTAMP: i64 = 9_223_371_331_200_000_000;

/// `-infinity` and `infinity` of timestamps.
pub(super) const NOBEGIN: i64 = i64::MIN;
pub(super) const NOEND: i64 = i64::MAX;

/// Locates `constant`, a value of type `constant_type`, among the values of
/// type `column`. `None` if no operator family has this pair of types.
///
/// # Safety
/// `constant` is a non-NULL value of `constant_type`.
#[inline]
pub(super) unsafe fn locate(
    column: KeyType,
    constant_type: KeyType,
    constant: Datum,
) -> Option<Located> {
    use KeyType::{Date, Float4, Float8, Int2, Int4, Int8, Timestamp, TimestampTz};
    Some(match (column, constant_type) {
        // Integers of all widths share one order of lanes.
        (Int2 | Int4 | Int8, Int2 | Int4 | Int8) => {
            // SAFETY: the caller's promise.
            Located::at(unsafe { lanes::of_datum(constant_type, constant) })
        }
        _ if column == constant_type => {
            // SAFETY: the caller's promise.
            Located::at(unsafe { lanes::of_datum(column, constant) })
        }
        (Float8, Float4) => Located::at([lanes::from_f64(f64::from(lanes::float4(constant))), 0]),
        (Float4, Float8) => float8_among_float4(lanes::float8(constant)),
        (Date, Timestamp) => timestamp_among_dates(lanes::int8(constant)),
        (Timestamp, Date) => date_among_timestamps(lanes::int4(constant)),
        (TimestampTz, Date) => zone::date_among_timestamptz(lanes::int4(constant)),
        (TimestampTz, Timestamp) => zone::timestamp_among_timestamptz(lanes::int8(constant)),
        (Date, TimestampTz) => zone::timestamptz_among_dates(lanes::int8(constant)),
        (Timestamp, TimestampTz) => zone::timestamptz_among_timestamps(lanes::int8(constant)),
        _ => return None,
    })
}

/// float48lt and its kin widen the column's value. Rounding goes to the
/// nearest float4, infinity included; which side it went to says on which side
/// of it the constant is.
fn float8_among_float4(constant: f64) -> Located {
    let rounded = constant as f32;
    let key = lanes::from_f32(rounded);
    let widened = f64::from(rounded);
    if widened < constant {
        Located::between(Cut::above(key))
    } else if widened > constant {
        Located::between(Cut::below(key))
    } else {
        // Equal, or both are NaN.
        Located::at([key, 0])
    }
}

/// date_cmp_timestamp: a date is its midnight. One that is beyond the range of
/// timestamps is above all finite timestamps and below infinity, which is also
/// where its midnight is.
pub(super) fn timestamp_among_dates(constant: i64) -> Located {
    match constant {
        NOBEGIN => Located::at([date_key(i32::MIN), 0]),
        NOEND => Located::at([date_key(i32::MAX), 0]),
        _ => {
            // Finite timestamps span 107 million days on either side of 2000.
            let key = lanes::from_i64(constant.div_euclid(DAY));
            if constant.rem_euclid(DAY) == 0 {
                Located::at([key, 0])
            } else {
                Located::between(Cut::above(key))
            }
        }
    }
}

/// timestamp_cmp_date, the same seen from the other side.
fn date_among_timestamps(constant: i32) -> Located {
    match constant {
        i32::MIN => Located::at([lanes::from_i64(NOBEGIN), 0]),
        i32::MAX => Located::at([lanes::from_i64(NOEND), 0]),
        _ => match i64::from(constant).checked_mul(DAY) {
            Some(midnight) if midnight < END_TIMESTAMP => {
                Located::at([lanes::from_i64(midnight), 0])
            }
            _ => above_finite_timestamps(),
        },
    }
}

/// A constant that is above all finite timestamps and below infinity.
pub(super) fn above_finite_timestamps() -> Located {
    Located::between(Cut::below(lanes::from_i64(NOEND)))
}

/// A constant that is below all finite timestamps and above -infinity.
pub(super) fn below_finite_timestamps() -> Located {
    Located::between(Cut::above(lanes::from_i64(NOBEGIN)))
}

fn date_key(date: i32) -> u64 {
    lanes::from_i64(i64::from(date))
}
