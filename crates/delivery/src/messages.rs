//! What proposers and sequencers sign, and the EIP-712 digests of it.

use std::{collections::BTreeMap, fmt};

use alloy_primitives::{Address, B256, I256};
use alloy_sol_types::{SolStruct, sol};
use lockstep_primitives::{Asset, BlockList, ChainId, RollupSet, SlotNumber, digest};

use crate::PrepareRefusal;

mod eip712 {
    use super::sol;

    sol! {
        struct ExpectedBlock {
            uint64 number;
            uint64 gasUsed;
            bytes32 receiptsRoot;
            uint32[] mustSucceed;
        }

        struct RequirementResult {
            address account;
            address asset;
            int256 increase;
            uint32 firstBlock;
            uint32 firstPosition;
            uint32 lastBlock;
            uint32 lastPosition;
        }

        struct PreparedList {
            bytes32 blockList;
            ExpectedBlock[] expected;
            RequirementResult[] requirements;
        }

        struct Prepare {
            uint64 chainId;
            uint64 slot;
            uint32 attempt;
            bytes32 parentHash;
            bytes32 forcedPrefix;
            bytes32 withCross;
            bytes32 withoutCross;
            uint64[] participants;
            bool holds;
            address[] beneficiary;
            uint64 decideMs;
            uint64 publishMs;
        }

        struct Refusal {
            string code;
            uint32[] blockIndex;
            uint32[] position;
            string text;
        }

        struct Vote {
            uint64 chainId;
            uint64 slot;
            uint32 attempt;
            bytes32 prepare;
            bool yes;
            Refusal[] refusal;
        }

        struct Prepared {
            uint64 chainId;
            bytes32 prepare;
        }

        struct Decision {
            uint64 slot;
            uint32 attempt;
            address proposer;
            bool commit;
            Prepared[] prepares;
            string reason;
        }
    }
}

/// What a block of a list must turn out to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpectedBlock {
    /// Block number.
    pub number: u64,
    /// Gas used by the whole block, forced transactions included.
    pub gas_used: u64,
    /// Root of the receipts trie.
    pub receipts_root: B256,
    /// Positions, in the list's transactions of this block, that must not revert.
    pub must_succeed: Vec<u32>,
}

/// How far a bundle's balance condition is met. Places are (index of the block in the list, position in its
/// transactions).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequirementResult {
    /// Whose balance.
    pub account: Address,
    /// In what.
    pub asset: Asset,
    /// The rise from just before `first` to just after `last`, in the asset's smallest unit, net of fees.
    pub increase: I256,
    /// The bundle's first transaction on the rollup.
    pub first: (u32, u32),
    /// The bundle's last transaction on the rollup.
    pub last: (u32, u32),
}

/// A block list together with what its execution must give.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PreparedList {
    /// The list.
    pub list: BlockList,
    /// One a block.
    pub expected: Vec<ExpectedBlock>,
    /// The balance conditions of the bundles in it.
    pub requirements: Vec<RequirementResult>,
}

impl PreparedList {
    /// The EIP-712 struct hash, in which the list stands as its own digest.
    pub fn digest(&self) -> B256 {
        let expected = self
            .expected
            .iter()
            .map(|block| eip712::ExpectedBlock {
                number: block.number,
                gasUsed: block.gas_used,
                receiptsRoot: block.receipts_root,
                mustSucceed: block.must_succeed.clone(),
            })
            .collect();
        let requirements = self
            .requirements
            .iter()
            .map(|result| eip712::RequirementResult {
                account: result.account,
                asset: match result.asset {
                    Asset::Native => Address::ZERO,
                    Asset::Token(token) => token,
                },
                increase: result.increase,
                firstBlock: result.first.0,
                firstPosition: result.first.1,
                lastBlock: result.last.0,
                lastPosition: result.last.1,
            })
            .collect();
        eip712::PreparedList { blockList: self.list.digest(), expected, requirements }.eip712_hash_struct()
    }

