//! Stories of messages: what is burned on one rollup is there on another in the same slot, or nothing happened at all.

use std::collections::BTreeSet;

use alloy_primitives::{Address, B256, I256, Signature, U256, keccak256};
use lockstep_building::{EvidenceMap, SealError, seal, verify};
use lockstep_primitives::{Asset, Bundle, ChainId, Place, Reason, Rejection};
use lockstep_testkit::{
    CANCUN, ISTHMUS, JOVIAN, NFT_PRICE, PRAGUE, TRAVELLER_USDC, USD, Wallet, World, bundle, candidates, ether, gwei,
};

use crate::support::{assert_untouched, balance, build_all, last_block, owner_of, placed, reason, seal_on, usdc};

const ETH: ChainId = PRAGUE;
const OP: ChainId = ISTHMUS;
const TOKEN: u64 = 7;

/// Somebody with dollars on the first rollup of a world and none on the others.
fn traveller() -> Wallet {
    Wallet::user(4)
}

/// Burns dollars on ETH, has them minted on OP and buys a token there.
fn purchase(world: &World, buyer: &mut Wallet, amount: u64) -> Bundle {
    let burn = buyer.send(ETH, world.burn(ETH, amount, OP, buyer.address()));
    let buy = buyer.send(OP, world.buy(OP, TOKEN));
    bundle().tx(ETH, burn).relay(OP, 0, 0).tx(OP, buy).build()
}

/// Burns dollars on one rollup and has them minted on another.
fn crossing(world: &World, who: &mut Wallet, from: ChainId, to: ChainId) -> Bundle {
    let burn = who.send(from, world.burn(from, 20 * USD, to, who.address()));
    bundle().tx(from, burn).relay(to, 0, 0).build()
}

/// The only bundle is refused, for this and no other reason, and no rollup knows that it ever was.
fn assert_refused(world: &World, bundle: Bundle, expected: Rejection) {
    let candidates = candidates([bundle]);
    let draft = build_all(world, &candidates);
    assert_eq!(*reason(&draft, candidates[0].hash), expected);
    assert_untouched(world, &draft);
}

#[test]
fn dollars_burned_on_one_rollup_buy_a_token_on_another_in_the_same_slot() {
    let world = World::pair();
    let mut alice = traveller();
    let candidates = candidates([purchase(&world, &mut alice, NFT_PRICE)]);
    let draft = build_all(&world, &candidates);

    assert_eq!(placed(&draft), [candidates[0].hash], "left out: {:?}", draft.left_out);
    assert_eq!(owner_of(&world, &draft, OP, TOKEN), Some(alice.address()));
    assert_eq!(usdc(&world, &draft, ETH, alice.address()), U256::from(TRAVELLER_USDC - NFT_PRICE));
    assert_eq!(usdc(&world, &draft, OP, alice.address()), U256::ZERO);
    assert!(balance(&draft, OP, alice.address(), Asset::Native) < ether(1_000), "who lands pays for gas");
    assert_eq!(draft.edges(), BTreeSet::from([(ETH, OP)]));

    let origin = seal_on(&world, &draft, ETH).expect("the origin seals");
    let destination = seal_on(&world, &draft, OP).expect("the destination seals");
    assert_eq!(origin.list.blocks[0].transactions.len(), 1);
    assert_eq!(destination.list.blocks[0].transactions.len(), 2, "the relay and the purchase");
    assert_eq!(destination.blocks[0].must_succeed, [0, 1]);
    let bought = &destination.legs[&(candidates[0].hash, 2)];
    let hash = keccak256(&destination.list.blocks[0].transactions[1]);
    assert_eq!(*bought, [lockstep_building::ListedTx { block: 0, position: 1, hash }]);
}

#[test]
fn a_purchase_with_too_little_money_leaves_every_rollup_as_it_was() {
    let world = World::pair();
    let mut alice = traveller();
    let candidates = candidates([purchase(&world, &mut alice, NFT_PRICE - 1)]);
    let draft = build_all(&world, &candidates);

    let rejection = reason(&draft, candidates[0].hash);
    assert_eq!(rejection.place, Place::tx(OP, 2, 0));
    let Reason::Reverted { message, .. } = &rejection.reason else { panic!("{rejection}") };
    assert_eq!(message.as_deref(), Some("NftShop: payment failed"));
    assert_untouched(&world, &draft);
    for chain in [ETH, OP] {
        assert_eq!(balance(&draft, chain, alice.address(), Asset::Native), ether(1_000), "nobody pays for what did not happen");
    }
    assert_eq!(usdc(&world, &draft, ETH, alice.address()), U256::from(TRAVELLER_USDC));
}

