//! What the tests ask of drafts.

use std::{collections::BTreeMap, sync::LazyLock};

use alloy_primitives::{Address, B256, I256, Signature, U256};
use lockstep_building::{Candidate, Draft, SealError, SealedList, SlotView, balance_of, build, seal, simulate_all, verify};
use lockstep_primitives::{Asset, Bundle, ChainId, Rejection, RollupSet};
use lockstep_simulation::{BlockTx, CallRequest, LaneBlock, PendingBlock, call};
use lockstep_testkit::{ISTHMUS, PRAGUE, USD, Wallet, World, builder, bundle, calls, candidates, evidence, sign_digest};

/// Builds one draft on all rollups of the world.
pub(crate) fn build_all(world: &World, candidates: &[Candidate]) -> Draft {
    build_on(&world.view, candidates, &world.rollups())
}

/// Builds one draft on a set of rollups.
pub(crate) fn build_on(view: &SlotView, candidates: &[Candidate], rollups: &RollupSet) -> Draft {
    let simulated = simulate_all(view, candidates).expect("the engine works");
    build(view, &simulated, rollups).expect("the engine works")
}

/// Attests, signs and seals one rollup of a draft.
pub(crate) fn seal_on(world: &World, draft: &Draft, chain: ChainId) -> Result<SealedList, SealError> {
    seal(&world.view, draft, chain, &evidence(draft), &|digest| sign_digest(builder(), digest))
}

/// The hashes of a block's transactions after the forced prefix.
fn hashes(block: &LaneBlock) -> Vec<B256> {
    block.listed().iter().map(|executed| executed.tx.hash()).collect()
}

/// The digest of what the slot's blocks up to this one change.
pub(crate) fn digest(block: &LaneBlock) -> B256 {
    block.block.state().changes().expect("a state in memory can be read").digest()
}

fn by_block<T>(draft: &Draft, ask: impl Fn(&LaneBlock) -> T) -> BTreeMap<ChainId, Vec<T>> {
    draft.lanes.iter().map(|(chain, lane)| (*chain, lane.blocks.iter().map(&ask).collect())).collect()
}

/// By rollup and block: the hashes of the transactions after the forced prefix.
pub(crate) fn lists(draft: &Draft) -> BTreeMap<ChainId, Vec<Vec<B256>>> {
    by_block(draft, hashes)
}

/// By rollup and block: the digest of what the slot's blocks up to this one change.
pub(crate) fn states(draft: &Draft) -> BTreeMap<ChainId, Vec<B256>> {
    by_block(draft, digest)
}

/// The bundles of a draft, in the order in which they were placed.
pub(crate) fn placed(draft: &Draft) -> Vec<B256> {
    draft.placed.iter().map(|placed| placed.hash).collect()
}

/// Why a bundle is not in a draft.
pub(crate) fn reason(draft: &Draft, hash: B256) -> &Rejection {
    let found = draft.left_out.iter().find(|(left_out, _)| *left_out == hash);
    found.map(|(_, rejection)| rejection).expect("the bundle is left out")
}

/// What stands for the proposer's signature in the relays of drafts, as the relay of a plain crossing has it.
pub(crate) static PLACEHOLDER: LazyLock<Signature> = LazyLock::new(|| {
    let world = World::pair();
    let mut who = Wallet::user(0);
    let burn = who.send(PRAGUE, world.burn(PRAGUE, USD, ISTHMUS, who.address()));
    let draft = build_all(&world, &candidates([bundle().tx(PRAGUE, burn).relay(ISTHMUS, 0, 0).build()]));
    let relay = *draft.relays(ISTHMUS).first().expect("the crossing lands");
    match &draft.lanes[&ISTHMUS].blocks[relay.block].block.executed()[relay.position].tx {
        BlockTx::Signed(tx) => *tx.envelope().signature(),
        BlockTx::Deposit(_) => panic!("a relay is no deposit"),
    }
});

/// The block that a rollup ends the slot with.
pub(crate) fn last_block(draft: &Draft, chain: ChainId) -> &PendingBlock {
    &draft.lanes[&chain].blocks.last().expect("a slot has a block").block
}

/// A balance after the slot.
pub(crate) fn balance(draft: &Draft, chain: ChainId, account: Address, asset: Asset) -> U256 {
    balance_of(last_block(draft, chain), account, asset).expect("the engine works").expect("the balance can be read")
}

/// A USDC balance after the slot.
pub(crate) fn usdc(world: &World, draft: &Draft, chain: ChainId, account: Address) -> U256 {
    balance(draft, chain, account, Asset::Token(world.contracts[&chain].usdc))
}

/// Who owns a token of the shop after the slot.
pub(crate) fn owner_of(world: &World, draft: &Draft, chain: ChainId, token: u64) -> Option<Address> {
    let block = last_block(draft, chain);
    let request = CallRequest::read(world.contracts[&chain].shop, calls::owner_of(token), 1_000_000);
    let outcome = call(block.context(), block.state(), &request).expect("the engine works").expect("a read is valid");
    outcome.succeeded().then(|| Address::from_word(B256::from_slice(&outcome.output)))
}

/// Everything that two drafts of the same inputs have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Print {
    rollups: RollupSet,
    lists: BTreeMap<ChainId, Vec<Vec<B256>>>,
    states: BTreeMap<ChainId, Vec<B256>>,
    placed: Vec<B256>,
    left_out: Vec<(B256, Rejection)>,
    value: I256,
}

/// Everything that two drafts of the same inputs have in common.
pub(crate) fn print(draft: &Draft) -> Print {
    Print {
        rollups: draft.rollups.clone(),
        lists: lists(draft),
        states: states(draft),
        placed: placed(draft),
        left_out: draft.left_out.clone(),
        value: draft.value,
    }
}

/// Nothing of what was tried is left: lists, states and value are those of an empty slot.
pub(crate) fn assert_untouched(world: &World, draft: &Draft) {
    let untouched = build_all(world, &[]);
    assert_eq!(lists(draft), lists(&untouched));
    assert_eq!(states(draft), states(&untouched));
    assert_eq!(draft.value, I256::ZERO);
}

/// The only bundle is refused for this and leaves nothing behind.
pub(crate) fn assert_refused_with(world: &World, bundle: Bundle, code: &str) {
    let candidates = candidates([bundle]);
    let draft = build_all(world, &candidates);
    let rejection = reason(&draft, candidates[0].hash);
    assert_eq!(rejection.reason.code(), code, "{rejection}");
    assert_untouched(world, &draft);
}

/// The only bundle lands whole, and every rollup seals to bytes that run on a fresh EVM.
pub(crate) fn assert_lands(world: &World, bundle: Bundle) -> Draft {
    let candidates = candidates([bundle]);
    let draft = build_all(world, &candidates);
    assert_eq!(placed(&draft), [candidates[0].hash], "left out: {:?}", draft.left_out);
    assert_seals(world, &draft);
    draft
}

/// Every rollup of a draft seals to bytes that run on a fresh EVM.
pub(crate) fn assert_seals(world: &World, draft: &Draft) {
    for chain in world.rollups() {
        let sealed = seal_on(world, draft, chain);
        let sealed = sealed.unwrap_or_else(|error| panic!("rollup {chain} seals: {error}"));
        verify(&world.view.rollups[&chain].slot, &sealed.list).expect("and runs on a fresh EVM");
    }
}