    fn check(&self, chain: ChainId) -> Result<(), PrepareRefusal> {
        if self.list.chain != chain {
            return Err(malformed("a list is of another rollup"));
        }
        if self.expected.len() != self.list.blocks.len() {
            return Err(malformed("not every block of a list has one promised result"));
        }
        for (index, (expected, block)) in (0_u32..).zip(self.expected.iter().zip(&self.list.blocks)) {
            if expected.number != block.number {
                let what = "the promised result is of another block number";
                return Err(PrepareRefusal::Malformed { what, block: Some(index), position: None });
            }
            for position in &expected.must_succeed {
                self.check_place((index, *position))?;
            }
        }
        for result in &self.requirements {
            self.check_place(result.first)?;
            self.check_place(result.last)?;
            if result.first > result.last {
                let (block, position) = (Some(result.first.0), Some(result.first.1));
                return Err(PrepareRefusal::Malformed { what: "a requirement ends before it begins", block, position });
            }
        }
        Ok(())
    }

    fn check_place(&self, (block, position): (u32, u32)) -> Result<(), PrepareRefusal> {
        let transactions = self.list.blocks.get(block as usize).map_or(0, |block| block.transactions.len());
        if (position as usize) < transactions {
            return Ok(());
        }
        let what = "the list has no such transaction";
        Err(PrepareRefusal::Malformed { what, block: Some(block), position: Some(position) })
    }
}

const fn malformed(what: &'static str) -> PrepareRefusal {
    PrepareRefusal::Malformed { what, block: None, position: None }
}

/// What the allocated proposer asks one rollup to vote on. The proposer signs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepare {
    /// The rollup.
    pub chain: ChainId,
    /// The slot.
    pub slot: SlotNumber,
    /// The attempt, see [`attempt_number`](crate::attempt_number).
    pub attempt: u32,
    /// The block that the lists build on.
    pub parent_hash: B256,
    /// Digest of the forced transactions of all blocks.
    pub forced_prefix: B256,
    /// What is published on commit.
    pub with_cross: PreparedList,
    /// What is published on abort: the same blocks without the bundles that need another rollup.
    pub without_cross: PreparedList,
    /// Every rollup whose yes the commit needs, this one included.
    pub participants: RollupSet,
    /// The rollup's terms: hold the block back while the record cannot be read.
    pub holds: bool,
    /// Who receives the fees that the block's producer may direct; the rollup's own default without one.
    pub beneficiary: Option<Address>,
    /// A commit is recorded strictly before this time, in Unix milliseconds.
    pub t_decide_ms: u64,
    /// When the rollup wants to publish, in Unix milliseconds.
    pub t_publish_ms: u64,
}

impl Prepare {
    /// The EIP-712 digest that the proposer signs. The lists stand in it as their digests.
    pub fn digest(&self) -> B256 {
        digest(&eip712::Prepare {
            chainId: self.chain,
            slot: self.slot,
            attempt: self.attempt,
            parentHash: self.parent_hash,
            forcedPrefix: self.forced_prefix,
            withCross: self.with_cross.digest(),
            withoutCross: self.without_cross.digest(),
            participants: self.participants.iter().copied().collect(),
            holds: self.holds,
            beneficiary: self.beneficiary.into_iter().collect(),
            decideMs: self.t_decide_ms,
            publishMs: self.t_publish_ms,
        })
    }

    /// The record that decides over it.
    pub const fn key(&self) -> DecisionKey {
        DecisionKey { slot: self.slot, attempt: self.attempt }
    }

    /// Whether it makes sense in itself: positions exist, both lists are of the same blocks of this rollup, the rollup
    /// takes part, the times are in order.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn check(&self) -> Result<(), PrepareRefusal> {
        self.with_cross.check(self.chain)?;
        self.without_cross.check(self.chain)?;
        let with = self.with_cross.list.blocks.iter().map(|block| (block.number, block.timestamp));
        let without = self.without_cross.list.blocks.iter().map(|block| (block.number, block.timestamp));
        if !with.eq(without) {
            return Err(malformed("the lists with and without cross-rollup bundles are not of the same blocks"));
        }
        if !self.participants.contains(&self.chain) {
            return Err(malformed("the rollup is not among the participants"));
        }
        if self.t_decide_ms > self.t_publish_ms {
            return Err(malformed("t_decide is after t_publish"));
        }
        Ok(())
    }
}

