//! Random bundle sets.
//!
//! What proptest draws and shrinks are plans: small plain values that say who does what where. [`Case::candidates`] turns them
//! into signed bundles for a [`World`], so that a failing case prints as a story and not as calldata.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alloy_primitives::{Address, U256};
use lockstep_building::Candidate;
use lockstep_primitives::{Asset, BlockRange, Bundle, ChainId, Leg, LegTx, Relay, Requirement, RevertMode, RollupSet, SignedTx};
use proptest::{
    collection::{SizeRange, vec},
    option,
    prelude::*,
};

use crate::{
    accounts::{Call, GWEI, USERS, gwei, user},
    contracts::calls,
    world::{GENESIS_TIME, NFT_PRICE, USD, World},
};

/// A slot and the bundles that want to be in it.
#[derive(Clone, Debug)]
pub struct Case {
    /// The slot.
    pub setting: Setting,
    /// The bundles, in the order of their admission.
    pub plans: Vec<BundlePlan>,
}

/// What is special about the slot.
#[derive(Clone, Debug)]
pub struct Setting {
    /// How many blocks each rollup has, in the order of chain ids.
    pub blocks: Vec<usize>,
    /// Of every block.
    pub gas_limit: u64,
    /// Whether all sequencers are trusted to vote before evidence is held back.
    pub trusted: bool,
    /// Gas of every last block that is kept for encrypted transactions.
    pub encrypted_gas: u64,
}

/// A bundle.
#[derive(Clone, Debug)]
pub struct BundlePlan {
    /// Its legs.
    pub shape: Shape,
    /// When it may land.
    pub bounds: Bounds,
    /// What it demands.
    pub require: Option<RequirePlan>,
}

/// The legs of a bundle.
#[derive(Clone, Debug)]
pub enum Shape {
    /// Signed transactions only.
    Legs(Vec<LegPlan>),
    /// Burn, relay, use.
    Bridge(Bridge),
}

/// A leg of signed transactions.
#[derive(Clone, Debug)]
pub struct LegPlan {
    /// Index of the rollup.
    pub rollup: usize,
    /// The transactions.
    pub txs: Vec<TxPlan>,
}

/// A signed transaction.
#[derive(Clone, Debug)]
pub struct TxPlan {
    /// The user.
    pub sender: usize,
    /// Which nonce.
    pub nonce: NoncePlan,
    /// What it does.
    pub action: Action,
    /// The priority fee in gwei.
    pub tip: u64,
    /// What happens when it fails.
    pub mode: RevertMode,
}

/// Which nonce a transaction has, given those that its sender signed before on that rollup, in whatever bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoncePlan {
    /// The next one: all that were signed before have to land first.
    Next,
    /// The last one again: at most one of the two can land.
    Race,
    /// One too many: only a later `Next` can fill the gap.
    Gap,
}

/// What a transaction does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Sends the native asset.
    Pay {
        /// To whom.
        payee: Payee,
        /// How much.
        gwei: u64,
    },
    /// Adds one to a value of the probe.
    Increment {
        /// Which.
        key: u64,
        /// Gas limit, which is what counts against the room in the block.
        gas: u64,
    },
    /// Writes a value of the probe.
    Store {
        /// Which.
        key: u64,
        /// What.
        value: u64,
    },
    /// Reverts unless the probe holds exactly this value.
    Expect {
        /// Which.
        key: u64,
        /// What.
        value: u64,
    },
    /// Reverts while the probe holds nothing.
    FailIfZero {
        /// Which.
        key: u64,
    },
    /// Reverts.
    Fail,
    /// Uses gas.
    BurnGas {
        /// How often it hashes.
        iterations: u64,
    },
    /// Runs out of gas.
    OutOfGas,
    /// Pays the block's fee recipient, who may or may not be the proposer.
    PayCoinbase {
        /// How much.
        gwei: u64,
    },
    /// Sends dollars to the next user.
    SendUsdc {
        /// How many.
        dollars: u64,
    },
    /// Buys a token, which is sold once.
    Buy {
        /// Which.
        token: u64,
    },
    /// The very same transaction as an earlier one on the rollup, by its number there, counted in a circle.
    Repeat(usize),
}

