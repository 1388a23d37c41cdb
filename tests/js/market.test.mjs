// The market as its users meet it: what is signed by a stock client, and what is refused.

import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts';
import { ask, call, hex, start, until } from './kit.mjs';

const domain = { name: 'Lockstep', version: '1' };
const fields = (text) => text.split(',').map((field) => { const [type, name] = field.split(' '); return { name, type }; });
/** Signs one of the types of docs/RPC.md. */
const signed = (account, primaryType, text, message) => account.signTypedData({ domain, types: { [primaryType]: fields(text) }, primaryType, message });

describe('a market that sells ahead', () => {
  let dev;
  const bidder = privateKeyToAccount(generatePrivateKey());
  const other = privateKeyToAccount(generatePrivateKey());
  before(async () => { dev = await start(['--ahead']); });
  after(async () => { await dev?.stop(); });

  const refused = async (method, params) => {
    const { error } = await ask(dev.url, method, params);
    assert.ok(error, `${method} is taken`);
    assert.ok(error.data.hint, `${method} says what to do`);
    return error;
  };

  it('knows who signed a bid for an epoch', async () => {
    const epoch = await until('an epoch is sold', () => call(dev.url, 'market_getEpoch', []));
    assert.equal(epoch.state, 'open');
    assert.equal(epoch.slots, 4);
    const rollups = epoch.onSale.map((lot) => BigInt(lot.chainId));
    const type = 'uint64 epoch,uint64[] rollups,uint256 amount,string exclusive,uint64 nonce';
    const bid = { epoch: BigInt(epoch.epoch), rollups, amount: 10n ** 30n, exclusive: '', nonce: 1n };
    const wire = { epoch: epoch.epoch, rollups: rollups.map(hex), amount: String(bid.amount), nonce: 1, signature: await signed(bidder, 'EpochBid', type, bid) };
    const { data, message } = await refused('market_submitEpochBid', [wire]);
    assert.equal(data.reason, 'deposit_too_small');
    assert.ok(message.toLowerCase().includes(bidder.address.toLowerCase()), message);
    assert.equal((await refused('market_submitEpochBid', [{ ...wire, amount: '1' }])).data.reason, 'below_reserve');
    assert.equal((await refused('market_submitEpochBid', [{ ...wire, epoch: epoch.epoch + 5 }])).data.reason, 'epoch_not_open');
    assert.equal((await refused('market_submitEpochBid', [{ ...wire, rollups: ['0x7'] }])).data.reason, 'not_on_sale');
    assert.equal((await refused('market_submitEpochBid', [{ ...wire, amount: '0' }])).data.reason, 'unknown_bid');
    assert.ok((await ask(dev.url, 'market_submitEpochBid', [{ ...wire, surprise: 1 }])).error, 'an unknown field is taken');
  });

  it('hands a right over when both have signed', async () => {
    const { slot, onSale, held = [] } = await call(dev.url, 'market_getSlot', []);
    const chain = (onSale[0] ?? held[0]).chainId;
    const type = 'string how,uint64 slot,uint64[] rollups,uint256[] amounts,address to';
    const transfer = { how: 'resale', slot: BigInt(slot), rollups: [BigInt(chain)], amounts: [5n], to: other.address };
    const [holderSignature, takerSignature] = await Promise.all([bidder, other].map((account) => signed(account, 'RightTransfer', type, transfer)));
    const wire = { how: 'resale', slot, rights: [{ chainId: chain, amount: '5' }], to: other.address, holderSignature, takerSignature };
    assert.equal((await refused('market_transferRights', [{ ...wire, takerSignature: holderSignature }])).data.reason, 'wrong_request_signer');
    assert.equal((await refused('market_transferRights', [{ ...wire, how: 'gift' }])).data.reason, 'unknown_transfer');
    const twice = [...wire.rights, ...wire.rights];
    assert.equal((await refused('market_transferRights', [{ ...wire, rights: twice }])).data.reason, 'rollup_named_twice');
    // The buyer is who it says, and has nothing.
    assert.ok(['deposit_too_small', 'unknown_right', 'not_holder', 'not_on_sale'].includes((await refused('market_transferRights', [wire])).data.reason));
    const offer = { slot, rights: wire.rights, signature: holderSignature };
    assert.ok(['right_late', 'unknown_right', 'not_on_sale'].includes((await refused('market_offerRights', [offer])).data.reason));
  });

  it('tells who may propose', async () => {
    const { slot } = await call(dev.url, 'market_getSlot', []);
    const rights = await until('the slot is closed', async () => {
      const known = await call(dev.url, 'market_getRights', [slot]);
      return known.length > 0 && known;
    });
    assert.equal(rights.length, dev.rollups.size);
    for (const right of rights) assert.ok(['ahead', 'just_in_time', 'default'].includes(right.how), right.how);
    assert.deepEqual(await call(dev.url, 'market_getCalls', [slot]), []);
    assert.equal((await refused('market_getProposal', [{ slot, holder: bidder.address, rollups: [rights[0].chainId] }])).data.reason, 'not_asked');
  });
});
