//! AggLayer's unified bridge.
//!
//! What leaves a network is a leaf of the exit tree of its bridge. It is claimed elsewhere with two Merkle proofs: of the leaf in
//! its network's local exit tree, and of that tree's root among those of all rollups. Together with the root of Ethereum's tree
//! they make the global exit root, which the destination has to know before (agglayer-contracts, `PolygonZkEVMBridgeV2.sol`).
//! Where the builder may insert such roots, and the rollup's terms of sale allow it, an exit can be claimed in the slot in
//! which it happens.

mod abi;
mod balances;
mod exit;
mod facts;
mod tree;

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Log, keccak256};
use alloy_sol_types::{SolCall, SolEvent};
use lockstep_primitives::{ChainId, Reason, Rejection};

pub use exit::{ETHER, Exit, GlobalIndex, LeafType, MAINNET, Token};
pub use facts::{Applied, ExitFacts, ExitProof, LandedExit};
pub use tree::{DEPTH, ExitTree, MerkleTreeFull, Siblings, global_exit_root, rollup_exit_root, rollup_proof, root_over, verify};

use crate::{Demand, Destination, Emitted, Evidence, EvidenceKind, Message, Protocol, ReadCall, RelayCall, Slot};
use abi::{
    BridgeEvent, ClaimEvent, claimAssetCall, claimMessageCall, depositCountCall, getRootCall, globalExitRootMapCall,
    insertGlobalExitRootCall, localBalanceTreeCall,
};
use exit::Claim;

const NAME: &str = "agglayer";
/// Two new storage slots, one that changes, one log.
const INSERT_GAS: u64 = 150_000;
/// The first claim of a token creates its wrapped form, which is most of it; else 64 hashes, one bit, and a mint or a payment.
const CLAIM_ASSET_GAS: u64 = 2_500_000;
/// 64 hashes, one bit, and what the receiver does with the message.
const CLAIM_MESSAGE_GAS: u64 = 1_000_000;

/// The bridge on one rollup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeDeployment {
    /// The bridge's network number, 0 for Ethereum; never the chain id.
    pub network: u32,
    /// The bridge.
    pub bridge: Address,
    /// The contract that knows the global exit roots.
    pub exit_root_manager: Address,
    /// Who may insert roots there; with `None`, or the zero address, the block's fee recipient. On Ethereum nobody may.
    pub updater: Option<Address>,
}

/// AggLayer over the rollups where it is deployed.
#[derive(Clone, Debug)]
pub struct AggLayer {
    deployments: BTreeMap<ChainId, BridgeDeployment>,
}

/// Whether a log looks like an exit, of whichever bridge.
pub fn is_exit(log: &Log) -> bool {
    log.topics() == [abi::BridgeEvent::SIGNATURE_HASH]
}

impl AggLayer {
    /// The protocol over a set of deployments. No two may have the same network: of those that do, exits go to the one with
    /// the lowest chain id.
    pub const fn new(deployments: BTreeMap<ChainId, BridgeDeployment>) -> Self {
        Self { deployments }
    }

    /// The bridges, by rollup.
    pub const fn deployments(&self) -> &BTreeMap<ChainId, BridgeDeployment> {
        &self.deployments
    }

    /// The call that reads what [`ExitFacts::balances`] has of a token on a rollup: its `localBalanceTree`. `None` where no
    /// bridge is; bridges other than the sovereign chain's do not answer.
    pub fn balance_call(&self, chain: ChainId, (network, token): Token) -> Option<ReadCall> {
        let key = keccak256([network.to_be_bytes().as_slice(), token.as_slice()].concat());
        let data = localBalanceTreeCall { tokenInfoHash: key }.abi_encode().into();
        Some(ReadCall { to: self.deployments.get(&chain)?.bridge, data })
    }

    /// The call that reads how many leaves a rollup's exit tree has; `None` where no bridge is.
    pub fn count_call(&self, chain: ChainId) -> Option<ReadCall> {
        Some(ReadCall { to: self.deployments.get(&chain)?.bridge, data: depositCountCall {}.abi_encode().into() })
    }

    /// The call that reads the root of a rollup's exit tree; `None` where no bridge is.
    pub fn root_call(&self, chain: ChainId) -> Option<ReadCall> {
        Some(ReadCall { to: self.deployments.get(&chain)?.bridge, data: getRootCall {}.abi_encode().into() })
    }