#[test]
fn a_purchase_can_be_signed_before_its_money_is_burned() {
    let world = World::pair();
    let mut alice = traveller();
    let buy = alice.send(OP, world.buy(OP, TOKEN));
    let alone = candidates([bundle().tx(OP, buy.clone()).build()]);
    let refused = build_all(&world, &alone);
    assert_eq!(reason(&refused, alone[0].hash).reason.code(), "reverted");

    let burn = alice.send(ETH, world.burn(ETH, NFT_PRICE, OP, alice.address()));
    let whole = candidates([bundle().tx(ETH, burn).relay(OP, 0, 0).tx(OP, buy.clone()).build()]);
    let draft = build_all(&world, &whole);
    assert_eq!(owner_of(&world, &draft, OP, TOKEN), Some(alice.address()));
    let sealed = seal_on(&world, &draft, OP).expect("the destination seals");
    assert_eq!(sealed.list.blocks[0].transactions.last(), Some(buy.raw()), "to the byte what was signed");
}

#[test]
fn dollars_pass_through_a_rollup_and_go_on_to_a_third() {
    let world = World::trio();
    let mut alice = traveller().tipping(10);
    let there = alice.address();
    let first = alice.send(CANCUN, world.burn(CANCUN, 20 * USD, ISTHMUS, there));
    let second = alice.send(ISTHMUS, world.burn(ISTHMUS, 20 * USD, JOVIAN, there));
    let journey = bundle().tx(CANCUN, first).relay(ISTHMUS, 0, 0).tx(ISTHMUS, second).relay(JOVIAN, 2, 0).build();
    let candidates = candidates([journey]);
    let draft = build_all(&world, &candidates);
    assert_eq!(placed(&draft), [candidates[0].hash], "left out: {:?}", draft.left_out);
    assert_eq!(usdc(&world, &draft, CANCUN, there), U256::from(TRAVELLER_USDC - 20 * USD));
    assert_eq!(usdc(&world, &draft, ISTHMUS, there), U256::ZERO);
    assert_eq!(usdc(&world, &draft, JOVIAN, there), U256::from(20 * USD));
    for chain in world.rollups() {
        let sealed = seal_on(&world, &draft, chain).expect("every rollup seals");
        verify(&world.view.rollups[&chain].slot, &sealed.list).expect("and runs on a fresh EVM");
    }
}

#[test]
fn a_relay_of_a_message_that_does_not_exist_is_named() {
    let world = World::pair();
    let mut alice = traveller();
    let burn = alice.send(ETH, world.burn(ETH, USD, OP, alice.address()));
    let expected = Rejection::new(Place::leg(OP, 1), Reason::NoSuchMessage { leg: 0, message: 1, count: 1 });
    assert_refused(&world, bundle().tx(ETH, burn).relay(OP, 0, 1).build(), expected);
}

#[test]
fn a_relay_to_a_rollup_that_the_message_does_not_go_to_is_named() {
    let world = World::trio();
    let mut alice = traveller();
    let burn = alice.send(CANCUN, world.burn(CANCUN, USD, ISTHMUS, alice.address()));
    let destination = format!("CCTP domain {}", world.contracts[&ISTHMUS].domain);
    let expected = Rejection::new(Place::leg(JOVIAN, 1), Reason::WrongDestination { destination });
    assert_refused(&world, bundle().tx(CANCUN, burn).relay(JOVIAN, 0, 0).build(), expected);
}

