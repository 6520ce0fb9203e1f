//! Rows that `amgettuple` hands out as they are, one after the other.

use core::ptr;

use crate::am::tuple::IntegerTuple;

/// The tuples of the entries behind the one that a scan stands on, as far as they are
/// formed and nothing has to be done before. The scan learns of the steps when it is
/// asked for anything else.
pub(super) struct Ready {
    next: *const IntegerTuple,
    end: *const IntegerTuple,
    /// The scan knows of the steps up to here.
    known: *const IntegerTuple,
}

impl Ready {
    pub const NONE: Self = Self {
        next: ptr::null(),
        end: ptr::null(),
        known: ptr::null(),
    };

    /// Those of a scan that knows of all steps.
    ///
    /// # Safety
    /// The tuples stay where and what they are until this is assigned or set anew.
    #[inline]
    pub unsafe fn set(&mut self, tuples: &[IntegerTuple]) {
        let tuples = tuples.as_ptr_range();
        *self = Self {
            next: tuples.start,
            end: tuples.end,
            known: tuples.start,
        };
    }

    /// Steps to the next row.
    #[inline]
    pub fn next(&mut self) -> Option<&IntegerTuple> {
        if self.next == self.end {
            return None;
        }
        let tuple = self.next;
        // SAFETY: both are of the tuples that `set` has got, and `tuple` is not their end.
        unsafe {
            self.next = tuple.add(1);
            Some(&*tuple)
        }
    }

    /// The steps taken since this was asked for last.
    #[inline]
    pub fn steps(&mut self) -> usize {
        // SAFETY: both are of the same tuples.
        let steps = unsafe { self.next.offset_from_unsigned(self.known) };
        self.known = self.next;
        steps
    }
}
