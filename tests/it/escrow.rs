//! The escrow on a real node: money comes in there, moves by what slots cost, and leaves by the market or past it.

use std::path::Path;

use alloy_primitives::{Address, Bytes, ChainId, U64, U256};
use alloy_sol_types::{SolCall, SolValue, sol};
use lockstep_market::DepositRules;
use lockstep_node::{
    clock::now_ms,
    dev::{DevOptions, builder, user},
    keys::Key,
    process::{EscrowPlan, MarketSetup},
};
use lockstep_primitives::{Bid, Deposit, RollupSet, SignedTx, WithdrawalRequest};
use lockstep_rpc::{
    api::MarketApiClient,
    wire::{BidWire, DepositWire, WithdrawalWire},
};

use crate::{
    anvil::creation,
    lockstep::refused,
    market::{ledger, whole},
    node::{Anvil, Mining, binary},
    transactions::{Tx, input},
    wait::until,
    world::{World, options},
};

sol! {
    function deposit(address account) external payable;
    function claim(address to) external;
    function requestExit(address to, uint256 amount) external;
    function exit(address account) external;
    function balances(address account) external view returns (uint256);
    function claimable(address to) external view returns (uint256);
}

const CHAIN: ChainId = 931;
/// Longer than from a bid to the last report on its slot, in seconds.
const EXIT_DELAY: u64 = 600;
/// How far in the past the chain begins, in seconds: further than exits wait.
const PAST: u64 = 10_000;

/// A settlement rollup with the escrow of a market.
struct Settlement {
    anvil: Anvil,
    contract: Address,
}

impl Settlement {
    async fn start(binary: &Path, market: Address, accounts: &[Address]) -> Self {
        let anvil = Anvil::start_with(binary, CHAIN, now_ms() / 1_000 - PAST, Mining::Itself).await;
        let owner = Key::of_name("deployer");
        anvil.fund(&[&[owner.address(), market], accounts].concat()).await;
        let contract = owner.address().create(0);
        let code = creation("Escrow", &(market, EXIT_DELAY).abi_encode());
        let deployment = Tx {
            chain: CHAIN,
            nonce: 0,
            to: None,
            value: U256::ZERO,
            data: code,
            gas: 4_000_000,
            access_list: Default::default(),
        };
        let settlement = Self { anvil, contract };
        settlement.land(deployment.sign(&owner)).await;
        settlement
    }

    async fn land(&self, tx: SignedTx) {
        self.anvil.chain.send(&tx).await;
        self.anvil.chain.mined(tx.hash()).await;
    }

    async fn call(&self, key: &Key, value: U256, data: Bytes) {
        let nonce = self.anvil.chain.nonce(key.address()).await;
        let call = Tx { value, gas: 300_000, ..Tx::call(CHAIN, nonce, self.contract, data) };
        self.land(call.sign(key)).await;
    }

    async fn read<C: SolCall<Return = U256>>(&self, call: C) -> U256 {
        self.anvil.chain.call(self.contract, &call).await
    }