    /// The network of a rollup.
    pub(crate) fn network(&self, chain: ChainId) -> Result<u32, Reason> {
        let none = || Reason::NoEvidence(format!("no {NAME} bridge is configured on rollup {chain}"));
        self.deployments.get(&chain).map(|bridge| bridge.network).ok_or_else(none)
    }

    /// Reads a log as an exit: `None` when it is none.
    pub(crate) fn exit(&self, chain: ChainId, log: &Log) -> Option<Result<Exit, Reason>> {
        let bridge = self.deployments.get(&chain)?;
        if log.address != bridge.bridge || log.topics() != [BridgeEvent::SIGNATURE_HASH] {
            return None;
        }
        Some(Exit::decode(&log.data.data).and_then(|exit| plausible(bridge.network, exit)))
    }

    /// Reads a log as a claim: `None` when it is none.
    pub(crate) fn claim(&self, chain: ChainId, log: &Log) -> Option<Result<Claim, Reason>> {
        let bridge = self.deployments.get(&chain)?;
        if log.address != bridge.bridge || log.topics() != [ClaimEvent::SIGNATURE_HASH] {
            return None;
        }
        Some(Claim::decode(&log.data.data))
    }

    fn chain_of(&self, network: u32) -> Option<ChainId> {
        self.deployments.iter().find(|(_, bridge)| bridge.network == network).map(|(chain, _)| *chain)
    }

    fn destination(&self, message: &Message, to: &Destination) -> Result<&BridgeDeployment, Reason> {
        message
            .destination
            .filter(|chain| *chain == to.chain)
            .and_then(|chain| self.deployments.get(&chain))
            .ok_or_else(|| Reason::WrongDestination { destination: message.destination_name.clone() })
    }

    /// The exit of a message of this slot: all exits of its rollup before it are added to the tree as it was before the slot.
    fn landed_in(&self, message: &Message, slot: &Slot<'_>) -> Result<LandedExit, Reason> {
        let chain = message.origin;
        let network = self.network(chain)?;
        let mut tree = slot.facts.exits.tree(chain)?.clone();
        let logs = slot.logs.logs(chain);
        let logs = logs.ok_or_else(|| Reason::NoEvidence(format!("rollup {chain} is not built for in this slot")))?;
        for emitted in &logs {
            let Some(exit) = self.exit(chain, emitted.log).transpose()? else { continue };
            let landed = facts::append(&mut tree, network, &exit)?;
            if emitted.place == message.place && emitted.log.data.data == message.payload {
                return Ok(landed);
            }
        }
        Err(Reason::NoEvidence(format!("the exit is not among the logs of rollup {chain} in this slot")))
    }
}

/// Refuses what no bridge of `network` emits.
fn plausible(network: u32, exit: Exit) -> Result<Exit, Reason> {
    if exit.destination_network == network {
        return Err(Reason::MalformedMessage(format!("the exit of network {network} goes to that same network")));
    }
    if exit.leaf_type == LeafType::Message && exit.origin_network != network {
        let text = format!("the message leaves network {network} and says it is of network {}", exit.origin_network);
        return Err(Reason::MalformedMessage(text));
    }
    Ok(exit)
}

/// Who may insert global exit roots; `None` on Ethereum, where the bridge's own contracts do it.
fn updater(bridge: &BridgeDeployment, to: &Destination) -> Option<Address> {
    let named = bridge.updater.filter(|updater| !updater.is_zero());
    (bridge.network != MAINNET).then(|| named.unwrap_or(to.beneficiary))
}

fn insert(bridge: &BridgeDeployment, root: B256) -> RelayCall {
    let known = globalExitRootMapCall { globalExitRoot: root }.abi_encode();
    RelayCall {
        to: bridge.exit_root_manager,
        data: insertGlobalExitRootCall { newRoot: root }.abi_encode().into(),
        gas: INSERT_GAS,
        unless: Some(ReadCall { to: bridge.exit_root_manager, data: known.into() }),
        ..RelayCall::default()
    }
}

