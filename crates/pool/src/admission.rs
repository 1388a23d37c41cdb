//! What a bundle has to be by itself.

use std::collections::{BTreeMap, BTreeSet};

use alloy_consensus::Transaction;
use lockstep_primitives::{Bundle, ChainId, Leg, Place, Reason, Rejection, Relay, TxRules};

use crate::Limits;

/// The newest block of a rollup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Block number.
    pub number: u64,
    /// In seconds.
    pub timestamp: u64,
    /// The most gas that one of its transactions may ask for: the block's gas limit, or the EIP-7825 cap.
    pub tx_gas_limit: u64,
    /// Its base fee in wei.
    pub base_fee: u64,
    /// What its rules demand of a transaction by itself.
    pub rules: TxRules,
}

/// The newest block of every rollup that is served.
pub type Heads = BTreeMap<ChainId, Head>;

/// Checks everything about a bundle that needs no state.
///
/// # Errors
/// The first thing that is wrong with it, and where.
pub fn check(bundle: &Bundle, heads: &Heads, now_s: u64, limits: &Limits) -> Result<(), Rejection> {
    let bundle_wide = |reason| Err(Rejection::new(Place::BUNDLE, reason));
    if bundle.legs.is_empty() {
        return bundle_wide(Reason::EmptyBundle);
    }
    let over = |count: usize, limit: usize| count > limit;
    if over(bundle.legs.len(), limits.legs) {
        return bundle_wide(Reason::TooManyLegs { count: bundle.legs.len(), limit: limits.legs });
    }
    let count = bundle.txs().count();
    if over(count, limits.transactions) {
        return bundle_wide(Reason::TooManyTransactions { count, limit: limits.transactions });
    }
    let gas = gas_limit(bundle);
    if gas > limits.gas {
        return bundle_wide(Reason::TooMuchGas { gas, limit: limits.gas });
    }
    let bytes = bundle.txs().map(|tx| tx.tx.raw().len()).sum();
    if over(bytes, limits.bytes) {
        return bundle_wide(Reason::TooLarge { bytes, limit: limits.bytes });
    }
    let authorizations = bundle.txs().filter_map(|tx| tx.tx.envelope().authorization_list()).map(<[_]>::len).sum();
    if over(authorizations, limits.authorizations) {
        return bundle_wide(Reason::TooManyAuthorizations { count: authorizations, limit: limits.authorizations });
    }
    if over(bundle.require.len(), limits.requirements) {
        return bundle_wide(Reason::TooManyRequirements { count: bundle.require.len(), limit: limits.requirements });
    }
    check_legs(bundle, heads)?;
    // A message that is on its chain already was sent by a transaction that its user signed.
    let landed = |leg: &Leg| matches!(leg, Leg::Relay { relay: Relay::Landed(_), .. });
    if count == 0 && !bundle.legs.iter().any(landed) {
        return bundle_wide(Reason::NoSignedTransaction);
    }
    check_bounds(bundle, heads, now_s, limits)
}

/// What a bundle's transactions ask for together.
pub(crate) fn gas_limit(bundle: &Bundle) -> u64 {
    bundle.txs().fold(0, |gas, tx| gas.saturating_add(tx.tx.gas_limit()))
}

fn check_legs(bundle: &Bundle, heads: &Heads) -> Result<(), Rejection> {
    let mut hashes = BTreeSet::new();
    let mut relays = BTreeSet::new();
    for (index, leg) in bundle.legs.iter().enumerate() {
        let chain = leg.chain();
        let at_leg = |reason| Rejection::new(Place::leg(chain, index), reason);
        let head = heads.get(&chain).ok_or_else(|| at_leg(Reason::UnknownRollup))?;
        match leg {
            Leg::Relay { relay, .. } => {
                check_relay(bundle, heads, index, chain, *relay).map_err(at_leg)?;
                if !relays.insert(*relay) {
                    return Err(at_leg(Reason::RelayTwice(*relay)));
                }
            }
            Leg::Txs { txs, .. } if txs.is_empty() => return Err(at_leg(Reason::EmptyLeg)),
            Leg::Txs { txs, .. } => {
                for (position, tx) in txs.iter().enumerate() {
                    let at_tx = |reason| Rejection::new(Place::tx(chain, index, position), reason);
                    match tx.tx.chain_id() {
                        None => return Err(at_tx(Reason::UnprotectedTransaction)),
                        Some(signed) if signed != chain => return Err(at_tx(Reason::WrongChainId { signed })),
                        Some(_) => {}
                    }
                    let gas = tx.tx.gas_limit();
                    if gas > head.tx_gas_limit {
                        return Err(at_tx(Reason::GasLimitTooHigh { gas, limit: head.tx_gas_limit }));
                    }
                    head.rules.check(&tx.tx).map_err(at_tx)?;
                    // The base fee falls by an eighth a block at the most: a cap below half of it only takes up room.
                    let cap = tx.tx.envelope().max_fee_per_gas();
                    if cap < u128::from(head.base_fee / 2) {
                        return Err(at_tx(Reason::FeeCapTooLow { cap, base_fee: head.base_fee }));
                    }
                    if !hashes.insert(tx.tx.hash()) {
                        return Err(at_tx(Reason::DuplicateTransaction(tx.tx.hash())));
                    }
                }
            }
        }
    }
    Ok(())
}

fn check_relay(bundle: &Bundle, heads: &Heads, index: usize, chain: ChainId, relay: Relay) -> Result<(), Reason> {
    let origin = match relay {
        Relay::Emitted { leg, .. } if leg == index => return Err(Reason::RelayCycle),
        Relay::Emitted { leg, .. } => {
            let origin = bundle.legs.get(leg).filter(|_| leg < index).ok_or(Reason::RelayToLaterLeg { leg })?;
            origin.chain()
        }
        Relay::Landed(landed) if !heads.contains_key(&landed.chain) => {
            return Err(Reason::UnknownMessage(format!("rollup {} is not served", landed.chain)));
        }
        Relay::Landed(landed) => landed.chain,
    };
    if origin == chain {
        return Err(Reason::RelaySameRollup(origin));
    }
    Ok(())
}

fn check_bounds(bundle: &Bundle, heads: &Heads, now_s: u64, limits: &Limits) -> Result<(), Rejection> {
    let rollups = bundle.rollups();
    for (chain, range) in &bundle.blocks {
        let at = |reason| Err(Rejection::new(Place::rollup(*chain), reason));
        let Some(head) = heads.get(chain).filter(|_| rollups.contains(chain)) else {
            return at(Reason::BoundsForUnusedRollup);
        };
        if range.min > range.max {
            return at(Reason::EmptyRange { min: range.min, max: range.max });
        }
        if range.max <= head.number {
            return at(Reason::PastBlock { max: range.max, head: head.number });
        }
        if range.min > head.number.saturating_add(limits.blocks_ahead) {
            return at(Reason::TooFarAhead { min: range.min, head: head.number, limit: limits.blocks_ahead });
        }
    }
    if let (Some(min), Some(max)) = (bundle.min_timestamp, bundle.max_timestamp)
        && min > max
    {
        return Err(Rejection::new(Place::BUNDLE, Reason::EmptyRange { min, max }));
    }
    if let Some(max) = bundle.max_timestamp.filter(|max| *max < now_s) {
        return Err(Rejection::new(Place::BUNDLE, Reason::PastTimestamp { max, now: now_s }));
    }
    if let Some(requirement) = bundle.require.iter().find(|requirement| !rollups.contains(&requirement.chain)) {
        return Err(Rejection::new(Place::rollup(requirement.chain), Reason::BoundsForUnusedRollup));
    }
    Ok(())
}
