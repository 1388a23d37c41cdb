//! Random transactions, checkpoints and rollbacks.
//!
//! What proptest draws and shrinks are plans: small plain values. [`play`] signs them for the block as it is when their turn
//! comes, so that most of them are valid.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes};
use lockstep_primitives::{SignedTx, StandIn};
use lockstep_simulation::{BlockTx, Checkpoint, PendingBlock, StandIns};
use lockstep_testkit::{Call, GWEI, PROBE, USD, World, calls, gwei, user};
use proptest::{collection::vec, option, prelude::*};

use crate::support::{address, create, delegate, nonce_of, print, word};

/// Few of everything, so that random choices meet.
const PEOPLE: usize = 4;

/// Something that happens to a block.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A transaction is executed.
    Run(TxPlan),
    /// The point is remembered.
    Mark,
    /// Everything since a remembered point is undone; which one is counted in a circle.
    Back(usize),
}

/// A transaction.
#[derive(Clone, Debug)]
pub(crate) struct TxPlan {
    sender: usize,
    action: Action,
    /// In gwei.
    tip: u64,
    /// Whether its nonce is one too high.
    early: bool,
    /// Whether a signature that it carries is not there yet.
    drafted: bool,
}

/// What a transaction does.
#[derive(Clone, Debug)]
enum Action {
    /// Sends the native asset, to a user or to somebody unheard of.
    Pay { payee: Option<usize>, gwei: u64 },
    /// Writes a value of the probe.
    Store { key: u64, value: u64 },
    /// Adds one to a value of the probe, or of a user who may have the probe's code.
    Increment { key: u64, at: Option<usize> },
    /// Reverts.
    Fail,
    /// Runs out of gas.
    OutOfGas,
    /// Sends dollars to a user.
    SendUsdc { payee: usize, dollars: u64 },
    /// Creates a contract that stores something and then stays, or is gone at once.
    Create { slot: u8, value: u8, stays: bool },
    /// Calls what a user may have created with that nonce: it adds one to a slot, or destroys itself for slot zero.
    Touch { creator: usize, nonce: u64, slot: u64, gwei: u64 },
    /// Gives a user the code of the probe, or takes it away.
    Delegate { authority: usize, away: bool },
}

pub(crate) fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        7 => tx().prop_map(Step::Run),
        2 => Just(Step::Mark),
        1 => (0_usize..4).prop_map(Step::Back),
    ];
    vec(step, 1..=most)
}

fn tx() -> impl Strategy<Value = TxPlan> {
    (0..PEOPLE, action(), 0_u64..3, prop::bool::weighted(0.1), prop::bool::weighted(0.1))
        .prop_map(|(sender, action, tip, early, drafted)| TxPlan { sender, action, tip, early, drafted })
}

fn action() -> impl Strategy<Value = Action> {
    let failing = prop_oneof![Just(Action::Fail), Just(Action::OutOfGas)];
    prop_oneof![
        3 => (option::of(0..PEOPLE), 0_u64..1_000).prop_map(|(payee, gwei)| Action::Pay { payee, gwei }),
        3 => (0_u64..3, 0_u64..3).prop_map(|(key, value)| Action::Store { key, value }),
        3 => (0_u64..3, option::weighted(0.3, 0..PEOPLE)).prop_map(|(key, at)| Action::Increment { key, at }),
        2 => failing,
        2 => (0..PEOPLE, 0_u64..40).prop_map(|(payee, dollars)| Action::SendUsdc { payee, dollars }),
        5 => (0_u8..3, 0_u8..3, any::<bool>()).prop_map(|(slot, value, stays)| Action::Create { slot, value, stays }),
        5 => (0..PEOPLE, 0_u64..4, 0_u64..3, 0_u64..2).prop_map(|(creator, nonce, slot, gwei)| Action::Touch {
            creator,
            nonce,
            slot,
            gwei,
        }),
        2 => (0..PEOPLE, any::<bool>()).prop_map(|(authority, away)| Action::Delegate { authority, away }),
    ]
}

