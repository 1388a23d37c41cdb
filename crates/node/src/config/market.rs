//! The market.

use std::{path::PathBuf, sync::Arc};

use alloy_primitives::{Address, ChainId};
use lockstep_market::{
    AheadSale, Calendar, Combinatorial, CoreSelecting, DepositRules, FirstPrice, L1Terms, Lottery, Mechanism, PostedPrice,
    ProposalTerms, SLOTS_AHEAD, SealRules, SecondPrice, Selling, Sharing, SlotClock, TicketBook, TicketRecord, TicketRules,
    TimeboostDomain,
};
use lockstep_primitives::RollupSet;
use lockstep_provider::ValidatorKey;
use serde::{Deserialize, Serialize};

use super::{ConfigError, amount, key, wrong};
use crate::process::{EscrowPlan, L1Plan, MarketPlan};

/// The most that is held beside what a bidder may have to pay, in basis points of it.
const MAX_BOND_BPS: u64 = 100_000;
/// Tickets of a class that may be there at a time, when nothing else is said.
const TICKETS_OUTSTANDING: u64 = 32;
/// Slots before its own that a slot's tickets are drawn, when nothing else is said.
const TICKETS_LOOKAHEAD: u64 = 2;
/// All, in basis points.
const WHOLE_BPS: u64 = 10_000;
/// The most slots after its own that a slot may be reported on.
const MAX_REPORT_SLOTS: u64 = 1_000;

/// The market: with a key file this process may play it, with url and address it is elsewhere.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MarketConfig {
    /// File with the market's private key in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// Its JSON-RPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The address that signs its allocations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
    /// The rollups whose registrations the market takes; any when empty, first come first served.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sellers: Vec<ChainId>,
    /// How it sells.
    #[serde(default)]
    pub mechanism: MechanismName,
    /// How tickets are sold; with the mechanism `tickets` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tickets: Option<TicketsConfig>,
    /// How the sellers of a package share what it brings; with a mechanism that sells packages only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharing: Option<SharingName>,
    /// For how many slots after its own a slot may be reported on; whoever bought it is not charged without a report.
    #[serde(default = "default_report_slots")]
    pub report_slots: u64,
    /// How bids are sealed. Without, the market is trusted with them until the bidding ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealing: Option<SealingConfig>,
    /// Timeboost bids (`auctioneer_submitBid`), taken for the slots of one rollup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeboost: Option<TimeboostConfig>,
    /// The escrow contract that keeps the money. Without, whoever signs deposits keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escrow: Option<EscrowConfig>,
    /// How builders offer proposals to who may propose. Without, who may propose builds itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposals: Option<ProposalsConfig>,
    /// Whether it has the interface of Espresso's marketplace solver, under `/marketplace-solver/`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub espresso: bool,
    /// L1, if its proposers take part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub l1: Option<L1Config>,
    /// How epochs are sold ahead of time. Without, slots are sold just before they start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead: Option<AheadConfig>,
    /// What bids have to be covered by. Without, nothing is collected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deposits: Option<DepositsConfig>,
}

/// The most slots that are sold at once: for each slot something is held of each winner.
const MAX_SOLD_SLOTS: u64 = 512;

/// How a market sells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum MechanismName {
    /// Packages, winners determined exactly, who pay what they bid.
    #[default]
    Combinatorial,
    /// Packages, winners determined exactly, who pay no more than what keeps others from having paid the sellers more.
    CoreSelecting,
    /// Each rollup by itself, at what its winner bid.
    FirstPrice,
    /// Each rollup by itself, at the second greatest bid.
    SecondPrice,
    /// Packages, winners drawn in proportion to what they bid, none with more than half of the chances.
    Lottery,
    /// At the reserve, to bidders in a drawn order.
    Posted,
    /// Tickets, which are drawn for slots to come.
    Tickets,
}

/// The most of a lottery's chances that one bidder has, in basis points.
const LOTTERY_SHARE_BPS: u64 = 5_000;

impl MechanismName {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::FirstPrice,
        Self::SecondPrice,
        Self::Combinatorial,
        Self::CoreSelecting,
        Self::Lottery,
        Self::Posted,
        Self::Tickets,
    ];

    /// The mechanism; `None` where no slots are sold but tickets. Those that sell no packages have nothing to share.
    pub fn mechanism(self, sharing: SharingName) -> Option<Arc<dyn Mechanism>> {
        let sharing = sharing.rule();
        Some(match self {
            Self::Combinatorial => Arc::new(Combinatorial { sharing }),
            Self::CoreSelecting => Arc::new(CoreSelecting { sharing }),
            Self::FirstPrice => Arc::new(FirstPrice),
            Self::SecondPrice => Arc::new(SecondPrice),
            Self::Lottery => Arc::new(Lottery { max_share_bps: LOTTERY_SHARE_BPS, sharing }),
            Self::Posted => Arc::new(PostedPrice),
            Self::Tickets => return None,
        })
    }

    /// Whether packages have prices of their own, which their sellers share.
    const fn shares(self) -> bool {
        matches!(self, Self::Combinatorial | Self::CoreSelecting | Self::Lottery)
    }
}

