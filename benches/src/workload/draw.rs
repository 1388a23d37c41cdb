//! Draws bundles, and gives their senders what they need.

use alloy_consensus::TxEip1559;
use alloy_primitives::{Address, Bytes, ChainId, TxKind, U256, keccak256};
use lockstep_primitives::{Replacement, RevertMode};
use lockstep_testkit::calls;

use super::{
    mix::{Kind, Mix},
    users::User,
};
use crate::{
    Failed, World,
    rng::Rng,
    world::{quote, swap},
};

/// Bundles of a nonce chain.
pub(super) const CHAIN_LENGTH: usize = 5;
/// Versions of a bundle in a replacement storm.
pub(super) const VERSIONS: usize = 4;
/// What a sender of tokens has, in the token's smallest unit: ten thousand dollars.
const DOLLARS: u64 = 10_000_000_000;
/// In wei for a unit of gas.
pub(super) const GWEI: u64 = 1_000_000_000;
/// What everyone pays for a unit of gas before the tip: far above any base fee of these rollups.
pub(super) const FEE_CAP: u128 = 20_000_000_000;
/// By how much swaps on hot pools may slip, in basis points.
const SLIPPAGES: [u64; 4] = [10, 50, 100, 300];

/// A plain transfer uses all of it.
pub(super) const TRANSFER_GAS: u64 = 21_000;
const TOKEN_GAS: u64 = 100_000;
const SWAP_GAS: u64 = 250_000;
const BURN_GAS: u64 = 300_000;
const SPAM_GAS: u64 = 60_000;

/// A bundle that nobody has signed yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Planned {
    pub(super) steps: Vec<Step>,
    pub(super) replacement: Option<Replacement>,
    pub(super) signer: Option<Address>,
    /// Index of the bundle that it replaces.
    pub(super) replaces: Option<usize>,
}

/// A leg: a transaction, or the delivery of the first message of an earlier leg.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Tx { user: usize, tx: TxEip1559, mode: RevertMode },
    Relay { chain: ChainId, leg: usize },
}

/// What a transaction does.
struct Action {
    to: Address,
    value: U256,
    data: Bytes,
    gas: u64,
}

/// Draws bundles one after the other.
pub(super) struct Draws<'a> {
    world: &'a mut World,
    users: &'a [User],
    mix: &'a Mix,
    rng: Rng,
    next_user: usize,
    planned: Vec<Planned>,
}

impl<'a> Draws<'a> {
    pub(super) fn new(world: &'a mut World, users: &'a [User], mix: &'a Mix, seed: u64) -> Result<Self, Failed> {
        let pools = world.contracts().pools.len();
        for (kind, share) in &mix.shares {
            if *share > 0 && kind.rollups() > world.rollups() {
                return Err(format!("{} need {} rollups; there are {}", kind.name(), kind.rollups(), world.rollups()).into());
            }
            let hot = mix.hot_pools.max(1);
            if *share > 0 && kind.swaps() && pools <= hot {
                return Err(format!("{} need more than {hot} pools; there are {pools}", kind.name()).into());
            }
        }
        if mix.shares.iter().all(|(_, share)| *share == 0) {
            return Err("a mix of nothing".into());
        }
        Ok(Self { world, users, mix, rng: Rng::new(seed), next_user: 0, planned: Vec::new() })
    }

    /// That many bundles. A chain or a storm that does not fit any more is cut short.
    pub(super) fn take(mut self, count: usize) -> Result<Vec<Planned>, Failed> {
        while self.planned.len() < count {
            self.one(count)?;
        }
        Ok(self.planned)
    }

    fn one(&mut self, count: usize) -> Result<(), Failed> {
        let user = self.next_user;
        self.next_user += 1;
        let rollup = self.rng.index(self.world.rollups());
        match self.kind() {
            Kind::Transfer => {
                let action = self.transfer(user);
                let step = self.tx(user, rollup, 0, action);
                self.push(vec![step]);
            }
            Kind::Erc20 => {
                let usdc = self.world.contracts().usdc;
                let sender = self.address(user)?;
                self.world.give(rollup, usdc, sender, DOLLARS)?;
                let data = calls::token_transfer(payee(user), 1 + self.rng.below(DOLLARS / 2));
                let step = self.tx(user, rollup, 0, Action { to: usdc, value: U256::ZERO, data, gas: TOKEN_GAS });
                self.push(vec![step]);
            }
            Kind::HotSwap => {
                let action = self.swap(user, rollup, true)?;
                let step = self.tx(user, rollup, 0, action);
                self.push(vec![step]);
            }
            Kind::ColdSwap => {
                let action = self.swap(user, rollup, false)?;
                let step = self.tx(user, rollup, 0, action);
                self.push(vec![step]);
            }
            Kind::SwapPair => {
                let other = self.other(rollup);
                let (here, there) = (self.swap(user, rollup, true)?, self.swap(user, other, true)?);
                let steps = vec![self.tx(user, rollup, 0, here), self.tx(user, other, 0, there)];
                self.push(steps);
            }
            Kind::TransferPair => {
                let other = self.other(rollup);
                let (here, there) = (self.transfer(user), self.transfer(user));
                let steps = vec![self.tx(user, rollup, 0, here), self.tx(user, other, 0, there)];
                self.push(steps);
            }
            Kind::Cctp => {
                let other = self.other(rollup);
                let steps = self.journey(user, &[rollup, other])?;
                self.push(steps);
            }
            Kind::FourRollups => {
                let steps = self.journey(user, &[rollup, rollup + 1, rollup + 2, rollup + 3])?;
                self.push(steps);
            }
            Kind::Spam => {
                let action =
                    Action { to: self.world.contracts().probe, value: U256::ZERO, data: calls::fail("spam"), gas: SPAM_GAS };
                let step = self.tx(user, rollup, 0, action);
                self.push(vec![step]);
            }
            Kind::NonceChain => {
                for nonce in 0..CHAIN_LENGTH.min(count - self.planned.len()) {
                    let action = self.transfer(user);
                    let step = self.tx(user, rollup, nonce as u64, action);
                    self.push(vec![step]);
                }
            }
            Kind::Replacement => self.storm(user, rollup, count)?,
        }
        Ok(())
    }