#[test]
fn a_message_for_another_caller_is_refused_by_name_and_one_for_the_builder_is_delivered() {
    let world = World::pair();
    let mut alice = traveller();
    let stranger = Address::repeat_byte(0x57);
    let burn = alice.send(ETH, world.burn_for_caller(ETH, USD, OP, alice.address(), stranger));
    let reason = Reason::RestrictedCaller { caller: stranger, builder: world.proposer() };
    assert_refused(&world, bundle().tx(ETH, burn).relay(OP, 0, 0).build(), Rejection::new(Place::leg(OP, 1), reason));

    let mut alice = traveller();
    let burn = alice.send(ETH, world.burn_for_caller(ETH, USD, OP, alice.address(), world.proposer()));
    let draft = build_all(&world, &candidates([bundle().tx(ETH, burn).relay(OP, 0, 0).build()]));
    assert_eq!(usdc(&world, &draft, OP, alice.address()), U256::from(USD));
}

#[test]
fn no_message_is_delivered_twice() {
    let world = World::pair();
    let mut alice = traveller();
    let burn = alice.send(ETH, world.burn(ETH, USD, OP, alice.address()));
    let candidates = candidates([bundle().tx(ETH, burn).relay(OP, 0, 0).relay(OP, 0, 0).build()]);
    let draft = build_all(&world, &candidates);
    let rejection = reason(&draft, candidates[0].hash);
    assert_eq!((rejection.place, rejection.reason.code()), (Place::leg(OP, 2), "message_delivered"));
    assert_untouched(&world, &draft);
}

#[test]
fn who_does_not_pay_for_the_relay_is_unprofitable_and_who_does_is_welcome() {
    let world = World::pair();
    // On ETH the base fee that the builder pays for the relay is burned.
    let free = crossing(&world, &mut Wallet::user(0).tipping(0), OP, ETH);
    let unpaid = candidates([free]);
    let draft = build_all(&world, &unpaid);
    let rejection = reason(&draft, unpaid[0].hash);
    assert_eq!(rejection.place, Place::BUNDLE);
    assert!(matches!(rejection.reason, Reason::Unprofitable { value } if value.is_negative()), "{rejection}");
    assert_untouched(&world, &draft);

    let mut bob = Wallet::user(0).tipping(0);
    let mut paying = crossing(&world, &mut bob, OP, ETH);
    let payment = bob.send(ETH, world.pay_proposer(gwei(600_000)));
    paying.legs.extend(bundle().tx(ETH, payment).build().legs);
    let paid = candidates([paying]);
    let draft = build_all(&world, &paid);
    assert_eq!(placed(&draft), [paid[0].hash], "left out: {:?}", draft.left_out);
    assert!(draft.value > I256::ZERO);
}

#[test]
fn messages_go_both_ways_only_between_rollups_that_are_trusted() {
    let world = World::pair();
    let there = crossing(&world, &mut Wallet::user(0).tipping(5), ETH, OP);
    let back = crossing(&world, &mut Wallet::user(1).tipping(5), OP, ETH);
    let both = candidates([there, back]);

    let draft = build_all(&world, &both);
    assert_eq!(draft.placed.len(), 1, "left out: {:?}", draft.left_out);
    let [(_, rejection)] = draft.left_out.as_slice() else { panic!("one is left out, not {:?}", draft.left_out) };
    assert_eq!(*rejection, Rejection::new(Place::BUNDLE, Reason::MutualMessages));

    let half_trusted = build_all(&world.clone().trusting([ETH]), &both);
    assert_eq!(half_trusted.placed.len(), 1, "both have to be trusted");

    let trusting = world.trusting([ETH, OP]);
    let draft = build_all(&trusting, &both);
    assert_eq!(draft.placed.len(), 2, "left out: {:?}", draft.left_out);
    assert_eq!(draft.edges(), BTreeSet::from([(ETH, OP), (OP, ETH)]));
}

#[test]
fn sealing_without_evidence_names_the_relay() {
    let world = World::pair();
    let candidates = candidates([purchase(&world, &mut traveller(), NFT_PRICE)]);
    let draft = build_all(&world, &candidates);
    let nobody = |_: B256| -> Signature { panic!("nothing is signed before the evidence is there") };
    let sealed = seal(&world.view, &draft, OP, &EvidenceMap::new(), &nobody);
    let Err(SealError::Evidence(rejection)) = &sealed else { panic!("{sealed:?}") };
    assert_eq!((rejection.place, rejection.reason.code()), (Place::leg(OP, 1), "no_evidence"));
}

