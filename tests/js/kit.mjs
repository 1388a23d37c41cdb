// A running `lockstep dev` to test against: started on a free port, read from what it prints, ended by its pid.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { createPublicClient, createWalletClient, defineChain, encodeFunctionData, http, keccak256, parseAbi } from 'viem';
import { privateKeyToAccount } from 'viem/accounts';

export const A = 31101;
export const B = 31102;
export const C = 31103;
/** How long a test waits for something that takes a slot or a few. */
export const PATIENCE_MS = 60_000;
const START_MS = 30_000;

export const binary = process.env.LOCKSTEP_BIN ?? new URL('../../target/debug/lockstep', import.meta.url).pathname;

/** Starts `lockstep dev` with the given arguments; 2 rollups on a free port unless they say otherwise. */
export async function start(args = [], { env = {} } = {}) {
  const child = spawn(binary, ['dev', '--listen', '127.0.0.1:0', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  });
  let log = '';
  child.stderr.setEncoding('utf8').on('data', (text) => { log = (log + text).slice(-200_000); });
  const exited = once(child, 'exit');
  const dev = {
    pid: child.pid,
    accounts: [],
    rollups: new Map(),
    contracts: {},
    log: () => log,
    exited,
    /** Ends it by its pid; SIGKILL unless told otherwise. */
    async stop(signal = 'SIGKILL') {
      if (child.exitCode === null && child.signalCode === null) process.kill(child.pid, signal);
      await exited;
    },
  };
  const timer = setTimeout(() => child.kill('SIGKILL'), START_MS);
  for await (const line of createInterface({ input: child.stdout })) {
    read(dev, line);
    if (dev.example) break;
  }
  clearTimeout(timer);
  if (!dev.example) throw new Error(`lockstep dev did not start:\n${log}`);
  child.stdout.resume();
  return dev;
}

function read(dev, line) {
  let match;
  if ((match = /^Lockstep is running\..* (http:\S+)$/.exec(line))) dev.url = match[1];
  else if ((match = /^ {2}rollup (\d+) \((.*), CCTP domain (\d+), AggLayer network \d+\): (\S+)$/.exec(line))) {
    dev.rollups.set(Number(match[1]), { rules: match[2], domain: Number(match[3]), url: match[4] });
  } else if ((match = /^Builder .*: (0x[0-9a-fA-F]{40})$/.exec(line))) dev.builder = match[1];
  else if ((match = /^ {2}(0x[0-9a-fA-F]{40}) (0x[0-9a-f]{64})$/.exec(line))) {
    dev.accounts.push({ address: match[1], key: match[2], ...{ account: privateKeyToAccount(match[2]) } });
  } else if ((match = /^ {2}(\w+) +(0x[0-9a-fA-F]{40})$/.exec(line))) dev.contracts[match[1]] = match[2];
  else if (line.startsWith('curl ')) dev.example = line;
}

let ids = 0;

/** The text that is sent for a request. */
export const body = (method, params) => JSON.stringify({ jsonrpc: '2.0', id: ++ids, method, params });

/** `X-Flashbots-Signature` of a text. */
export async function flashbots(account, text) {
  const signature = await account.signMessage({ message: keccak256(new TextEncoder().encode(text)) });
  return `${account.address}:${signature}`;
}

/** Posts text and gives status and parsed answer. */
export async function post(url, text, headers = {}) {
  const response = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: text });
  const answer = await response.text();
  let json;
  try { json = JSON.parse(answer); } catch { json = undefined; }
  return { status: response.status, text: answer, json };
}

/** Calls a method, signed when an account is given. The answer with `result` or `error`. */
export async function ask(url, method, params, { signer } = {}) {
  const text = body(method, params);
  const headers = signer ? { 'x-flashbots-signature': await flashbots(signer, text) } : {};
  const { status, json, text: answer } = await post(url, text, headers);
  if (!json) throw new Error(`${method}: HTTP ${status}: ${answer.slice(0, 500)}`);
  return json;
}

/** As `ask`, but gives the result and throws the error. */
export async function call(url, method, params, options) {
  const answer = await ask(url, method, params, options);
  if (answer.error) throw Object.assign(new Error(`${method}: ${JSON.stringify(answer.error)}`), { rpc: answer.error });
  return answer.result;
}

