//! Why bundles are refused: every reason has a code of its own, says what to do, and keeps its JSON-RPC code.

use std::collections::BTreeSet;

use alloy_primitives::{Address, B256, Bytes, I256, U256};
use lockstep_primitives::{Place, Reason, Rejection, Relay};
use lockstep_rpc::from_rejection;

/// Where the codes are written down.
const SOURCE: &str = include_str!("../../crates/primitives/src/reason.rs");

/// The code of every reason, and the JSON-RPC code that an error with it has. Clients depend on it: what is here stays.
const TABLE: &str = "\
ambiguous_leg -32602
ambiguous_relay -32602
blob_transaction -32602
bounds_for_unused_rollup -32602
cancelled -32602
conflicting_modes -32602
decision_abort -32602
deposit_transaction -32602
duplicate_transaction -32602
empty_bundle -32602
empty_leg -32602
empty_range -32602
evidence_pending -32602
exit_root_updater -32602
expired -32602
fee_cap_too_low -32602
gas_below_minimum -32602
gas_limit_too_high -32602
halted -32003
init_code_too_large -32602
insufficient_funds -32003
invalid_asset -32602
invalid_replacement -32602
invalid_signature -32602
invalid_transaction -32602
malformed_message -32602
message_cycle -32602
message_delivered -32602
message_expired -32602
mutual_messages -32602
no_block_in_slot -32602
no_byte_room -32602
no_data_room -32602
no_evidence -32602
no_room -32602
no_signed_transaction -32602
no_such_message -32602
nonce_too_high -32003
nonce_too_low -32003
not_in_dependency_set -32602
not_yet -32602
nothing_left -32602
only_deposits -32602
out_of_order -32602
partial -32602
past_block -32003
past_timestamp -32003
pool_full -32005
relay_cycle -32602
relay_same_rollup -32602
relay_to_later_leg -32602
relay_twice -32602
reorged -32602
reorged_in_part -32602
replaced -32602
replacement_needs_signer -32006
replacement_nonce_too_low -32003
replacement_underpriced -32003
requirement_not_met -32602
restricted_caller -32602
reverted -32003
rollup_not_won -32602
same_slot_claim -32602
sender_full -32005
sender_gas -32005
set_code_transaction -32602
token_underflow -32602
too_far_ahead -32602
too_large -32005
too_late -32003
too_many_authorizations -32005
too_many_legs -32005
too_many_requirements -32005
too_many_transactions -32005
too_much_gas -32005
tx_data_too_large -32602
uncertain_message -32602
undecodable_transaction -32602
unknown_message -32602
unknown_rollup -32602
unknown_tx_hash -32602
unprofitable -32602
unprotected_transaction -32602
unreadable_balance -32602
wrong_chain_id -32602
wrong_destination -32602";

