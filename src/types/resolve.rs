//! Scan keys to intervals of positions.

use core::slice;

use omen_core::key::Pos;
use pgrx::pg_sys::{self, Datum};
use pgrx::prelude::*;

use super::cut::Located;
use super::interval::{ScanIntervals, normalise, reserve};
use super::locate::locate;
use super::{KeyCodec, KeyType, Ordering};
use omen_core::tree::Interval;

/// The operator of a condition, with btree's strategy numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strategy {
    Less,
    LessEqual,
    Equal,
    GreaterEqual,
    Greater,
}

impl Strategy {
    fn from_number(number: pg_sys::StrategyNumber) -> Self {
        match number {
            1 => Self::Less,
            2 => Self::LessEqual,
            3 => Self::Equal,
            4 => Self::GreaterEqual,
            5 => Self::Greater,
            _ => error!("omen: invalid strategy number {number} in a scan key"),
        }
    }
}

impl<const V: usize> KeyCodec<V> {
    /// [`resolve_into`](Self::resolve_into) with a result of its own.
    ///
    /// # Safety
    /// As for `resolve_into`.
    pub unsafe fn resolve(&self, keys: &[pg_sys::ScanKeyData]) -> ScanIntervals<V> {
        let mut out = ScanIntervals::default();
        // SAFETY: the caller's promise.
        unsafe { self.resolve_into(keys, &mut out) };
        out
    }

    /// The positions whose values satisfy all of `keys`, the conditions of one
    /// rescan on the only key column: a superset if `out.recheck`. What `out`
    /// held is dropped, its memory is reused. Depends on the session's time
    /// zone for conditions between types with and without time zone.
    ///
    /// An ERROR is raised for a type or strategy that the operator families
    /// do not have, and if memory runs out.
    ///
    /// # Safety
    /// The keys are those that the executor gave to `amrescan`: an argument
    /// that is not NULL is a value of the key's subtype, or an array of such
    /// values with `SK_SEARCHARRAY`. Elements that are toasted are detoasted in
    /// the current memory context.
    pub unsafe fn resolve_into(&self, keys: &[pg_sys::ScanKeyData], out: &mut ScanIntervals<V>) {
        out.reset();
        for key in keys {
            // SAFETY: the caller's promise.
            unsafe { self.restrict(key, out) };
        }
        if out.intervals.is_empty() {
            out.recheck = false;
        }
    }

    unsafe fn restrict(&self, key: &pg_sys::ScanKeyData, out: &mut ScanIntervals<V>) {
        let flags = key.sk_flags.cast_unsigned();
        // The executor sets SK_ISNULL along with SK_SEARCHNULL: look at the
        // latter first.
        if flags & pg_sys::SK_SEARCHNULL != 0 {
            return out.clip(&region(self.ordering.null_rank()));
        }
        if flags & pg_sys::SK_SEARCHNOTNULL != 0 {
            return out.clip(&self.values());
        }
        if flags & (pg_sys::SK_ROW_HEADER | pg_sys::SK_ROW_MEMBER) != 0 {
            error!("omen: row comparisons are not supported as index conditions");
        }
        if flags & pg_sys::SK_ISNULL != 0 {
            // The operators are strict.
            return out.clear();
        }
        let strategy = Strategy::from_number(key.sk_strategy);
        let constant_type = self.constant_type(key.sk_subtype);
        if flags & pg_sys::SK_SEARCHARRAY != 0 {
            // SAFETY: by the caller, the argument is an array of this type.
            unsafe { self.restrict_to_any(strategy, constant_type, key.sk_argument, out) };
        } else {
            // SAFETY: by the caller, the argument is a value of this type.
            let located = unsafe { self.locate(constant_type, key.sk_argument) };
            out.recheck |= !located.exact;
            out.clip(&self.satisfying(strategy, &located));
        }
    }

    /// `column op ANY (array)`. NULL elements make the condition NULL or leave
    /// it as it is: no difference to a scan.
    unsafe fn restrict_to_any(
        &self,
        strategy: Strategy,
        constant_type: KeyType,
        array: Datum,
        out: &mut ScanIntervals<V>,
    ) {
        // SAFETY: by the caller, the argument is an array.
        let elements = unsafe { Elements::of(array) };
        let mut points = Vec::new();
        if strategy == Strategy::Equal {
            reserve(&mut points, elements.len());
        }
        let mut widest: Option<Interval<V>> = None;
        let mut exact = true;
        for element in elements.values() {
            // SAFETY: by the caller, the elements are of this type.
            let located = unsafe { self.locate(constant_type, element) };
            exact &= located.exact;
            let interval = self.satisfying(strategy, &located);
            if strategy == Strategy::Equal {
                points.push(interval);
            } else {
                // Inequalities share one end, so that the hull is the union.
                widest = Some(widest.map_or(interval, |widest| widest.hull(&interval)));
            }
        }
        elements.free();
        out.recheck |= !exact;
        if strategy == Strategy::Equal {
            normalise(&mut points);
            out.clip_to_any(points);
        } else if let Some(widest) = widest {
            out.clip(&widest);
        } else {
            out.clear();
        }
    }