/** Looks until `look` gives something true; fails after a bound with what was seen last. */
export async function until(what, look, { within = PATIENCE_MS, every = 50 } = {}) {
  const end = Date.now() + within;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    if (Date.now() > end) throw new Error(`not within ${within} ms: ${typeof what === 'function' ? JSON.stringify(await what()) : what}`);
    await delay(every);
  }
}

/** Waits until a bundle is in one of the states. */
export async function settled(dev, hash, states = ['landed'], options = {}) {
  const status = () => call(dev.url, 'lockstep_getBundle', [hash], options);
  return until(status, async () => {
    const now = await status();
    return states.includes(now.state) && now;
  }, options);
}

export const chainOf = (dev, id) => defineChain({
  id,
  name: `rollup ${id}`,
  nativeCurrency: { name: 'Ether', symbol: 'ETH', decimals: 18 },
  rpcUrls: { default: { http: [dev.rollups.get(id).url], webSocket: [dev.rollups.get(id).url.replace('http', 'ws')] } },
});

export const publicClient = (dev, id) =>
  createPublicClient({ chain: chainOf(dev, id), transport: http(undefined, { retryCount: 0 }), pollingInterval: 200, cacheTime: 0 });

export const walletClient = (dev, id, account) =>
  createWalletClient({ account, chain: chainOf(dev, id), transport: http(undefined, { retryCount: 0 }) });

export const abi = parseAbi([
  'function balanceOf(address) view returns (uint256)',
  'function ownerOf(uint256) view returns (address)',
  'function depositForBurn(uint256 amount, uint32 destinationDomain, bytes32 mintRecipient, address burnToken) returns (uint64)',
  'function buy(uint256 tokenId)',
  'function fail(string reason) pure',
  'function store(uint256 key, uint256 value)',
  'function increment(uint256 key)',
  'function load(uint256 key) view returns (uint256)',
  'function emitValue(uint256 key)',
  'function transfer(address to, uint256 amount) returns (bool)',
  'event Value(uint256 indexed key, uint256 value)',
  'error Error(string)',
]);

export const artifact = (name) =>
  JSON.parse(readFileSync(new URL(`../../fixtures/contracts/artifacts/${name}.json`, import.meta.url), 'utf8'));

export const GWEI = 10n ** 9n;
export const USDC = 10n ** 6n;
export const hex = (number) => `0x${BigInt(number).toString(16)}`;

/** Signs an EIP-1559 transaction without asking anyone anything. */
export const sign = (account, chainId, nonce, fields = {}) => account.signTransaction({
  type: 'eip1559', chainId, nonce, gas: 400_000n, maxFeePerGas: 100n * GWEI, maxPriorityFeePerGas: 3n * GWEI, value: 0n, ...fields,
});

/** Signs a call of a fixture contract. */
export const signCall = (dev, account, chainId, nonce, contract, functionName, args, fields = {}) =>
  sign(account, chainId, nonce, { to: dev.contracts[contract], data: encodeFunctionData({ abi, functionName, args }), ...fields });

/** The burn of the story: to the same account on another rollup. */
export const signBurn = (dev, account, from, nonce, to, amount, fields) =>
  signCall(dev, account, from, nonce, 'TokenMessenger', 'depositForBurn',
    [amount, dev.rollups.get(to).domain, `0x${account.address.slice(2).padStart(64, '0')}`, dev.contracts.USDC], fields);

/** An account's nonce in the newest block: what `pending` would say depends on the pool. */
export const nonceOf = async (dev, id, address) =>
  Number(await call(dev.rollups.get(id).url, 'eth_getTransactionCount', [address, 'latest']));

/** Everything that a failed bundle could have touched of an account, on every rollup. */
export async function footprint(dev, addresses) {
  const seen = {};
  for (const id of dev.rollups.keys()) {
    const client = publicClient(dev, id);
    for (const address of addresses) {
      seen[`${id} ${address}`] = [
        await client.getTransactionCount({ address, blockTag: 'latest' }),
        await client.getBalance({ address }),
        await client.readContract({ address: dev.contracts.USDC, abi, functionName: 'balanceOf', args: [address] }),
        await client.readContract({ address: dev.contracts.WETH, abi, functionName: 'balanceOf', args: [address] }),
      ].map(String);
    }
  }
  return seen;
}

/** How many bundles are in the pool. */
export const pending = async (dev) => (await call(dev.url, 'lockstep_getSlot', [])).pending;