    async fn balance(&self, account: Address) -> U256 {
        self.read(balancesCall { account }).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_comes_in_by_the_escrow_moves_by_what_slots_cost_and_leaves_with_and_past_the_market() {
    let Some(binary) = binary("money_comes_in_by_the_escrow_moves_by_what_slots_cost_and_leaves_with_and_past_the_market") else {
        return;
    };
    let (market, ann) = (Key::of_name("market"), Key::of_name("a stranger with money"));
    let settlement = Settlement::start(&binary, market.address(), &[ann.address(), builder().address()]).await;
    // A deposit that was there before the market was.
    settlement.call(&builder(), whole(50), input(&depositCall { account: builder().address() })).await;
    let plan = EscrowPlan {
        url: settlement.anvil.url.clone(),
        contract: settlement.contract,
        from_block: 0,
        confirmations: 0,
        batch_slots: 1,
        poll_ms: 50,
    };
    let folder = tempfile::tempdir().expect("a folder for the store");
    let start = async || {
        // While a process that ends still has the folder, another one cannot start.
        until("the market starts", async || {
            let data = Some(folder.path().to_owned());
            World::try_start_with(DevOptions { deposit: None, data, ..options() }, |setup| {
                let MarketSetup::Own(own) = &mut setup.market else { panic!("dev plays the market") };
                own.deposits = Some(DepositRules { bond_bps: 1_000, keeper: own.key.address() });
                own.escrow = Some(plan.clone());
            })
            .await
        })
        .await
    };
    let world = start().await;
    let client = &world.lockstep.client;

    // Nobody's word credits anything here; the contract does.
    let deposit = Deposit { number: 0, account: ann.address(), amount: whole(1) };
    let signed = DepositWire::new(&deposit, market.sign_bytes(deposit.digest()));
    assert_eq!(refused(client.deposit(signed).await).1, "escrow_only");
    settlement.call(&ann, whole(9), input(&depositCall { account: ann.address() })).await;
    until("the deposits are credited", async || {
        let view = client.get_escrow().await.expect("the market answers")?;
        assert_eq!((view.chain_id, view.contract, view.exit_delay), (U64::from(CHAIN), settlement.contract, EXIT_DELAY));
        (view.deposits == 2).then_some(())
    })
    .await;
    assert_eq!(ledger(&world, &ann).await.free.0, whole(9));

    // The builder buys slots: what it pays its sellers moves in the contract too, to the wei.
    let bundle = world.lockstep.send(&world.story(&user(0), 1).await).await;
    world.lockstep.landed(bundle).await;
    let payouts: Vec<Address> = {
        let sales = world.lockstep.open_slot().await.on_sale;
        sales.iter().map(|sale| sale.sequencer).collect()
    };
    until("the sellers are paid in the contract", async || {
        let mut paid = U256::ZERO;
        for payout in &payouts {
            paid += settlement.balance(*payout).await;
        }
        let left = settlement.balance(builder().address()).await;
        (!paid.is_zero() && paid + left == whole(50)).then_some(())
    })
    .await;

    // The market goes down and comes back: it goes on from what it has on disk.
    let before = ledger(&world, &ann).await;
    drop(world);
    let world = start().await;
    let client = &world.lockstep.client;
    assert_eq!(ledger(&world, &ann).await.free, before.free);

    // Leaving with the market.
    let elsewhere = Address::repeat_byte(0x42);
    let request = WithdrawalRequest { account: ann.address(), to: elsewhere, amount: whole(2), nonce: 1 };
    client.withdraw(WithdrawalWire::new(&request, ann.sign_bytes(request.digest()))).await.expect("it has so much");
    until("the withdrawal is there to be fetched", async || {
        (settlement.read(claimableCall { to: elsewhere }).await == whole(2)).then_some(())
    })
    .await;
    settlement.call(&builder(), U256::ZERO, input(&claimCall { to: elsewhere })).await;
    assert_eq!(settlement.anvil.chain.balance(elsewhere).await, whole(2));
    until("it has left the ledger", async || {
        let account = ledger(&world, &ann).await;
        (account.leaving.0.is_zero() && account.withdrawals.is_empty()).then_some(())
    })
    .await;

    // Leaving past the market: from then on nothing more is put up, and the delay is waited for.
    settlement.call(&ann, U256::ZERO, input(&requestExitCall { to: elsewhere, amount: whole(100) })).await;
    let rollups: RollupSet = world.chains().iter().map(|chain| chain.id).collect();
    until("the market knows of it", async || {
        let slot = world.lockstep.open_slot().await.slot + 1;
        let bid = Bid { slot, rollups: rollups.clone(), amount: whole(1), exclusive: None, nonce: now_ms() };
        match client.submit_bid(BidWire::new(&bid, ann.sign_bytes(bid.digest()))).await {
            Ok(_) => None,
            Err(error) => (refused::<bool>(Err(error)).1 == "exiting").then_some(()),
        }
    })
    .await;
    until("nothing of it is held any more", async || ledger(&world, &ann).await.held.0.is_zero().then_some(())).await;
    let chain = &settlement.anvil.chain;
    let newest = chain.block(chain.height().await).await.timestamp();
    settlement.anvil.advance_to(newest + EXIT_DELAY + 60).await;
    let before = ledger(&world, &ann).await.free.0;
    until("what is left in the contract is what the ledger says", async || {
        (settlement.balance(ann.address()).await == before).then_some(())
    })
    .await;
    settlement.call(&builder(), U256::ZERO, input(&exitCall { account: ann.address() })).await;
    assert_eq!(settlement.anvil.chain.balance(elsewhere).await, whole(2) + before);
    until("it has left the ledger too", async || ledger(&world, &ann).await.free.0.is_zero().then_some(())).await;
}
