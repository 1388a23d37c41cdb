//! The pessimistic rule: no more of a foreign token leaves a rollup than came to it.
//!
//! It is checked over all blocks of the slot together, imports first, as a certificate's proof does it (agglayer,
//! `pessimistic-proof-core`): an export may spend what an import of the same slot brings, whatever their order.

use std::collections::BTreeMap;

use alloy_primitives::{U256, U512};
use lockstep_primitives::{ChainId, Place, Reason, Rejection, TxId};

use super::{AggLayer, ETHER, Exit, LeafType, NAME, Token, exit::Claim, facts::overflow};
use crate::Slot;

/// What crosses a rollup's border in a slot, by foreign token. Sums of 256-bit amounts cannot overflow 512 bits.
#[derive(Debug, Default)]
struct Flows {
    imports: BTreeMap<Token, U512>,
    exports: BTreeMap<Token, U512>,
    /// The exports among them that the rollup's derivation forces: no bundle's doing.
    forced: BTreeMap<Token, U512>,
}

/// Checks every rollup with a bridge.
pub(crate) fn check(bridges: &AggLayer, slot: &Slot<'_>) -> Result<(), Rejection> {
    for chain in slot.logs.chains() {
        if let Some(bridge) = bridges.deployments().get(&chain) {
            check_rollup(bridges, chain, bridge.network, slot).map_err(|reason| Rejection::new(Place::rollup(chain), reason))?;
        }
    }
    Ok(())
}

fn check_rollup(bridges: &AggLayer, chain: ChainId, own: u32, slot: &Slot<'_>) -> Result<(), Reason> {
    let flows = flows(bridges, chain, own, slot)?;
    for (token, exports) in &flows.exports {
        let available = available(&flows, chain, *token, slot);
        let forced = flows.forced.get(token).copied().unwrap_or_default();
        if *exports > available.max(forced) {
            return Err(Reason::TokenUnderflow {
                network: token.0,
                token: token.1,
                available: available.saturating_to::<U256>(),
                exports: exports.saturating_to::<U256>(),
            });
        }
    }
    for token in flows.imports.keys() {
        let exports = flows.exports.get(token).copied().unwrap_or_default();
        if available(&flows, chain, *token, slot).saturating_sub(exports) > U512::from(U256::MAX) {
            return Err(overflow(*token));
        }
    }
    Ok(())
}

fn available(flows: &Flows, chain: ChainId, token: Token, slot: &Slot<'_>) -> U512 {
    let imports = flows.imports.get(&token).copied().unwrap_or_default();
    imports.saturating_add(U512::from(slot.facts.exits.balance(chain, token)))
}

fn flows(bridges: &AggLayer, chain: ChainId, own: u32, slot: &Slot<'_>) -> Result<Flows, Reason> {
    let mut flows = Flows::default();
    for emitted in slot.logs.logs(chain).unwrap_or_default() {
        let (side, token, amount) = if let Some(exit) = bridges.exit(chain, emitted.log).transpose()? {
            if matches!(emitted.tx, TxId::Deposit(_)) && exit.token().0 != own {
                let sum = flows.forced.entry(exit.token()).or_default();
                *sum = sum.saturating_add(U512::from(exit.amount));
            }
            (&mut flows.exports, exit.token(), exit.amount)
        } else if let Some(Ok(claim)) = bridges.claim(chain, emitted.log) {
            // A claim of which it is not certain what it brings counts for nothing: too little, never too much.
            let Some(token) = brought(bridges, &claim, slot) else { continue };
            (&mut flows.imports, token, claim.amount)
        } else {
            continue;
        };
        if token.0 != own {
            let sum = side.entry(token).or_default();
            *sum = sum.saturating_add(U512::from(amount));
        }
    }
    Ok(flows)
}

/// What a claim brings: as its event tells; else as the exit tells, if it happened in this slot or is one of the landed
/// messages that are known.
fn brought(bridges: &AggLayer, claim: &Claim, slot: &Slot<'_>) -> Option<Token> {
    claim.token().or_else(|| match exit_of(bridges, claim, slot)?.leaf_type {
        LeafType::Asset => Some(claim.named()),
        LeafType::Message => Some(ETHER),
    })
}

fn exit_of(bridges: &AggLayer, claim: &Claim, slot: &Slot<'_>) -> Option<Exit> {
    let origins = bridges.deployments().iter().filter(|(_, bridge)| bridge.network == claim.index.network);
    for (origin, _) in origins {
        for emitted in slot.logs.logs(*origin).unwrap_or_default() {
            if let Some(Ok(exit)) = bridges.exit(*origin, emitted.log)
                && claim.is_of(&exit)
            {
                return Some(exit);
            }
        }
    }
    let id = claim.index.message_id();
    let known = |message: &&crate::Message| message.protocol == NAME && message.id == id;
    let message = slot.facts.landed.values().flatten().map(|landed| &landed.message).find(known)?;
    Exit::decode(&message.payload).ok().filter(|exit| claim.is_of(exit))
}
