// Stock clients, unmodified, against every kind of rollup.

import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { createPublicClient, createWalletClient, decodeEventLog, http, parseEther, webSocket } from 'viem';
import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts';
import { Contract, ContractFactory, JsonRpcProvider, Wallet, WebSocketProvider, isCallException, parseEther as ether } from 'ethers';
import { A, B, PATIENCE_MS, abi, artifact, chainOf, publicClient, start, until, walletClient } from './kit.mjs';

const probe = artifact('Probe');
const stranger = () => privateKeyToAccount(generatePrivateKey()).address;
/** What comes of a promise, or a failure after a bound. */
const within = (promise, what) => {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`${what}: not within ${PATIENCE_MS} ms`)), PATIENCE_MS); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
};

describe('clients', () => {
  let dev;
  before(async () => { dev = await start(); });
  after(async () => { await dev?.stop(); });

  for (const id of [A, B]) {
    describe(`viem on ${id}`, () => {
      let client;
      let wallet;
      let account;
      let contract;
      let deployed;
      before(() => {
        account = dev.accounts[id - A].account;
        client = publicClient(dev, id);
        wallet = walletClient(dev, id, account);
      });

      it('reads the chain', async () => {
        assert.equal(await client.getChainId(), id);
        assert.ok((await client.getBalance({ address: account.address })) > parseEther('9000'));
        assert.equal(await client.getBalance({ address: stranger() }), 0n);
        assert.ok((await client.getTransactionCount({ address: account.address })) > 0);
        const block = await client.getBlock();
        assert.equal(block.hash, (await client.getBlock({ blockHash: block.hash })).hash);
        for (const blockTag of ['earliest', 'safe', 'finalized', 'pending']) assert.ok(await client.getBlock({ blockTag }), blockTag);
        assert.equal((await client.getBlock({ blockNumber: 0n, includeTransactions: true })).number, 0n);
        await assert.rejects(client.getBlock({ blockNumber: 10n ** 9n }), { name: 'BlockNotFoundError' });
      });

      it('knows the fees', async () => {
        const history = await client.getFeeHistory({ blockCount: 4, rewardPercentiles: [10, 50, 90] });
        assert.equal(history.baseFeePerGas.length, history.gasUsedRatio.length + 1);
        assert.ok(history.reward.every((row) => row.length === 3));
        assert.ok((await client.getGasPrice()) > 0n);
        const fees = await client.estimateFeesPerGas();
        assert.ok(fees.maxFeePerGas >= fees.maxPriorityFeePerGas);
      });

      it('sends and waits', async () => {
        const to = stranger();
        assert.equal(await client.estimateGas({ account, to, value: 1n }), 21_000n);
        const hash = await wallet.sendTransaction({ to, value: 12_345n });
        const receipt = await client.waitForTransactionReceipt({ hash, timeout: PATIENCE_MS });
        assert.equal(receipt.status, 'success');
        assert.equal(receipt.gasUsed, 21_000n);
        assert.equal(receipt.from, account.address.toLowerCase());
        assert.equal(await client.getBalance({ address: to }), 12_345n);
        const tx = await client.getTransaction({ hash });
        assert.equal(tx.value, 12_345n);
        assert.equal(tx.blockHash, receipt.blockHash);
        assert.equal(tx.transactionIndex, receipt.transactionIndex);
        const block = await client.getBlock({ blockHash: receipt.blockHash, includeTransactions: true });
        assert.equal(block.transactions[receipt.transactionIndex].hash, hash);
      });

      it('sends several at once', async () => {
        const to = stranger();
        const nonce = await client.getTransactionCount({ address: account.address, blockTag: 'pending' });
        const hashes = [];
        for (let index = 0; index < 5; index += 1) hashes.push(await wallet.sendTransaction({ to, value: 1n, nonce: nonce + index }));
        assert.equal(await client.getTransactionCount({ address: account.address, blockTag: 'pending' }), nonce + 5);
        for (const hash of hashes) assert.equal((await client.waitForTransactionReceipt({ hash, timeout: PATIENCE_MS })).status, 'success');
        assert.equal(await client.getBalance({ address: to }), 5n);
      });

      it('takes legacy and access-list transactions', async () => {
        for (const fields of [{ type: 'legacy' }, { type: 'eip2930', accessList: [{ address: dev.contracts.Probe, storageKeys: [] }] }]) {
          const hash = await wallet.sendTransaction({ to: stranger(), value: 1n, gasPrice: 10n ** 10n, ...fields });
          const receipt = await client.waitForTransactionReceipt({ hash, timeout: PATIENCE_MS });
          assert.equal(receipt.type, fields.type);
          assert.equal((await client.getTransaction({ hash })).type, fields.type);
        }
      });

      it('deploys, writes, reads and finds logs', async () => {
        const hash = await wallet.deployContract({ abi: probe.abi, bytecode: probe.bytecode });
        deployed = await client.waitForTransactionReceipt({ hash, timeout: PATIENCE_MS });
        contract = { address: deployed.contractAddress, abi: probe.abi };
        assert.equal(await client.getCode({ address: contract.address }), probe.deployedBytecode);
        assert.equal(await client.getCode({ address: stranger() }), undefined);
        const stored = await wallet.writeContract({ ...contract, functionName: 'store', args: [1n, 77n] });
        await client.waitForTransactionReceipt({ hash: stored, timeout: PATIENCE_MS });
        assert.equal(await client.readContract({ ...contract, functionName: 'load', args: [1n] }), 77n);
        const { keccak256, encodeAbiParameters } = await import('viem');
        const slot = keccak256(encodeAbiParameters([{ type: 'uint256' }, { type: 'uint256' }], [1n, 0n]));
        assert.equal(BigInt(await client.getStorageAt({ address: contract.address, slot })), 77n);
        assert.equal(BigInt(await client.getStorageAt({ address: contract.address, slot: '0x5' })), 0n);

        const emitted = await wallet.writeContract({ ...contract, functionName: 'emitValue', args: [1n] });
        const receipt = await client.waitForTransactionReceipt({ hash: emitted, timeout: PATIENCE_MS });
        assert.deepEqual(decodeEventLog({ abi: probe.abi, ...receipt.logs[0] }).args, { key: 1n, value: 77n });
        const logs = await client.getContractEvents({ ...contract, eventName: 'Value', args: { key: 1n }, fromBlock: deployed.blockNumber });
        assert.equal(logs.length, 1);
        assert.equal(logs[0].transactionHash, emitted);
        assert.equal(logs[0].blockHash, receipt.blockHash);
        assert.equal(logs[0].args.value, 77n);
        assert.deepEqual(await client.getContractEvents({ ...contract, eventName: 'Value', args: { key: 2n }, fromBlock: deployed.blockNumber }), []);
        assert.equal((await client.getLogs({ blockHash: receipt.blockHash, address: contract.address })).length, 1);
      });

      it('decodes reverts', async () => {
        await assert.rejects(client.simulateContract({ ...contract, functionName: 'fail', args: ['as told'], account }),
          (error) => { assert.match(error.shortMessage, /as told/); return true; });
        await assert.rejects(client.estimateContractGas({ ...contract, functionName: 'fail', args: ['as told'], account }), /as told/);
        const hash = await wallet.writeContract({ ...contract, functionName: 'fail', args: ['paid for'], gas: 100_000n });
        const receipt = await client.waitForTransactionReceipt({ hash, timeout: PATIENCE_MS });
        assert.equal(receipt.status, 'reverted', 'a public transaction that reverts is included and pays');
      });

      it('overrides state in a call', async () => {
        const { data } = await client.call({
          to: stranger(), data: '0x', stateOverride: [],
        });
        assert.equal(data, undefined);
        const rich = stranger();
        const gas = await client.estimateGas({ account: rich, to: stranger(), value: 10n ** 24n, stateOverride: [{ address: rich, balance: 10n ** 25n }] });
        assert.equal(gas, 21_000n);
      });

      it('watches blocks and events over a WebSocket', async () => {
        const live = createPublicClient({ chain: chainOf(dev, id), transport: webSocket(undefined, { retryCount: 0, reconnect: false }) });
        try {
          const numbers = [];
          let unwatch;
          await within(new Promise((resolve, reject) => {
            unwatch = live.watchBlocks({ emitMissed: true, onBlock: (block) => { numbers.push(block.number); if (numbers.length === 3) resolve(); }, onError: reject });
          }), 'three blocks');
          unwatch();
          assert.deepEqual(numbers, [numbers[0], numbers[0] + 1n, numbers[0] + 2n]);
          let seen;
          const event = new Promise((resolve, reject) => {
            seen = live.watchContractEvent({ ...contract, eventName: 'Value', onLogs: ([log]) => resolve(log), onError: reject });
          });
          // The subscription stands once a later request on the same socket is answered.
          await live.getBlockNumber();
          const hash = await wallet.writeContract({ ...contract, functionName: 'emitValue', args: [1n] });
          const log = await within(event, 'the event');
          seen();
          assert.equal(log.transactionHash, hash);
          assert.equal(log.args.value, 77n);
        } finally {
          (await live.transport.getRpcClient()).close();
        }
      });

      it('sends over a WebSocket as well', async () => {
        const transport = webSocket(dev.rollups.get(id).url.replace('http', 'ws'), { retryCount: 0, reconnect: false });
        const live = createWalletClient({ account, chain: chainOf(dev, id), transport });
        try {
          const hash = await live.sendTransaction({ to: stranger(), value: 1n });
          assert.equal((await client.waitForTransactionReceipt({ hash, timeout: PATIENCE_MS })).status, 'success');
        } finally {
          (await live.transport.getRpcClient()).close();
        }
      });

      it('takes batches', async () => {
        const batching = createPublicClient({ chain: chainOf(dev, id), transport: http(undefined, { batch: true, retryCount: 0 }) });
        const answers = await Promise.all(dev.accounts.map(({ address }) => batching.getBalance({ address })));
        assert.equal(answers.length, dev.accounts.length);
      });
    });

    describe(`ethers on ${id}`, () => {
      let provider;
      let wallet;
      let contract;
      before(() => {
        provider = new JsonRpcProvider(dev.rollups.get(id).url, undefined, { polling: true, pollingInterval: 200, cacheTimeout: -1 });
        wallet = new Wallet(dev.accounts[2 + id - A].key, provider);
      });
      after(() => provider?.destroy());

      it('reads the chain', async () => {
        assert.equal((await provider.getNetwork()).chainId, BigInt(id));
        assert.ok((await provider.getBalance(wallet.address)) > ether('9000'));
        const block = await provider.getBlock('latest', true);
        assert.equal((await provider.getBlock(block.hash)).number, block.number);
        assert.equal(await provider.getBlock(10 ** 9), null);
        const fees = await provider.getFeeData();
        assert.ok(fees.maxFeePerGas > 0n && fees.gasPrice > 0n);
        assert.equal(await provider.getCode(stranger()), '0x');
        assert.equal(await provider.estimateGas({ from: wallet.address, to: stranger(), value: 1n }), 21_000n);
      });

      it('sends and waits', async () => {
        const to = stranger();
        const response = await wallet.sendTransaction({ to, value: 99n });
        const receipt = await response.wait(1, PATIENCE_MS);
        assert.equal(receipt.status, 1);
        assert.equal(await provider.getBalance(to), 99n);
        const found = await provider.getTransaction(response.hash);
        assert.equal(found.blockNumber, receipt.blockNumber);
        assert.equal(found.index, receipt.index);
      });

      it('deploys, writes, reads and queries events', async () => {
        const factory = new ContractFactory(probe.abi, probe.bytecode, wallet);
        contract = await within((await factory.deploy()).waitForDeployment(), 'the deployment');
        await (await contract.store(4n, 44n)).wait(1, PATIENCE_MS);
        assert.equal(await contract.load(4n), 44n);
        const receipt = await (await contract.emitValue(4n)).wait(1, PATIENCE_MS);
        const found = await contract.queryFilter(contract.filters.Value(4n), 0);
        assert.equal(found.length, 1);
        assert.equal(found[0].args.value, 44n);
        assert.equal(found[0].blockHash, receipt.blockHash);
      });

      it('decodes reverts', async () => {
        await assert.rejects(contract.fail('as told'), (error) => isCallException(error) && error.reason === 'as told');
        await assert.rejects(contract.getFunction('failIfZero').staticCall(123n), (error) => isCallException(error) && error.reason === 'Probe: zero value');
        const sent = await wallet.sendTransaction({ to: await contract.getAddress(), data: contract.interface.encodeFunctionData('fail', ['x']), gasLimit: 100_000n });
        await assert.rejects(sent.wait(1, PATIENCE_MS), (error) => isCallException(error) && error.receipt.status === 0);
      });

      it('hears of blocks by polling', async () => {
        const first = await within(new Promise((resolve) => { provider.once('block', resolve); }), 'a block');
        assert.ok(first > 0);
      });

      it('hears of blocks and events over a WebSocket', async () => {
        const live = new WebSocketProvider(dev.rollups.get(id).url.replace('http', 'ws'));
        try {
          const numbers = [];
          await within(new Promise((resolve) => { live.on('block', (number) => { numbers.push(number); if (numbers.length === 2) resolve(); }); }), 'two blocks');
          assert.equal(numbers[1], numbers[0] + 1);
          const heard = new Contract(await contract.getAddress(), probe.abi, live);
          const event = new Promise((resolve) => { heard.on('Value', (key, value) => resolve([key, value])); });
          await heard.load(4n);
          await (await contract.emitValue(4n)).wait(1, PATIENCE_MS);
          assert.deepEqual(await within(event, 'the event'), [4n, 44n]);
        } finally {
          await live.destroy();
        }
      });
    });
  }

  it('a wallet goes on while a bundle of its account cannot land', async () => {
    const { signCall, call, hex, nonceOf } = await import('./kit.mjs');
    const { account } = dev.accounts[6];
    const raw = await signCall(dev, account, A, await nonceOf(dev, A, account.address), 'Probe', 'fail', ['for ever']);
    await call(dev.url, 'lockstep_sendBundle', [{ legs: [{ chainId: hex(A), txs: [raw] }] }]);
    const hash = await walletClient(dev, A, account).sendTransaction({ to: stranger(), value: 1n });
    const receipt = () => publicClient(dev, A).getTransactionReceipt({ hash }).catch(() => undefined);
    await until('the transfer lands', receipt, { within: 12_000, every: 250 });
  });
  it('the fixture ABI of the kit is the contract\'s', () => {
    assert.ok(abi.some((item) => item.name === 'depositForBurn'));
  });
});
