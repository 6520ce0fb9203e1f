//! The column types that an index can hold.

use pgrx::pg_sys;

/// A supported column type: the input type of an operator class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// `smallint`
    Int2,
    /// `integer`
    Int4,
    /// `bigint`
    Int8,
    /// `oid`
    Oid,
    /// `date`
    Date,
    /// `time without time zone`
    Time,
    /// `timestamp without time zone`
    Timestamp,
    /// `timestamp with time zone`
    TimestampTz,
    /// `real`
    Float4,
    /// `double precision`
    Float8,
    /// `uuid`
    Uuid,
}

impl KeyType {
    /// All types, in the order of their codes.
    pub const ALL: [Self; 11] = [
        Self::Int2,
        Self::Int4,
        Self::Int8,
        Self::Oid,
        Self::Date,
        Self::Time,
        Self::Timestamp,
        Self::TimestampTz,
        Self::Float4,
        Self::Float8,
        Self::Uuid,
    ];

    /// The type of an operator class, from its input type (`rd_opcintype`).
    /// Domains and binary-coercible types have been resolved to it already.
    pub fn from_oid(type_oid: pg_sys::Oid) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|key_type| key_type.oid() == type_oid)
    }

    /// The type's OID in `pg_type`.
    pub const fn oid(self) -> pg_sys::Oid {
        match self {
            Self::Int2 => pg_sys::INT2OID,
            Self::Int4 => pg_sys::INT4OID,
            Self::Int8 => pg_sys::INT8OID,
            Self::Oid => pg_sys::OIDOID,
            Self::Date => pg_sys::DATEOID,
            Self::Time => pg_sys::TIMEOID,
            Self::Timestamp => pg_sys::TIMESTAMPOID,
            Self::TimestampTz => pg_sys::TIMESTAMPTZOID,
            Self::Float4 => pg_sys::FLOAT4OID,
            Self::Float8 => pg_sys::FLOAT8OID,
            Self::Uuid => pg_sys::UUIDOID,
        }
    }

    /// Value lanes of a position, the payload lane included: the `V` of
    /// [`KeyCodec`](super::KeyCodec), 1 or 2.
    pub const fn lanes(self) -> usize {
        match self {
            Self::Float4 | Self::Float8 | Self::Uuid => 2,
            _ => 1,
        }
    }

    /// Whether the second lane is a payload: it restores what the key lane
    /// cannot tell (the sign of a zero) and takes no part in comparisons.
    pub const fn has_payload(self) -> bool {
        matches!(self, Self::Float4 | Self::Float8)
    }

    /// The code of this type in the meta page. Never reused, never renumbered.
    pub const fn code(self) -> u8 {
        match self {
            Self::Int2 => 1,
            Self::Int4 => 2,
            Self::Int8 => 3,
            Self::Oid => 4,
            Self::Date => 5,
            Self::Time => 6,
            Self::Timestamp => 7,
            Self::TimestampTz => 8,
            Self::Float4 => 9,
            Self::Float8 => 10,
            Self::Uuid => 11,
        }
    }

    /// The type with this code, or `None` if the code is of no known type.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|key_type| key_type.code() == code)
    }
}
