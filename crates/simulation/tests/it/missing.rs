//! A value that is not there is named, and nothing has happened until it is.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use alloy_primitives::{Address, B256, Bytes, U256};
use lockstep_primitives::{ChainId, SignedTx};
use lockstep_simulation::{
    Account, BlockSummary, BlockTx, CallRequest, Code, PendingBlock, SimulationError, SlotRollup, StateError, StateKey,
    StateView, call,
};
use lockstep_testkit::{Call, GWEI, JOVIAN, OSAKA, PRAGUE, PROBE, USD, Wallet, World, calls, gwei};

use crate::support::{Print, address, create, delegate, first_block, first_context, print, rollup, run, world};

/// A state that does not hold everything yet.
#[derive(Debug)]
struct Partial {
    full: Arc<dyn StateView>,
    /// What is withheld at first; `None` for everything.
    withheld: Option<BTreeSet<StateKey>>,
    supplied: Mutex<BTreeSet<StateKey>>,
    /// What was asked for in vain since the last supply.
    missed: Mutex<Vec<StateKey>>,
}

impl Partial {
    fn without(full: &Arc<dyn StateView>, withheld: Option<BTreeSet<StateKey>>) -> Arc<Self> {
        let (supplied, missed) = (Mutex::default(), Mutex::default());
        Arc::new(Self { full: Arc::clone(full), withheld, supplied, missed })
    }

    fn ask(&self, key: StateKey) -> Result<(), StateError> {
        let withheld = self.withheld.as_ref().is_none_or(|withheld| withheld.contains(&key));
        if withheld && !self.supplied().contains(&key) {
            self.missed.lock().expect("nobody panics").push(key);
            return Err(StateError::Missing(key));
        }
        Ok(())
    }

    /// Supplies the value that an error names, which has to be one that was asked for in vain: on its way out the EVM still
    /// touches the fee recipient, and names it when that is missing, too.
    fn supply(&self, error: &SimulationError) {
        let missed = std::mem::take(&mut *self.missed.lock().expect("nobody panics"));
        let SimulationError::State(StateError::Missing(key)) = *error else { panic!("not a missing value: {error}") };
        assert!(missed.contains(&key), "{key:?} is not among {missed:?}");
        let new = self.supplied.lock().expect("nobody panics").insert(key);
        assert!(new, "{key:?} is missed once");
    }

    /// Tries until it works, one value after the other.
    fn until<T>(&self, mut attempt: impl FnMut() -> Result<T, SimulationError>) -> T {
        loop {
            match attempt() {
                Ok(done) => {
                    let missed = self.missed.lock().expect("nobody panics");
                    assert!(missed.is_empty(), "nothing goes on without {missed:?}");
                    return done;
                }
                Err(error) => self.supply(&error),
            }
        }
    }

    fn supplied(&self) -> BTreeSet<StateKey> {
        self.supplied.lock().expect("nobody panics").clone()
    }
}

impl StateView for Partial {
    fn account(&self, address: Address) -> Result<Option<Account>, StateError> {
        self.ask(StateKey::Account(address))?;
        self.full.account(address)
    }

    fn code(&self, hash: B256) -> Result<Code, StateError> {
        self.ask(StateKey::Code(hash))?;
        self.full.code(hash)
    }

    fn storage(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        self.ask(StateKey::Storage(address, slot))?;
        self.full.storage(address, slot)
    }

    fn block_hash(&self, number: u64) -> Result<B256, StateError> {
        self.ask(StateKey::BlockHash(number))?;
        self.full.block_hash(number)
    }
}

/// Init code that looks around: another contract's size, somebody's balance, a block hash, which it stores.
fn curious() -> Bytes {
    let mut code = vec![0x73];
    code.extend_from_slice(PROBE.as_slice());
    // EXTCODESIZE, POP, PUSH20.
    code.extend([0x3b, 0x50, 0x73]);
    code.extend_from_slice(address(5).as_slice());
    // BALANCE, POP, SSTORE(0, BLOCKHASH(NUMBER - 1)), STOP.
    code.extend([0x31, 0x50, 0x60, 0x01, 0x43, 0x03, 0x40, 0x5f, 0x55, 0x00]);
    code.into()
}

/// Transactions that read and write all over the place, and all succeed.
fn transactions(world: &World, chain: ChainId) -> Vec<Arc<SignedTx>> {
    let other = world.rollups().into_iter().find(|other| *other != chain).expect("a world has several rollups");
    let (mut alice, mut bob) = (Wallet::user(0), Wallet::user(1));
    vec![
        alice.send(chain, world.send_usdc(chain, address(5), 3 * USD)),
        alice.send(chain, world.burn(chain, 2 * USD, other, address(2))),
        bob.send(chain, world.buy(chain, 7)),
        bob.send(chain, Call::pay(Address::repeat_byte(0x77), gwei(1))),
        bob.send(chain, world.probe(calls::increment(9))),
        create(chain, 2, 0, GWEI, curious()),
        delegate(chain, (3, 0), (2, 1), PROBE),
        alice.send(chain, Call::contract(address(2), calls::increment(1), 100_000)),
        alice.send(chain, world.probe(calls::pay_coinbase()).with_value(gwei(3))),
    ]
}

