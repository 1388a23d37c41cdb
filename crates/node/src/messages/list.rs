//! What is told of messages: which there are, and where each of them stands.

use alloy_primitives::U64;
use jsonrpsee::types::ErrorObjectOwned;
use lockstep_messaging::Message;
use lockstep_primitives::{ChainId, LandedRef, Place, Reason, Rejection};
use lockstep_rpc::{
    from_rejection, invalid_params,
    wire::{DeliveryStatus, MessageList, MessageOrigin, MessageStatus, MessagesParams},
};

use super::{
    book::{Book, Entry},
    facts::{Ground, judge},
    keeper::Messages,
};
use crate::tracker::obstacle;

/// Messages of one answer, unless the request says otherwise.
const DEFAULT_LISTED: usize = 100;
/// The most messages of one answer.
const MAX_LISTED: usize = 1_000;
/// The most messages that are looked at for one answer: to judge one, proofs may have to be made and checked.
const MAX_LOOKS: usize = 2_000;

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageState {
    /// On its chain; something else than its attesters keeps it from being delivered.
    Sent,
    /// Its attesters have not given what its destination demands.
    Pending,
    /// It can be delivered in its destination's next block.
    Ready,
    /// Delivered, by whomever.
    Delivered,
    /// Too old to be delivered.
    Expired,
}

impl MessageState {
    const ALL: [Self; 5] = [Self::Sent, Self::Pending, Self::Ready, Self::Delivered, Self::Expired];

    /// The name used on every surface.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::Delivered => "delivered",
            Self::Expired => "expired",
        }
    }

    fn read(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// Which messages are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    /// From or to this rollup.
    chain: Option<ChainId>,
    state: Option<MessageState>,
    most: usize,
}

impl Filter {
    fn is_about(&self, message: &Message) -> bool {
        self.chain.is_none_or(|chain| message.origin == chain || message.destination == Some(chain))
    }
}

impl Messages {
    /// Reads what a request asks for.
    ///
    /// # Errors
    /// `unknown_rollup` when the rollup is not served, `invalid_params` when there is no such state or the limit is none.
    pub(crate) fn filter(&self, params: &MessagesParams) -> Result<Filter, ErrorObjectOwned> {
        let chain = params.chain_id.map(|chain| chain.to::<ChainId>());
        if let Some(unknown) = chain.filter(|chain| !self.rollups.contains_key(chain)) {
            return Err(from_rejection(&Rejection::new(Place::rollup(unknown), Reason::UnknownRollup)));
        }
        let named = |name: &String| {
            let text = format!("there is no state {name:?}");
            let hint = "there are \"sent\", \"pending\", \"ready\", \"delivered\" and \"expired\"";
            MessageState::read(name).ok_or_else(|| invalid_params("invalid_params", text, hint))
        };
        let state = params.state.as_ref().map(named).transpose()?;
        let most = params.limit.unwrap_or(DEFAULT_LISTED);
        if !(1..=MAX_LISTED).contains(&most) {
            let text = format!("limit {most} is not between 1 and {MAX_LISTED}");
            return Err(invalid_params("invalid_params", text, "ask for less, by chainId or state"));
        }
        Ok(Filter { chain, state, most })
    }

    /// The messages that are known, the one that was found last first. Takes its time: not for a thread that serves others.
    pub(crate) fn list(&self, filter: &Filter, now_ms: u64) -> MessageList {
        let (order, ground) = {
            let book = self.book.lock();
            (book.newest_first(), self.ground_ahead(&book, now_ms))
        };
        let mut list = MessageList { messages: Vec::new(), more: false };
        let mut looks = 0;
        for at in order {
            // Locked anew for each: nobody waits for a long answer.
            let book = self.book.lock();
            let Some(entry) = book.get(&at).filter(|entry| filter.is_about(&entry.message)) else { continue };
            if looks >= MAX_LOOKS || list.messages.len() >= filter.most {
                list.more = true;
                break;
            }
            looks += 1;
            let (state, reason) = self.stand(&book, &ground, &at, entry);
            if filter.state.is_none_or(|asked| asked == state) {
                list.messages.push(told(&book, at, entry, state, reason));
            }
        }
        list
    }

    /// Where a message stands, and what keeps it from being delivered.
    fn stand(&self, book: &Book, ground: &Ground<'_>, at: &LandedRef, entry: &Entry) -> (MessageState, Option<Reason>) {
        if book.delivery(entry).is_some() {
            return (MessageState::Delivered, None);
        }
        if let Some(caller) = entry.message.restricted_to.filter(|caller| *caller != self.builder) {
            return (MessageState::Sent, Some(Reason::RestrictedCaller { caller, builder: self.builder }));
        }
        let unknown = || Err(Reason::UnknownMessage(at.to_string()));
        match judge(book, ground, at).unwrap_or_else(unknown) {
            Ok(_) => (MessageState::Ready, None),
            Err(reason @ Reason::EvidencePending(_)) => (MessageState::Pending, Some(reason)),
            Err(reason @ Reason::MessageExpired(_)) => (MessageState::Expired, Some(reason)),
            Err(reason) => (MessageState::Sent, Some(reason)),
        }
    }
}

fn told(book: &Book, at: LandedRef, entry: &Entry, state: MessageState, reason: Option<Reason>) -> MessageStatus {
    let message = &entry.message;
    let place = Place::rollup(message.destination.unwrap_or(message.origin));
    let delivery = book.delivery(entry).zip(message.destination);
    MessageStatus {
        protocol: message.protocol.to_owned(),
        id: message.id,
        origin: MessageOrigin {
            chain_id: U64::from(at.chain),
            tx_hash: at.tx,
            message: at.message,
            block_number: U64::from(message.place.block),
        },
        destination: message.destination.map(U64::from),
        text: message.destination_name.clone(),
        state: state.as_str().to_owned(),
        orphan: entry.is_orphan() && delivery.is_none(),
        blocked: reason.map(|reason| obstacle(&Rejection::new(place, reason))),
        delivered: delivery.map(|(delivery, chain)| DeliveryStatus {
            chain_id: U64::from(chain),
            block_number: U64::from(delivery.block),
            tx_hash: delivery.tx,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_read_by_its_name() {
        for state in MessageState::ALL {
            assert_eq!(MessageState::read(state.as_str()), Some(state));
        }
        assert_eq!(MessageState::read("lost"), None);
    }
}
