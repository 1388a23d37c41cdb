//! Choices out of arbitrary bytes.

use alloy_primitives::{Address, B256, Bytes, U256};

/// Reads bytes from the front. What is missing is zero, so there is no input too short.
#[derive(Debug)]
pub(super) struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    pub(super) const fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub(super) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.take(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    pub(super) fn byte(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    /// Any index below `count`, which is at least 1.
    pub(super) fn index(&mut self, count: usize) -> usize {
        usize::from(u16::from_be_bytes(self.array())) % count
    }

    pub(super) fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    pub(super) fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }

    pub(super) fn u256(&mut self) -> U256 {
        U256::from_be_bytes(self.array::<32>())
    }

    pub(super) fn word(&mut self) -> B256 {
        B256::new(self.array())
    }

    pub(super) fn address(&mut self) -> Address {
        Address::new(self.array())
    }

    /// No without bytes.
    pub(super) fn coin(&mut self) -> bool {
        self.byte() % 2 == 1
    }

    /// One of some; the first without bytes.
    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }

    /// At most that many bytes, and no more than there are.
    pub(super) fn bytes(&mut self, most: usize) -> Bytes {
        let count = self.index(most + 1);
        Bytes::copy_from_slice(self.take(count))
    }

    /// Changes one bit of some bytes; none where there are none.
    pub(super) fn flip(&mut self, bytes: &mut [u8]) {
        let bit = 1_u8 << (self.byte() % 8);
        let index = self.index(bytes.len().max(1));
        if let Some(byte) = bytes.get_mut(index) {
            *byte ^= bit;
        }
    }
}