/// How tickets are sold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TicketsConfig {
    /// Rollups that are proposed for together, by one ticket. One class of all sellers when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<Vec<ChainId>>,
    /// How many tickets of a class may be there at a time; 32 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outstanding: Option<u64>,
    /// How many slots before its own a slot's tickets are drawn; 2 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookahead: Option<u64>,
    /// The most of a draw's chances that one holder has, in basis points; 5000 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_share_bps: Option<u64>,
    /// The least that a ticket is issued for, in the numeraire's smallest unit, as a decimal string; never below the reserves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least_price: Option<String>,
}

impl TicketsConfig {
    /// The rules, for these sellers.
    pub(crate) fn rules(&self, sellers: &RollupSet) -> Result<TicketRules, (&'static str, String)> {
        let classes = match self.classes.as_slice() {
            [] => vec![sellers.clone()],
            classes => classes.iter().map(|class| class.iter().copied().collect()).collect(),
        };
        let least_price = self.least_price.as_deref().map(amount).transpose().map_err(|problem| ("least_price", problem))?;
        let rules = TicketRules {
            classes,
            outstanding: self.outstanding.unwrap_or(TICKETS_OUTSTANDING),
            lookahead: self.lookahead.unwrap_or(TICKETS_LOOKAHEAD),
            max_share_bps: self.max_share_bps.unwrap_or(LOTTERY_SHARE_BPS),
            least_price: least_price.unwrap_or_default(),
        };
        if rules.lookahead == 0 || rules.lookahead > SLOTS_AHEAD {
            return Err(("lookahead", format!("is not between 1 and {SLOTS_AHEAD}")));
        }
        if rules.max_share_bps == 0 || rules.max_share_bps > WHOLE_BPS {
            return Err(("max_share_bps", format!("is not between 1 and {WHOLE_BPS}")));
        }
        if rules.outstanding == 0 {
            return Err(("outstanding", "there has to be at least one ticket".to_owned()));
        }
        TicketBook::new(rules.clone(), TicketRecord::default()).map_err(|error| ("classes", error.to_string()))?;
        Ok(rules)
    }
}

/// How the sellers of a package share what it brings beyond what each has to get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum SharingName {
    /// In proportion to what each would have brought by itself.
    #[default]
    Proportional,
    /// By the Shapley value, up to 12 rollups; larger packages in proportion.
    Shapley,
}

impl SharingName {
    const fn rule(self) -> Sharing {
        match self {
            Self::Proportional => Sharing::Proportional,
            Self::Shapley => Sharing::Shapley,
        }
    }
}

/// What bids have to be covered by.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DepositsConfig {
    /// What is held beside what a bidder may have to pay, in basis points of it: so much more a winner that does not deliver may
    /// owe.
    #[serde(default = "default_bond_bps")]
    pub bond_bps: u64,
    /// Whose signature counts for deposits: who keeps the money. The market's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keeper: Option<Address>,
}

/// For which rollup Timeboost bids are taken.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeboostConfig {
    /// The rollup.
    pub chain_id: ChainId,
    /// The auction contract that bids are signed for.
    pub auction_contract: Address,
}

/// An escrow contract on a settlement rollup.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EscrowConfig {
    /// The JSON-RPC of the settlement rollup's node.
    pub url: String,
    /// The contract. The market's key pays there for the batches that it sends.
    pub contract: Address,
    /// The first block that may hold something of it.
    #[serde(default)]
    pub from_block: u64,
    /// How deep a block has to be for what it holds to count.
    #[serde(default = "default_confirmations")]
    pub confirmations: u64,
    /// At least so many slots are between two batches.
    #[serde(default = "default_batch_slots")]
    pub batch_slots: u64,
    /// How often its chain is asked, in milliseconds.
    #[serde(default = "default_escrow_poll_ms")]
    pub poll_ms: u64,
}

impl EscrowConfig {
    fn plan(&self) -> EscrowPlan {
        let Self { url, contract, from_block, confirmations, batch_slots, poll_ms } = self.clone();
        EscrowPlan { url, contract, from_block, confirmations, batch_slots, poll_ms }
    }
}

const fn default_confirmations() -> u64 {
    10
}

const fn default_batch_slots() -> u64 {
    32
}

const fn default_escrow_poll_ms() -> u64 {
    1_000
}