/// Who is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payee {
    /// The proposer.
    Proposer,
    /// A user: perhaps one who cannot pay for gas otherwise.
    User(usize),
}

/// A bundle that moves dollars to another rollup and uses them there.
#[derive(Clone, Debug)]
pub struct Bridge {
    /// The user.
    pub sender: usize,
    /// Index of the origin.
    pub from: usize,
    /// How many rollups further the destination is, counted in a circle.
    pub step: usize,
    /// How many rollups beyond the destination the relay goes astray; zero hits it.
    pub astray: usize,
    /// How much each burn burns; there is one transaction each.
    pub dollars: Vec<u64>,
    /// Which messages of the burns are relayed, in this order.
    pub relayed: Vec<usize>,
    /// Who may deliver.
    pub caller: DestinationCaller,
    /// What follows on the destination.
    pub afterwards: Use,
    /// What the proposer is paid there beyond tips, in gwei.
    pub payment: u64,
    /// The priority fee in gwei.
    pub tip: u64,
}

/// Who may deliver a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DestinationCaller {
    /// Anyone.
    Anyone,
    /// The builder.
    Builder,
    /// Somebody else.
    Stranger,
}

/// What happens to bridged dollars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// They are kept.
    Keep,
    /// They are sent on.
    Send {
        /// How many.
        dollars: u64,
    },
    /// They buy a token.
    Buy {
        /// Which.
        token: u64,
    },
}

/// When a bundle may land.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bounds {
    /// Whenever.
    Any,
    /// Between two blocks of one of its rollups.
    Blocks {
        /// Index among the bundle's rollups, counted in a circle.
        rollup: usize,
        /// How far the first is beyond the head.
        first: u64,
        /// How far the last is beyond the head.
        last: u64,
    },
    /// Between two timestamps, in seconds after the heads'.
    Times {
        /// The earliest.
        min: Option<u64>,
        /// The latest.
        max: Option<u64>,
    },
}

/// A balance condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequirePlan {
    /// Index among the bundle's rollups, counted in a circle.
    pub rollup: usize,
    /// Whose balance.
    pub user: usize,
    /// Of USDC and not of the native asset.
    pub usdc: bool,
    /// By how much it has to rise, in dollars or gwei.
    pub amount: u64,
}

/// Random cases on a world of that many rollups, relays included.
pub fn cases(rollups: usize, bundles: impl Into<SizeRange>) -> impl Strategy<Value = Case> {
    case(rollups, shape(rollups, true), bundles.into())
}

/// Random cases of signed transactions only: what is built is sealed as it is.
pub fn cases_without_relays(rollups: usize, bundles: impl Into<SizeRange>) -> impl Strategy<Value = Case> {
    case(rollups, shape(rollups, false), bundles.into())
}

fn case(rollups: usize, shape: BoxedStrategy<Shape>, bundles: SizeRange) -> impl Strategy<Value = Case> {
    let plan = (shape, bounds(), option::weighted(0.15, requirement())).prop_map(|(shape, bounds, require)| BundlePlan {
        shape,
        bounds,
        require,
    });
    (setting(rollups), vec(plan, bundles)).prop_map(|(setting, plans)| Case { setting, plans })
}

fn setting(rollups: usize) -> impl Strategy<Value = Setting> {
    let count = prop_oneof![3 => Just(1_usize), 1 => Just(2_usize)];
    let gas_limit = prop_oneof![3 => Just(30_000_000_u64), 1 => Just(1_500_000_u64), 1 => Just(900_000_u64)];
    (vec(count, rollups), gas_limit, any::<bool>(), prop_oneof![Just(0), Just(200_000)])
        .prop_map(|(blocks, gas_limit, trusted, encrypted_gas)| Setting { blocks, gas_limit, trusted, encrypted_gas })
}

fn shape(rollups: usize, relays: bool) -> BoxedStrategy<Shape> {
    let single = (0..rollups, vec(tx(), 1..=3)).prop_map(|(rollup, txs)| Shape::Legs(vec![LegPlan { rollup, txs }]));
    let leg = (0..rollups, vec(tx(), 1..=2)).prop_map(|(rollup, txs)| LegPlan { rollup, txs });
    let cross = vec(leg, 2..=3).prop_map(Shape::Legs);
    if relays {
        prop_oneof![4 => single, 3 => cross, 4 => bridge(rollups).prop_map(Shape::Bridge)].boxed()
    } else {
        prop_oneof![4 => single, 3 => cross].boxed()
    }
}

