//! Putting shares together.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::Bytes;
use blsttc::{DecryptionShare, PK_SIZE};

use super::{Ciphertext, CommitteeKey, unpad};

/// Why a ciphertext is not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unopened {
    /// Too few good shares are there.
    Waiting,
    /// It is open, and no transaction in the agreed form was in it.
    Malformed,
}

/// Ciphertexts that a committee opens, as its members' shares come in.
#[derive(Clone, Debug)]
pub struct Opening {
    committee: CommitteeKey,
    ciphertexts: Vec<Ciphertext>,
    /// By member: a share for each ciphertext.
    shares: BTreeMap<u32, Vec<DecryptionShare>>,
    opened: Vec<Result<Bytes, Unopened>>,
    wrong: BTreeSet<u32>,
}

impl Opening {
    /// With no share yet.
    pub fn new(committee: CommitteeKey, ciphertexts: Vec<Ciphertext>) -> Self {
        let opened = vec![Err(Unopened::Waiting); ciphertexts.len()];
        Self { committee, ciphertexts, shares: BTreeMap::new(), opened, wrong: BTreeSet::new() }
    }

    /// Takes what a member gives, one share a ciphertext, and opens what can be opened with it. A member that gives other than
    /// that counts as wrong.
    pub fn add(&mut self, member: u32, shares: &[Bytes]) {
        let parsed: Option<Vec<DecryptionShare>> = shares.iter().map(parse).collect();
        match parsed.filter(|parsed| parsed.len() == self.ciphertexts.len()) {
            Some(parsed) => {
                self.shares.insert(member, parsed);
                self.open();
            }
            None => {
                self.wrong.insert(member);
            }
        }
    }

    /// Whether shares could still change anything.
    pub fn is_done(&self) -> bool {
        self.opened.iter().all(|opened| *opened != Err(Unopened::Waiting))
    }

    /// What was in each ciphertext.
    pub fn opened(&self) -> &[Result<Bytes, Unopened>] {
        &self.opened
    }

    /// Members whose shares were none.
    pub const fn wrong(&self) -> &BTreeSet<u32> {
        &self.wrong
    }

    fn open(&mut self) {
        for index in 0..self.ciphertexts.len() {
            // Shares are checked only where they do not give a transaction: that takes far longer than putting them together.
            let mut checked = false;
            while self.opened.get(index) == Some(&Err(Unopened::Waiting)) && self.shares.len() >= self.committee.needed() {
                let Some(ciphertext) = self.ciphertexts.get(index) else { break };
                let shares = self.shares.iter().filter_map(|(member, shares)| Some((u64::from(*member), shares.get(index)?)));
                let plain = self.committee.0.decrypt(shares, &ciphertext.inner).unwrap_or_default();
                match unpad(&plain) {
                    Some(transaction) => self.opened[index] = Ok(transaction),
                    None if checked => self.opened[index] = Err(Unopened::Malformed),
                    None => {
                        self.drop_wrong(index);
                        checked = true;
                    }
                }
            }
        }
    }

    /// Takes out the members whose share of a ciphertext is not theirs.
    fn drop_wrong(&mut self, index: usize) {
        let Some(ciphertext) = self.ciphertexts.get(index) else { return };
        let key = &self.committee.0;
        let wrong = &mut self.wrong;
        self.shares.retain(|member, shares| {
            let public = key.public_key_share(u64::from(*member));
            let good = shares.get(index).is_some_and(|share| public.verify_decryption_share(share, &ciphertext.inner));
            if !good {
                wrong.insert(*member);
            }
            good
        });
    }
}

fn parse(share: &Bytes) -> Option<DecryptionShare> {
    let bytes: [u8; PK_SIZE] = share.as_ref().try_into().ok()?;
    DecryptionShare::from_bytes(bytes).ok()
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;

    use super::{
        super::{MemberKey, deal, encrypt},
        *,
    };

    fn committee() -> (CommitteeKey, Vec<MemberKey>) {
        deal(4, 3, B256::with_last_byte(7)).unwrap()
    }

    fn ciphertexts(committee: &CommitteeKey, count: u8) -> Vec<Ciphertext> {
        let encrypt = |index| encrypt(&committee.public_key(), &[index; 100], B256::with_last_byte(index)).unwrap();
        (0..count).map(|index| Ciphertext::parse(encrypt(index)).unwrap()).collect()
    }

    fn shares(member: &MemberKey, ciphertexts: &[Ciphertext]) -> Vec<Bytes> {
        ciphertexts.iter().map(|ciphertext| member.share(ciphertext)).collect()
    }

    #[test]
    fn as_many_as_are_needed_open_and_fewer_do_not() {
        let (committee, members) = committee();
        let ciphertexts = ciphertexts(&committee, 3);
        for absent in 0..4_usize {
            let mut opening = Opening::new(committee.clone(), ciphertexts.clone());
            let mut present = (0..4).zip(&members).filter(|(index, _)| *index as usize != absent);
            for (index, member) in present.by_ref().take(2) {
                opening.add(index, &shares(member, &ciphertexts));
                // Giving the same twice helps nobody.
                opening.add(index, &shares(member, &ciphertexts));
                assert!(!opening.is_done() && opening.opened().contains(&Err(Unopened::Waiting)));
            }
            let (index, member) = present.next().unwrap();
            opening.add(index, &shares(member, &ciphertexts));
            assert!(opening.is_done() && opening.wrong().is_empty());
            let opened: Vec<Bytes> = opening.opened().iter().cloned().map(Result::unwrap).collect();
            assert_eq!(opened, (0..3).map(|index| Bytes::from(vec![index; 100])).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_wrong_share_is_found_out_and_the_rest_opens() {
        let (committee, members) = committee();
        let ciphertexts = ciphertexts(&committee, 2);
        let mut opening = Opening::new(committee, ciphertexts.clone());
        // One gives the share of another ciphertext, one gives no point, one too few.
        let mut swapped = shares(&members[0], &ciphertexts);
        swapped.swap(0, 1);
        opening.add(0, &swapped);
        opening.add(1, &shares(&members[1], &ciphertexts));
        opening.add(2, &shares(&members[2], &ciphertexts));
        assert!(!opening.is_done(), "two good shares are too few");
        assert_eq!(opening.wrong(), &BTreeSet::from([0]));
        opening.add(3, &shares(&members[3], &ciphertexts));
        assert!(opening.is_done() && opening.opened().iter().all(Result::is_ok));
        let mut other = Opening::new(opening.committee.clone(), ciphertexts.clone());
        other.add(1, &[Bytes::from(vec![0; 48]), Bytes::from(vec![0; 48])]);
        other.add(2, &shares(&members[2], &ciphertexts)[..1]);
        assert_eq!(other.wrong(), &BTreeSet::from([1, 2]));
    }

    #[test]
    fn what_is_no_transaction_in_the_agreed_form_is_malformed_and_nobody_is_blamed() {
        let (committee, members) = committee();
        let mut rng = <blsttc::rand::rngs::StdRng as blsttc::rand::SeedableRng>::from_seed([1; 32]);
        let raw = committee.0.public_key().encrypt_with_rng(&mut rng, [9; 64]).to_bytes();
        let ciphertexts = [Ciphertext::parse(raw.into()).unwrap()];
        let mut opening = Opening::new(committee, ciphertexts.to_vec());
        for (index, member) in (0..3).zip(&members) {
            opening.add(index, &shares(member, &ciphertexts));
        }
        assert_eq!(opening.opened(), [Err(Unopened::Malformed)]);
        assert!(opening.is_done() && opening.wrong().is_empty());
    }
}