/// The builder market inside a slot.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProposalsConfig {
    /// For how long after the bidding for the slot has ended proposals are taken, in milliseconds.
    pub bid_ms: u64,
    /// How long each builder has to reveal its lists, in milliseconds.
    pub reveal_ms: u64,
    /// How many builders have a turn at the most, before the holder proposes its own lists.
    #[serde(default = "default_turns")]
    pub turns: u64,
    /// What who is selected and does not reveal forfeits, of its bid in basis points.
    #[serde(default = "default_forfeit_bps")]
    pub forfeit_bps: u64,
}

/// L1, whose proposers take part: they build it together with the rollups whose slots they buy.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct L1Config {
    /// Its chain id, under which it is registered with the market.
    pub chain_id: ChainId,
    /// When its slot 0 began, in Unix seconds.
    pub genesis_s: u64,
    /// How long its slots are, in seconds.
    #[serde(default = "default_l1_slot_s")]
    pub slot_s: u64,
    /// The beacon API of one of its nodes.
    pub beacon: String,
    /// The validators that take part.
    pub proposers: Vec<L1ProposerConfig>,
}

/// A validator that takes part.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct L1ProposerConfig {
    /// Its public key, 48 bytes in hex.
    pub validator: ValidatorKey,
    /// The address with which it bids.
    pub address: Address,
}

const fn default_l1_slot_s() -> u64 {
    12
}

const fn default_turns() -> u64 {
    2
}

impl AheadConfig {
    const fn sale(&self) -> AheadSale {
        let Self { epoch_slots, slots_ahead, open_ms } = *self;
        AheadSale { epoch_slots, slots_ahead, open_ms }
    }
}

impl L1Config {
    fn plan(&self) -> L1Plan {
        let Self { chain_id, genesis_s, slot_s, ref beacon, ref proposers } = *self;
        let proposers = proposers.iter().map(|proposer| (proposer.validator, proposer.address)).collect();
        L1Plan { terms: L1Terms { chain: chain_id, genesis_s, slot_s }, beacon: beacon.clone(), proposers }
    }
}

/// How epochs are sold ahead of time, to who bids most for all of their slots.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AheadConfig {
    /// How many slots are sold at once.
    pub epoch_slots: u64,
    /// How many slots before an epoch's first one the bidding for it ends. A rollup is in the sale with the slots that are no
    /// farther away then than it says that it sells.
    pub slots_ahead: u64,
    /// For how long before that bids are taken, in milliseconds.
    pub open_ms: u64,
}

/// How bids are sealed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealingConfig {
    /// For how long before bidding ends bids are opened and no more are sealed, in milliseconds.
    pub open_ms: u64,
    /// What who does not open its bids forfeits to the sellers, of their cover in basis points.
    #[serde(default = "default_forfeit_bps")]
    pub forfeit_bps: u64,
}

const fn default_forfeit_bps() -> u64 {
    5_000
}

const fn default_report_slots() -> u64 {
    MarketPlan::REPORT_SLOTS
}

const fn default_bond_bps() -> u64 {
    1_000
}