/// Destroys itself if it is called with zero, and otherwise adds one to the slot that it is called with.
const COUNTER: [u8; 18] = [
    0x5f, 0x35, // CALLDATALOAD(0)
    0x80, 0x15, 0x60, 0x0f, 0x57, // JUMPI(0x0f) if it is zero
    0x80, 0x54, 0x60, 0x01, 0x01, 0x90, 0x55, 0x00, // SSTORE(slot, SLOAD(slot) + 1), STOP
    0x5b, 0x33, 0xff, // 0x0f: SELFDESTRUCT(CALLER)
];

/// Stores a value, and then becomes the counter or destroys itself.
fn init_code(slot: u8, value: u8, stays: bool) -> Bytes {
    let mut code = vec![0x60, value, 0x60, slot, 0x55];
    if stays {
        // MSTORE(0, COUNTER), RETURN(14, 18).
        code.push(0x71);
        code.extend(COUNTER);
        code.extend([0x5f, 0x52, 0x60, 18, 0x60, 14, 0xf3]);
    } else {
        code.extend([0x33, 0xff]);
    }
    code.into()
}

impl TxPlan {
    fn sign(&self, world: &World, block: &PendingBlock) -> Arc<SignedTx> {
        let chain = block.context().chain;
        let tip = u128::from(self.tip) * GWEI;
        let nonce = nonce_of(block, address(self.sender)) + u64::from(self.early);
        let call = match self.action {
            Action::Pay { payee, gwei: amount } => Call::pay(payee.map_or(Address::repeat_byte(0x77), address), gwei(amount)),
            Action::Store { key, value } => world.probe(calls::store(key, value)),
            Action::Increment { key, at } => Call::contract(at.map_or(PROBE, address), calls::increment(key), 100_000),
            Action::Fail => world.probe(calls::fail("as planned")),
            Action::OutOfGas => world.probe(calls::burn_gas(100_000)).with_gas(30_000),
            Action::SendUsdc { payee, dollars } => world.send_usdc(chain, address(payee), dollars * USD),
            Action::Touch { creator, nonce, slot, gwei: amount } => {
                Call::contract(address(creator).create(nonce), word(slot).into(), 100_000).with_value(gwei(amount))
            }
            Action::Create { slot, value, stays } => {
                return create(chain, self.sender, nonce, tip, init_code(slot, value, stays));
            }
            Action::Delegate { authority, away } => {
                let own = u64::from(authority == self.sender);
                let authority_nonce = nonce_of(block, address(authority)) + own;
                let code = if away { Address::ZERO } else { PROBE };
                return delegate(chain, (self.sender, nonce), (authority, authority_nonce), code);
            }
        };
        call.sign(chain, user(self.sender), nonce, tip)
    }

    fn stand_ins(&self) -> StandIns {
        if !self.drafted {
            return StandIns::default();
        }
        let [digest, r, s] = [1, 2, 3].map(B256::repeat_byte);
        Arc::from(vec![StandIn { digest, r, s, signer: address(0) }])
    }
}

/// Plays the steps on a block and returns what stays in it, in order. Without drafts every signature is there.
///
/// # Errors
/// When an invalid transaction changes the block.
pub(crate) fn play(
    world: &World,
    block: &mut PendingBlock,
    steps: &[Step],
    drafts: bool,
) -> Result<Vec<(BlockTx, StandIns)>, TestCaseError> {
    let mut stays: Vec<(BlockTx, StandIns)> = Vec::new();
    let mut marks: Vec<(Checkpoint, usize)> = Vec::new();
    for step in steps {
        match step {
            Step::Mark => marks.push((block.checkpoint(), stays.len())),
            Step::Back(_) if marks.is_empty() => {}
            Step::Back(number) => {
                let number = number % marks.len();
                let (checkpoint, count) = marks[number];
                block.rollback(checkpoint);
                stays.truncate(count);
                marks.truncate(number + 1);
            }
            Step::Run(plan) => {
                let tx = BlockTx::Signed(plan.sign(world, block));
                let stand_ins = if drafts { plan.stand_ins() } else { StandIns::default() };
                let before = print(block);
                let valid = block.execute_with(&tx, &stand_ins).expect("the engine works").is_ok();
                if valid {
                    stays.push((tx, stand_ins));
                } else {
                    prop_assert_eq!(print(block), before, "what is invalid changes nothing");
                }
            }
        }
    }
    Ok(stays)
}