fn tx() -> impl Strategy<Value = TxPlan> {
    (0..USERS, nonce(), action(), 0_u64..4, mode()).prop_map(|(sender, nonce, action, tip, mode)| TxPlan {
        sender,
        nonce,
        action,
        tip,
        mode,
    })
}

fn nonce() -> impl Strategy<Value = NoncePlan> {
    prop_oneof![8 => Just(NoncePlan::Next), 2 => Just(NoncePlan::Race), 1 => Just(NoncePlan::Gap)]
}

fn mode() -> impl Strategy<Value = RevertMode> {
    prop_oneof![6 => Just(RevertMode::Fail), 2 => Just(RevertMode::Allow), 2 => Just(RevertMode::Drop)]
}

fn action() -> impl Strategy<Value = Action> {
    let payee = prop_oneof![2 => Just(Payee::Proposer), 1 => (0..USERS).prop_map(Payee::User)];
    let gas = prop_oneof![3 => Just(60_000_u64), 1 => Just(700_000_u64)];
    let rare = prop_oneof![
        Just(Action::Fail),
        Just(Action::OutOfGas),
        (0_u64..60).prop_map(|iterations| Action::BurnGas { iterations }),
        (1_u64..1_000_000).prop_map(|gwei| Action::PayCoinbase { gwei }),
        (1_u64..200).prop_map(|dollars| Action::SendUsdc { dollars }),
        (0_u64..3).prop_map(|token| Action::Buy { token }),
        (0_usize..8).prop_map(Action::Repeat),
    ];
    prop_oneof![
        5 => (payee, 1_u64..1_000_000).prop_map(|(payee, gwei)| Action::Pay { payee, gwei }),
        4 => (0_u64..3, gas).prop_map(|(key, gas)| Action::Increment { key, gas }),
        1 => (0_u64..3, 0_u64..3).prop_map(|(key, value)| Action::Store { key, value }),
        3 => (0_u64..3, 0_u64..3).prop_map(|(key, value)| Action::Expect { key, value }),
        2 => (0_u64..3).prop_map(|key| Action::FailIfZero { key }),
        4 => rare,
    ]
}

fn bridge(rollups: usize) -> impl Strategy<Value = Bridge> {
    let astray = prop_oneof![14 => Just(0_usize), 1 => Just(1_usize)];
    let relayed = prop_oneof![
        12 => Just(vec![0_usize]),
        3 => Just(vec![0, 1]),
        1 => Just(vec![1, 0]),
        1 => Just(vec![1]),
        1 => Just(vec![0, 0]),
    ];
    let caller = prop_oneof![
        10 => Just(DestinationCaller::Anyone),
        1 => Just(DestinationCaller::Builder),
        1 => Just(DestinationCaller::Stranger),
    ];
    let afterwards = prop_oneof![
        2 => Just(Use::Keep),
        1 => (1_u64..40).prop_map(|dollars| Use::Send { dollars }),
        2 => (0_u64..3).prop_map(|token| Use::Buy { token }),
    ];
    let payment = prop_oneof![1 => Just(0_u64), 2 => 1_u64..600_000];
    let route = (0..USERS, 0..rollups, 1..rollups, astray);
    (route, vec(1_u64..40, 1..=2), relayed, caller, afterwards, payment, 0_u64..5).prop_map(
        |((sender, from, step, astray), dollars, relayed, caller, afterwards, payment, tip)| Bridge {
            sender,
            from,
            step,
            astray,
            dollars,
            relayed,
            caller,
            afterwards,
            payment,
            tip,
        },
    )
}

fn bounds() -> impl Strategy<Value = Bounds> {
    let blocks = (0_usize..3, 0_u64..3, 0_u64..4).prop_map(|(rollup, first, last)| Bounds::Blocks { rollup, first, last });
    let times = (option::of(0_u64..6), option::of(0_u64..6)).prop_map(|(min, max)| Bounds::Times { min, max });
    prop_oneof![10 => Just(Bounds::Any), 2 => blocks, 1 => times]
}

