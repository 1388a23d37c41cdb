//! Plain transfers of the native asset, without an EVM.
//!
//! What a transfer between two accounts without code does is fixed by the rules: it takes a fixed amount of gas, raises the
//! sender's nonce, and moves value and fees. Setting up an EVM for it takes several times as long as that.
//!
//! Whatever is not plainly such a transfer, or is not valid, is left to the EVM, which also knows why. A finished list is executed
//! by the EVM alone, so that sealing and voting check this as well; and debug builds have the EVM run every transfer that it was
//! spared, and demand the same of it.

use alloy_consensus::Transaction;
use alloy_primitives::{Address, U256};
use lockstep_primitives::SignedTx;

use crate::{Account, BlockContext, Overlay, StateError, StateView, TxFees, evm::Terms};

/// The last of the types that carry neither blobs nor authorizations: legacy, EIP-2930, EIP-1559.
const LAST_PLAIN_TYPE: u8 = 2;

/// One side of a transfer, before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Party {
    pub(crate) address: Address,
    pub(crate) before: Account,
    pub(crate) after: Account,
}

/// What a plain transfer does, the fees' arrival aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transfer {
    pub(crate) sender: Party,
    pub(crate) receiver: Party,
    pub(crate) gas_used: u64,
    pub(crate) fees: TxFees,
}

#[cfg(debug_assertions)]
impl Transfer {
    /// Whether the EVM did just that.
    pub(crate) fn is_what_the_evm_did(&self, raw: &crate::evm::RawOutcome) -> bool {
        let same = |party: &Party| {
            raw.state.get(&party.address).is_some_and(|account| {
                let (info, original) = (&account.info, &account.original_info);
                let is = |info: &revm::state::AccountInfo, account: &Account| {
                    (info.balance, info.nonce, info.code_hash) == (account.balance, account.nonce, account.code_hash)
                };
                is(info, &party.after)
                    && is(original, &party.before)
                    && account.is_touched()
                    && !account.is_created()
                    && !account.is_selfdestructed()
                    && account.storage.is_empty()
            })
        };
        let nothing_seen = raw.seen.balances.is_empty() && !raw.seen.nonces && !raw.seen.environment;
        let ended = raw.status == crate::TxStatus::Succeeded && raw.gas_used == self.gas_used && raw.created.is_none();
        let quiet = raw.logs.is_empty() && raw.output.is_empty() && nothing_seen;
        let paid = (raw.l1_data, raw.operator) == (self.fees.l1_data, self.fees.operator);
        ended && quiet && paid && raw.state.len() == 2 && same(&self.sender) && same(&self.receiver)
    }
}

/// What a transaction does, if it is a plain transfer and valid. `millionths` is what its data weighs.
///
/// # Errors
/// When the state cannot be read.
pub(crate) fn plain_transfer(
    context: &BlockContext,
    state: &Overlay,
    tx: &SignedTx,
    terms: &Terms,
    millionths: u64,
) -> Result<Option<Transfer>, StateError> {
    let Some(gas_used) = context.rules.stack().transfer_gas() else { return Ok(None) };
    let Some(to) = plain_receiver(context, tx, gas_used) else { return Ok(None) };
    let from = state.account(tx.signer())?.unwrap_or_default();
    let Some((fees, sent)) = sent(context, (tx, gas_used), &from, terms, millionths) else { return Ok(None) };
    let found = state.account(to)?.unwrap_or_default();
    let Some(balance) = found.balance.checked_add(tx.envelope().value()).filter(|_| !found.has_code()) else { return Ok(None) };
    let sender = Party { address: tx.signer(), before: from, after: sent };
    let receiver = Party { address: to, before: found, after: Account { balance, ..found } };
    Ok(Some(Transfer { sender, receiver, gas_used, fees }))
}

/// Whom a transaction pays, if by itself it looks like a plain transfer that the block may hold.
fn plain_receiver(context: &BlockContext, tx: &SignedTx, gas_used: u64) -> Option<Address> {
    let envelope = tx.envelope();
    let plain = envelope.tx_type() as u8 <= LAST_PLAIN_TYPE
        && envelope.input().is_empty()
        && envelope.access_list().is_none_or(|list| list.is_empty())
        && envelope.chain_id() == Some(context.chain);
    let gas = envelope.gas_limit();
    let may = gas >= gas_used && gas <= context.gas_limit && context.rules.tx_gas_cap().is_none_or(|cap| gas <= cap);
    let tip_covered = envelope.max_priority_fee_per_gas().is_none_or(|tip| tip <= envelope.max_fee_per_gas());
    // Where nothing is sent, an account that is empty stays away (EIP-161).
    let pays = !envelope.value().is_zero();
    let to = envelope.to().filter(|to| *to != tx.signer())?;
    (plain && may && tip_covered && pays && !context.rules.stack().precompiles().contains(&to)).then_some(to)
}

