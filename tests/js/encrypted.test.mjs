// Encrypted transactions as a wallet sends them: encrypted with stock cryptography by docs/RPC.md, opened by the committee.

import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { createCipheriv, createHash, randomBytes } from 'node:crypto';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bls12_381 } from '@noble/curves/bls12-381';
import { Wallet } from 'ethers';
import { bytesToHex, hexToBytes, keccak256, recoverTypedDataAddress } from 'viem';
import { A, ask, binary, call, hex, start, until } from './kit.mjs';

const DST = 'BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_NUL_';
const { ProjectivePoint: G1 } = bls12_381.G1;
const sha3 = (bytes) => createHash('sha3-256').update(bytes).digest();
const concat = (...parts) => new Uint8Array(Buffer.concat(parts));

/** keccak256(tx)[..4] || length || tx || zeros up to a multiple of 256, masked by ChaCha20 under the shared point. */
function encrypt(publicKey, raw) {
  const tx = hexToBytes(raw);
  const plain = new Uint8Array(Math.ceil((8 + tx.length) / 256) * 256);
  plain.set(hexToBytes(keccak256(tx)).slice(0, 4));
  new DataView(plain.buffer).setUint32(4, tx.length);
  plain.set(tx, 8);
  const r = bls12_381.fields.Fr.create(BigInt(`0x${randomBytes(48).toString('hex')}`));
  const u = G1.BASE.multiply(r).toRawBytes(true);
  const shared = G1.fromHex(hexToBytes(publicKey)).multiply(r).toRawBytes(true);
  // Of the stream every fourth byte counts.
  const stream = createCipheriv('chacha20', sha3(shared), Buffer.alloc(16)).update(Buffer.alloc(4 * plain.length));
  const v = plain.map((byte, index) => byte ^ stream[4 * index]);
  const w = bls12_381.G2.hashToCurve(concat(sha3(v), u), { DST }).multiply(r).toRawBytes(true);
  return bytesToHex(concat(u, w, v));
}