fn requirement() -> impl Strategy<Value = RequirePlan> {
    let amount = prop_oneof![2 => Just(0_u64), 2 => 1_u64..20, 1 => 20_u64..1_000_000];
    (0_usize..3, 0..USERS, any::<bool>(), amount).prop_map(|(rollup, user, usdc, amount)| RequirePlan {
        rollup,
        user,
        usdc,
        amount,
    })
}

impl Case {
    /// The world of the case.
    pub fn world(&self) -> World {
        let Setting { blocks, gas_limit, trusted, encrypted_gas } = &self.setting;
        let mut world = World::of(blocks.len()).with_gas_limit(*gas_limit);
        for (index, count) in blocks.iter().enumerate() {
            let chain = world.chain(index);
            world = world.with_blocks(chain, *count);
        }
        world = world.with_encrypted_gas(*encrypted_gas);
        let all = world.rollups();
        if *trusted { world.trusting(all) } else { world }
    }

    /// The bundles of the case, signed for a world; no two are the same.
    pub fn candidates(&self, world: &World) -> Vec<Candidate> {
        let mut author = Author { world, nonces: BTreeMap::new(), signed: BTreeMap::new() };
        let mut seen = BTreeSet::new();
        let mut candidates = Vec::new();
        for (plan, sequence) in self.plans.iter().zip(0..) {
            let bundle = author.bundle(plan);
            let hash = bundle.hash();
            if seen.insert(hash) {
                candidates.push(Candidate { hash, bundle: Arc::new(bundle), sequence });
            }
        }
        candidates
    }
}

/// Signs what the plans say.
struct Author<'a> {
    world: &'a World,
    /// The next nonce by rollup and user.
    nonces: BTreeMap<(ChainId, usize), u64>,
    /// Everything signed so far.
    signed: BTreeMap<ChainId, Vec<Arc<SignedTx>>>,
}