/// What a transfer pays, and the sender after it; `None` when the sender may not send it.
fn sent(
    context: &BlockContext,
    (tx, gas_used): (&SignedTx, u64),
    from: &Account,
    terms: &Terms,
    millionths: u64,
) -> Option<(TxFees, Account)> {
    let envelope = tx.envelope();
    if from.has_code() || from.nonce != envelope.nonce() {
        return None;
    }
    let nonce = from.nonce.checked_add(1)?;
    let tip = envelope.effective_tip_per_gas(context.base_fee)?;
    let stack = context.rules.stack();
    let l1_data = stack.l1_data_fee(terms, tx.raw(), millionths);
    let operator = |gas: u64| stack.operator_fee(terms, tx.raw(), gas);
    // The sender has to have what the transaction might have cost.
    let gas = U256::from(envelope.gas_limit());
    let most = gas.checked_mul(U256::from(envelope.max_fee_per_gas()))?.checked_add(envelope.value())?;
    let most = most.checked_add(l1_data)?.checked_add(operator(envelope.gas_limit()))?;
    if most > from.balance {
        return None;
    }
    let gas = U256::from(gas_used);
    let (priority, base) = (gas * U256::from(tip), gas * U256::from(context.base_fee));
    let fees = TxFees { priority, base, l1_data, operator: operator(gas_used) };
    // Each of them is part of what was summed up above, or less.
    let balance = from.balance - envelope.value() - fees.priority - fees.base - fees.l1_data - fees.operator;
    Some((fees, Account { balance, nonce, ..*from }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
    use alloy_eips::{eip2718::Encodable2718, eip2930::AccessList};
    use alloy_primitives::{Bytes, Signature, TxKind};

    use super::*;
    use crate::{DataLimits, EthereumFork, MemoryState, OpFork, Rules};

    const TO: Address = Address::repeat_byte(7);
    const CONTRACT: Address = Address::repeat_byte(8);

    fn plain() -> TxEip1559 {
        TxEip1559 {
            chain_id: 1,
            nonce: 3,
            gas_limit: 30_000,
            max_fee_per_gas: 20,
            max_priority_fee_per_gas: 2,
            to: TxKind::Call(TO),
            value: U256::from(1_000),
            access_list: AccessList::default(),
            input: Bytes::new(),
        }
    }

    /// Whoever the signature makes the signer: nobody's key is needed.
    fn signed(tx: TxEip1559) -> SignedTx {
        let envelope = TxEnvelope::from(tx.into_signed(Signature::test_signature()));
        SignedTx::decode_any(envelope.encoded_2718().into()).unwrap()
    }

    fn context(rules: Rules) -> BlockContext {
        BlockContext {
            chain: 1,
            rules,
            parent_hash: Default::default(),
            number: 5,
            timestamp: 1_700_000_000,
            gas_limit: 40_000_000,
            base_fee: 10,
            beneficiary: Address::ZERO,
            prev_randao: Default::default(),
            parent_beacon_block_root: None,
            excess_blob_gas: None,
            extra_data: Bytes::new(),
            data: DataLimits::default(),
            encrypted_gas: 0,
            deposits_only: false,
        }
    }

    /// What becomes of it when its sender has that much.
    fn of(rules: Rules, tx: &SignedTx, has: u64) -> Option<Transfer> {
        let mut state = MemoryState::new();
        state.set_account(tx.signer(), U256::from(has), 3, Bytes::new());
        state.set_account(CONTRACT, U256::ZERO, 1, Bytes::from_static(&[0]));
        plain_transfer(&context(rules), &Overlay::new(Arc::new(state)), tx, &Terms::default(), 0).unwrap()
    }

    const OSAKA: Rules = Rules::Ethereum(EthereumFork::Osaka);

    #[test]
    fn a_plain_transfer_needs_no_evm_on_any_fork() {
        let forks = EthereumFork::ALL.into_iter().map(Rules::Ethereum).chain(OpFork::ALL.into_iter().map(Rules::OpStack));
        for rules in forks {
            let transfer = of(rules, &signed(plain()), 1_000_000).unwrap();
            let fees = transfer.fees;
            assert_eq!((fees.priority, fees.base), (U256::from(42_000), U256::from(210_000)));
            let (sender, receiver) = (transfer.sender.after, transfer.receiver.after);
            assert_eq!((sender.nonce, sender.balance), (4, U256::from(1_000_000 - 252_000 - 1_000)));
            assert_eq!((receiver.nonce, receiver.balance), (0, U256::from(1_000)));
        }
    }

    #[test]
    fn the_sender_has_to_have_what_it_might_have_cost() {
        let tx = signed(plain());
        assert!(of(OSAKA, &tx, 20 * 30_000 + 1_000).is_some());
        assert!(of(OSAKA, &tx, 20 * 30_000 + 999).is_none());
    }

    #[test]
    fn what_is_no_plain_transfer_or_not_valid_is_left_to_the_evm() {
        let call = TxKind::Call;
        let item = alloy_eips::eip2930::AccessListItem { address: TO, storage_keys: Vec::new() };
        let others = [
            TxEip1559 { to: call(CONTRACT), ..plain() },
            TxEip1559 { to: call(Address::with_last_byte(1)), ..plain() },
            TxEip1559 { to: TxKind::Create, ..plain() },
            TxEip1559 { value: U256::ZERO, ..plain() },
            TxEip1559 { input: Bytes::from_static(&[0]), ..plain() },
            TxEip1559 { access_list: AccessList(vec![item]), ..plain() },
            TxEip1559 { chain_id: 2, ..plain() },
            TxEip1559 { nonce: 2, ..plain() },
            TxEip1559 { nonce: 4, ..plain() },
            TxEip1559 { gas_limit: 20_999, ..plain() },
            TxEip1559 { gas_limit: (1 << 24) + 1, ..plain() },
            TxEip1559 { max_fee_per_gas: 9, max_priority_fee_per_gas: 0, ..plain() },
            TxEip1559 { max_priority_fee_per_gas: 21, ..plain() },
        ];
        for other in others {
            assert!(of(OSAKA, &signed(other.clone()), u64::MAX).is_none(), "{other:?}");
        }
        assert!(of(OSAKA, &signed(plain()), u64::MAX).is_some());
    }
}
