//! Slots on sale, bids and allocations as JSON.

use alloy_primitives::{Address, B256, Bytes, U64, U256};
use lockstep_primitives::{
    Allocation, Bid, Grant, InvalidOrdering, Opening, OrderingPolicy, Registration, RollupSet, SealedBids,
};
use serde::{Deserialize, Serialize};

use super::{Decimal, HeldView, chains};

/// The parameter of `market_submitBid`: a bid and its bidder's EIP-712 signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BidWire {
    /// The slot.
    pub slot: u64,
    /// The package.
    pub rollups: Vec<U64>,
    /// In the numeraire's smallest unit.
    pub amount: Decimal,
    /// Of bids with the same tag at most one wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclusive: Option<String>,
    /// A higher one replaces.
    pub nonce: u64,
    /// 65 bytes r || s || v.
    pub signature: Bytes,
}

impl BidWire {
    /// A signed bid.
    pub fn new(bid: &Bid, signature: Bytes) -> Self {
        Self {
            slot: bid.slot,
            rollups: chains(&bid.rollups),
            amount: Decimal(bid.amount),
            exclusive: bid.exclusive.clone(),
            nonce: bid.nonce,
            signature,
        }
    }

    /// What is signed.
    pub fn bid(&self) -> Bid {
        Bid {
            slot: self.slot,
            rollups: self.rollups.iter().map(|chain| chain.to()).collect(),
            amount: self.amount.0,
            exclusive: self.exclusive.clone(),
            nonce: self.nonce,
        }
    }
}

/// The parameter of `market_submitSealedBids`: all bids of a bidder for a slot, sealed, and its EIP-712 signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SealedBidsWire {
    /// The slot.
    pub slot: u64,
    /// keccak-256 of bidder, salt and the EIP-712 digests of the bids; zero takes earlier ones back.
    pub commitment: B256,
    /// How many bids there are.
    pub bids: u64,
    /// The most that they may cost together, in the numeraire's smallest unit.
    pub cover: Decimal,
    /// A higher one replaces.
    pub nonce: u64,
    /// 65 bytes r || s || v.
    pub signature: Bytes,
}

impl SealedBidsWire {
    /// Signed sealed bids.
    pub const fn new(sealed: &SealedBids, signature: Bytes) -> Self {
        let SealedBids { slot, commitment, bids, cover, nonce } = *sealed;
        Self { slot, commitment, bids, cover: Decimal(cover), nonce, signature }
    }

    /// What is signed.
    pub const fn sealed(&self) -> SealedBids {
        let Self { slot, commitment, bids, cover, nonce, .. } = *self;
        SealedBids { slot, commitment, bids, cover: cover.0, nonce }
    }
}

/// A bid of an opening.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OpenedBid {
    /// The package.
    pub rollups: Vec<U64>,
    /// In the numeraire's smallest unit.
    pub amount: Decimal,
    /// Of bids with the same tag at most one wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclusive: Option<String>,
    /// Part of what was sealed.
    pub nonce: u64,
}

/// The parameter of `market_openBids`: what opens a bidder's sealed bids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OpeningWire {
    /// The slot.
    pub slot: u64,
    /// Who sealed them.
    pub bidder: Address,
    /// What was sealed with them.
    pub salt: B256,
    /// In the order in which they were sealed.
    pub bids: Vec<OpenedBid>,
}

impl OpeningWire {
    /// An opening as JSON.
    pub fn new(opening: &Opening) -> Self {
        let bid = |bid: &Bid| OpenedBid {
            rollups: chains(&bid.rollups),
            amount: Decimal(bid.amount),
            exclusive: bid.exclusive.clone(),
            nonce: bid.nonce,
        };
        let Opening { slot, bidder, salt, bids } = opening;
        Self { slot: *slot, bidder: *bidder, salt: *salt, bids: bids.iter().map(bid).collect() }
    }

    /// The opening.
    pub fn opening(&self) -> Opening {
        let bid = |bid: &OpenedBid| Bid {
            slot: self.slot,
            rollups: bid.rollups.iter().map(|chain| chain.to()).collect(),
            amount: bid.amount.0,
            exclusive: bid.exclusive.clone(),
            nonce: bid.nonce,
        };
        Opening { slot: self.slot, bidder: self.bidder, salt: self.salt, bids: self.bids.iter().map(bid).collect() }
    }
}

/// The answer of `market_submitBid` and `market_submitSealedBids`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BidReceipt {
    /// The bid's EIP-712 digest.
    pub bid_hash: B256,
}

/// A bid as the market shows it once the slot is closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BidView {
    /// Who bids.
    pub bidder: Address,
    /// The package.
    pub rollups: Vec<U64>,
    /// How much.
    pub amount: Decimal,
    /// The tag.
    pub exclusive: Option<String>,
}

/// A rollup on sale in a slot, with its terms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sale {
    /// The rollup.
    pub chain_id: U64,
    /// The rollups that are sold together with it in this slot, itself among them: a bid takes all of them or none.
    pub unit: Vec<U64>,
    /// The least it is sold for in this slot.
    pub reserve: Decimal,
    /// Who proposes when nobody buys.
    pub default_proposer: Address,
    /// The key that speaks for it, and votes.
    pub sequencer: Address,
    /// Where it is reached.
    pub sequencer_url: String,
    /// Seconds between blocks.
    pub block_time: u64,
    /// Whether it holds.
    pub holds: bool,
    /// The proposer's share of protocol fees, in basis points.
    pub fee_share_bps: u64,
    /// In which order its blocks may hold transactions: `free`, `priority-fee`, `fcfs` or `top-of-block`.
    pub ordering: String,
    /// Gas of the free lane; 0 for every ordering but `top-of-block`.
    pub lane_gas: u64,
    /// How many transactions its inclusion list has at the most.
    pub inclusion: u64,
    /// Whether its blocks may claim AggLayer exits of the same slot.
    pub same_slot_claims: bool,
    /// Whether its blocks follow Ethereum's newest state.
    #[serde(rename = "followsL1")]
    pub follows_l1: bool,
    /// Gas of each slot's last block that is kept for encrypted transactions: no list may use it. 0 keeps none.
    pub encrypted_gas: u64,
}