    /// The positions whose values satisfy `value strategy constant`; where the
    /// constant is located inexactly, those that may.
    fn satisfying(&self, strategy: Strategy, located: &Located) -> Interval<V> {
        let &Located {
            below,
            above,
            exact,
        } = located;
        let ascending = match strategy {
            Strategy::Less if exact => (None, Some(below)),
            Strategy::Less | Strategy::LessEqual => (None, Some(above)),
            Strategy::Equal => (Some(below), Some(above)),
            Strategy::Greater if exact => (Some(above), None),
            Strategy::Greater | Strategy::GreaterEqual => (Some(below), None),
        };
        let (from, to) = if self.ordering.desc {
            (ascending.1, ascending.0)
        } else {
            ascending
        };
        let values = self.values();
        Interval {
            lo: from.map_or(values.lo, |cut| self.position(cut)),
            hi: to.map_or(values.hi, |cut| Some(self.position(cut))),
        }
    }

    /// All positions that hold values.
    fn values(&self) -> Interval<V> {
        region(self.ordering.value_rank())
    }

    fn constant_type(&self, subtype: pg_sys::Oid) -> KeyType {
        if subtype == pg_sys::InvalidOid {
            return self.key_type;
        }
        KeyType::from_oid(subtype).unwrap_or_else(|| self.unsupported(subtype))
    }

    /// # Safety
    /// `constant` is a non-NULL value of `constant_type`.
    #[inline]
    unsafe fn locate(&self, constant_type: KeyType, constant: Datum) -> Located {
        // SAFETY: the caller's promise.
        unsafe { locate(self.key_type, constant_type, constant) }
            .unwrap_or_else(|| self.unsupported(constant_type.oid()))
    }

    /// A wrong guess would be wrong rows.
    fn unsupported(&self, subtype: pg_sys::Oid) -> ! {
        ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!(
                "omen index on type {:?} cannot be searched with a value of type {}",
                self.key_type,
                subtype.to_u32()
            )
        );
    }
}

/// All positions of a rank, 0 or 1.
fn region<const V: usize>(rank: u64) -> Interval<V> {
    let boundary = Ordering::second_region();
    if rank == 0 {
        Interval {
            lo: Pos::MIN,
            hi: Some(boundary),
        }
    } else {
        Interval {
            lo: boundary,
            hi: None,
        }
    }
}

/// The elements of an array datum, in palloc'd memory.
struct Elements {
    array: *mut pg_sys::ArrayType,
    /// `array` is a copy that was made to detoast or flatten the datum.
    copied: bool,
    values: *mut Datum,
    nulls: *mut bool,
    count: usize,
}

impl Elements {
    /// # Safety
    /// `datum` is a non-NULL array.
    unsafe fn of(datum: Datum) -> Self {
        let given: *mut pg_sys::varlena = datum.cast_mut_ptr();
        // SAFETY: by the caller, this is a varlena, and an array once it is
        // detoasted; the out pointers are to locals.
        unsafe {
            let array: *mut pg_sys::ArrayType = pg_sys::pg_detoast_datum(given).cast();
            // As btree does: the layout is that of the array's own element
            // type, which may be binary-coercible to the subtype.
            let element_type = (*array).elemtype;
            let (mut length, mut by_value, mut align) = (0, false, 0);
            pg_sys::get_typlenbyvalalign(
                element_type,
                &raw mut length,
                &raw mut by_value,
                &raw mut align,
            );
            let (mut values, mut nulls) = (core::ptr::null_mut(), core::ptr::null_mut());
            let mut count = 0;
            pg_sys::deconstruct_array(
                array,
                element_type,
                i32::from(length),
                by_value,
                align,
                &raw mut values,
                &raw mut nulls,
                &raw mut count,
            );
            Self {
                array,
                copied: array.cast() != given,
                values,
                nulls,
                count: usize::try_from(count).unwrap_or(0),
            }
        }
    }

    fn len(&self) -> usize {
        self.count
    }

    /// The elements that are not NULL.
    fn values(&self) -> impl Iterator<Item = Datum> + '_ {
        let (values, nulls): (&[Datum], &[bool]) = if self.count == 0 {
            (&[], &[])
        } else {
            // SAFETY: deconstruct_array allocated and filled `count` elements
            // of both, which are freed by `free` alone, and that takes self.
            unsafe {
                (
                    slice::from_raw_parts(self.values, self.count),
                    slice::from_raw_parts(self.nulls, self.count),
                )
            }
        };
        values
            .iter()
            .zip(nulls)
            .filter(|(_, null)| !**null)
            .map(|(value, _)| *value)
    }

    /// Gives the memory back now: a nested loop rescans many times in one
    /// memory context. After an ERROR the context does it.
    fn free(self) {
        // SAFETY: palloc'd by `of`, and nothing refers to them any more.
        unsafe {
            for memory in [self.values.cast(), self.nulls.cast()] {
                if !core::ptr::eq(memory, core::ptr::null::<core::ffi::c_void>()) {
                    pg_sys::pfree(memory);
                }
            }
            if self.copied {
                pg_sys::pfree(self.array.cast());
            }
        }
    }
}
