//! What the proxy remembers: the driver's payloads, the lists, and what became of both.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use alloy_primitives::{B64, B256, U64};

use super::{
    attributes::Attributes,
    call::Forkchoice,
    config::{MAX_JOBS, MAX_LISTS},
    error::Refusal,
    wire::{CommitList, LastAttributes, Outcome, OutcomeState},
};

/// A block to come: its parent and its timestamp in seconds.
pub(super) type BlockKey = (B256, u64);

/// The block that a list is for.
pub(super) fn key_of(list: &CommitList) -> BlockKey {
    (list.parent_hash, list.timestamp.to())
}

/// A payload that the driver asked for.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) key: BlockKey,
    /// The call that began it.
    pub(super) call: Forkchoice,
    /// The attributes in that call.
    pub(super) attributes: Attributes,
    /// The operator's own payload, which the driver falls back to.
    pub(super) own: B64,
    /// The list that is built beside it, and its payload.
    pub(super) list: Option<(Arc<CommitList>, B64)>,
    /// Whether the driver has fetched it: from then on nothing about it changes.
    pub(super) fetched: bool,
    /// Whether the driver was given the operator's own payload after the list's was begun: it stays with that one.
    pub(super) given_up: bool,
}

/// Where a list stands.
#[derive(Clone, Debug)]
enum Stage {
    Waiting,
    Building(B64),
    Delivered(B64, B256),
    FellBack(Refusal),
}

#[derive(Debug)]
struct Sold {
    list: Arc<CommitList>,
    stage: Stage,
    /// Whether whoever committed it was told no: then it is never used.
    refused: bool,
}

impl Sold {
    const fn ended(&self) -> bool {
        matches!(self.stage, Stage::Delivered(..) | Stage::FellBack(_))
    }

    fn outcome(&self) -> Outcome {
        let plain = |state| Outcome { state, reason: None, message: None, payload_id: None, block_hash: None };
        match &self.stage {
            Stage::Waiting => plain(OutcomeState::Waiting),
            Stage::Building(id) => Outcome { payload_id: Some(*id), ..plain(OutcomeState::Building) },
            Stage::Delivered(id, hash) => {
                Outcome { payload_id: Some(*id), block_hash: Some(*hash), ..plain(OutcomeState::Delivered) }
            }
            Stage::FellBack(refusal) => Outcome {
                reason: Some(refusal.code().to_owned()),
                message: Some(refusal.to_string()),
                ..plain(OutcomeState::FellBack)
            },
        }
    }
}

/// What the proxy remembers. Everything in it is lost with the process, and nothing of it is needed to go on.
#[derive(Debug, Default)]
pub(super) struct Table {
    lists: BTreeMap<BlockKey, Sold>,
    /// The lists in the order in which they came.
    order: VecDeque<BlockKey>,
    /// Newest last.
    jobs: VecDeque<Job>,
    /// The forkchoice that the driver set last: its head, and all of it as it was sent. `None` when it is not known.
    forkchoice: Option<(B256, String)>,
    last: Option<LastAttributes>,
}

impl Table {
    /// The driver sets a forkchoice.
    pub(super) fn set_forkchoice(&mut self, forkchoice: Option<(B256, String)>) {
        self.forkchoice = forkchoice;
    }

    /// The driver's payload was begun. Returns the list for its block, if one waits.
    pub(super) fn begin(&mut self, job: Job, now_ms: u64) -> Option<Arc<CommitList>> {
        self.last = Some(LastAttributes {
            parent_hash: job.key.0,
            timestamp: U64::from(job.key.1),
            payload_id: job.own,
            attributes: job.attributes.sent(),
        });
        let key = job.key;
        self.jobs.retain(|known| known.own != job.own);
        self.jobs.push_back(job);
        if self.jobs.len() > MAX_JOBS {
            self.jobs.pop_front();
            metrics::counter!("lockstep_engine_forgotten_total", "what" => "payload").increment(1);
        }
        let sold = self.lists.get_mut(&key).filter(|sold| !sold.refused)?;
        if sold.list.expires_ms <= now_ms {
            // The first time only: what the list fell back for before stays its reason.
            if !sold.ended() {
                sold.stage = Stage::FellBack(Refusal::Expired(sold.list.expires_ms));
            }
            return None;
        }
        Some(Arc::clone(&sold.list))
    }