/// The base fee of a rollup's second block follows the gas of its first, and a real attestation rarely has as many zero bytes
/// as its stand-in: calldata gas moves by a little when the first block is sealed.
#[test]
fn a_relay_in_the_second_block_is_valid_whatever_the_attestation_in_the_first_weighs() {
    let world = World::pair().with_blocks(ETH, 2);
    let head = world.head(ETH);
    for dollars in 1..=12 {
        let crossing = |user: usize, block: u64| {
            let mut who = Wallet::user(user).tipping(5);
            let burn = who.send(OP, world.burn(OP, dollars * USD, ETH, who.address()));
            bundle().tx(OP, burn).relay(ETH, 0, 0).blocks(ETH, block, block).build()
        };
        let draft = build_all(&world, &candidates([crossing(0, head + 1), crossing(1, head + 2)]));
        let relays: Vec<usize> = draft.relays(ETH).iter().map(|relay| relay.block).collect();
        assert_eq!(relays, [0, 1], "left out: {:?}", draft.left_out);
        let sealed = seal_on(&world, &draft, ETH);
        assert!(sealed.is_ok(), "with {dollars} dollars: {}", sealed.expect_err("it was not sealed"));
    }
}

/// A real attestation compresses a little better or worse than its stand-in, and with it the transaction's share of the data
/// room (Jovian). The builder may leave room for that or leave the bundle out, but what it drafts has to seal.
#[test]
fn a_block_without_data_room_to_spare_seals_whatever_the_attestation_weighs() {
    let roomy = World::trio();
    for dollars in 1..=12 {
        let crossing = || {
            let mut who = Wallet::user(0).tipping(5);
            let burn = who.send(ISTHMUS, roomy.burn(ISTHMUS, dollars * USD, JOVIAN, who.address()));
            candidates([bundle().tx(ISTHMUS, burn).relay(JOVIAN, 0, 0).build()])
        };
        let draft = build_all(&roomy, &crossing());
        assert_eq!(draft.placed.len(), 1, "left out: {:?}", draft.left_out);
        let tight = roomy.clone().with_gas_limit(last_block(&draft, JOVIAN).footprint());
        let sealed = seal_on(&tight, &build_all(&tight, &crossing()), JOVIAN);
        assert!(sealed.is_ok(), "with {dollars} dollars: {}", sealed.expect_err("it was not sealed"));
    }
}

/// A real attestation weighs a little more or less than its stand-in, and somebody may make a bundle depend on exactly that. It
/// must be known whose doing it is, so that it costs nobody else the next slot too.
#[test]
fn a_bundle_that_depends_on_what_its_evidence_weighs_is_named() {
    let world = World::pair();
    let mut named = 0;
    for dollars in 1..=12 {
        let crossing = |rise: Option<U256>| {
            let mut who = Wallet::user(0).tipping(5);
            let burn = who.send(OP, world.burn(OP, dollars * USD, ETH, who.address()));
            let payment = who.send(ETH, world.pay_proposer(gwei(5_000_000)));
            let whole = bundle().tx(OP, burn).relay(ETH, 0, 0).tx(ETH, payment);
            match rise {
                Some(rise) => whole.require(ETH, world.proposer(), Asset::Native, rise).build(),
                None => whole.build(),
            }
        };
        let any = build_all(&world, &candidates([crossing(Some(U256::ZERO))]));
        let exact = any.placed[0].run.requirements[0].increase.into_raw();
        let demanding = candidates([crossing(Some(exact))]);
        let draft = build_all(&world, &demanding);
        assert_eq!(placed(&draft), [demanding[0].hash], "left out: {:?}", draft.left_out);
        match seal_on(&world, &draft, ETH) {
            Ok(_) => {}
            Err(SealError::Unsteady { bundles, .. }) => {
                assert_eq!(bundles, [demanding[0].hash]);
                named += 1;
            }
            Err(other) => panic!("{other}"),
        }
        let relaxed = build_all(&world, &candidates([crossing(None)]));
        assert!(seal_on(&world, &relaxed, ETH).is_ok());
    }
    assert!(named > 0, "some attestation weighs more than its stand-in");
}