impl Sale {
    /// A rollup on sale in a slot, with its reserve in it.
    pub fn new(registration: &Registration, unit: &RollupSet, reserve: U256) -> Self {
        Self {
            chain_id: U64::from(registration.chain),
            unit: chains(unit),
            reserve: Decimal(reserve),
            default_proposer: registration.default_proposer,
            sequencer: registration.sequencer,
            sequencer_url: registration.sequencer_url.clone(),
            block_time: registration.block_time,
            holds: registration.holds,
            fee_share_bps: registration.fee_share_bps,
            ordering: registration.ordering.name().to_owned(),
            lane_gas: registration.ordering.lane_gas(),
            inclusion: registration.inclusion,
            same_slot_claims: registration.same_slot_claims,
            follows_l1: registration.follows_l1,
            encrypted_gas: registration.encrypted_gas,
        }
    }

    /// In which order its blocks may hold transactions.
    ///
    /// # Errors
    /// When the market names an ordering that is none.
    pub fn policy(&self) -> Result<OrderingPolicy, InvalidOrdering> {
        OrderingPolicy::parse(&self.ordering, self.lane_gas)
    }
}

/// The answer of `market_getSlot`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MarketSlot {
    /// The slot.
    pub slot: u64,
    /// Unix milliseconds.
    pub start_ms: u64,
    /// Unix milliseconds, exclusive.
    pub end_ms: u64,
    /// Bids are taken before this time.
    pub close_ms: u64,
    /// A commit is recorded before this time.
    pub decide_ms: u64,
    /// Whether the decision record survives the market's process: without, no bundle is G3.
    pub durable_record: bool,
    /// `open` or `closed`.
    pub state: String,
    /// How it is sold: `combinatorial`, `core-selecting`, `first-price`, `second-price`, `lottery` or `posted`.
    pub mechanism: String,
    /// What is held beside what a bidder may have to pay, in basis points of it; absent where bids need no cover.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bond_bps: Option<u64>,
    /// How bids are sealed; absent where the market is trusted with them until the bidding ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealing: Option<SealingView>,
    /// keccak-256 of the market's secret for the slot's draws: it can choose no other one any more.
    pub seed_commitment: B256,
    /// What the slot's draws were made with; absent while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<SeedView>,
    /// What is for sale.
    pub on_sale: Vec<Sale>,
    /// What is not for sale: sold ahead and not offered, or not sold by its rollup.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<HeldView>,
    /// The bids; sealed, so empty while the slot is open.
    pub bids: Vec<BidView>,
}

impl MarketSlot {
    /// When bids have to be there: when they are sealed, or else when the bidding ends.
    pub fn bids_due_ms(&self) -> u64 {
        self.sealing.map_or(self.close_ms, |sealing| sealing.seal_ms)
    }

    /// What a builder has to do with: what is for sale, what it builds without buying, and what others do, if it `offers` proposals
    /// to them.
    pub fn buildable(&self, builder: Address, offers: bool) -> impl Iterator<Item = &Sale> {
        let held = self.held.iter().filter(move |held| offers || held.proposer == builder);
        self.on_sale.iter().chain(held.map(|held| &held.sale))
    }

    /// What somebody is to build without buying it now: it bought it ahead, or is the default proposer of what is not sold.
    pub fn held_by(&self, proposer: Address) -> RollupSet {
        self.held.iter().filter(|held| held.proposer == proposer).map(|held| held.sale.chain_id.to()).collect()
    }
}

/// How bids of a slot are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SealingView {
    /// Bids are sealed before this time, and opened from it on until the bidding ends.
    pub seal_ms: u64,
    /// What who does not open its bids forfeits, of their cover in basis points.
    pub forfeit_bps: u64,
}

/// What the draws of a closed slot were made with: keccak-256 of the secret, the slot as 8 bytes, and the salts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeedView {
    /// The market's: its keccak-256 is what was committed to.
    pub secret: B256,
    /// With which sealed bids were opened, ordered by bidder.
    pub salts: Vec<B256>,
}

/// A grant of an allocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrantWire {
    /// Who proposes.
    pub proposer: Address,
    /// Where.
    pub rollups: Vec<U64>,
    /// For how much.
    pub price: Decimal,
}

/// The answer of `market_getAllocation`: an allocation and the market's EIP-712 signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AllocationWire {
    /// The slot.
    pub slot: u64,
    /// Who proposes where.
    pub grants: Vec<GrantWire>,
    /// 65 bytes r || s || v.
    pub signature: Bytes,
}

impl AllocationWire {
    /// A signed allocation.
    pub fn new(allocation: &Allocation, signature: Bytes) -> Self {
        let grants = allocation
            .grants
            .iter()
            .map(|grant| GrantWire { proposer: grant.proposer, rollups: chains(&grant.rollups), price: Decimal(grant.price) })
            .collect();
        Self { slot: allocation.slot, grants, signature }
    }

    /// What is signed.
    pub fn allocation(&self) -> Allocation {
        let grants = self
            .grants
            .iter()
            .map(|grant| Grant {
                proposer: grant.proposer,
                rollups: grant.rollups.iter().map(|chain| chain.to()).collect(),
                price: grant.price.0,
            })
            .collect();
        Allocation { slot: self.slot, grants }
    }
}