/// One of each.
fn every_reason() -> Vec<Reason> {
    let (account, hash, text) = (Address::ZERO, B256::ZERO, String::new);
    vec![
        Reason::UnknownRollup,
        Reason::UndecodableTransaction(text()),
        Reason::InvalidSignature,
        Reason::WrongChainId { signed: 0 },
        Reason::UnprotectedTransaction,
        Reason::BlobTransaction,
        Reason::DepositTransaction,
        Reason::SetCodeTransaction,
        Reason::EmptyBundle,
        Reason::EmptyLeg,
        Reason::AmbiguousLeg,
        Reason::InvalidAsset(text()),
        Reason::NoSignedTransaction,
        Reason::RelayToLaterLeg { leg: 0 },
        Reason::RelayCycle,
        Reason::AmbiguousRelay,
        Reason::RelaySameRollup(0),
        Reason::RelayTwice(Relay::Emitted { leg: 0, message: 0 }),
        Reason::DuplicateTransaction(hash),
        Reason::ConflictingModes(hash),
        Reason::UnknownTxHash(hash),
        Reason::BoundsForUnusedRollup,
        Reason::EmptyRange { min: 0, max: 0 },
        Reason::PastBlock { max: 0, head: 0 },
        Reason::PastTimestamp { max: 0, now: 0 },
        Reason::TooFarAhead { min: 0, head: 0, limit: 0 },
        Reason::TooManyLegs { count: 0, limit: 0 },
        Reason::TooManyTransactions { count: 0, limit: 0 },
        Reason::TooManyRequirements { count: 0, limit: 0 },
        Reason::TooMuchGas { gas: 0, limit: 0 },
        Reason::TooLarge { bytes: 0, limit: 0 },
        Reason::TooManyAuthorizations { count: 0, limit: 0 },
        Reason::NonceTooLow { signer: account, nonce: 0, account: 0 },
        Reason::NonceTooHigh { signer: account, nonce: 0, account: 0 },
        Reason::InsufficientFunds { signer: account, balance: U256::ZERO, cost: U256::ZERO },
        Reason::FeeCapTooLow { cap: 0, base_fee: 0 },
        Reason::GasLimitTooHigh { gas: 0, limit: 0 },
        Reason::GasBelowMinimum { gas: 0, minimum: 0 },
        Reason::InitCodeTooLarge { bytes: 0, limit: 0 },
        Reason::InvalidTransaction(text()),
        Reason::Reverted { message: None, data: Bytes::new() },
        Reason::Halted(text()),
        Reason::NoRoom { gas: 0, left: 0 },
        Reason::NoDataRoom { footprint: 0, left: 0 },
        Reason::TxDataTooLarge { bytes: 0, limit: 0 },
        Reason::NoByteRoom { bytes: 0, left: 0 },
        Reason::OnlyDeposits,
        Reason::NoSuchMessage { leg: 0, message: 0, count: 0 },
        Reason::WrongDestination { destination: text() },
        Reason::RestrictedCaller { caller: account, builder: account },
        Reason::MalformedMessage(text()),
        Reason::MessageDelivered(hash),
        Reason::NoEvidence(text()),
        Reason::MutualMessages,
        Reason::UnknownMessage(text()),
        Reason::EvidencePending(text()),
        Reason::MessageExpired(text()),
        Reason::UncertainMessage { origin: None, text: text() },
        Reason::MessageCycle(text()),
        Reason::NotInDependencySet { origin: 0, destination: 1 },
        Reason::SameSlotClaim(0),
        Reason::ExitRootUpdater { updater: account, builder: account },
        Reason::TokenUnderflow { network: 0, token: account, available: U256::ZERO, exports: U256::ONE },
        Reason::RequirementNotMet { account, increase: I256::ZERO, required: U256::ZERO },
        Reason::UnreadableBalance { account, token: account },
        Reason::Unprofitable { value: I256::ZERO },
        Reason::NothingLeft,
        Reason::NotYet(text()),
        Reason::NoBlockInSlot,
        Reason::RollupNotWon,
        Reason::DecisionAbort(text()),
        Reason::Expired,
        Reason::Cancelled,
        Reason::Replaced(hash),
        Reason::ReplacementNonceTooLow { nonce: 0, current: 0 },
        Reason::InvalidReplacement(text()),
        Reason::ReplacementNeedsSigner,
        Reason::TooLate(""),
        Reason::ReplacementUnderpriced(0),
        Reason::PoolFull { limit: 0 },
        Reason::SenderFull { limit: 0 },
        Reason::SenderGas { gas: 0, limit: 0 },
        Reason::OutOfOrder { position: 1, earlier_position: 0, text: text() },
        Reason::Partial,
        Reason::Reorged,
        Reason::ReorgedInPart { lost: Vec::new() },
    ]
}

#[test]
fn every_reason_has_a_code_of_its_own_and_a_hint() {
    let reasons = every_reason();
    let codes: BTreeSet<&str> = reasons.iter().map(Reason::code).collect();
    assert_eq!(codes.len(), reasons.len(), "no code is used twice");
    for reason in &reasons {
        let code = reason.code();
        assert!(code.chars().all(|char| char.is_ascii_lowercase() || char == '_'), "{code}");
        assert!(!reason.hint().is_empty(), "{code} says what to do");
    }
    // The list above is complete: the source names no other code. Hints are sentences, so they are no codes.
    let written: BTreeSet<&str> = SOURCE
        .split("=> \"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .filter(|text| text.chars().all(|char| char.is_ascii_lowercase() || char == '_'))
        .collect();
    assert_eq!(written, codes);
}

#[test]
fn every_reason_keeps_its_json_rpc_code() {
    let mut lines: Vec<String> = every_reason()
        .into_iter()
        .map(|reason| {
            let code = reason.code();
            format!("{code} {}", from_rejection(&Rejection::new(Place::BUNDLE, reason)).code())
        })
        .collect();
    lines.sort();
    assert_eq!(lines.join("\n"), TABLE);
}
