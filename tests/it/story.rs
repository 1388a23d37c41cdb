//! The story: burn on one rollup, mint and buy on another, or nothing of that. And everything else that users send.

use alloy_primitives::{Address, B256, U64, U256};
use alloy_sol_types::sol;
use lockstep_node::dev::{DevOptions, builder, user};
use lockstep_primitives::{Outcome, dialect_bundle_hash, recover};
use lockstep_rpc::{
    api::LockstepApiClient,
    codes,
    wire::{BundleParams, BundleReceiptWire, EthSentBundle, RangeParams},
};
use serde_json::json;

use crate::{
    chain::Holdings,
    lockstep::{Placed, places, refused},
    transactions::{Tx, input, relay_leg, txs_leg},
    wait::until,
    world::{NFT_PRICE, World, options},
};

sol! {
    function buy(uint256 tokenId) external;
    function transfer(address to, uint256 amount) external returns (bool);
    function increment(uint256 key) external;
    function load(uint256 key) external view returns (uint256);
}

/// Every listed transaction is where it is said to be, and all of them are in one slot, which is returned.
async fn slot_of_all(world: &World, placed: &[Placed]) -> u64 {
    let mut slots = Vec::new();
    for place in placed {
        let block = world.chain_of(place.chain).block(place.block).await;
        let index = usize::try_from(place.index).expect("an index");
        assert_eq!(block.transactions.get(index), Some(&place.hash));
        slots.push(world.slot_of(place.chain, place.block).await);
    }
    slots.dedup();
    assert_eq!(slots.len(), 1, "one slot for {placed:?}");
    slots[0]
}

/// The builder signs that all of a bundle landed, in these places.
fn is_receipt_of(wire: &BundleReceiptWire, placed: &[Placed], slot: u64) {
    let receipt = wire.receipt().expect("it names an outcome and a level");
    assert_eq!(recover(receipt.digest(), &wire.signature), Ok(builder().address()));
    assert_eq!((receipt.outcome, receipt.slot, receipt.reason.as_str()), (Outcome::Landed, Some(slot), ""));
    let said: Vec<_> = receipt.transactions.iter().map(|tx| (tx.chain, tx.hash, tx.block_number, tx.index, tx.success)).collect();
    let there: Vec<_> = placed.iter().map(|place| (place.chain, place.hash, place.block, place.index, true)).collect();
    assert_eq!(said, there);
}

