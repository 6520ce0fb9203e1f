//! Comparisons between types with and without time zone.
//!
//! PostgreSQL converts the side without time zone, in the session's zone. For
//! a `timestamptz` column that side is the constant, and all is exact. For a
//! `date` or `timestamp` column it is the column's value, through
//! `local -> local - offset(local)`, which repeats itself where clocks are set
//! back and is not monotone there, so the rows that satisfy a condition are
//! not an interval. Near a transition the constant is therefore located
//! inexactly, between the least and the greatest offset that may apply, and
//! the executor compares the rows again.

use pgrx::pg_sys;

use super::cut::Located;
use super::lanes;
use super::locate::{
    END_TIMESTAMP, NOBEGIN, NOEND, above_finite_timestamps, below_finite_timestamps,
    timestamp_among_dates,
};

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3600;

/// Seconds from 1970-01-01, where time zones count from, to 2000-01-01.
const EPOCH: i64 = 946_684_800;

/// No offset of a zone reaches this many seconds: POSIX zones, which `SET
/// timezone` takes, allow 167:59:59.
const MAX_OFFSET: i64 = 168 * HOUR;

/// A date among the values of a `timestamptz` column.
pub(super) fn date_among_timestamptz(constant: i32) -> Located {
    let mut overflow = 0;
    // SAFETY: the function takes any date and writes the int it is given.
    let converted = unsafe { pg_sys::date2timestamptz_opt_overflow(constant, &raw mut overflow) };
    among_timestamptz(converted, overflow)
}

/// A timestamp among the values of a `timestamptz` column.
pub(super) fn timestamp_among_timestamptz(constant: i64) -> Located {
    let mut overflow = 0;
    // SAFETY: the function takes any timestamp and writes the int it is given.
    let converted =
        unsafe { pg_sys::timestamp2timestamptz_opt_overflow(constant, &raw mut overflow) };
    among_timestamptz(converted, overflow)
}

fn among_timestamptz(converted: i64, overflow: i32) -> Located {
    match overflow {
        0 => Located::at([lanes::from_i64(converted), 0]),
        1.. => above_finite_timestamps(),
        _ => below_finite_timestamps(),
    }
}

/// A timestamptz among the values of a `timestamp` column.
pub(super) fn timestamptz_among_timestamps(constant: i64) -> Located {
    if constant == NOBEGIN || constant == NOEND {
        return Located::at([lanes::from_i64(constant), 0]);
    }
    among_local(constant, |local| Located::at([lanes::from_i64(local), 0]))
}

/// A timestamptz among the values of a `date` column.
pub(super) fn timestamptz_among_dates(constant: i64) -> Located {
    if constant == NOBEGIN || constant == NOEND {
        return timestamp_among_dates(constant);
    }
    among_local(constant, timestamp_among_dates)
}

/// Locates a finite timestamptz by the least and the greatest local time that
/// may be equal to it: all lower local times are before it, all greater ones
/// after. `locate` does that for a timestamp.
fn among_local(constant: i64, locate: impl Fn(i64) -> Located) -> Located {
    let Offsets { least, greatest } = offsets_around(constant);
    // -infinity stays outside.
    let local = |offset: i64| constant.saturating_add(offset * SECOND).max(NOBEGIN + 1);
    let (least, greatest) = (local(least), local(greatest));
    // No finite timestamp is at END_TIMESTAMP or behind, and a date whose
    // midnight is there is greater than every finite timestamptz, in any zone.
    let end = locate(END_TIMESTAMP).below;
    Located {
        below: if least < END_TIMESTAMP {
            locate(least).below
        } else {
            end
        },
        above: if greatest < END_TIMESTAMP {
            locate(greatest).above
        } else {
            end
        },
        exact: least == greatest,
    }
}

/// UTC offsets in seconds, positive to the east.
#[derive(Clone, Copy, Debug)]
struct Offsets {
    least: i64,
    greatest: i64,
}

impl Offsets {
    const ANY: Self = Self {
        least: -MAX_OFFSET,
        greatest: MAX_OFFSET,
    };
}

/// The offsets that `DetermineTimeZoneOffset` may give to a local time that is
/// equal to `constant`, or is on the wrong side of it because of the offset.
///
/// `DetermineTimeZoneOffset(l)` takes the first boundary behind `l - 24 h`
/// (read as UTC) and answers the offset before the boundary, or that behind
/// it if the boundary is at most `l` minus one of the two offsets. With l
/// within `constant + offset`, both are in force at some time in the window
/// `[constant + least - 24 h, constant + greatest - least]`. The first,
/// wide window serves any zone and gives bounds on the offsets; the second is
/// as narrow as these allow, so that a row comparison is needed within a day
/// or two of a transition only.
fn offsets_around(constant: i64) -> Offsets {
    let at = constant.div_euclid(SECOND) + EPOCH;
    let wide = in_force(at - 3 * MAX_OFFSET, at + 3 * MAX_OFFSET);
    let Some(wide) = wide else {
        return Offsets::ANY;
    };
    let from = at + wide.least - 24 * HOUR - HOUR;
    let to = at + (wide.greatest - wide.least) + HOUR;
    in_force(from, to).unwrap_or(Offsets::ANY)
}

/// The offsets of the session's zone in force at some time in `[from, to]`,
/// in seconds since 1970. `None` if the zone does not tell: then PostgreSQL
/// may also take the offset to be 0.
fn in_force(from: i64, to: i64) -> Option<Offsets> {
    /// More transitions than any zone has in a few weeks.
    const MAX_TRANSITIONS: usize = 64;

    let mut offsets = Offsets {
        least: i64::MAX,
        greatest: i64::MIN,
    };
    let mut at = from;
    for _ in 0..MAX_TRANSITIONS {
        let next = next_boundary(at)?;
        offsets.least = offsets.least.min(next.offset_before);
        offsets.greatest = offsets.greatest.max(next.offset_before);
        at = match next.boundary {
            Some(boundary) if boundary <= at => return None,
            Some(boundary) => boundary,
            // At the last entry of its table pg_next_dst_boundary sees no
            // boundary even if the zone repeats from there.
            None => match next_boundary(at + 1)? {
                Boundary {
                    boundary: Some(_), ..
                } => at + 1,
                Boundary { boundary: None, .. } => return Some(offsets),
            },
        };
        if at > to {
            return Some(offsets);
        }
    }
    None
}

/// The next change of the session's zone.
struct Boundary {
    /// Offset in force up to the boundary, in seconds east.
    offset_before: i64,
    /// When, in seconds since 1970; `None` if the zone changes no more.
    boundary: Option<i64>,
}

fn next_boundary(at: i64) -> Option<Boundary> {
    let (mut before, mut after) = (0, 0);
    let (mut before_dst, mut after_dst) = (0, 0);
    let mut boundary = 0;
    // SAFETY: all pointers are to locals; session_timezone is set from the
    // start of the backend and read by its only thread.
    let found = unsafe {
        pg_sys::pg_next_dst_boundary(
            &raw const at,
            &raw mut before,
            &raw mut before_dst,
            &raw mut boundary,
            &raw mut after,
            &raw mut after_dst,
            pg_sys::session_timezone,
        )
    };
    match found {
        0 => Some(Boundary {
            offset_before: before,
            boundary: None,
        }),
        1 => Some(Boundary {
            offset_before: before,
            boundary: Some(boundary),
        }),
        _ => None,
    }
}
