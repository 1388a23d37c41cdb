//! What a caller asks for and what it learns.

use std::fmt;

use crate::Table;
use crate::error::hex;

/// One step of a [`Store::write`](crate::Store::write).
#[derive(Clone, PartialEq, Eq)]
pub enum Op {
    /// Writes a record, over an older one if there is one.
    Put {
        /// The table.
        table: Table,
        /// The key.
        key: Vec<u8>,
        /// The value.
        value: Vec<u8>,
    },
    /// Removes a record. That there is none is no error.
    Delete {
        /// The table.
        table: Table,
        /// The key.
        key: Vec<u8>,
    },
}

impl Op {
    /// Writes a record.
    pub fn put(table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self::Put { table, key: key.into(), value: value.into() }
    }

    /// Removes a record.
    pub fn delete(table: Table, key: impl Into<Vec<u8>>) -> Self {
        Self::Delete { table, key: key.into() }
    }

    pub(crate) fn place(&self) -> (Table, &[u8]) {
        match self {
            Self::Put { table, key, .. } | Self::Delete { table, key } => (*table, key.as_slice()),
        }
    }

    pub(crate) fn payload_bytes(&self) -> usize {
        match self {
            Self::Put { key, value, .. } => key.len() + value.len(),
            Self::Delete { key, .. } => key.len(),
        }
    }
}

/// Order flow is private: a log line shows keys and sizes, never a value.
impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { table, key, value } => write!(f, "Put({table}/{}, {} bytes)", hex(key), value.len()),
            Self::Delete { table, key } => write!(f, "Delete({table}/{})", hex(key)),
        }
    }
}

/// What [`Store::put_if_absent`](crate::Store::put_if_absent) did.
#[derive(Clone, PartialEq, Eq)]
pub enum PutOutcome {
    /// There was no record; the value is on disk now.
    Written,
    /// There was one already, with this value, and it stays.
    Exists(Vec<u8>),
}

/// Order flow is private: the size of the value, never the value.
impl fmt::Debug for PutOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Written => f.write_str("Written"),
            Self::Exists(value) => write!(f, "Exists({} bytes)", value.len()),
        }
    }
}