    /// Versions of a transfer, each of which replaces the one before it and tips more.
    fn storm(&mut self, user: usize, rollup: usize, count: usize) -> Result<(), Failed> {
        let signer = Some(self.address(user)?);
        for version in 0..VERSIONS.min(count - self.planned.len()) {
            let action = self.transfer(user);
            let mut step = self.tx(user, rollup, 0, action);
            if let Step::Tx { tx, .. } = &mut step {
                let tip = u128::from(GWEI) * (version as u128 + 1);
                (tx.max_fee_per_gas, tx.max_priority_fee_per_gas) = (FEE_CAP + tip, tip);
            }
            let replacement = Some(Replacement { uuid: format!("storm {user}"), nonce: version as u64 });
            let replaces = if version == 0 { None } else { self.planned.len().checked_sub(1) };
            self.planned.push(Planned { steps: vec![step], replacement, signer, replaces });
        }
        Ok(())
    }

    fn push(&mut self, steps: Vec<Step>) {
        self.planned.push(Planned { steps, ..Planned::default() });
    }

    /// One of the mix's kinds.
    fn kind(&mut self) -> Kind {
        let total: u64 = self.mix.shares.iter().map(|(_, share)| share).sum();
        let mut drawn = self.rng.below(total);
        for (kind, share) in &self.mix.shares {
            if drawn < *share {
                return *kind;
            }
            drawn -= share;
        }
        // A mix has shares, so one of them was drawn above.
        Kind::Transfer
    }

    /// Another rollup.
    fn other(&mut self, rollup: usize) -> usize {
        (rollup + 1 + self.rng.index(self.world.rollups() - 1)) % self.world.rollups()
    }

    fn address(&self, user: usize) -> Result<Address, Failed> {
        Ok(self.users.get(user).ok_or("there are fewer users than bundles")?.address)
    }

    fn transfer(&mut self, user: usize) -> Action {
        let value = U256::from(1 + self.rng.below(GWEI));
        Action { to: payee(user), value, data: Bytes::new(), gas: TRANSFER_GAS }
    }

    fn swap(&mut self, user: usize, rollup: usize, hot: bool) -> Result<Action, Failed> {
        let (router, pools) = (self.world.contracts().router, self.world.contracts().pools.len());
        let heat = self.mix.hot_pools.max(1);
        let index = if hot { self.rng.index(heat) } else { heat + self.rng.index(pools - heat) };
        let [one, other] = self.world.contracts().pools[index];
        let path = if self.rng.permille(500) { [one, other] } else { [other, one] };
        let address = self.address(user)?;
        self.world.give(rollup, path[0], address, DOLLARS)?;
        self.world.allow(rollup, path[0], address, router);
        // 100 to 5,000 dollars: up to half a percent of what the pool holds.
        let amount = 100_000_000 + self.rng.below(4_900_000_000);
        let slippage = if hot { SLIPPAGES[self.rng.index(SLIPPAGES.len())] } else { 500 };
        let least = u128::from(quote(amount)) * u128::from(10_000 - slippage) / 10_000;
        let data = swap(path, amount, u64::try_from(least).unwrap_or(u64::MAX), address);
        Ok(Action { to: router, value: U256::ZERO, data, gas: SWAP_GAS })
    }

    /// Dollars that go from rollup to rollup: a burn on each but the last, a mint on each but the first.
    fn journey(&mut self, user: usize, rollups: &[usize]) -> Result<Vec<Step>, Failed> {
        let (usdc, messenger) = (self.world.contracts().usdc, self.world.contracts().messenger);
        let address = self.address(user)?;
        let amount = 1 + self.rng.below(DOLLARS / 2);
        if let Some(first) = rollups.first() {
            self.world.give(*first, usdc, address, DOLLARS)?;
        }
        let mut steps = Vec::new();
        for stage in rollups.windows(2) {
            let (from, to) = (stage[0], stage[1]);
            self.world.allow(from, usdc, address, messenger);
            let data = calls::deposit_for_burn(amount, self.world.domain(to), address, usdc);
            let burn = self.tx(user, from, 0, Action { to: messenger, value: U256::ZERO, data, gas: BURN_GAS });
            steps.push(burn);
            steps.push(Step::Relay { chain: self.world.chain(to), leg: steps.len() - 1 });
        }
        Ok(steps)
    }

    /// A transaction, whose sender is given funds for it.
    fn tx(&mut self, user: usize, rollup: usize, nonce: u64, action: Action) -> Step {
        if let Some(sender) = self.users.get(user) {
            self.world.fund(rollup, sender.address);
        }
        let tip = u128::from(GWEI + self.rng.below(9 * GWEI));
        let tx = TxEip1559 {
            chain_id: self.world.chain(rollup),
            nonce,
            gas_limit: action.gas,
            max_fee_per_gas: FEE_CAP + tip,
            max_priority_fee_per_gas: tip,
            to: TxKind::Call(action.to),
            value: action.value,
            access_list: Default::default(),
            input: action.data,
        };
        Step::Tx { user, tx, mode: RevertMode::Fail }
    }
}

/// An account that nobody else pays.
pub(super) fn payee(number: usize) -> Address {
    Address::from_word(keccak256(format!("lockstep benches payee {number}")))
}