    /// Takes a list. Returns whether the driver has asked for its block already.
    pub(super) fn sell(&mut self, list: &Arc<CommitList>, now_ms: u64) -> Result<bool, Refusal> {
        let key = key_of(list);
        if list.expires_ms <= now_ms {
            return Err(Refusal::Expired(list.expires_ms));
        }
        if let Some(sold) = self.lists.get(&key) {
            match sold.stage {
                // Said twice is said once.
                Stage::Waiting | Stage::Building(_) | Stage::Delivered(..) if sold.list == *list => return Ok(false),
                Stage::Waiting | Stage::Building(_) | Stage::Delivered(..) => return Err(Refusal::AnotherList),
                Stage::FellBack(_) => {}
            }
        }
        let job = self.newest(key);
        if job.is_some_and(|job| job.fetched) {
            return Err(Refusal::TooLate);
        }
        let asked = job.is_some();
        if !self.lists.contains_key(&key) {
            self.make_room(now_ms)?;
            self.order.push_back(key);
        }
        self.lists.insert(key, Sold { list: Arc::clone(list), stage: Stage::Waiting, refused: false });
        Ok(asked)
    }

    fn make_room(&mut self, now_ms: u64) -> Result<(), Refusal> {
        if self.lists.len() < MAX_LISTS {
            return Ok(());
        }
        let over = |key: &BlockKey| self.lists.get(key).is_none_or(|sold| sold.ended() || sold.list.expires_ms <= now_ms);
        let place = self.order.iter().position(over).ok_or(Refusal::TooManyLists(MAX_LISTS))?;
        if let Some(key) = self.order.remove(place) {
            self.lists.remove(&key);
        }
        metrics::counter!("lockstep_engine_forgotten_total", "what" => "list").increment(1);
        Ok(())
    }

    fn newest(&self, key: BlockKey) -> Option<&Job> {
        self.jobs.iter().rev().find(|job| job.key == key)
    }

    /// The payload beside which a waiting list can still be begun; `None` when somebody has begun it meanwhile.
    pub(super) fn still_open(&self, key: BlockKey) -> Result<Option<Job>, Refusal> {
        if !self.lists.get(&key).is_some_and(|sold| matches!(sold.stage, Stage::Waiting)) {
            return Ok(None);
        }
        let job = self.newest(key).ok_or(Refusal::TooLate)?;
        if job.fetched {
            return Err(Refusal::TooLate);
        }
        // The driver says anew what is safe and final while a payload is built. To repeat an older forkchoice than the newest
        // would take the execution client back, and another head is another block's.
        let newest = self.forkchoice.as_ref().filter(|(head, _)| *head == job.call.head);
        let (_, state) = newest.ok_or(Refusal::Moved)?;
        let mut job = job.clone();
        job.call.state.clone_from(state);
        Ok(Some(job))
    }

    /// The payload of a list was begun beside the operator's own.
    pub(super) fn built(&mut self, own: B64, list: &Arc<CommitList>, id: B64) -> Result<(), Refusal> {
        let job = self.jobs.iter_mut().rev().find(|job| job.own == own).filter(|job| !job.fetched).ok_or(Refusal::TooLate)?;
        job.list = Some((Arc::clone(list), id));
        self.set_stage(key_of(list), Stage::Building(id));
        Ok(())
    }

    /// The driver has, or will get, the operator's own payload.
    pub(super) fn fell_back(&mut self, key: BlockKey, refusal: Refusal) {
        self.set_stage(key, Stage::FellBack(refusal));
    }

    /// Whoever committed the list is told no.
    pub(super) fn refuse(&mut self, key: BlockKey, refusal: Refusal) {
        if let Some(sold) = self.lists.get_mut(&key) {
            sold.stage = Stage::FellBack(refusal);
            sold.refused = true;
        }
    }

    /// The driver gets the list's payload.
    pub(super) fn delivered(&mut self, key: BlockKey, id: B64, hash: B256) {
        self.set_stage(key, Stage::Delivered(id, hash));
    }

    fn set_stage(&mut self, key: BlockKey, stage: Stage) {
        if let Some(sold) = self.lists.get_mut(&key) {
            sold.stage = stage;
        }
    }

    /// Whether a list is being begun beside a payload that the driver wants to fetch.
    pub(super) fn is_being_begun(&self, id: B64) -> bool {
        self.jobs.iter().any(|job| {
            job.own == id
                && job.list.is_none()
                && self.lists.get(&job.key).is_some_and(|sold| matches!(sold.stage, Stage::Waiting))
        })
    }

