//! Places between the keys of a type, and where a constant is among them.

/// A place in the ascending order of a type's keys: just below or just above
/// `key`. The key need not be one that a value of the column can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// Key lanes in ascending order of the type.
    pub key: [u64; 2],
    /// Above `key` rather than below it.
    pub above: bool,
}

impl Cut {
    /// The place just below a one-lane key.
    pub const fn below(key: u64) -> Self {
        Self {
            key: [key, 0],
            above: false,
        }
    }

    /// The place just above a one-lane key.
    pub const fn above(key: u64) -> Self {
        Self {
            key: [key, 0],
            above: true,
        }
    }
}

/// Where a constant is among the values of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Located {
    /// Every value below this is less than the constant.
    pub below: Cut,
    /// Every value above this is greater than the constant.
    pub above: Cut,
    /// Every value between the two equals the constant. Otherwise nothing is
    /// known of the values between them: they have to be compared.
    pub exact: bool,
}

impl Located {
    /// A constant that has a key of its own in the column's order.
    pub const fn at(key: [u64; 2]) -> Self {
        Self {
            below: Cut { key, above: false },
            above: Cut { key, above: true },
            exact: true,
        }
    }

    /// A constant that no value of the column equals.
    pub const fn between(cut: Cut) -> Self {
        Self {
            below: cut,
            above: cut,
            exact: true,
        }
    }
}