/// What accounts have on every rollup of a world.
async fn holdings(world: &World, accounts: &[Address]) -> Vec<Holdings> {
    let mut all = Vec::new();
    for chain in world.chains() {
        for account in accounts {
            all.push(chain.holdings(*account, world.contracts().usdc).await);
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burn_its_mint_and_a_purchase_land_on_both_rollups_in_one_slot() {
    let world = World::start(options()).await;
    let (origin, destination) = (world.chain(0), world.chain(1));
    let buyer = user(0);
    let before = holdings(&world, &[buyer.address()]).await;

    let hash = world.lockstep.send(&world.story(&buyer, 1).await).await;
    let status = world.lockstep.landed(hash).await;

    let placed = places(&status);
    let [burn, mint, purchase] = placed.as_slice() else { panic!("three transactions: {placed:?}") };
    assert_eq!([burn.chain, mint.chain, purchase.chain], [origin.id, destination.id, destination.id]);
    assert_eq!((purchase.block, purchase.index), (mint.block, mint.index + 1), "the purchase follows the mint at once");
    let slot = slot_of_all(&world, &placed).await;
    is_receipt_of(&world.lockstep.client.get_receipt(hash).await.expect("it has landed"), &placed, slot);
    assert_eq!(status.level, "G2", "every sequencer executed it; the record of the decision would not survive this process");

    let after = holdings(&world, &[buyer.address()]).await;
    assert_eq!(destination.owner_of(world.contracts().nft_shop, 1).await, buyer.address());
    assert_eq!(after[0].usdc, before[0].usdc - NFT_PRICE, "burned");
    assert_eq!(after[1].usdc, before[1].usdc, "minted and spent");
    for (after, before) in after.iter().zip(&before) {
        assert_eq!(after.nonce, before.nonce + 1);
        assert!(after.native < before.native, "fees are paid");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purchase_that_reverts_leaves_every_account_as_it_was_and_is_named() {
    let world = World::start(options()).await;
    let (origin, destination) = (world.chain(0), world.chain(1));
    let contracts = world.contracts();
    let (buyer, friend) = (user(1), user(7));
    let accounts = [buyer.address(), friend.address(), builder().address()];
    let before = holdings(&world, &accounts).await;

    // The buyer burns half of what the NFT costs, and gives away what it has on the destination before the purchase.
    let burn = contracts.burn(NFT_PRICE / U256::from(2), world.domain(1), buyer.address());
    let burn = Tx::call(origin.id, origin.nonce(buyer.address()).await, contracts.token_messenger, burn).sign(&buyer);
    let nonce = destination.nonce(buyer.address()).await;
    let fortune = destination.holdings(buyer.address(), contracts.usdc).await.usdc;
    let gift = input(&transferCall { to: friend.address(), amount: fortune });
    let gift = Tx::call(destination.id, nonce, contracts.usdc, gift).sign(&buyer);
    let purchase = input(&buyCall { tokenId: U256::from(1) });
    let purchase = Tx::call(destination.id, nonce + 1, contracts.nft_shop, purchase).sign(&buyer);
    let legs = vec![
        txs_leg(origin.id, &[&burn]),
        txs_leg(destination.id, &[&gift]),
        relay_leg(destination.id, 0, 0),
        txs_leg(destination.id, &[&purchase]),
    ];
    let hash = world.lockstep.send(&BundleParams { legs, ..BundleParams::default() }).await;

    let obstacle = world.lockstep.blocked(hash, "reverted").await;
    assert_eq!((obstacle.rollup, obstacle.leg, obstacle.index), (Some(U64::from(destination.id)), Some(3), Some(0)));
    assert!(obstacle.text.contains("NftShop: payment failed"), "in the contract's own words: {}", obstacle.text);
    let explanation = world.lockstep.client.explain_bundle(hash).await.expect("the bundle is known");
    assert!(explanation.text.contains(&obstacle.text), "{}", explanation.text);
    assert_eq!(explanation.obstacle, Some(obstacle));

    world.pass(2).await;
    assert_eq!(world.lockstep.status(hash).await.state, "pending", "another state could still cure it");
    assert_eq!(refused(world.lockstep.client.get_receipt(hash).await), (codes::UNAVAILABLE, "not_ended".to_owned()));
    assert_eq!(holdings(&world, &accounts).await, before);
    for (chain, tx) in [(origin, &burn), (destination, &gift), (destination, &purchase)] {
        assert!(chain.receipt(tx.hash()).await.is_none(), "nothing of it is in any block");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_transaction_lands_on_every_rollup() {
    let world = World::start(options()).await;
    let payer = user(2);
    let (payee, amount) = (Address::repeat_byte(0x77), U256::from(12_345));
    for chain in world.chains() {
        let tx = Tx::pay(chain.id, chain.nonce(payer.address()).await, payee, amount).sign(&payer);
        chain.send(&tx).await;
        assert!(chain.mined(tx.hash()).await.success());
        assert_eq!(chain.balance(payee).await, amount);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_in_the_rollups_own_dialect_lands_whole_and_in_order() {
    let world = World::start(options()).await;
    let (sender, probe) = (user(3), world.contracts().probe);
    for chain in world.chains() {
        let nonce = chain.nonce(sender.address()).await;
        let [first, second] = [nonce, nonce + 1]
            .map(|nonce| Tx::call(chain.id, nonce, probe, input(&incrementCall { key: U256::from(1) })).sign(&sender));
        let sent: EthSentBundle = chain.ask("eth_sendBundle", (json!({ "txs": [first.raw(), second.raw()] }),)).await;
        assert_eq!(sent.bundle_hash, dialect_bundle_hash([first.hash(), second.hash()]));

        let placed = places(&world.lockstep.landed(sent.lockstep_hash).await);
        let hashes: Vec<B256> = placed.iter().map(|place| place.hash).collect();
        assert_eq!(hashes, [first.hash(), second.hash()]);
        assert_eq!((placed[1].block, placed[1].index), (placed[0].block, placed[0].index + 1));
        slot_of_all(&world, &placed).await;
        assert_eq!(chain.call(probe, &loadCall { key: U256::from(1) }).await, U256::from(2));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bundle_spans_three_rollups() {
    let world = World::start(DevOptions { rollups: 3, ..options() }).await;
    let [origin, left, right] = world.chains() else { panic!("three rollups") };
    let contracts = world.contracts();
    let buyer = user(4);

    // Two burns in one leg, each of them delivered on a rollup of its own and spent there.
    let nonce = origin.nonce(buyer.address()).await;
    let burn = |nonce, domain| {
        let burn = contracts.burn(NFT_PRICE, domain, buyer.address());
        Tx::call(origin.id, nonce, contracts.token_messenger, burn).sign(&buyer)
    };
    let burns = [burn(nonce, world.domain(1)), burn(nonce + 1, world.domain(2))];
    let buy = |chain, nonce| Tx::call(chain, nonce, contracts.nft_shop, input(&buyCall { tokenId: U256::from(9) })).sign(&buyer);
    let on_left = buy(left.id, left.nonce(buyer.address()).await);
    let on_right = buy(right.id, right.nonce(buyer.address()).await);
    let legs = vec![
        txs_leg(origin.id, &[&burns[0], &burns[1]]),
        relay_leg(left.id, 0, 0),
        relay_leg(right.id, 0, 1),
        txs_leg(left.id, &[&on_left]),
        txs_leg(right.id, &[&on_right]),
    ];
    let hash = world.lockstep.send(&BundleParams { legs, ..BundleParams::default() }).await;

    let placed = places(&world.lockstep.landed(hash).await);
    let chains: Vec<u64> = placed.iter().map(|place| place.chain).collect();
    assert_eq!(chains, [origin.id, origin.id, left.id, right.id, left.id, right.id]);
    for (before, after) in [(0, 1), (2, 4), (3, 5)] {
        let (before, after) = (placed[before], placed[after]);
        assert_eq!((after.block, after.index), (before.block, before.index + 1), "one rollup's part is in one piece");
    }
    slot_of_all(&world, &placed).await;
    for chain in [left, right] {
        assert_eq!(chain.owner_of(contracts.nft_shop, 9).await, buyer.address());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollups_of_unequal_block_times_share_a_slot() {
    let world = World::start(DevOptions { slot_ms: 2_000, block_times: vec![1, 2], ..options() }).await;
    let buyer = user(5);
    let hash = world.lockstep.send(&world.story(&buyer, 1).await).await;

    let placed = places(&world.lockstep.landed(hash).await);
    let slot = slot_of_all(&world, &placed).await;
    assert_eq!(world.chain(1).owner_of(world.contracts().nft_shop, 1).await, buyer.address());
    let report = world.lockstep.report(slot).await;
    let blocks: Vec<usize> = report.rollups.iter().map(|rollup| rollup.blocks.len()).collect();
    assert_eq!(blocks, [2, 1], "two blocks a slot where they come every second: {report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_of_many_blocks_is_followed_by_another() {
    let world = World::start(DevOptions { slot_ms: 5_000, block_times: vec![1], ..options() }).await;
    // Before the first slot no block is still to come; before every later one the last block of the slot before is.
    for token in [1, 2] {
        let hash = world.lockstep.send(&world.story(&user(8), token).await).await;
        slot_of_all(&world, &places(&world.lockstep.landed(hash).await)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_known_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = DevOptions { data: Some(folder.path().to_owned()), ..options() };
    let world = World::start(options.clone()).await;

    // One bundle lands, another has to wait for a block that is far away.
    let landed = world.lockstep.send(&world.story(&user(6), 1).await).await;
    assert_eq!(world.lockstep.landed(landed).await.level, "G3", "with a folder the record of the decision survives");
    let far = world.chain(0).height().await + 5_000;
    let bounds = RangeParams { min: Some(U64::from(far)), max: None };
    let blocks = [(U64::from(world.chain(0).id), bounds)].into();
    let waiting = BundleParams { blocks, ..world.story(&user(7), 2).await };
    let waiting = world.lockstep.send(&waiting).await;
    world.lockstep.blocked(waiting, "not_yet").await;

    drop(world);
    // The folder is free once the last task of the first process is gone.
    let world = until("a process starts on the same folder", async || World::try_start(options.clone()).await).await;

    assert_eq!(world.lockstep.status(landed).await.state, "landed");
    // It is simulated again, and waits on.
    world.lockstep.blocked(waiting, "not_yet").await;
    assert_eq!(world.lockstep.status(waiting).await.state, "pending");
    let pending = world.lockstep.client.get_slot(None).await.expect("there is a slot").pending;
    assert_eq!(pending, 1);
}
