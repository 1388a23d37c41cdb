// Every refusal: its JSON-RPC code, its stable reason, its place, and a hint. And the pool as it was.

import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts';
import { keccak256, serializeTransaction, toRlp } from 'viem';
import { A, B, ask, body, call, hex, nonceOf, pending, post, sign, signBurn, signCall, start, until } from './kit.mjs';

const INVALID = -32602;
const NOT_FOUND = -32001;
const REJECTED = -32003;
const LIMIT = -32005;
const UNAUTHORIZED = -32006;

describe('refusals', () => {
  let dev;
  let user;
  let nonceA;
  let nonceB;
  const url = (id) => dev.rollups.get(id).url;
  const nobody = privateKeyToAccount(generatePrivateKey());

  before(async () => {
    dev = await start();
    user = dev.accounts[0].account;
    nonceA = await nonceOf(dev, A, user.address);
    nonceB = await nonceOf(dev, B, user.address);
    await until('block 1', async () => Number(await call(url(A), 'eth_blockNumber', [])) > 0);
  });
  after(async () => { await dev?.stop(); });

  const onA = (offset = 0, fields) => sign(user, A, nonceA + offset, { to: user.address, gas: 21_000n, ...fields });
  const onB = (offset = 0, fields) => sign(user, B, nonceB + offset, { to: user.address, gas: 21_000n, ...fields });
  const leg = (chain, ...txs) => ({ chainId: hex(chain), txs });
  const relay = (chain, from, message = 0) => ({ chainId: hex(chain), relay: { leg: from, message } });
  const one = async (extra = {}) => ({ legs: [leg(A, await onA())], ...extra });

  /** Asserts a refusal and that the pool is as it was. `place` holds rollup, leg and index; what it lacks is absent. */
  function refuses(name, expected, make, options = {}) {
    it(name, { todo: options.todo }, async () => {
      const size = await pending(dev);
      const { to = '', method = 'lockstep_sendBundle', params, signer } = await make();
      const target = to === '' ? dev.url : to;
      const answer = await ask(target, method, params, { signer });
      assert.ok(answer.error, `accepted: ${JSON.stringify(answer).slice(0, 300)}`);
      const { code, data, message } = answer.error;
      assert.equal(code, expected.code, message);
      assert.equal(data?.reason, expected.reason, JSON.stringify(answer.error));
      const place = { rollup: data.rollup, leg: data.leg, index: data.index };
      const { rollup, leg: at, index } = expected;
      assert.deepEqual(place, { rollup: rollup && hex(rollup), leg: at, index }, message);
      assert.ok(data.hint?.length > 10, 'a hint');
      if (expected.says) assert.match(message, expected.says);
      assert.equal(await pending(dev), size, 'the pool is as it was');
    });
  }
  const bundle = (make) => async () => ({ params: [await make()] });
  const dialect = (make, method = 'eth_sendBundle') => async () => ({ to: url(A), method, params: [await make()] });

  describe('shape', () => {
    refuses('unknown field', { code: INVALID, reason: 'unknown_field', says: /hats/ }, bundle(() => one({ hats: 1 })));
    refuses('unknown field of a leg', { code: INVALID, reason: 'unknown_field', says: /transactions/ }, bundle(async () =>
      ({ legs: [{ chainId: hex(A), transactions: [await onA()] }] })));
    refuses('unknown field of a range', { code: INVALID, reason: 'unknown_field', says: /from/ }, bundle(() => one({ blocks: { [hex(A)]: { from: '0x1' } } })));
    refuses('missing legs', { code: INVALID, reason: 'missing_field', says: /legs/ }, bundle(() => ({})));
    refuses('missing chainId', { code: INVALID, reason: 'missing_field', says: /chainId/ }, bundle(async () => ({ legs: [{ txs: [await onA()] }] })));
    refuses('missing message of a relay', { code: INVALID, reason: 'missing_field', says: /message/ }, bundle(async () =>
      ({ legs: [leg(A, await onA()), { chainId: hex(B), relay: { leg: 0 } }] })));
    refuses('not an object', { code: INVALID, reason: 'invalid_params' }, bundle(() => 'bundle'));
    refuses('null', { code: INVALID, reason: 'invalid_params' }, bundle(() => null));
    refuses('legs of another type', { code: INVALID, reason: 'invalid_params' }, bundle(() => ({ legs: 7 })));
    refuses('null legs', { code: INVALID, reason: 'invalid_params' }, bundle(() => ({ legs: null })));
    refuses('transactions that are no hex', { code: INVALID, reason: 'invalid_params' }, bundle(() => ({ legs: [leg(A, 'transaction')] })));
    refuses('a chain id beyond 64 bits', { code: INVALID, reason: 'invalid_params' }, bundle(async () =>
      ({ legs: [{ chainId: `0x1${'0'.repeat(16)}`, txs: [await onA()] }] })));
    refuses('a negative timestamp', { code: INVALID, reason: 'invalid_params' }, bundle(() => one({ maxTimestamp: -1 })));
    refuses('a timestamp beyond 64 bits', { code: INVALID, reason: 'invalid_params' }, bundle(() => one({ maxTimestamp: 2 ** 64 })));
    refuses('a fractional nonce', { code: INVALID, reason: 'invalid_params' }, bundle(() => one({ replacementUuid: randomUUID(), replacementNonce: 1.5 })));
    refuses('no parameter', { code: INVALID, reason: 'invalid_params' }, async () => ({ params: [] }));
    refuses('two parameters', { code: INVALID, reason: 'too_many_parameters' }, async () => ({ params: [await one(), {}] }));
    refuses('a hash that is none', { code: INVALID, reason: 'invalid_params' }, async () => ({ method: 'lockstep_getBundle', params: ['0x12'] }));
    refuses('cancel by nothing', { code: INVALID, reason: 'invalid_params' }, async () => ({ method: 'lockstep_cancelBundle', params: [{}], signer: nobody }));
    refuses('cancel by both', { code: INVALID, reason: 'invalid_params' }, async () => ({
      method: 'lockstep_cancelBundle', params: [{ bundleHash: `0x${'11'.repeat(32)}`, replacementUuid: randomUUID() }], signer: nobody,
    }));
  });

  describe('transactions', () => {
    const at = { rollup: A, leg: 0, index: 0 };
    refuses('undecodable', { code: INVALID, reason: 'undecodable_transaction', ...at }, bundle(() => ({ legs: [leg(A, '0x02deadbeef')] })));
    refuses('empty bytes', { code: INVALID, reason: 'undecodable_transaction', ...at }, bundle(() => ({ legs: [leg(A, '0x')] })));
    refuses('trailing bytes', { code: INVALID, reason: 'undecodable_transaction', ...at }, bundle(async () => ({ legs: [leg(A, `${await onA()}00`)] })));
    refuses('unknown type', { code: INVALID, reason: 'undecodable_transaction', ...at }, bundle(() => ({ legs: [leg(A, '0x05c0')] })));
    refuses('unsigned', { code: INVALID, reason: 'undecodable_transaction', ...at }, bundle(() =>
      ({ legs: [leg(A, serializeTransaction({ type: 'eip1559', chainId: A, nonce: nonceA, gas: 21_000n, to: user.address }))] })));
    refuses('signature out of range', { code: INVALID, reason: 'invalid_signature', ...at }, bundle(() => ({
      legs: [leg(A, serializeTransaction({ type: 'eip1559', chainId: A, nonce: nonceA, gas: 21_000n, to: user.address },
        { r: `0x${'ff'.repeat(32)}`, s: '0x01', yParity: 0 }))],
    })));
    refuses('high s', { code: INVALID, reason: 'invalid_signature', ...at }, bundle(() => ({
      legs: [leg(A, serializeTransaction({ type: 'eip1559', chainId: A, nonce: nonceA, gas: 21_000n, to: user.address },
        { r: `0x${'11'.repeat(32)}`, s: `0x${'f'.repeat(31)}0${'0'.repeat(32)}`, yParity: 0 }))],
    })));
    refuses('blob', { code: INVALID, reason: 'blob_transaction', ...at }, bundle(async () => ({
      legs: [leg(A, await user.signTransaction({
        type: 'eip4844', chainId: A, nonce: nonceA, gas: 21_000n, maxFeePerGas: 10n ** 10n, maxPriorityFeePerGas: 1n, maxFeePerBlobGas: 1n,
        to: user.address, blobVersionedHashes: [`0x01${'22'.repeat(31)}`], sidecars: false,
      }))],
    })));
    refuses('deposit', { code: INVALID, reason: 'deposit_transaction', rollup: B, leg: 0, index: 0 }, bundle(() => ({
      legs: [leg(B, `0x7e${toRlp([`0x${'11'.repeat(32)}`, user.address, user.address, '0x', '0x', '0x5208', '0x', '0x']).slice(2)}`)],
    })));
    refuses('signed for another chain', { code: INVALID, reason: 'wrong_chain_id', rollup: B, leg: 1, index: 0, says: /31101/ }, bundle(async () =>
      ({ legs: [leg(B, await onB()), leg(B, await onA())] })));
    refuses('signed for no chain', { code: INVALID, reason: 'unprotected_transaction', ...at }, bundle(async () =>
      ({ legs: [leg(A, await user.signTransaction({ type: 'legacy', nonce: nonceA, gas: 21_000n, gasPrice: 10n ** 10n, to: user.address }))] })));
    refuses('the same transaction twice', { code: INVALID, reason: 'duplicate_transaction', rollup: A, leg: 1, index: 1 }, bundle(async () => {
      const raw = await onA();
      return { legs: [leg(A, raw), leg(A, await onA(1), raw)] };
    }));
    refuses('more gas than a transaction may use', { code: INVALID, reason: 'gas_limit_too_high', ...at }, bundle(async () => ({ legs: [leg(A, await onA(0, { gas: 2n ** 24n + 1n }))] })));
    refuses('nonce too low', { code: REJECTED, reason: 'nonce_too_low', ...at }, bundle(async () => ({ legs: [leg(A, await onA(-1))] })));
    refuses('nonce too high', { code: REJECTED, reason: 'nonce_too_high', rollup: A, leg: 0, index: 1 }, bundle(async () => ({ legs: [leg(A, await onA(), await onA(2))] })));
    refuses('the greatest nonce', { code: REJECTED, reason: 'nonce_too_high', ...at }, bundle(async () =>
      ({ legs: [leg(A, await sign(user, A, 0, { nonce: Number.MAX_SAFE_INTEGER, to: user.address, gas: 21_000n }))] })));
    refuses('no balance', { code: REJECTED, reason: 'insufficient_funds', ...at }, bundle(async () => ({ legs: [leg(A, await sign(nobody, A, 0, { to: user.address, gas: 21_000n }))] })));
    refuses('a value beyond any balance', { code: REJECTED, reason: 'insufficient_funds', ...at }, bundle(async () => ({ legs: [leg(A, await onA(0, { value: 2n ** 256n - 1n }))] })));
    refuses('both modes', { code: INVALID, reason: 'conflicting_modes', rollup: A, leg: 0 }, bundle(async () => {
      const raw = await onA();
      return { legs: [{ ...leg(A, raw), revertingTxHashes: [keccak256(raw)], droppingTxHashes: [keccak256(raw)] }] };
    }));
    refuses('a mode for a stranger', { code: INVALID, reason: 'unknown_tx_hash', rollup: A, leg: 0 }, bundle(async () =>
      ({ legs: [{ ...leg(A, await onA()), revertingTxHashes: [`0x${'11'.repeat(32)}`] }] })));
  });

  describe('legs and relays', () => {
    const burn = () => signBurn(dev, user, A, nonceA, B, 1n);
    refuses('no legs', { code: INVALID, reason: 'empty_bundle' }, bundle(() => ({ legs: [] })));
    refuses('a leg without transactions', { code: INVALID, reason: 'empty_leg', rollup: B, leg: 1 }, bundle(async () => ({ legs: [leg(A, await onA()), leg(B)] })));
    refuses('a leg that is nothing', { code: INVALID, reason: 'empty_leg', rollup: A, leg: 0 }, bundle(() => ({ legs: [{ chainId: hex(A) }] })));
    refuses('a leg that is both', { code: INVALID, reason: 'ambiguous_leg', rollup: B, leg: 1 }, bundle(async () =>
      ({ legs: [leg(A, await burn()), { ...leg(B, await onB()), relay: { leg: 0, message: 0 } }] })));
    refuses('only a relay', { code: INVALID, reason: 'empty_leg', rollup: A, leg: 0 }, bundle(() => ({ legs: [leg(A), relay(B, 0)] })));
    refuses('unknown rollup', { code: INVALID, reason: 'unknown_rollup', rollup: 1, leg: 0 }, bundle(async () => ({ legs: [leg(1, await onA())] })));
    refuses('relay to a later leg', { code: INVALID, reason: 'relay_to_later_leg', rollup: B, leg: 0 }, bundle(async () => ({ legs: [relay(B, 1), leg(A, await burn())] })));
    refuses('relay to a leg that is not there', { code: INVALID, reason: 'relay_to_later_leg', rollup: B, leg: 1 }, bundle(async () => ({ legs: [leg(A, await burn()), relay(B, 9)] })));
    refuses('relay that waits for itself', { code: INVALID, reason: 'relay_cycle', rollup: B, leg: 1 }, bundle(async () => ({ legs: [leg(A, await burn()), relay(B, 1)] })));
    refuses('relay on the same rollup', { code: INVALID, reason: 'relay_same_rollup', rollup: A, leg: 1 }, bundle(async () => ({ legs: [leg(A, await burn()), relay(A, 0)] })));
    refuses('relay twice', { code: INVALID, reason: 'relay_twice', rollup: B, leg: 2 }, bundle(async () => ({ legs: [leg(A, await burn()), relay(B, 0), relay(B, 0)] })));
    refuses('modes on a relay', { code: INVALID, reason: 'unknown_tx_hash', rollup: B, leg: 1 }, bundle(async () =>
      ({ legs: [leg(A, await burn()), { ...relay(B, 0), droppingTxHashes: [`0x${'11'.repeat(32)}`] }] })));
  });

  describe('bounds', () => {
    refuses('a block that has passed', { code: REJECTED, reason: 'past_block', rollup: A }, bundle(() => one({ blocks: { [hex(A)]: { max: '0x0' } } })));
    refuses('an empty range', { code: INVALID, reason: 'empty_range', rollup: A }, bundle(() => one({ blocks: { [hex(A)]: { min: '0x20', max: '0x10' } } })));
    refuses('an empty range of timestamps', { code: INVALID, reason: 'empty_range' }, bundle(() => one({ minTimestamp: 4e9, maxTimestamp: 3e9 })));
    refuses('a timestamp that has passed', { code: REJECTED, reason: 'past_timestamp' }, bundle(() => one({ maxTimestamp: 1 })));
    refuses('bounds for another rollup', { code: INVALID, reason: 'bounds_for_unused_rollup', rollup: B }, bundle(() => one({ blocks: { [hex(B)]: { min: '0x1' } } })));
    refuses('a requirement on another rollup', { code: INVALID, reason: 'bounds_for_unused_rollup', rollup: B }, bundle(() =>
      one({ require: [{ chainId: hex(B), account: user.address, asset: 'native', minIncrease: '0x1' }] })));
    refuses('an asset that is none', { code: INVALID, reason: 'invalid_asset', rollup: A }, bundle(() =>
      one({ require: [{ chainId: hex(A), account: user.address, asset: 'dollars', minIncrease: '0x1' }] })));
    refuses('too far ahead', { code: INVALID, reason: 'too_far_ahead', rollup: A }, bundle(() => one({ blocks: { [hex(A)]: { min: '0xffffffffffffffff' } } })));
    refuses('too many legs', { code: LIMIT, reason: 'too_many_legs' }, bundle(async () => {
      const txs = await Promise.all(Array.from({ length: 17 }, (_, index) => onA(index)));
      return { legs: txs.map((raw) => leg(A, raw)) };
    }));
    refuses('too many transactions', { code: LIMIT, reason: 'too_many_transactions' }, bundle(async () =>
      ({ legs: [leg(A, ...await Promise.all(Array.from({ length: 101 }, (_, index) => onA(index))))] })));
    refuses('too many bytes', { code: LIMIT, reason: 'too_large' }, bundle(async () =>
      ({ legs: [leg(A, ...await Promise.all([0, 1].map((index) => onA(index, { gas: 10_000_000n, data: `0x${'00'.repeat(150_000)}` }))))] })));
    refuses('too many requirements', { code: LIMIT, reason: 'too_many_requirements' }, bundle(() =>
      one({ require: Array.from({ length: 17 }, () => ({ chainId: hex(A), account: user.address, asset: 'native', minIncrease: '0x0' })) })));
  });

  describe('replacement', () => {
    refuses('without a signer', { code: UNAUTHORIZED, reason: 'replacement_needs_signer' }, bundle(() => one({ replacementUuid: randomUUID(), replacementNonce: 1 })));
    refuses('a uuid that is none', { code: INVALID, reason: 'invalid_replacement' }, async () => ({ params: [await one({ replacementUuid: 'mine', replacementNonce: 1 })], signer: nobody }));
    refuses('a uuid without a nonce', { code: INVALID, reason: 'invalid_replacement' }, async () => ({ params: [await one({ replacementUuid: randomUUID() })], signer: nobody }));
    refuses('a nonce without a uuid', { code: INVALID, reason: 'invalid_replacement' }, async () => ({ params: [await one({ replacementNonce: 1 })], signer: nobody }));
    refuses('cancel without a signer', { code: UNAUTHORIZED, reason: 'replacement_needs_signer', rollup: A }, dialect(() => ({ replacementUuid: randomUUID() }), 'eth_cancelBundle'));
  });

  describe('the dialect', () => {
    const fields = {
      refundPercent: 10, refundRecipient: nobody.address, refundTxHashes: [], refundIndex: 0, delayedRefund: true, refundIdentity: nobody.address,
      signingAddress: nobody.address, version: 'v2', bundleHash: `0x${'11'.repeat(32)}`, builders: ['other'], minFlashblockNumber: '0x1', maxFlashblockNumber: '0x1',
    };
    for (const [field, value] of Object.entries(fields)) {
      refuses(`${field} is not supported`, { code: INVALID, reason: 'unsupported_field', says: new RegExp(field) }, dialect(async () => ({ txs: [await onA()], [field]: value })));
    }
    refuses('preferences of a private transaction', { code: INVALID, reason: 'unsupported_field', says: /preferences/ }, dialect(async () => ({ tx: await onA(), preferences: {} }), 'eth_sendPrivateTransaction'));
    refuses('timestamp of eth_callBundle', { code: INVALID, reason: 'unsupported_field', says: /timestamp/ }, dialect(async () => ({ txs: [await onA()], timestamp: 1 }), 'eth_callBundle'));
    refuses('a far block of eth_callBundle', { code: INVALID, reason: 'unsupported_field', says: /blockNumber/ }, dialect(async () => ({ txs: [await onA()], blockNumber: '0xffff' }), 'eth_callBundle'));
    refuses('an old state of eth_callBundle', { code: INVALID, reason: 'unsupported_field', says: /stateBlockNumber/ }, dialect(async () => ({ txs: [await onA()], stateBlockNumber: '0xffff' }), 'eth_callBundle'));
    refuses('unknown field', { code: INVALID, reason: 'unknown_field', says: /coinbase/ }, dialect(async () => ({ txs: [await onA()], coinbase: nobody.address })));
    refuses('no transactions', { code: INVALID, reason: 'empty_leg', rollup: A, leg: 0 }, dialect(() => ({ txs: [] })));
    refuses('null for transactions', { code: INVALID, reason: 'empty_leg', rollup: A, leg: 0 }, dialect(() => ({ txs: null })));
    refuses('a block that has passed', { code: REJECTED, reason: 'past_block', rollup: A }, dialect(async () => ({ txs: [await onA()], maxBlockNumber: '0x1' })));
    refuses('two parameters', { code: INVALID, reason: 'too_many_parameters' }, async () => ({ to: url(A), method: 'eth_sendBundle', params: [{ txs: [await onA()] }, {}] }));
    refuses('an undecodable transaction', { code: INVALID, reason: 'undecodable_transaction', rollup: A, leg: 0, index: 0 }, async () => ({ to: url(A), method: 'eth_sendRawTransaction', params: ['0x02'] }));
    refuses('another rollup\'s transaction', { code: INVALID, reason: 'wrong_chain_id', rollup: A, leg: 0, index: 0 }, async () => ({ to: url(A), method: 'eth_sendRawTransaction', params: [await onB()] }));
    refuses('a relay in the dialect', { code: INVALID, reason: 'unknown_field', says: /legs/ }, dialect(() => ({ legs: [] })));
  });

  describe('transport', () => {
    it('not JSON', async () => {
      for (const text of ['', '{', 'hello', '\u0000']) {
        const { json } = await post(dev.url, text);
        assert.equal(json?.error?.code, -32700, JSON.stringify(text));
      }
    });
    it('not JSON-RPC', async () => {
      for (const text of ['[]', '1', 'null', '{}', '{"jsonrpc":"1.0","id":1,"method":"lockstep_getSlot"}']) {
        const { json, status } = await post(dev.url, text);
        assert.ok([-32600, -32700].includes(json?.error?.code), `${text}: HTTP ${status} ${JSON.stringify(json)}`);
      }
    });
    it('unknown method', async () => {
      for (const [target, method] of [[dev.url, 'eth_sendBundle'], [dev.url, 'lockstep_hats'], [url(A), 'lockstep_sendBundle'], [url(A), 'debug_traceTransaction']]) {
        assert.equal((await ask(target, method, [])).error.code, -32601, method);
      }
    });
    it('a path that is not served', async () => {
      for (const path of ['/rollup/1', '/rollup/', '/rollup/x', '/rollup/99999999999999999999999', '/eth', '/rollup/31101/x', '/rollup']) {
        const { status, json } = await post(dev.url + path, body('eth_chainId', []));
        assert.equal(status, 404, path);
        assert.equal(json.error.code, NOT_FOUND);
        assert.equal(json.error.data.reason, 'unknown_rollup');
        assert.match(json.error.data.hint, /\/rollup\/31101/);
      }
      for (const path of ['/rollup/31101', '/rollup/31101/', '/rollup/0x797d']) {
        assert.equal((await post(dev.url + path, body('eth_chainId', []))).json.result, hex(A), path);
      }
    });
    it('other HTTP methods and pages', async () => {
      for (const [method, path, status] of [['GET', '/', 404], ['GET', '/nothing', 404], ['PUT', '/', 405], ['DELETE', '/rollup/31101', 405], ['PATCH', '/', 405], ['OPTIONS', '/', 204]]) {
        const response = await fetch(dev.url + path, { method });
        assert.equal(response.status, status, `${method} ${path}`);
        await response.arrayBuffer();
      }
      for (const path of ['/livez', '/readyz', '/metrics']) assert.equal((await fetch(dev.url + path)).status, 200, path);
    });
    it('HEAD of a health page', async () => {
      assert.equal((await fetch(`${dev.url}/livez`, { method: 'HEAD' })).status, 200);
    });
    it('a batch that is too large', async () => {
      const size = await pending(dev);
      const batch = (count) => `[${Array.from({ length: count }, () => body('lockstep_getSlot', [])).join(',')}]`;
      assert.equal((await post(dev.url, batch(100))).json.length, 100);
      const { json } = await post(dev.url, batch(101));
      assert.ok(json.error.code < 0, JSON.stringify(json));
      assert.match(json.error.message, /batch/i);
      assert.equal(await pending(dev), size);
    });
    it('a request that is too large', async () => {
      const { status, json } = await post(dev.url, body('lockstep_sendBundle', ['x'.repeat(2 * 1024 * 1024)]));
      assert.equal(status, 413);
      assert.equal(json.error.code, LIMIT);
      assert.equal(json.error.data.reason, 'too_large');
      assert.ok(json.error.data.hint);
    });
    it('another content type', async () => {
      const { status } = await post(dev.url, body('lockstep_getSlot', []), { 'content-type': 'text/plain' });
      assert.ok([200, 415].includes(status), `HTTP ${status}`);
    });
    it('stays whole after all this', async () => {
      const ready = await (await fetch(`${dev.url}/readyz`)).json();
      assert.equal(ready.state, 'ok');
      assert.doesNotMatch(dev.log(), /panicked/);
      const raw = await signCall(dev, user, A, nonceA, 'Probe', 'increment', [1n]);
      assert.equal((await call(dev.url, 'lockstep_simulateBundle', [{ legs: [leg(A, raw)] }])).success, true);
    });
  });

  describe('numbers at the edge of their type', () => {
    refuses('a slot that is too far', { code: NOT_FOUND, reason: 'not_found' }, async () => ({ method: 'lockstep_getSlot', params: [Number.MAX_SAFE_INTEGER] }));
    it('the greatest slot', async () => {
      const { status, json } = await post(dev.url, '{"jsonrpc":"2.0","id":1,"method":"lockstep_getSlot","params":[18446744073709551615]}');
      assert.equal(status, 200);
      assert.ok(json.result || json.error);
      assert.doesNotMatch(dev.log(), /panicked/);
    });
  });
});
