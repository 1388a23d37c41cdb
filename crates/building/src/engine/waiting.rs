//! Who waits for whose nonce: what was refused because a transaction of its sender is missing before it is tried again as soon
//! as that one stands in the block.

use std::collections::BTreeMap;

use alloy_primitives::Address;
use lockstep_primitives::{ChainId, Reason, Rejection};

use super::{
    entry::{Entries, Entry},
    fill::Fill,
};
use crate::{BuildError, SlotView};

/// A sender's nonce on a rollup.
type Nonce = (ChainId, Address, u64);

/// Entries by the nonce that their sender has to have. What is not refused for that any more may still be in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting(BTreeMap<Nonce, Vec<usize>>);

impl Waiting {
    /// Those that were refused for a nonce, of all that were refused.
    pub(super) fn of<'a>(refused: impl Iterator<Item = (usize, &'a Rejection)>) -> Self {
        let mut waiting = Self::default();
        refused.for_each(|(entry, rejection)| waiting.note(entry, rejection));
        waiting
    }

    /// Has an entry wait, if it was refused for a nonce.
    pub(super) fn note(&mut self, entry: usize, rejection: &Rejection) {
        if let Some(nonce) = missing(rejection) {
            self.0.entry(nonce).or_default().push(entry);
        }
    }

    /// For how many nonces somebody waits.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Fill {
    /// Places an entry, and then those that waited for it. Whether it was placed.
    pub(super) fn place_with_followers(
        &mut self,
        view: &SlotView,
        entries: &Entries,
        (index, entry): (usize, &Entry),
        late: bool,
    ) -> Result<bool, BuildError> {
        if !self.place(view, index, entry, late)? {
            return Ok(false);
        }
        let mut placed = vec![index];
        while let Some(leader) = placed.pop() {
            for follower in self.followers(entries, leader) {
                if let Some(entry) = entries.get(follower)
                    && self.place(view, follower, entry, late)?
                {
                    placed.push(follower);
                }
            }
        }
        Ok(true)
    }

    /// Who waits for the nonces that an entry leaves behind, the greatest value for gas first.
    fn followers(&mut self, entries: &Entries, leader: usize) -> Vec<usize> {
        let Some(leader) = entries.get(leader).filter(|_| self.waiting.len() > 0) else { return Vec::new() };
        let mut followers = Vec::new();
        for leg in &leader.candidate().bundle.legs {
            for tx in leg.txs() {
                let nonce = (leg.chain(), tx.tx.signer(), tx.tx.nonce().saturating_add(1));
                let waited = self.waiting.0.remove(&nonce).unwrap_or_default();
                followers.extend(waited.into_iter().filter(|entry| self.refusal(*entry).and_then(missing) == Some(nonce)));
            }
        }
        followers.sort_by(|a, b| entries.by_density(*a, *b));
        followers.dedup();
        followers
    }
}

/// The nonce for lack of which something was refused.
fn missing(rejection: &Rejection) -> Option<Nonce> {
    match rejection.reason {
        Reason::NonceTooHigh { signer, nonce, .. } => Some((rejection.place.chain?, signer, nonce)),
        _ => None,
    }
}

/// Whether something was refused for lack of a nonce: then nothing else cures it.
pub(super) fn waits(rejection: &Rejection) -> bool {
    missing(rejection).is_some()
}