/// Why a sequencer votes no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoteRefusal {
    /// Stable code.
    pub code: String,
    /// Index of the block in the list.
    pub block: Option<u32>,
    /// Position in the block's listed transactions.
    pub position: Option<u32>,
    /// For people.
    pub text: String,
}

impl fmt::Display for VoteRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.text)?;
        if let Some(block) = self.block {
            write!(f, ", block {block} of the list")?;
        }
        if let Some(position) = self.position {
            write!(f, ", transaction {position}")?;
        }
        Ok(())
    }
}

impl std::error::Error for VoteRefusal {}

/// A sequencer's answer to a [`Prepare`]. The sequencer signs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// The rollup.
    pub chain: ChainId,
    /// The slot.
    pub slot: SlotNumber,
    /// The attempt.
    pub attempt: u32,
    /// Digest of the prepare.
    pub digest: B256,
    /// A yes binds the rollup to the record.
    pub yes: bool,
    /// Why not.
    pub reason: Option<VoteRefusal>,
}

impl Vote {
    /// The EIP-712 digest that the sequencer signs.
    pub fn digest(&self) -> B256 {
        let refusal = self
            .reason
            .iter()
            .map(|reason| eip712::Refusal {
                code: reason.code.clone(),
                blockIndex: reason.block.into_iter().collect(),
                position: reason.position.into_iter().collect(),
                text: reason.text.clone(),
            })
            .collect();
        digest(&eip712::Vote {
            chainId: self.chain,
            slot: self.slot,
            attempt: self.attempt,
            prepare: self.digest,
            yes: self.yes,
            refusal,
        })
    }

    /// The record that the vote is about.
    pub const fn key(&self) -> DecisionKey {
        DecisionKey { slot: self.slot, attempt: self.attempt }
    }
}

/// Names a record: there is one per slot and attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DecisionKey {
    /// The slot.
    pub slot: SlotNumber,
    /// The attempt.
    pub attempt: u32,
}

impl fmt::Display for DecisionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot {}, attempt {}", self.slot, self.attempt)
    }
}

/// What a decision says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every rollup publishes its list with the cross-rollup bundles.
    Commit,
    /// Every rollup publishes its list without them.
    Abort,
}

impl Verdict {
    /// The name used on every surface.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Abort => "abort",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The record of one slot and attempt. The proposer signs it, but for an abort after `t_decide`, which anyone may record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The slot.
    pub slot: SlotNumber,
    /// The attempt.
    pub attempt: u32,
    /// Who proposed; of no meaning in an abort that somebody else recorded.
    pub proposer: Address,
    /// What it says.
    pub verdict: Verdict,
    /// Digest of the prepare of each rollup, as far as they were sealed; all of them in a commit.
    pub prepares: BTreeMap<ChainId, B256>,
    /// For people; names the rollup that an abort is due to.
    pub reason: String,
}

impl Decision {
    /// The EIP-712 digest that the proposer signs.
    pub fn digest(&self) -> B256 {
        digest(&eip712::Decision {
            slot: self.slot,
            attempt: self.attempt,
            proposer: self.proposer,
            commit: self.verdict == Verdict::Commit,
            prepares: self
                .prepares
                .iter()
                .map(|(chain, prepare)| eip712::Prepared { chainId: *chain, prepare: *prepare })
                .collect(),
            reason: self.reason.clone(),
        })
    }

    /// The record's name.
    pub const fn key(&self) -> DecisionKey {
        DecisionKey { slot: self.slot, attempt: self.attempt }
    }

    /// The abort that anyone records once `t_decide` has passed without a record.
    pub fn timed_out(key: DecisionKey) -> Self {
        Self {
            slot: key.slot,
            attempt: key.attempt,
            proposer: Address::ZERO,
            verdict: Verdict::Abort,
            prepares: BTreeMap::new(),
            reason: "nothing was decided before t_decide".to_owned(),
        }
    }

    /// Whether the keeper of the record must demand the proposer's signature: always, but for an abort that has become
    /// anyone's to record.
    pub fn must_be_signed(&self, now_ms: u64, t_decide_ms: u64) -> bool {
        self.verdict == Verdict::Commit || now_ms < t_decide_ms
    }
}