describe('a rollup that takes encrypted transactions', () => {
  let dev;
  before(async () => { dev = await start(['--encrypted']); });
  after(async () => { await dev?.stop(); });

  const account = (index) => dev.accounts[index].account;
  const send = (params, signer) => ask(dev.url, 'sequencer_sendEncryptedTransaction', [params], { signer });
  const settled = (ciphertext) => until('the ciphertext has had its slot', async () => {
    const status = await call(dev.url, 'sequencer_getEncryptedTransaction', [hex(A), keccak256(ciphertext)]);
    return ['published', 'lapsed'].includes(status.status) && status;
  });

  it('opens what a wallet encrypted, and names where it is', async () => {
    const { publicKey, gas, needed } = await call(dev.url, 'sequencer_getEncryption', [hex(A)]);
    assert.equal(needed, 2);
    assert.ok(gas >= 21_000);
    const wallet = new Wallet(dev.accounts[2].key);
    const nonce = Number(await call(dev.rollups.get(A).url, 'eth_getTransactionCount', [wallet.address, 'latest']));
    const fees = { maxFeePerGas: 10n ** 11n, maxPriorityFeePerGas: 10n ** 9n };
    const raw = await wallet.signTransaction({ type: 2, chainId: A, nonce, to: wallet.address, value: 1n, gasLimit: 21_000n, ...fees });
    const ciphertext = encrypt(publicKey, raw);
    const { result: receipt, error } = await send({ chainId: hex(A), ciphertext, gas: hex(21_000) }, account(5));
    assert.equal(error, undefined);

    const { outcome, slot, status } = await settled(ciphertext);
    assert.equal(status, 'published');
    assert.equal(outcome.reason, undefined, outcome.text);
    assert.equal(outcome.transactionHash, keccak256(raw));
    const mined = await call(dev.rollups.get(A).url, 'eth_getTransactionReceipt', [outcome.transactionHash]);
    assert.equal(Number(mined.transactionIndex), outcome.index);
    const tail = await call(dev.url, 'sequencer_getEncryptedTail', [hex(A), slot]);
    assert.equal(tail.blockHash, mined.blockHash);

    // Both words of the sequencer are its own, by any EIP-712 library.
    const { terms } = await call(dev.url, 'market_getRollup', [hex(A)]);
    const { sequencer } = terms.at(-1);
    const domain = { name: 'Lockstep', version: '1' };
    const type = (text) => text.split(',').map((field) => { const [type, name] = field.split(' '); return { name, type }; });
    const signers = await Promise.all([
      recoverTypedDataAddress({
        domain,
        primaryType: 'EncryptedReceipt',
        types: { EncryptedReceipt: type('uint64 chainId,bytes32 ciphertext,uint64 gas,uint64 sequence,uint64 receivedMs') },
        message: { ...receipt, chainId: BigInt(A), gas: 21_000n },
        signature: receipt.signature,
      }),
      recoverTypedDataAddress({
        domain,
        primaryType: 'EncryptedOrder',
        types: { EncryptedOrder: type('uint64 chainId,uint64 slot,bytes32 list,bytes32[] ciphertexts') },
        message: { ...tail, chainId: BigInt(A), slot: BigInt(slot) },
        signature: tail.signature,
      }),
    ]);
    assert.deepEqual(signers.map((signer) => signer.toLowerCase()), [sequencer, sequencer]);
  });

  it('names what is wrong with a ciphertext', async () => {
    const { publicKey } = await call(dev.url, 'sequencer_getEncryption', [hex(A)]);
    const ciphertext = encrypt(publicKey, '0x010203');
    const good = { chainId: hex(A), ciphertext, gas: hex(21_000) };
    const reason = async (params, signer = account(5)) => (await send(params, signer)).error?.data.reason;
    assert.equal(await reason(good, null), 'unsigned');
    assert.equal(await reason({ ...good, ciphertext: `${ciphertext.slice(0, -2)}ff` }), 'invalid_ciphertext');
    assert.equal(await reason({ ...good, gas: hex(20_999) }), 'encrypted_gas');
    assert.equal(await reason({ chainId: good.chainId, gas: good.gas }), 'missing_field');
    assert.equal(await reason(good), undefined);
    assert.equal((await settled(ciphertext)).outcome.reason, 'undecodable_transaction');
    assert.equal(await reason(good), 'encrypted_over');
  });
});

describe('the command line', () => {
  const run = (...args) => spawnSync(binary, args, { encoding: 'utf8' });

  it('deals a committee its shares, and encrypts for it', () => {
    const folder = mkdtempSync(join(tmpdir(), 'lockstep-'));
    try {
      const dealt = run('committee', 'deal', '--members', '3', '--needed', '2', '--out', folder);
      assert.equal(dealt.status, 0, dealt.stderr);
      const key = dealt.stdout.trim();
      assert.match(key, /^0x[0-9a-f]{192}$/);
      const shares = [0, 1, 2].map((member) => readFileSync(join(folder, `member-${member}.key`), 'utf8').trim());
      assert.equal(new Set(shares).size, 3);
      assert.equal(statSync(join(folder, 'member-0.key')).mode & 0o777, 0o600);
      // Nothing is written over.
      assert.notEqual(run('committee', 'deal', '--members', '3', '--needed', '2', '--out', folder).status, 0);
      assert.notEqual(run('committee', 'deal', '--members', '1', '--needed', '2', '--out', folder).status, 0);
      const publicKey = key.slice(0, 98);
      const [one, two] = [run('encrypt', '--key', publicKey, '0x01'), run('encrypt', '--key', publicKey, '0x01')];
      assert.match(one.stdout.trim(), /^0x[0-9a-f]{800}$/);
      assert.notEqual(one.stdout, two.stdout, 'no two ciphertexts are the same');
      assert.notEqual(run('encrypt', '--key', '0x01', '0x01').status, 0);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
