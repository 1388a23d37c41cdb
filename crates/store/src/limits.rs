//! The bounds of the store, in one place.

use std::time::Duration;

use crate::{StoreError, Table};

/// Every bound of a [`Store`](crate::Store). What exceeds one is refused by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Writes that may wait for the writer thread. One more is answered [`StoreError::Busy`]. At least 1.
    pub queue: usize,
    /// Writes that one transaction, and so one sync, may carry. At least 1.
    pub max_batch: usize,
    /// How long the writer thread waits for more before it begins a transaction, while many write. Zero is never.
    pub linger: Duration,
    /// Writes within such a time that count as many.
    pub linger_from: usize,
    /// Bytes of a value.
    pub max_value_bytes: usize,
    /// Bytes of a key.
    pub max_key_bytes: usize,
    /// Bytes of keys and values of all writes that are not answered yet: the queue's bound in memory, since `queue` values
    /// of the greatest size would be gigabytes. It also bounds a single [`Store::write`](crate::Store::write).
    pub max_queued_bytes: usize,
    /// Bytes of pages that redb keeps in memory.
    pub cache_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue: 4096,
            max_batch: 1024,
            linger: Duration::from_millis(1),
            linger_from: 4,
            max_value_bytes: 2 * 1024 * 1024,
            max_key_bytes: 128,
            max_queued_bytes: 256 * 1024 * 1024,
            cache_bytes: 128 * 1024 * 1024,
        }
    }
}

impl Limits {
    /// Limits that a queue can be made with: a queue or a batch of none would never write anything.
    pub(crate) fn usable(self) -> Self {
        Self { queue: self.queue.max(1), max_batch: self.max_batch.max(1), ..self }
    }

    pub(crate) fn check_key(&self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        if key.len() > self.max_key_bytes {
            return Err(StoreError::key_too_large(table, key, self.max_key_bytes));
        }
        Ok(())
    }

    pub(crate) fn check_value(&self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        if value.len() > self.max_value_bytes {
            return Err(StoreError::value_too_large(table, key, value.len(), self.max_value_bytes));
        }
        Ok(())
    }
}