/// Executes the transactions on a state that holds more and more, and ends the block.
fn execute(rollup: &SlotRollup, view: &Arc<Partial>, txs: &[Arc<SignedTx>]) -> (Print, BlockSummary) {
    let context = first_context(rollup);
    let open = || PendingBlock::open(context.clone(), Arc::clone(view) as Arc<dyn StateView>);
    let mut block = view.until(open);
    for tx in txs {
        let tx = BlockTx::Signed(Arc::clone(tx));
        view.until(|| {
            let before = print(&block);
            let valid = block.execute(&tx).map(|executed| executed.is_ok());
            match valid {
                Ok(valid) => assert!(valid, "the transaction is valid"),
                Err(_) => assert_eq!(print(&block), before, "nothing has happened yet"),
            }
            valid
        });
    }
    // A block that could not be ended is not asked again: it may have made half of its last system calls.
    let summary = view.until(|| block.clone().finish());
    (print(&block), summary)
}

/// What the full state gives.
fn expected(rollup: &SlotRollup, txs: &[Arc<SignedTx>]) -> (Print, BlockSummary) {
    let mut block = first_block(rollup);
    for tx in txs {
        let outcome = run(&mut block, tx);
        assert!(outcome.succeeded(), "{:?} {}", outcome.status, outcome.output);
    }
    let summary = block.clone().finish().expect("the block ends");
    (print(&block), summary)
}

/// What has to be known for the transactions.
fn needed(rollup: &SlotRollup, txs: &[Arc<SignedTx>]) -> BTreeSet<StateKey> {
    let view = Partial::without(&rollup.state, None);
    assert_eq!(execute(rollup, &view, txs), expected(rollup, txs));
    view.supplied()
}

fn values_are_asked_for_one_by_one(chain: ChainId) {
    let world = world(chain);
    let rollup = rollup(&world, chain);
    let needed = needed(&rollup, &transactions(&world, chain));
    let has = |wanted: &dyn Fn(&StateKey) -> bool| needed.iter().any(wanted);
    assert!(has(&|key| *key == StateKey::Account(address(0))), "the sender");
    assert!(has(&|key| *key == StateKey::Account(first_context(&rollup).beneficiary)), "who gets the fees");
    assert!(has(&|key| *key == StateKey::Account(Address::repeat_byte(0x77))), "somebody unheard of");
    assert!(has(&|key| *key == StateKey::BlockHash(rollup.parent.number)), "the parent's hash");
    assert!(has(&|key| matches!(key, StateKey::Code(_))), "code");
    let usdc = world.contracts[&chain].usdc;
    assert!(has(&|key| matches!(key, StateKey::Storage(account, _) if *account == usdc)), "balances of a token");
    assert!(needed.len() > 20, "{} values are needed", needed.len());
}

fn any_one_value_stops_everything(chain: ChainId) {
    let world = world(chain);
    let rollup = rollup(&world, chain);
    let txs = transactions(&world, chain);
    let whole = expected(&rollup, &txs);
    for key in needed(&rollup, &txs) {
        let view = Partial::without(&rollup.state, Some(BTreeSet::from([key])));
        assert_eq!(execute(&rollup, &view, &txs), whole);
        assert_eq!(view.supplied(), BTreeSet::from([key]), "it is missed, and nothing else");
    }
}

#[test]
fn values_are_asked_for_one_by_one_under_prague_rules() {
    values_are_asked_for_one_by_one(PRAGUE);
}

#[test]
fn values_are_asked_for_one_by_one_under_osaka_rules() {
    values_are_asked_for_one_by_one(OSAKA);
}

#[test]
fn values_are_asked_for_one_by_one_under_jovian_rules() {
    values_are_asked_for_one_by_one(JOVIAN);
}

#[test]
fn any_one_value_stops_everything_under_prague_rules() {
    any_one_value_stops_everything(PRAGUE);
}

#[test]
fn any_one_value_stops_everything_under_jovian_rules() {
    any_one_value_stops_everything(JOVIAN);
}

#[test]
fn a_read_of_a_missing_value_names_it() {
    for chain in [PRAGUE, JOVIAN] {
        let world = world(chain);
        let rollup = rollup(&world, chain);
        let context = first_context(&rollup);
        let usdc = world.contracts[&chain].usdc;
        let request = CallRequest::read(usdc, calls::balance_of(address(0)), 1_000_000);
        let view = Partial::without(&rollup.state, None);
        let read = view.until(|| call(&context, &*view, &request));
        let full = call(&context, &*rollup.state, &request).expect("the engine works");
        assert_eq!(read, full);
        let outcome = read.expect("a read is valid");
        assert_eq!(U256::from_be_slice(&outcome.output), U256::from(1_000 * USD));
        assert!(view.supplied().iter().any(|key| matches!(key, StateKey::Storage(account, _) if *account == usdc)));
    }
}

#[test]
fn a_state_that_is_broken_is_no_missing_value() {
    #[derive(Debug)]
    struct Broken;

    fn broken<T>() -> Result<T, StateError> {
        Err(StateError::Broken("out of order".to_owned()))
    }

    impl StateView for Broken {
        fn account(&self, _: Address) -> Result<Option<Account>, StateError> {
            broken()
        }

        fn code(&self, _: B256) -> Result<Code, StateError> {
            broken()
        }

        fn storage(&self, _: Address, _: U256) -> Result<U256, StateError> {
            broken()
        }

        fn block_hash(&self, _: u64) -> Result<B256, StateError> {
            broken()
        }
    }

    let world = world(PRAGUE);
    let error = PendingBlock::open(first_context(&rollup(&world, PRAGUE)), Arc::new(Broken)).expect_err("nothing can be read");
    assert_eq!(error, SimulationError::State(StateError::Broken("out of order".to_owned())));
}
