//! The L1 attributes deposit that comes first in every OP-stack block, and the one of the block after it.
//!
//! Source: OP-stack specification, "Deposits" (L1 attributes deposited transaction) and the L1 attributes of Ecotone, Isthmus
//! and Jovian: packed calldata behind a selector, all integers big-endian.

use std::{ops::Range, sync::Arc};

use alloy_primitives::{Address, B256, Bytes, TxKind, U256, address};
use lockstep_simulation::{BlockTx, Deposit, OpFork};
use op_alloy::consensus::{L1InfoDepositSource, TxDeposit};

const DEPOSITOR: Address = address!("DeaDDEaDDeAdDeAdDEAdDEaddeAddEAdDEAd0001");
const L1_BLOCK: Address = address!("4200000000000000000000000000000000000015");
/// From Regolith on.
const GAS_LIMIT: u64 = 1_000_000;

const SELECTOR_LEN: usize = 4;
const SEQUENCE: Range<usize> = 12..20;
const L1_HASH: Range<usize> = 100..132;

/// Selector and length of a fork's calldata.
const fn layout(fork: OpFork) -> ([u8; SELECTOR_LEN], usize) {
    match fork {
        OpFork::Ecotone | OpFork::Fjord | OpFork::Granite | OpFork::Holocene => ([0x44, 0x0a, 0x5e, 0x20], 164),
        OpFork::Isthmus => ([0x09, 0x89, 0x99, 0xbe], 176),
        OpFork::Jovian | OpFork::Karst => ([0x3d, 0xb6, 0xbe, 0x2b], 178),
    }
}

/// What L1 attributes tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct L1Attributes {
    data: Vec<u8>,
    sequence: u64,
    l1_hash: B256,
}

impl L1Attributes {
    /// Reads calldata of that fork's layout.
    pub(super) fn read(data: &[u8], fork: OpFork) -> Result<Self, String> {
        let (selector, len) = layout(fork);
        if data.len() != len || !data.starts_with(&selector) {
            let begins = Bytes::copy_from_slice(data.get(..SELECTOR_LEN).unwrap_or(data));
            return Err(format!("L1 attributes of {} bytes that begin with {begins} are not those of {fork:?}", data.len()));
        }
        let mut sequence = [0; 8];
        sequence.copy_from_slice(&data[SEQUENCE]);
        Ok(Self { sequence: u64::from_be_bytes(sequence), l1_hash: B256::from_slice(&data[L1_HASH]), data: data.to_vec() })
    }

    /// Those of the next block while the L1 origin stays the same; `None` after the last number.
    pub(super) fn next(&self) -> Option<Self> {
        let sequence = self.sequence.checked_add(1)?;
        let mut data = self.data.clone();
        data[SEQUENCE].copy_from_slice(&sequence.to_be_bytes());
        Some(Self { data, sequence, l1_hash: self.l1_hash })
    }

    /// The transaction.
    pub(super) fn deposit(&self) -> BlockTx {
        BlockTx::Deposit(Arc::new(Deposit::new(TxDeposit {
            source_hash: L1InfoDepositSource::new(self.l1_hash, self.sequence).source_hash(),
            from: DEPOSITOR,
            to: TxKind::Call(L1_BLOCK),
            mint: 0,
            value: U256::ZERO,
            gas_limit: GAS_LIMIT,
            is_system_transaction: false,
            input: self.data.clone().into(),
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::keccak256;

    fn calldata(fork: OpFork) -> Vec<u8> {
        let (selector, len) = layout(fork);
        let mut data = selector.to_vec();
        data.extend((SELECTOR_LEN..len).map(|byte| byte as u8));
        data
    }

    #[test]
    fn the_next_deposit_has_the_next_sequence_number_and_its_own_source() {
        let first = L1Attributes::read(&calldata(OpFork::Jovian), OpFork::Jovian).unwrap();
        let next = first.next().unwrap();
        assert_eq!(next.sequence, u64::from_be_bytes([12, 13, 14, 15, 16, 17, 18, 19]) + 1);
        let differing: Vec<usize> = (0..178).filter(|at| first.data[*at] != next.data[*at]).collect();
        assert_eq!(differing, [19]);
        // H(u256(1) || H(l1 hash || u256(sequence number)))
        let inner = keccak256([&next.data[L1_HASH], &U256::from(next.sequence).to_be_bytes::<32>()].concat());
        let source = keccak256([&U256::from(1).to_be_bytes::<32>()[..], inner.as_slice()].concat());
        let BlockTx::Deposit(deposit) = next.deposit() else { panic!("a deposit") };
        assert_eq!(deposit.tx().source_hash, source);
        assert_eq!(L1Attributes::read(&deposit.tx().input, OpFork::Jovian), Ok(next));
    }

    #[test]
    fn the_layout_of_another_fork_is_refused() {
        assert!(L1Attributes::read(&calldata(OpFork::Isthmus), OpFork::Isthmus).is_ok());
        let error = L1Attributes::read(&calldata(OpFork::Isthmus), OpFork::Jovian).unwrap_err();
        assert!(error.contains("176 bytes") && error.contains("0x098999be") && error.contains("Jovian"), "{error}");
        assert!(L1Attributes::read(&[], OpFork::Jovian).is_err());
    }
}