impl Author<'_> {
    fn bundle(&mut self, plan: &BundlePlan) -> Bundle {
        let legs = match &plan.shape {
            Shape::Legs(legs) => legs.iter().map(|leg| self.leg(leg)).collect(),
            Shape::Bridge(bridge) => self.bridge(bridge),
        };
        let mut bundle = Bundle { legs, ..Bundle::default() };
        let rollups = bundle.rollups();
        match plan.bounds {
            Bounds::Any => {}
            Bounds::Blocks { rollup, first, last } => {
                let chain = nth(&rollups, rollup);
                let head = self.world.head(chain);
                bundle.blocks.insert(chain, BlockRange { min: head + first, max: head + last });
            }
            Bounds::Times { min, max } => {
                bundle.min_timestamp = min.map(|after| GENESIS_TIME + after);
                bundle.max_timestamp = max.map(|after| GENESIS_TIME + after);
            }
        }
        bundle.require.extend(plan.require.map(|required| {
            let chain = nth(&rollups, required.rollup);
            let (asset, unit) = if required.usdc {
                (Asset::Token(self.world.contracts[&chain].usdc), U256::from(USD))
            } else {
                (Asset::Native, U256::from(GWEI))
            };
            let min_increase = U256::from(required.amount) * unit;
            Requirement { chain, account: user(required.user).address(), asset, min_increase }
        }));
        bundle
    }

    fn leg(&mut self, plan: &LegPlan) -> Leg {
        let chain = self.world.chain(plan.rollup);
        // What can be repeated is what was signed before this leg.
        let earlier = self.signed.get(&chain).cloned().unwrap_or_default();
        let txs = plan.txs.iter().map(|plan| LegTx { tx: self.tx(chain, plan, &earlier), mode: plan.mode }).collect();
        Leg::Txs { chain, txs }
    }

    fn tx(&mut self, chain: ChainId, plan: &TxPlan, earlier: &[Arc<SignedTx>]) -> Arc<SignedTx> {
        if let Action::Repeat(number) = plan.action
            && !earlier.is_empty()
        {
            return Arc::clone(&earlier[number % earlier.len()]);
        }
        let call = self.call(chain, plan);
        self.sign(chain, plan.sender, plan.nonce, plan.tip, call)
    }

    fn call(&self, chain: ChainId, plan: &TxPlan) -> Call {
        let world = self.world;
        match plan.action {
            Action::Pay { payee: Payee::Proposer, gwei: amount } => world.pay_proposer(gwei(amount)),
            Action::Pay { payee: Payee::User(number), gwei: amount } => Call::pay(user(number).address(), gwei(amount)),
            Action::Increment { key, gas } => world.probe(calls::increment(key)).with_gas(gas),
            Action::Store { key, value } => world.probe(calls::store(key, value)),
            Action::Expect { key, value } => world.probe(calls::expect(key, value)),
            Action::FailIfZero { key } => world.probe(calls::fail_if_zero(key)),
            Action::Fail => world.probe(calls::fail("as planned")),
            Action::BurnGas { iterations } => world.probe(calls::burn_gas(iterations)),
            Action::OutOfGas => world.probe(calls::burn_gas(100_000)).with_gas(30_000),
            Action::PayCoinbase { gwei: amount } => world.probe(calls::pay_coinbase()).with_value(gwei(amount)),
            Action::SendUsdc { dollars } => world.send_usdc(chain, neighbour(plan.sender), dollars * USD),
            Action::Buy { token } => world.buy(chain, token),
            // There is nothing to repeat yet.
            Action::Repeat(_) => world.pay_proposer(gwei(1)),
        }
    }

    fn bridge(&mut self, plan: &Bridge) -> Vec<Leg> {
        let world = self.world;
        let (from, to) = (world.chain(plan.from), world.chain(plan.from + plan.step));
        let relayed_to = world.chain(plan.from + plan.step + plan.astray);
        let owner = user(plan.sender).address();
        let burns = plan
            .dollars
            .iter()
            .map(|dollars| {
                let amount = dollars * USD;
                let burn = match plan.caller {
                    DestinationCaller::Anyone => world.burn(from, amount, to, owner),
                    DestinationCaller::Builder => world.burn_for_caller(from, amount, to, owner, world.proposer()),
                    DestinationCaller::Stranger => world.burn_for_caller(from, amount, to, owner, Address::repeat_byte(0x57)),
                };
                LegTx { tx: self.sign(from, plan.sender, NoncePlan::Next, plan.tip, burn), mode: RevertMode::Fail }
            })
            .collect();
        let mut legs = vec![Leg::Txs { chain: from, txs: burns }];
        for message in &plan.relayed {
            legs.push(Leg::Relay { chain: relayed_to, relay: Relay::Emitted { leg: 0, message: *message } });
        }
        let mut follow_ups = Vec::new();
        match plan.afterwards {
            Use::Keep => {}
            Use::Send { dollars } => follow_ups.push(world.send_usdc(to, neighbour(plan.sender), dollars * USD)),
            Use::Buy { token } => follow_ups.push(world.buy(to, token)),
        }
        if plan.payment > 0 {
            follow_ups.push(world.pay_proposer(gwei(plan.payment)));
        }
        for call in follow_ups {
            let tx = self.sign(to, plan.sender, NoncePlan::Next, plan.tip, call);
            legs.push(Leg::Txs { chain: to, txs: vec![LegTx { tx, mode: RevertMode::Fail }] });
        }
        legs
    }

    fn sign(&mut self, chain: ChainId, sender: usize, plan: NoncePlan, tip: u64, call: Call) -> Arc<SignedTx> {
        let next = self.nonces.entry((chain, sender)).or_default();
        let nonce = match plan {
            NoncePlan::Next => {
                *next += 1;
                *next - 1
            }
            NoncePlan::Race => next.saturating_sub(1),
            NoncePlan::Gap => *next + 1,
        };
        let tx = call.sign(chain, user(sender), nonce, u128::from(tip) * GWEI);
        self.signed.entry(chain).or_default().push(Arc::clone(&tx));
        tx
    }
}

fn neighbour(sender: usize) -> Address {
    user((sender + 1) % USERS).address()
}

/// The rollup at an index, counted in a circle. A bundle has at least one.
fn nth(rollups: &RollupSet, index: usize) -> ChainId {
    rollups.iter().copied().cycle().nth(index).expect("a bundle is on some rollup")
}

// Some burns bring enough for a token and others do not.
const _: () = assert!(NFT_PRICE > 10 * USD && NFT_PRICE < 40 * USD);