fn claim(bridge: &BridgeDeployment, index: GlobalIndex, exit: Exit, proof: &ExitProof) -> RelayCall {
    let (data, gas) = match exit.leaf_type {
        LeafType::Asset => {
            let call = claimAssetCall {
                smtProofLocalExitRoot: proof.local,
                smtProofRollupExitRoot: proof.rollup,
                globalIndex: index.encode(),
                mainnetExitRoot: proof.mainnet_exit_root,
                rollupExitRoot: proof.rollup_exit_root,
                originNetwork: exit.origin_network,
                originTokenAddress: exit.origin_address,
                destinationNetwork: exit.destination_network,
                destinationAddress: exit.destination_address,
                amount: exit.amount,
                metadata: exit.metadata,
            };
            (call.abi_encode(), CLAIM_ASSET_GAS)
        }
        LeafType::Message => {
            let call = claimMessageCall {
                smtProofLocalExitRoot: proof.local,
                smtProofRollupExitRoot: proof.rollup,
                globalIndex: index.encode(),
                mainnetExitRoot: proof.mainnet_exit_root,
                rollupExitRoot: proof.rollup_exit_root,
                originNetwork: exit.origin_network,
                originAddress: exit.origin_address,
                destinationNetwork: exit.destination_network,
                destinationAddress: exit.destination_address,
                amount: exit.amount,
                metadata: exit.metadata,
            };
            (call.abi_encode(), CLAIM_MESSAGE_GAS)
        }
    };
    RelayCall { to: bridge.bridge, data: data.into(), gas, ..RelayCall::default() }
}

impl Protocol for AggLayer {
    fn name(&self) -> &'static str {
        NAME
    }

    fn evidence_kind(&self) -> EvidenceKind {
        EvidenceKind::Exit
    }

    fn recognise(&self, chain: ChainId, emitted: &Emitted<'_>) -> Option<Result<Message, Reason>> {
        let network = self.deployments.get(&chain)?.network;
        let exit = match self.exit(chain, emitted.log)? {
            Ok(exit) => exit,
            Err(reason) => return Some(Err(reason)),
        };
        Some(Ok(Message {
            protocol: NAME,
            id: GlobalIndex { network, leaf_index: exit.leaf_index }.message_id(),
            origin: chain,
            destination: self.chain_of(exit.destination_network),
            destination_name: format!("AggLayer network {}", exit.destination_network),
            restricted_to: None,
            payload: emitted.log.data.data.clone(),
            place: emitted.place,
        }))
    }

    fn demand(&self, message: &Message, to: &Destination, slot: &Slot<'_>) -> Result<Demand, Reason> {
        let bridge = self.destination(message, to)?;
        let updater = updater(bridge, to)
            .filter(|_| slot.facts.exits.same_slot_claims.contains(&to.chain))
            .ok_or(Reason::SameSlotClaim(to.chain))?;
        if updater != to.builder {
            return Err(Reason::ExitRootUpdater { updater, builder: to.builder });
        }
        let landed = self.landed_in(message, slot)?;
        let proof = slot.facts.exits.prove(self, &landed)?;
        Ok(Demand::Derived(Evidence::Exit(Box::new(proof))))
    }

    /// Inserts the global exit root unless it is known, then claims. Where the builder may not insert, the claim stands alone,
    /// and reverts while the root is not known.
    fn deliver(&self, message: &Message, evidence: &Evidence, to: &Destination) -> Result<Vec<RelayCall>, Reason> {
        let bridge = self.destination(message, to)?;
        let Evidence::Exit(proof) = evidence else {
            return Err(Reason::NoEvidence(format!("{NAME} needs proofs of the exit")));
        };
        let network = self.network(message.origin)?;
        let exit = Exit::decode(&message.payload).and_then(|exit| plausible(network, exit))?;
        if exit.destination_network != bridge.network {
            return Err(Reason::WrongDestination { destination: format!("AggLayer network {}", exit.destination_network) });
        }
        proof.verify(network, &exit)?;
        let index = GlobalIndex { network, leaf_index: exit.leaf_index };
        let mut calls = Vec::new();
        if updater(bridge, to) == Some(to.builder) {
            calls.push(insert(bridge, proof.global_exit_root()));
        }
        calls.push(claim(bridge, index, exit, proof));
        Ok(calls)
    }

    fn receipt(&self, message: &Message, _: Option<&Evidence>) -> Option<B256> {
        Some(message.id)
    }

    fn delivered(&self, chain: ChainId, log: &Log) -> Option<B256> {
        Some(self.claim(chain, log)?.ok()?.index.message_id())
    }

    fn check_slot(&self, slot: &Slot<'_>) -> Result<(), Rejection> {
        balances::check(self, slot)
    }
}