impl MarketConfig {
    /// Checks what needs no network.
    pub(super) fn check(&self, slot_ms: u64) -> Result<(), ConfigError> {
        match (&self.key_file, &self.url, self.address) {
            (Some(_), None, None) | (None, Some(_), Some(_)) | (Some(_), Some(_), Some(_)) => {}
            _ => return Err(wrong("market", "give key_file to play the market, or url and address of one elsewhere")),
        }
        if self.tickets.is_some() && self.mechanism != MechanismName::Tickets {
            return Err(wrong("market.tickets", "is for mechanism = \"tickets\" only"));
        }
        if self.mechanism == MechanismName::Tickets {
            self.ticket_rules()?;
            if self.deposits.is_none() {
                return Err(wrong("market.mechanism", "tickets are paid for from deposits: give market.deposits too"));
            }
            if self.sealing.is_some() {
                return Err(wrong("market.sealing", "tickets are no bids, and nothing of them is sealed"));
            }
        }
        if self.sharing.is_some() && !self.mechanism.shares() {
            return Err(wrong("market.sharing", "this mechanism sells no packages with a price of their own: leave it out"));
        }
        if self.report_slots == 0 || self.report_slots > MAX_REPORT_SLOTS {
            return Err(wrong("market.report_slots", format!("is not between 1 and {MAX_REPORT_SLOTS}")));
        }
        if self.deposits.as_ref().is_some_and(|deposits| deposits.bond_bps > MAX_BOND_BPS) {
            return Err(wrong("market.deposits.bond_bps", format!("is more than {MAX_BOND_BPS}")));
        }
        let singly = matches!(self.mechanism, MechanismName::FirstPrice | MechanismName::SecondPrice);
        if self.timeboost.is_some() && (!singly || self.sealing.is_some()) {
            let problem = "its bids are for one rollup, and are not sealed: sell by first-price or second-price, without sealing";
            return Err(wrong("market.timeboost", problem));
        }
        if self.espresso && (self.sealing.is_some() || self.mechanism == MechanismName::Tickets) {
            return Err(wrong("market.espresso", "its bids are not sealed, and tickets are no bids: leave it out"));
        }
        if self.l1.as_ref().is_some_and(|l1| l1.slot_s == 0) {
            return Err(wrong("market.l1.slot_s", "is at least 1"));
        }
        if let Some(proposals) = &self.proposals {
            if self.deposits.is_none() {
                return Err(wrong("market.proposals", "builders pay from deposits: give market.deposits too"));
            }
            if proposals.reveal_ms == 0 || proposals.turns == 0 {
                return Err(wrong("market.proposals", "builders need time to reveal, and at least one a turn"));
            }
            if proposals.forfeit_bps > WHOLE_BPS {
                return Err(wrong("market.proposals.forfeit_bps", format!("is more than {WHOLE_BPS}")));
            }
        }
        if let Some(ahead) = &self.ahead {
            if self.mechanism == MechanismName::Tickets || self.sealing.is_some() {
                let problem = "bids for epochs are not sealed, and tickets are no bids: leave out the sealing, or sell by another mechanism";
                return Err(wrong("market.ahead", problem));
            }
            if ahead.epoch_slots > MAX_SOLD_SLOTS {
                return Err(wrong("market.ahead.epoch_slots", format!("is more than {MAX_SOLD_SLOTS}")));
            }
            // Bidding for a slot ends before it starts, whatever the block times.
            let clock = SlotClock { genesis_ms: 0, slot_ms, close_before_ms: 1 };
            Calendar::new(clock, slot_ms, Some(ahead.sale()))
                .map_err(|error| wrong("market.ahead", format!("{error}: {}", error.hint())))?;
        }
        if let Some(escrow) = &self.escrow {
            match &self.deposits {
                None => return Err(wrong("market.escrow", "it keeps deposits: give market.deposits too")),
                Some(deposits) if deposits.keeper.is_some() => {
                    return Err(wrong("market.deposits.keeper", "the escrow keeps the money: leave it out"));
                }
                Some(_) => {}
            }
            if escrow.poll_ms == 0 {
                return Err(wrong("market.escrow.poll_ms", "is at least 1"));
            }
        }
        if let Some(sealing) = &self.sealing {
            if self.deposits.is_none() {
                return Err(wrong("market.sealing", "what is not opened is forfeited from deposits: give market.deposits too"));
            }
            if sealing.open_ms == 0 {
                return Err(wrong("market.sealing.open_ms", "bids need time to be opened"));
            }
            if sealing.forfeit_bps == 0 || sealing.forfeit_bps > WHOLE_BPS {
                return Err(wrong("market.sealing.forfeit_bps", format!("is not between 1 and {WHOLE_BPS}")));
            }
        }
        Ok(())
    }

    fn ticket_rules(&self) -> Result<TicketRules, ConfigError> {
        let rules = self.tickets.clone().unwrap_or_default().rules(&self.sellers.iter().copied().collect());
        rules.map_err(|(field, problem)| wrong(format!("market.tickets.{field}"), problem))
    }

    /// Reads its key.
    pub(super) fn plan(&self) -> Result<MarketPlan, ConfigError> {
        let file = self.key_file.as_ref().ok_or_else(|| wrong("market.key_file", "the market's key is needed to play it"))?;
        let key = key(file)?;
        let deposits = self.deposits.as_ref().map(|deposits| DepositRules {
            bond_bps: deposits.bond_bps,
            keeper: deposits.keeper.unwrap_or_else(|| key.address()),
        });
        Ok(MarketPlan {
            selling: match self.mechanism.mechanism(self.sharing.unwrap_or_default()) {
                Some(mechanism) => Selling::Slots(mechanism),
                None => Selling::Tickets(self.ticket_rules()?),
            },
            report_slots: self.report_slots,
            ahead: self.ahead.as_ref().map(AheadConfig::sale),
            deposits,
            proposals: self.proposals.map(|ProposalsConfig { bid_ms, reveal_ms, turns, forfeit_bps }| ProposalTerms {
                bid_ms,
                reveal_ms,
                turns,
                forfeit_bps,
            }),
            espresso: self.espresso,
            l1: self.l1.as_ref().map(L1Config::plan),
            escrow: self.escrow.as_ref().map(EscrowConfig::plan),
            timeboost: self
                .timeboost
                .map(|timeboost| TimeboostDomain { chain: timeboost.chain_id, contract: timeboost.auction_contract }),
            sealing: self
                .sealing
                .as_ref()
                .map(|sealing| SealRules { open_ms: sealing.open_ms, forfeit_bps: sealing.forfeit_bps }),
            ..MarketPlan::new(key, self.sellers.iter().copied().collect())
        })
    }
}