    /// The driver fetches a payload, the operator's own or a list's. `None` when it is not known here.
    pub(super) fn fetch(&mut self, id: B64) -> Option<Job> {
        let wanted = |job: &&mut Job| job.own == id || job.list.as_ref().is_some_and(|(_, list)| *list == id);
        let job = self.jobs.iter_mut().rev().find(wanted)?;
        job.fetched = true;
        let job = job.clone();
        // Whoever began the list's payload is gone, or too slow: nobody else would say what became of it.
        if job.list.is_none()
            && let Some(sold) = self.lists.get_mut(&job.key)
            && matches!(sold.stage, Stage::Waiting)
        {
            sold.stage = Stage::FellBack(Refusal::TooLate);
        }
        Some(job)
    }

    /// The driver gets the operator's own payload instead of a list's that was begun.
    pub(super) fn give_up(&mut self, own: B64, refusal: Refusal) {
        if let Some(job) = self.jobs.iter_mut().rev().find(|job| job.own == own) {
            job.given_up = true;
            let key = job.key;
            self.set_stage(key, Stage::FellBack(refusal));
        }
    }

    /// Why the driver gets the operator's own payload of a block.
    pub(super) fn own_reason(&self, key: BlockKey) -> &'static str {
        match self.lists.get(&key).map(|sold| &sold.stage) {
            Some(Stage::FellBack(refusal)) => refusal.code(),
            _ => "unsold",
        }
    }

    /// What became of the list for a block.
    pub(super) fn outcome(&self, key: BlockKey, now_ms: u64) -> Result<Outcome, Refusal> {
        let sold = self.lists.get(&key).ok_or(Refusal::UnknownList)?;
        if matches!(sold.stage, Stage::Waiting) && sold.list.expires_ms <= now_ms {
            let stage = Stage::FellBack(Refusal::Expired(sold.list.expires_ms));
            return Ok(Sold { list: Arc::clone(&sold.list), stage, refused: sold.refused }.outcome());
        }
        Ok(sold.outcome())
    }

    /// The newest payload that the driver asked for.
    pub(super) fn last(&self) -> Option<LastAttributes> {
        self.last.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::wire::PlannedAttributes;

    fn list(timestamp: u64, expires_ms: u64) -> Arc<CommitList> {
        Arc::new(CommitList {
            parent_hash: B256::ZERO,
            timestamp: U64::from(timestamp),
            number: U64::from(1),
            forced_prefix: Vec::new(),
            attributes: PlannedAttributes {
                gas_limit: U64::from(1),
                prev_randao: B256::ZERO,
                suggested_fee_recipient: alloy_primitives::Address::ZERO,
                parent_beacon_block_root: None,
                eip_1559_params: None,
                min_base_fee: None,
            },
            transactions: Vec::new(),
            expires_ms,
        })
    }

    #[test]
    fn when_all_places_are_taken_only_what_has_ended_makes_room() {
        let mut table = Table::default();
        for timestamp in 0..MAX_LISTS as u64 {
            assert_eq!(table.sell(&list(timestamp, 100), 0), Ok(false));
        }
        assert_eq!(table.sell(&list(1_000, 100), 0), Err(Refusal::TooManyLists(MAX_LISTS)));
        table.fell_back((B256::ZERO, 5), Refusal::Moved);
        assert_eq!(table.sell(&list(1_000, 100), 0), Ok(false));
        assert_eq!(table.outcome((B256::ZERO, 5), 0), Err(Refusal::UnknownList));
        assert_eq!(table.sell(&list(2_000, 200), 100), Ok(false), "the others have expired");
        assert_eq!(table.lists.len(), MAX_LISTS);
        assert_eq!(table.order.len(), MAX_LISTS);
    }

    #[test]
    fn one_list_a_block_and_none_that_has_expired() {
        let mut table = Table::default();
        assert_eq!(table.sell(&list(1, 100), 100), Err(Refusal::Expired(100)));
        assert_eq!(table.sell(&list(1, 100), 99), Ok(false));
        assert_eq!(table.sell(&list(1, 100), 99), Ok(false), "said twice is said once");
        assert_eq!(table.sell(&list(1, 101), 99), Err(Refusal::AnotherList));
        let outcome = |now_ms| table.outcome((B256::ZERO, 1), now_ms).unwrap();
        assert_eq!(outcome(99).state, OutcomeState::Waiting);
        assert_eq!((outcome(100).state, outcome(100).reason.as_deref()), (OutcomeState::FellBack, Some("expired")));
    }
}
