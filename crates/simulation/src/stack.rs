//! What has to be said of a kind of rollup. A new kind is a file in `stack/` and a variant of [`Rules`](crate::Rules).

pub(crate) mod ethereum;
pub(crate) mod op;

use std::{fmt, ops::RangeInclusive, sync::Arc};

use alloy_eips::eip7840::BlobParams;
use alloy_primitives::{Address, Bytes, ChainId, U256};
use lockstep_primitives::{SignedTx, TxRules};
use revm::precompile::Precompiles;

use crate::{
    BlockContext, Overlay, ParentBlock, Rules, RulesError, StandIns, StateError, StateView,
    evm::{Failure, RawOutcome, SignedWork, Terms, Work},
    overlay::Reader,
};

/// Data is measured in millionths of a byte, because the OP stack's estimate of compressed sizes is.
pub(crate) const MILLIONTHS: u64 = 1_000_000;

/// What a header holds beyond what all headers hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderRules {
    /// The parent beacon block root (EIP-4788).
    pub beacon_root: bool,
    /// The hash of the execution requests (EIP-7685); where the rules collect none, that of an empty list.
    pub requests_hash: bool,
    /// In the place of the withdrawals' root the storage root of the contract that passes messages to L1 (OP stack, Isthmus).
    pub message_root: bool,
    /// In the place of the blob gas the DA footprint (OP stack, Jovian).
    pub footprint: bool,
}

/// Who receives what a transaction pays, beside the priority fee, which the block's beneficiary receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeeAccounts {
    /// Of the base fee; `None` where it is burned.
    pub base: Option<Address>,
    /// Of the fee for the transaction's data on L1; `None` where there is none.
    pub l1_data: Option<Address>,
    /// Of the operator's fee; `None` where there is none.
    pub operator: Option<Address>,
}

impl FeeAccounts {
    /// The accounts whose balances every transaction raises, whatever it does.
    pub fn iter(self) -> impl Iterator<Item = Address> {
        [self.base, self.l1_data, self.operator].into_iter().flatten()
    }
}

/// The rules of one fork of one kind of rollup.
///
/// What a kind of rollup needs beyond this interface it does not get: nothing outside of `stack/`, `evm.rs` and `machine.rs` asks
/// which kind it is, in order to execute.
pub(crate) trait Stack: fmt::Debug + Sync {
    /// Executes a deposit, system call or read, by one of the drivers of `evm.rs`.
    fn run(&self, context: &BlockContext, reader: Reader<'_>, work: Work) -> Result<RawOutcome, Failure>;

    /// Executes a signed transaction, which changes nothing in the state yet.
    fn transact(
        &self,
        context: &Arc<BlockContext>,
        state: &mut Overlay,
        tx: SignedWork,
        terms: &Terms,
        stand_ins: &StandIns,
    ) -> Result<RawOutcome, Failure>;

    /// What data costs in the block with that number, by the state after its forced prefix.
    fn terms(&self, number: u64, state: &dyn StateView) -> Result<Terms, StateError>;

    /// The account whose storage says what data costs; `None` where nothing does.
    fn terms_account(&self) -> Option<Address>;

    /// The precompiled contracts.
    fn precompiles(&self) -> &'static Precompiles;

    /// What a transaction has to be by itself, its type included.
    fn tx_rules(&self) -> TxRules;

    /// The type of the transactions that derivation forces to the front of a block; `None` where blocks have no such prefix.
    fn forced_type(&self) -> Option<u8>;

    /// The base fee of the block after `parent`, in wei. `parent_rules` are those of the parent, `None` before the first fork
    /// of the schedule.
    fn base_fee(&self, chain: ChainId, parent: &ParentBlock, parent_rules: Option<Rules>) -> Result<u64, RulesError>;

    /// The gas limits that a block may have after one of `parent` gas.
    fn gas_limits(&self, parent: u64) -> RangeInclusive<u64>;

    /// The blob schedule: prices and room; `None` before blobs. A kind without blobs of its own has one for the EVM's sake.
    fn blobs(&self) -> Option<BlobParams>;

    /// The excess blob gas of the block after `parent`; `None` where headers hold none.
    fn excess_blob_gas(&self, parent: &ParentBlock) -> Option<u64>;

    /// What the header holds.
    fn header(&self) -> HeaderRules;

    /// The system calls before a block's transactions, in order: contract and calldata.
    fn opening_calls(&self, context: &BlockContext) -> Vec<(Address, Bytes)>;

    /// The system calls after a block's transactions, in order: request type (EIP-7685) and contract.
    fn closing_calls(&self) -> &'static [(u8, Address)];

    /// Where fees go.
    fn fee_accounts(&self) -> FeeAccounts;

    /// What a transaction's data weighs, in millionths of a byte.
    fn data_millionths(&self, tx: &SignedTx) -> u64;

    /// What a transfer of the native asset takes between two accounts without code, without calldata and access list, whoever
    /// they are; `None` where only the EVM can tell.
    fn transfer_gas(&self) -> Option<u64>;

    /// What a signed transaction pays for its data on L1, in wei.
    fn l1_data_fee(&self, terms: &Terms, raw: &[u8], millionths: u64) -> U256;

    /// What a signed transaction pays to the operator for so much gas, in wei.
    fn operator_fee(&self, terms: &Terms, raw: &[u8], gas: u64) -> U256;

    /// The most bytes that an encoded block may have.
    fn max_block_bytes(&self) -> Option<u64>;
}
