//! What can go wrong, with a stable code, the table and the key.

use std::fmt::{Display, Write};

use crate::Table;

/// Longer keys are cut in messages: a refused key may be of any size.
const MAX_HEX_BYTES: usize = 128;

/// A key as hexadecimal digits.
pub(crate) fn hex(key: &[u8]) -> String {
    let shown = &key[..key.len().min(MAX_HEX_BYTES)];
    let mut text = String::with_capacity(2 + 2 * shown.len());
    text.push_str("0x");
    for byte in shown {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    if shown.len() < key.len() {
        text.push_str("...");
    }
    text
}

/// How a record is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Shorter than a record's header.
    #[error("its {bytes} bytes are too few for a record")]
    Truncated {
        /// Bytes found.
        bytes: usize,
    },
    /// Written by a later version, or not by this store at all.
    #[error("its version {found} is unknown")]
    UnknownVersion {
        /// The version byte.
        found: u8,
    },
    /// The payload is not the one that was written.
    #[error("its checksum is {computed:08x}, not {stored:08x}")]
    Checksum {
        /// The CRC-32 in the record.
        stored: u32,
        /// The CRC-32 of the payload.
        computed: u32,
    },
}

/// An error of the store. [`StoreError::code`] is stable; the text may be reworded. Keys are hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be opened.
    #[error("the store at {at} cannot be opened: {cause}")]
    Open {
        /// The file, or what stands for one.
        at: String,
        /// Why.
        cause: String,
    },
    /// The queue is full. Nothing was written.
    #[error("{table}/{key} was not written: the queue of the store is full with {queued} writes")]
    Busy {
        /// The table.
        table: Table,
        /// The key; the first one of several.
        key: String,
        /// Writes that wait for an answer.
        queued: usize,
    },
    /// An earlier commit failed. Nothing was written.
    #[error("the store is read-only: {cause}")]
    ReadOnly {
        /// The first failure.
        cause: String,
    },
    /// The commit that carried the write failed. The write was applied in full or not at all; which of the two is known
    /// only after the store has been opened again.
    #[error("the commit of {table}/{key} failed: {cause}")]
    CommitFailed {
        /// The table.
        table: Table,
        /// The key; the first one of several.
        key: String,
        /// Why.
        cause: String,
    },
    /// The writer thread ended before it answered. Whether the write is on disk is unknown.
    #[error("the writer of the store ended before it answered")]
    WriterGone,
    /// The key is too long.
    #[error("the key {key} for {table} has {bytes} bytes, the limit is {limit}")]
    KeyTooLarge {
        /// The table.
        table: Table,
        /// The beginning of the key.
        key: String,
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The value is too long.
    #[error("the value of {table}/{key} has {bytes} bytes, the limit is {limit}")]
    ValueTooLarge {
        /// The table.
        table: Table,
        /// The key.
        key: String,
        /// The value's length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// One write holds more than the whole queue may.
    #[error("the write that begins with {table}/{key} has {bytes} bytes, the limit is {limit}")]
    BatchTooLarge {
        /// The table of its first step.
        table: Table,
        /// The key of its first step.
        key: String,
        /// Bytes of keys and values, and a little for each step.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A record is not what was written.
    #[error("the record {table}/{key} is damaged: {reason}")]
    Damaged {
        /// The table.
        table: Table,
        /// The key.
        key: String,
        /// How.
        reason: Damage,
    },
    /// The table cannot be read.
    #[error("{table}/{key} cannot be read: {cause}")]
    ReadFailed {
        /// The table.
        table: Table,
        /// The key; `*` when the whole table was asked for.
        key: String,
        /// Why.
        cause: String,
    },
}

impl StoreError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Open { .. } => "store_open",
            Self::Busy { .. } => "store_busy",
            Self::ReadOnly { .. } => "store_read_only",
            Self::CommitFailed { .. } => "store_commit_failed",
            Self::WriterGone => "store_writer_gone",
            Self::KeyTooLarge { .. } => "store_key_too_large",
            Self::ValueTooLarge { .. } => "store_value_too_large",
            Self::BatchTooLarge { .. } => "store_batch_too_large",
            Self::Damaged { .. } => "store_damaged",
            Self::ReadFailed { .. } => "store_read_failed",
        }
    }

    /// What can be done about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Open { .. } => "the folder has to exist and be writable, and no other process may use the file",
            Self::Busy { .. } => "try again in a moment; if it lasts, the disk syncs too slowly for the load",
            Self::ReadOnly { .. } | Self::CommitFailed { .. } | Self::WriterGone => {
                "check the disk for room and errors, then start the node again: opening repairs the file"
            }
            Self::KeyTooLarge { .. } => "use a hash as the key",
            Self::ValueTooLarge { .. } | Self::BatchTooLarge { .. } => "split it",
            Self::Damaged { .. } => "stop the node and restore the file from a copy, or delete this record if it can be missed",
            Self::ReadFailed { .. } => "check the disk, then start the node again",
        }
    }

    pub(crate) fn open(at: impl Into<String>, cause: impl Display) -> Self {
        Self::Open { at: at.into(), cause: cause.to_string() }
    }

    pub(crate) fn busy((table, key): (Table, &[u8]), queued: usize) -> Self {
        Self::Busy { table, key: hex(key), queued }
    }

    pub(crate) fn commit_failed((table, key): (Table, &[u8]), cause: &str) -> Self {
        Self::CommitFailed { table, key: hex(key), cause: cause.to_owned() }
    }

    pub(crate) fn key_too_large(table: Table, key: &[u8], limit: usize) -> Self {
        Self::KeyTooLarge { table, key: hex(key), bytes: key.len(), limit }
    }

    pub(crate) fn value_too_large(table: Table, key: &[u8], bytes: usize, limit: usize) -> Self {
        Self::ValueTooLarge { table, key: hex(key), bytes, limit }
    }

    pub(crate) fn batch_too_large((table, key): (Table, &[u8]), bytes: usize, limit: usize) -> Self {
        Self::BatchTooLarge { table, key: hex(key), bytes, limit }
    }

    pub(crate) fn damaged(table: Table, key: &[u8], reason: Damage) -> Self {
        Self::Damaged { table, key: hex(key), reason }
    }

    pub(crate) fn read_failed(table: Table, key: Option<&[u8]>, cause: impl Display) -> Self {
        Self::ReadFailed { table, key: key.map_or_else(|| "*".to_owned(), hex), cause: cause.to_string() }
    }
}
