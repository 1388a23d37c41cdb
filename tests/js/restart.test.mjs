// A killed process, started again with the same folder: what was acknowledged is still known, and to whom it was.

import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { randomUUID } from 'node:crypto';
import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts';
import { A, B, GWEI, USDC, ask, call, hex, nonceOf, settled, sign, signBurn, signCall, start } from './kit.mjs';

/** A folder, and `dev` in it as often as asked for. */
async function folder(use) {
  const data = mkdtempSync(join(tmpdir(), 'lockstep-restart-'));
  const running = [];
  try {
    await use(async () => { const dev = await start(['--data', data]); running.push(dev); return dev; });
  } finally {
    for (const dev of running) await dev.stop();
    rmSync(data, { recursive: true, force: true });
  }
}

describe('kill -9 and again', () => {
  const owner = privateKeyToAccount(generatePrivateKey());
  const signed = { signer: owner };
  const uuid = randomUUID();

  async function bundle(dev, tip, extra) {
    const { account } = dev.accounts[0];
    const raw = await sign(account, A, await nonceOf(dev, A, account.address), { to: account.address, gas: 21_000n, maxPriorityFeePerGas: tip * GWEI });
    return { legs: [{ chainId: hex(A), txs: [raw] }], ...extra };
  }
  const far = { blocks: { [hex(A)]: { min: hex(500) } } };
  const send = async (dev, params, options) => (await call(dev.url, 'lockstep_sendBundle', [params], options)).bundleHash;

  it('keeps what is pending, with its signer and its replacement identity', async () => {
    await folder(async (run) => {
      let dev = await run();
      const hidden = await send(dev, await bundle(dev, 1n, { ...far, replacementUuid: uuid, replacementNonce: 5 }), signed);
      const open = await send(dev, await bundle(dev, 2n, far));
      await dev.stop('SIGKILL');
      dev = await run();
      assert.equal((await call(dev.url, 'lockstep_getSlot', [])).pending, 2);
      assert.ok((await call(dev.url, 'lockstep_getBundle', [open])).state);
      assert.ok((await call(dev.url, 'lockstep_getBundle', [hidden], signed)).state);
      assert.equal((await ask(dev.url, 'lockstep_getBundle', [hidden])).error.code, -32001);
      const low = await ask(dev.url, 'lockstep_sendBundle', [await bundle(dev, 3n, { ...far, replacementUuid: uuid, replacementNonce: 5 })], signed);
      assert.equal(low.error.data.reason, 'replacement_nonce_too_low');
      assert.equal(await call(dev.url, 'lockstep_cancelBundle', [{ replacementUuid: uuid }], signed), true);
      await dev.stop('SIGKILL');
      dev = await run();
      assert.equal((await call(dev.url, 'lockstep_getSlot', [])).pending, 1, 'what was cancelled stays cancelled');
    });
  });

  it('tells the end of a signed bundle to its signer only', async () => {
    await folder(async (run) => {
      let dev = await run();
      const ends = {};
      ends.cancelled = await send(dev, await bundle(dev, 1n, far), signed);
      await call(dev.url, 'lockstep_cancelBundle', [{ bundleHash: ends.cancelled }], signed);
      ends.replaced = await send(dev, await bundle(dev, 2n, { ...far, replacementUuid: uuid, replacementNonce: 1 }), signed);
      await send(dev, await bundle(dev, 3n, { ...far, replacementUuid: uuid, replacementNonce: 2 }), signed);
      ends.landed = await send(dev, await bundle(dev, 4n), signed);
      await settled(dev, ends.landed, ['landed'], signed);
      const head = Number(await call(dev.rollups.get(A).url, 'eth_blockNumber', []));
      ends.expired = await send(dev, await bundle(dev, 5n, { blocks: { [hex(A)]: { max: hex(head + 2) } }, minTimestamp: 4_000_000_000 }), signed);
      await settled(dev, ends.expired, ['expired', 'dropped'], signed);
      await dev.stop('SIGKILL');
      dev = await run();
      const seen = {};
      for (const [end, hash] of Object.entries(ends)) {
        assert.equal((await call(dev.url, 'lockstep_getBundle', [hash], signed)).state, end);
        seen[end] = (await ask(dev.url, 'lockstep_getBundle', [hash])).result?.state;
      }
      assert.deepEqual(Object.values(seen), [undefined, undefined, undefined, undefined], JSON.stringify(seen));
    });
  });

  it('does not take a used replacement nonce again after a cancellation', async () => {
    await folder(async (run) => {
      const dev = await run();
      await send(dev, await bundle(dev, 1n, { ...far, replacementUuid: uuid, replacementNonce: 7 }), signed);
      await call(dev.url, 'lockstep_cancelBundle', [{ replacementUuid: uuid }], signed);
      const late = await ask(dev.url, 'lockstep_sendBundle', [await bundle(dev, 2n, { ...far, replacementUuid: uuid, replacementNonce: 6 })], signed);
      assert.equal(late.error?.data.reason, 'replacement_nonce_too_low');
    });
  });

  it('decides anew after a restart', async () => {
    await folder(async (run) => {
      for (let round = 0; round < 2; round += 1) {
        const dev = await run();
        const { account } = dev.accounts[1];
        const burn = await signBurn(dev, account, A, await nonceOf(dev, A, account.address), B, USDC);
        const last = await signCall(dev, account, B, await nonceOf(dev, B, account.address), 'Probe', 'increment', [1n]);
        const hash = await send(dev, { legs: [{ chainId: hex(A), txs: [burn] }, { chainId: hex(B), relay: { leg: 0, message: 0 } }, { chainId: hex(B), txs: [last] }] });
        const status = await settled(dev, hash);
        const aborted = status.history.filter((event) => event.reason === 'decision_abort');
        assert.deepEqual(aborted, [], `run ${round}: an attempt was lost to a record of the run before`);
        await dev.stop('SIGKILL');
      }
    });
  });
});
