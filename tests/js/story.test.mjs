// Burn on one rollup, mint and buy on another: all of it or nothing. And the other ways in.

import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts';
import { keccak256, concat, recoverTypedDataAddress } from 'viem';
import WebSocket from 'ws';
import {
  A, B, C, GWEI, USDC, abi, ask, body, call, flashbots, footprint, hex, nonceOf, pending, post, publicClient, settled, sign, signBurn,
  signCall, start, until,
} from './kit.mjs';

const NFT_PRICE = 100n * USDC;

describe('bundles over rollups', () => {
  let dev;
  // The record of decisions is on disk: without it nothing is promised beyond G2.
  const data = mkdtempSync(join(tmpdir(), 'lockstep-story-'));
  before(async () => { dev = await start(['--rollups', '3', '--data', data]); });
  after(async () => { await dev?.stop(); rmSync(data, { recursive: true, force: true }); });

  const url = (id) => dev.rollups.get(id).url;
  const send = (bundle, options) => call(dev.url, 'lockstep_sendBundle', [bundle], options);
  const usdc = (id, address) =>
    publicClient(dev, id).readContract({ address: dev.contracts.USDC, abi, functionName: 'balanceOf', args: [address] });

  async function story(account, tokenId, amount, extra = {}) {
    const { address } = account;
    // The purchase is signed first: neither the burn nor the minted tokens exist.
    const buy = await signCall(dev, account, B, await nonceOf(dev, B, address), 'NftShop', 'buy', [tokenId]);
    const burn = await signBurn(dev, account, A, await nonceOf(dev, A, address), B, amount);
    return {
      bundle: { legs: [{ chainId: hex(A), txs: [burn] }, { chainId: hex(B), relay: { leg: 0, message: 0 } }, { chainId: hex(B), txs: [buy] }], ...extra },
      burn, buy,
    };
  }

  /** Spends an account's USDC on a rollup, so that only what is minted can pay. */
  async function empty(account, id) {
    const amount = await usdc(id, account.address);
    const raw = await signCall(dev, account, id, await nonceOf(dev, id, account.address), 'USDC', 'transfer', [dev.accounts[0].address, amount]);
    const hash = await call(url(id), 'eth_sendRawTransaction', [raw]);
    await until('the transfer lands', () => call(url(id), 'eth_getTransactionReceipt', [hash]));
    assert.equal(await usdc(id, account.address), 0n);
  }

  it('burns, relays and buys in one slot', async () => {
    const { account } = dev.accounts[1];
    await empty(account, B);
    const before = { a: await usdc(A, account.address), b: await usdc(B, account.address) };
    const { bundle, burn, buy } = await story(account, 7n, NFT_PRICE);
    const simulated = await call(dev.url, 'lockstep_simulateBundle', [bundle]);
    assert.equal(simulated.success, true, JSON.stringify(simulated.blocked));
    assert.equal(simulated.legs.length, 3);
    const { bundleHash } = await send(bundle);
    assert.equal(simulated.bundleHash, bundleHash);
    const status = await settled(dev, bundleHash);
    assert.equal(status.level, 'G3');
    assert.deepEqual(status.rollups, [hex(A), hex(B)]);
    const names = status.history.map((event) => event.state);
    assert.deepEqual(names, ['received', 'simulated', 'pending', 'proposed', 'committed', 'published', 'landed']);
    const slots = new Set(status.history.slice(3).map((event) => event.slot));
    assert.equal(slots.size, 1, 'proposed to landed in one slot');
    const [slot] = slots;

    assert.deepEqual(status.legs.map((leg) => leg.transactions.length), [1, 1, 1]);
    assert.equal(status.legs[0].transactions[0].transactionHash, keccak256(burn));
    assert.equal(status.legs[2].transactions[0].transactionHash, keccak256(buy));
    const timestamps = [];
    for (const leg of status.legs) {
      const [tx] = leg.transactions;
      const receipt = await call(url(Number(leg.chainId)), 'eth_getTransactionReceipt', [tx.transactionHash]);
      assert.equal(receipt.status, '0x1');
      assert.equal(tx.success, true);
      assert.equal(tx.blockNumber, receipt.blockNumber);
      assert.equal(tx.blockHash, receipt.blockHash);
      assert.equal(tx.index, receipt.transactionIndex);
      const block = await call(url(Number(leg.chainId)), 'eth_getBlockByNumber', [receipt.blockNumber, false]);
      assert.equal(block.hash, receipt.blockHash);
      assert.equal(block.transactions[Number(tx.index)], tx.transactionHash);
      timestamps.push(Number(block.timestamp) * 1000);
    }
    const about = await call(dev.url, 'lockstep_getSlot', [slot]);
    for (const at of timestamps) assert.ok(at >= about.start && at < about.end, `${at} in [${about.start}, ${about.end})`);
    // The legs on one rollup share a block, in order, with nothing between.
    const [, relay, bought] = status.legs.map((leg) => leg.transactions[0]);
    assert.equal(relay.blockHash, bought.blockHash);
    assert.equal(Number(relay.index) + 1, Number(bought.index));
    const relayed = await call(url(B), 'eth_getTransactionByHash', [relay.transactionHash]);
    assert.equal(relayed.from.toLowerCase(), dev.builder.toLowerCase(), 'the builder delivers the message');

    const owner = await publicClient(dev, B).readContract({ address: dev.contracts.NftShop, abi, functionName: 'ownerOf', args: [7n] });
    assert.equal(owner, account.address);
    assert.equal(await usdc(A, account.address), before.a - NFT_PRICE);
    assert.equal(await usdc(B, account.address), before.b);
    const explained = await call(dev.url, 'lockstep_explainBundle', [bundleHash]);
    assert.equal(explained.state, 'landed');
    assert.match(explained.text, /landed/);
  });

  it('leaves no trace of a bundle that burns too little', async () => {
    const { account } = dev.accounts[2];
    await empty(account, B);
    const people = [account.address, dev.builder, dev.accounts[3].address];
    const before = await footprint(dev, people);
    const head = Number(await call(url(B), 'eth_blockNumber', []));
    const { bundle, burn, buy } = await story(account, 8n, NFT_PRICE - 1n, { blocks: { [hex(B)]: { max: hex(head + 4) } } });
    const simulated = await call(dev.url, 'lockstep_simulateBundle', [bundle]);
    assert.equal(simulated.success, false);
    const { bundleHash } = await send(bundle);
    const blocked = await until('the obstacle is named', async () => (await call(dev.url, 'lockstep_getBundle', [bundleHash])).blocked);
    assert.equal(blocked.reason, 'reverted');
    assert.equal(blocked.rollup, hex(B));
    assert.equal(blocked.leg, 2);
    assert.equal(blocked.index, 0);
    assert.ok(blocked.hint.length > 10);
    assert.match(blocked.text, /NftShop: payment failed/, 'the revert reason is told');
    const explained = await call(dev.url, 'lockstep_explainBundle', [bundleHash]);
    assert.match(explained.text, /leg 2/);
    assert.match(explained.text, new RegExp(`rollup ${B}`));

    const status = await settled(dev, bundleHash, ['expired', 'dropped']);
    assert.equal(status.blocked?.reason, 'reverted', 'why it never landed is still told at its end');
    assert.deepEqual(status.legs.map((leg) => leg.transactions), [[], [], []]);
    assert.deepEqual(await footprint(dev, people), before);
    for (const [id, raw] of [[A, burn], [B, buy]]) {
      assert.equal(await call(url(id), 'eth_getTransactionReceipt', [keccak256(raw)]), null);
      assert.equal(await call(url(id), 'eth_getTransactionByHash', [keccak256(raw)]), null);
    }
  });

  it('moves over three rollups in one bundle', async () => {
    const { account } = dev.accounts[3];
    const { address } = account;
    const amount = 5n * USDC;
    const before = [await usdc(A, address), await usdc(B, address), await usdc(C, address)];
    const first = await signBurn(dev, account, A, await nonceOf(dev, A, address), B, amount);
    const second = await signBurn(dev, account, B, await nonceOf(dev, B, address), C, amount);
    const last = await signCall(dev, account, C, await nonceOf(dev, C, address), 'Probe', 'store', [3n, 33n]);
    const { bundleHash } = await send({
      legs: [
        { chainId: hex(A), txs: [first] }, { chainId: hex(B), relay: { leg: 0, message: 0 } }, { chainId: hex(B), txs: [second] },
        { chainId: hex(C), relay: { leg: 2, message: 0 } }, { chainId: hex(C), txs: [last] },
      ],
      require: [{ chainId: hex(C), account: address, asset: dev.contracts.USDC, minIncrease: hex(amount) }],
    });
    const status = await settled(dev, bundleHash);
    assert.equal(status.legs.length, 5);
    assert.deepEqual([await usdc(A, address), await usdc(B, address), await usdc(C, address)], [before[0] - amount, before[1], before[2] + amount]);
  });

  it('keeps a bundle out whose requirement does not hold', async () => {
    const { account } = dev.accounts[3];
    const { address } = account;
    const raw = await signCall(dev, account, A, await nonceOf(dev, A, address), 'Probe', 'increment', [1n]);
    const simulated = await call(dev.url, 'lockstep_simulateBundle', [{
      legs: [{ chainId: hex(A), txs: [raw] }], require: [{ chainId: hex(A), account: address, asset: 'native', minIncrease: '0x1' }],
    }]);
    assert.equal(simulated.success, false);
    assert.equal(simulated.blocked.reason, 'requirement_not_met');
    assert.equal(simulated.blocked.rollup, hex(A));
  });

  it('takes a bundle of one rollup by eth_sendBundle', async () => {
    const { account } = dev.accounts[4];
    const nonce = await nonceOf(dev, A, account.address);
    const key = BigInt(Date.now());
    const good = await signCall(dev, account, A, nonce, 'Probe', 'store', [key, 5n]);
    const bad = await signCall(dev, account, A, nonce + 1, 'Probe', 'fail', ['on purpose']);
    const hashes = [keccak256(good), keccak256(bad)];
    const called = await call(url(A), 'eth_callBundle', [{ txs: [good, bad], blockNumber: undefined, stateBlockNumber: 'latest' }]);
    assert.equal(called.results.length, 2);
    assert.match(called.results[1].revert, /on purpose$/);
    const sent = await call(url(A), 'eth_sendBundle', [{ txs: [good, bad], revertingTxHashes: [hashes[1]], droppingTxHashes: null }]);
    assert.equal(sent.bundleHash, keccak256(concat(hashes)));
    const status = await settled(dev, sent.lockstepHash);
    assert.deepEqual(status.legs[0].transactions.map((tx) => tx.success), [true, false]);
    assert.equal(await publicClient(dev, A).readContract({ address: dev.contracts.Probe, abi, functionName: 'load', args: [key] }), 5n);
  });

  it('drops what may be dropped', async () => {
    const { account } = dev.accounts[4];
    const nonce = await nonceOf(dev, B, account.address);
    const good = await signCall(dev, account, B, nonce, 'Probe', 'increment', [4n]);
    const other = dev.accounts[5].account;
    const bad = await signCall(dev, other, B, await nonceOf(dev, B, other.address), 'Probe', 'fail', ['left out']);
    const sent = await call(url(B), 'eth_sendBundle', [{ txs: [good, bad], droppingTxHashes: [keccak256(bad)] }]);
    const status = await settled(dev, sent.lockstepHash);
    assert.deepEqual(status.legs[0].transactions.map((tx) => tx.transactionHash), [keccak256(good)]);
    assert.equal(await call(url(B), 'eth_getTransactionReceipt', [keccak256(bad)]), null);
  });

  it('takes private transactions, which never land reverted', async () => {
    const { account } = dev.accounts[5];
    const nonce = await nonceOf(dev, A, account.address);
    const raw = await signCall(dev, account, A, nonce, 'Probe', 'increment', [9n]);
    const hash = await call(url(A), 'eth_sendPrivateTransaction', [{ tx: raw }]);
    assert.equal(hash, keccak256(raw));
    const receipt = await until('it lands', () => call(url(A), 'eth_getTransactionReceipt', [hash]));
    assert.equal(receipt.status, '0x1');
    const head = Number(await call(url(A), 'eth_blockNumber', []));
    const failing = await signCall(dev, account, A, nonce + 1, 'Probe', 'fail', ['private']);
    const unseen = await call(url(A), 'eth_sendPrivateTransaction', [{ tx: failing, maxBlockNumber: hex(head + 3) }]);
    await until('its last block passes', async () => Number(await call(url(A), 'eth_blockNumber', [])) > head + 3);
    assert.equal(await call(url(A), 'eth_getTransactionReceipt', [unseen]), null);
    assert.equal(await nonceOf(dev, A, account.address), nonce + 1);
  });

  describe('replacement and cancellation', () => {
    const owner = privateKeyToAccount(generatePrivateKey());
    const other = privateKeyToAccount(generatePrivateKey());
    let ahead;

    /** A bundle that waits: its first block lies some blocks ahead. */
    async function waiting(extra = {}, tip = 3n) {
      const { account } = dev.accounts[6];
      const raw = await sign(account, A, await nonceOf(dev, A, account.address), { to: account.address, gas: 21_000n, maxPriorityFeePerGas: tip * GWEI });
      ahead ??= Number(await call(url(A), 'eth_blockNumber', [])) + 500;
      return { legs: [{ chainId: hex(A), txs: [raw] }], blocks: { [hex(A)]: { min: hex(ahead) } }, ...extra };
    }

    it('replaces by a rising nonce of the same signer only', async () => {
      const uuid = randomUUID();
      const signed = { signer: owner };
      const first = await send(await waiting({ replacementUuid: uuid, replacementNonce: 1 }), signed);
      const size = await pending(dev);
      const second = await send(await waiting({ replacementUuid: uuid.toUpperCase(), replacementNonce: 2 }, 4n), signed);
      assert.equal(await pending(dev), size, 'one took the place of the other');
      const replaced = await settled(dev, first.bundleHash, ['replaced'], signed);
      assert.equal(replaced.history.at(-1).reason, 'replaced');
      const low = await ask(dev.url, 'lockstep_sendBundle', [await waiting({ replacementUuid: uuid, replacementNonce: 2 }, 5n)], signed);
      assert.equal(low.error.code, -32003);
      assert.equal(low.error.data.reason, 'replacement_nonce_too_low');
      // The same uuid of another signer is another identity.
      const theirs = await send(await waiting({ replacementUuid: uuid, replacementNonce: 1 }, 6n), { signer: other });
      assert.equal((await call(dev.url, 'lockstep_getBundle', [second.bundleHash], signed)).state !== 'replaced', true);
      assert.equal(await call(dev.url, 'lockstep_cancelBundle', [{ replacementUuid: uuid }], { signer: other }), true);
      await settled(dev, theirs.bundleHash, ['cancelled'], { signer: other });
      assert.notEqual((await call(dev.url, 'lockstep_getBundle', [second.bundleHash], signed)).state, 'cancelled');
      assert.equal(await call(dev.url, 'lockstep_cancelBundle', [{ bundleHash: second.bundleHash }], signed), true);
      await settled(dev, second.bundleHash, ['cancelled'], signed);
      assert.equal(await call(dev.url, 'lockstep_cancelBundle', [{ bundleHash: second.bundleHash }], signed), false);
    });

    it('signs how a bundle ended, for its sender', async () => {
      const signed = { signer: owner };
      const { bundleHash } = await send(await waiting({}, 12n), signed);
      assert.equal((await ask(dev.url, 'lockstep_getReceipt', [bundleHash], signed)).error.data.reason, 'not_ended');
      await call(dev.url, 'lockstep_cancelBundle', [{ bundleHash }], signed);
      await settled(dev, bundleHash, ['cancelled'], signed);
      const receipt = await call(dev.url, 'lockstep_getReceipt', [bundleHash], signed);
      assert.deepEqual([receipt.outcome, receipt.transactions, receipt.slot], ['not_landed', [], undefined]);
      assert.equal((await ask(dev.url, 'lockstep_getReceipt', [bundleHash], { signer: other })).error.data.reason, 'not_found');
      const type = (text) => text.split(',').map((field) => { const [type, name] = field.split(' '); return { name, type }; });
      const builder = await recoverTypedDataAddress({
        domain: { name: 'Lockstep', version: '1' },
        primaryType: 'BundleReceipt',
        types: {
          BundleReceipt: type('bytes32 bundle,string outcome,uint64[] slot,string level,LandedTransaction[] transactions,string reason,uint64 atMs'),
          LandedTransaction: type('uint64 chainId,uint64 leg,bytes32 hash,bytes32 blockHash,uint64 blockNumber,uint64 index,bool success'),
        },
        message: { ...receipt, bundle: bundleHash, slot: [], atMs: BigInt(receipt.atMs) },
        signature: receipt.signature,
      });
      assert.equal(builder, dev.builder);
    });

    it('replaces and cancels by the dialect too', async () => {
      const uuid = randomUUID();
      const signed = { signer: owner };
      const bundle = async (nonce, tip) => {
        const { legs } = await waiting({}, tip);
        return { txs: legs[0].txs, minBlockNumber: hex(ahead), replacementUuid: uuid, replacementNonce: nonce };
      };
      const first = await call(url(A), 'eth_sendBundle', [await bundle(1, 7n)], signed);
      await call(url(A), 'eth_sendBundle', [await bundle(2, 8n)], signed);
      await settled(dev, first.lockstepHash, ['replaced'], signed);
      assert.equal(await call(url(A), 'eth_cancelBundle', [{ replacementUuid: uuid }], { signer: other }), false);
      assert.equal(await call(url(A), 'eth_cancelBundle', [{ replacementUuid: uuid }], signed), true);
      assert.equal(await call(url(A), 'eth_cancelBundle', [{ replacementUuid: uuid }], signed), false);
      // An empty bundle with a uuid cancels.
      const third = await call(url(A), 'eth_sendBundle', [await bundle(3, 9n)], signed);
      assert.equal(await call(url(A), 'eth_sendBundle', [{ txs: [], replacementUuid: uuid, replacementNonce: 4 }], signed), true);
      await settled(dev, third.lockstepHash, ['cancelled'], signed);
    });

    it('refuses requests whose signature is wrong', async () => {
      const text = body('lockstep_sendBundle', [await waiting({}, 11n)]);
      const size = await pending(dev);
      const right = await flashbots(owner, text);
      const cases = {
        'another body was signed': await flashbots(owner, `${text} `),
        'another address is claimed': `${other.address}:${right.split(':')[1]}`,
        'no signature': owner.address,
        'short signature': `${owner.address}:0x1234`,
        'not hex': `${owner.address}:${'zz'.repeat(65)}`,
        'zero signature': `${owner.address}:0x${'00'.repeat(65)}`,
        'empty': ' ',
      };
      for (const [name, header] of Object.entries(cases)) {
        const { json, status } = await post(dev.url, text, { 'x-flashbots-signature': header });
        assert.equal(json?.error?.code, -32006, `${name}: HTTP ${status} ${JSON.stringify(json)}`);
        assert.equal(json.error.data.reason, 'invalid_request_signature', name);
        assert.ok(json.error.data.hint, name);
      }
      assert.equal(await pending(dev), size);
      const unsigned = await ask(dev.url, 'lockstep_sendBundle', [await waiting({ replacementUuid: randomUUID(), replacementNonce: 1 })]);
      assert.equal(unsigned.error.code, -32006);
      assert.equal(unsigned.error.data.reason, 'replacement_needs_signer');
      const cancel = await ask(dev.url, 'lockstep_cancelBundle', [{ replacementUuid: randomUUID() }]);
      assert.equal(cancel.error.data.reason, 'replacement_needs_signer');
    });

    it('shows a signed bundle to its signer only', async () => {
      const { bundleHash } = await send(await waiting({}, 12n), { signer: owner });
      for (const options of [{}, { signer: other }]) {
        for (const method of ['lockstep_getBundle', 'lockstep_explainBundle']) {
          const answer = await ask(dev.url, method, [bundleHash], options);
          assert.equal(answer.error?.code, -32001, method);
          assert.equal(answer.error.data.reason, 'not_found');
        }
      }
      const unknown = await ask(dev.url, 'lockstep_getBundle', [`0x${'11'.repeat(32)}`]);
      const hidden = await ask(dev.url, 'lockstep_getBundle', [bundleHash]);
      assert.equal(hidden.error.message.replace(bundleHash, ''), unknown.error.message.replace(`0x${'11'.repeat(32)}`, ''));
      assert.equal(await call(dev.url, 'lockstep_cancelBundle', [{ bundleHash }], { signer: other }), false);
      assert.equal(await call(dev.url, 'lockstep_cancelBundle', [{ bundleHash }], { signer: owner }), true);
    });

    it('tells slot reports without naming bundles', async () => {
      const { account } = dev.accounts[7];
      const raw = await sign(account, A, await nonceOf(dev, A, account.address), { to: account.address, gas: 21_000n });
      const { bundleHash } = await send({ legs: [{ chainId: hex(A), txs: [raw] }] }, { signer: owner });
      const landed = await settled(dev, bundleHash, ['landed'], { signer: owner });
      const report = await until('the report', async () => (await call(dev.url, 'lockstep_getSlot', [landed.history.at(-1).slot])).report);
      assert.ok(report.rollups.length > 0);
      assert.ok(!JSON.stringify(report).includes(bundleHash), 'a signed bundle is named to an unsigned reader');
    });
  });

  describe('lockstep_subscribe', () => {
    async function socket(path = '') {
      const ws = new WebSocket(dev.url.replace('http', 'ws') + path);
      const messages = [];
      ws.on('message', (data) => messages.push(JSON.parse(data)));
      await new Promise((resolve, reject) => { ws.once('open', resolve); ws.once('error', reject); });
      ws.ask = async (method, params) => {
        const text = body(method, params);
        const { id } = JSON.parse(text);
        ws.send(text);
        return until(`the answer to ${method}`, () => messages.find((message) => message.id === id), { within: 5_000, every: 5 });
      };
      ws.notes = (id) => messages.filter((message) => message.params?.subscription === id).map((message) => message.params.result);
      return ws;
    }

    it('tells every step of an unsigned bundle by its hash', async () => {
      const { account } = dev.accounts[8];
      const ws = await socket();
      const raw = await sign(account, A, await nonceOf(dev, A, account.address), { to: account.address, gas: 21_000n });
      const bundle = { legs: [{ chainId: hex(A), txs: [raw] }] };
      const { bundleHash } = await call(dev.url, 'lockstep_simulateBundle', [bundle]);
      const { result: id } = await ws.ask('lockstep_subscribe', ['bundles', { bundleHash }]);
      assert.equal((await ws.ask('lockstep_sendBundle', [bundle])).result.bundleHash, bundleHash);
      await until('landed is told', () => ws.notes(id).some((note) => note.event.state === 'landed'));
      const states = ws.notes(id).map((note) => note.event.state);
      assert.deepEqual(states, ['received', 'simulated', 'pending', 'proposed', 'committed', 'published', 'landed']);
      assert.ok(ws.notes(id).every((note) => note.bundleHash === bundleHash));
      assert.equal((await ws.ask('lockstep_unsubscribe', [id])).result, true);
      ws.close();
    });

    it('tells nobody of the bundles of others', async () => {
      const owner = privateKeyToAccount(generatePrivateKey());
      const { account } = dev.accounts[8];
      const ws = await socket();
      const raw = await sign(account, B, await nonceOf(dev, B, account.address), { to: account.address, gas: 21_000n });
      const bundle = { legs: [{ chainId: hex(B), txs: [raw] }] };
      const { bundleHash } = await call(dev.url, 'lockstep_simulateBundle', [bundle], { signer: owner });
      const { result: id } = await ws.ask('lockstep_subscribe', ['bundles', { bundleHash }]);
      const { result: slots } = await ws.ask('lockstep_subscribe', ['slots']);
      await send(bundle, { signer: owner });
      const landed = await settled(dev, bundleHash, ['landed'], { signer: owner });
      await until('the slot is told', () => ws.notes(slots).some((report) => report.slot >= landed.history.at(-1).slot));
      assert.deepEqual(ws.notes(id), []);
      assert.ok(!JSON.stringify(ws.notes(slots)).includes(bundleHash));
      const all = await ws.ask('lockstep_subscribe', ['bundles']);
      assert.equal(all.error.data.reason, 'missing_field');
      const none = await ws.ask('lockstep_subscribe', ['hats']);
      assert.equal(none.error.data.reason, 'unknown_subscription');
      ws.close();
    });
  });
});
