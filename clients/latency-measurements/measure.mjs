#!/usr/bin/env node
// Measures any server that speaks the basic messages (`start-fetch`, `enqueued`, `result`) with the JavaScript
// client: what a fetch takes, alone and among many, and whether each one ended exactly once.
//
//   node clients/latency-measurements/measure.mjs [--url ws://localhost:8787] [--target URL]
//     [--concurrency 1,10,100,1000] [--rounds N] [--timeout 60] [--json]
//
// It sends nothing but type, url and clientId. A level is `rounds` bursts of that many fetches at
// once (by default 5, and at least 100 fetches), after one burst that does not count; the very first
// fetch of all is shown as the cold one.
// The exit code is 0 only if every fetch got exactly one enqueued and then one good result.
import { createRequire } from 'node:module';
import os from 'node:os';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { connect } from '../js/proxyfetch.mjs';

const DEFAULTS = { url: 'ws://localhost:8787/', target: 'http://localhost:8790/latency-test/uuid',
  concurrency: '1,10,100,1000', timeout: '60' };
const CONCURRENCY_MAX = 100_000;
const ROUNDS = 5, FETCHES_MIN = 100; // of a level, unless told

// ---- pure parts ----

/** min, p50, p90, p99 and max of some numbers, by nearest rank; null without any. */
export function spread(values) {
  if (!values.length) return null;
  const sorted = Float64Array.from(values).sort();
  const rank = (q) => sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)];
  return { min: sorted[0], p50: rank(0.5), p90: rank(0.9), p99: rank(0.99), max: sorted.at(-1) };
}

/** What happened to each clientId, message by message, and what of it was wrong. */
export class Ledger {
  #seen = new Map(); // clientId → {enqueued, results}
  errors = [];

  message(message) {
    if (message.type === 'error') return this.#wrong(`error: ${message.error}`);
    if (message.type !== 'enqueued' && message.type !== 'result') return;
    const seen = this.#of(message.clientId);
    if (message.type === 'enqueued') {
      if (++seen.enqueued > 1) this.#wrong(`${message.clientId}: enqueued ${seen.enqueued} times`);
      return;
    }
    if (!seen.enqueued) this.#wrong(`${message.clientId}: its result came before enqueued`);
    if (++seen.results > 1) this.#wrong(`${message.clientId}: ${seen.results} results`);
    if (!message.success) this.#wrong(`${message.clientId}: ${message.error}`);
  }
  /** At the end: each of count fetches has both. */
  close(count) {
    for (const [id, { enqueued, results }] of this.#seen) {
      if (!enqueued) this.#wrong(`${id}: no enqueued`);
      if (!results) this.#wrong(`${id}: no result`);
    }
    if (this.#seen.size < count) this.#wrong(`${count - this.#seen.size} fetches got no answer at all`);
    if (this.#seen.size > count) this.#wrong(`${this.#seen.size - count} answers for nothing that was sent`);
  }
  #of(id) {
    if (!this.#seen.has(id)) this.#seen.set(id, { enqueued: 0, results: 0 });
    return this.#seen.get(id);
  }
  #wrong(what) {
    this.errors.push(what);
  }
}

const number = (value) => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2));

/** Rows of cells as text, the first column to the left, the others to the right. */
export function table(rows) {
  const widths = rows[0].map((_, i) => Math.max(...rows.map((row) => row[i].length)));
  return rows.map((row) => row.map((cell, i) => (i ? cell.padStart(widths[i]) : cell.padEnd(widths[i]))).join('  ')).join('\n');
}

export function report({ cold, levels }) {
  const head = ['', 'min', 'p50', 'p90', 'p99', 'max'];
  const line = (name, s) => [name, ...(s ? Object.values(s).map(number) : head.slice(1).map(() => '-'))];
  const text = [`first fetch (cold): ${number(cold.total)} ms = ${number(cold.enqueue)} enqueue + ${number(cold.execution)} execution`];
  for (const level of levels) {
    const { concurrency, rounds, roundMs, msPerFetch, fetchesPerSecond } = level;
    text.push('', `${concurrency} at once, ${rounds} times: ${number(roundMs)} ms a round, ${number(msPerFetch)} ms a fetch, ` +
      `${fetchesPerSecond.toFixed(0)} fetches/s`,
      table([head, line('  enqueue', level.enqueue), line('  execution', level.execution), line('  total', level.total),
        line('  enqueueTime of the origin', level.originEnqueue), line('  duration of the origin', level.originDuration)]));
  }
  return text.join('\n');
}

// ---- measuring ----

/** One burst. Resolves with its results when all have ended, however. */
async function burst(client, target, count) {
  const begin = performance.now();
  const ended = await Promise.allSettled(Array.from({ length: count }, () => client.fetch(target)));
  const ms = performance.now() - begin;
  return { ms, results: ended.filter((e) => e.status === 'fulfilled').map((e) => e.value) };
}

async function measureLevel(client, target, concurrency, rounds) {
  await burst(client, target, concurrency);
  const bursts = [];
  for (let i = 0; i < rounds; i++) bursts.push(await burst(client, target, concurrency));
  const results = bursts.flatMap((b) => b.results);
  const phase = (pick) => spread(results.map(pick).filter((v) => typeof v === 'number'));
  const roundMs = spread(bursts.map((b) => b.ms)).p50;
  return { concurrency, rounds, roundMs, msPerFetch: roundMs / concurrency, fetchesPerSecond: (concurrency / roundMs) * 1000,
    enqueue: phase((r) => r.times.enqueue), execution: phase((r) => r.times.execution), total: phase((r) => r.times.total),
    originEnqueue: phase((r) => r.enqueueTime), originDuration: phase((r) => r.duration) };
}

/** Everything; {ok, errors, cold, levels}. Ends early if nothing has come for timeoutMs. */
export async function measure({ url, target, concurrency, rounds, timeoutMs, WebSocket, progress = () => {} }) {
  const client = await connect(url, { WebSocket, reconnect: false });
  const ledger = new Ledger(), found = { levels: [] };
  let seenAt = performance.now(), count = 0;
  client.on('message', (message) => {
    seenAt = performance.now();
    ledger.message(message);
  });
  client.on('state', (state, why) => why && why.code !== 'closed' && ledger.errors.push(why.message));
  const watch = setInterval(() => {
    if (performance.now() - seenAt > timeoutMs) client.close();
  }, 100);
  try {
    progress('the first fetch');
    const [cold] = (await burst(client, target, 1)).results;
    count++;
    found.cold = cold?.times ?? { enqueue: NaN, execution: NaN, total: NaN };
    for (const level of concurrency) {
      if (client.state !== 'open') break;
      progress(`${level} at once`);
      const bursts = rounds ?? Math.max(ROUNDS, Math.ceil(FETCHES_MIN / level));
      found.levels.push(await measureLevel(client, target, level, bursts));
      count += level * (bursts + 1);
    }
  } finally {
    clearInterval(watch);
    client.close();
  }
  ledger.close(count);
  return { ok: ledger.errors.length === 0 && found.levels.length === concurrency.length, errors: ledger.errors, fetches: count, ...found };
}

// ---- command line ----

class UsageError extends Error {}

function wholeNumber(name, text, max) {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < 1 || value > max) throw new UsageError(`--${name}: '${text}' is not within 1 and ${max}`);
  return value;
}

export function options(argv) {
  const names = Object.keys(DEFAULTS).map((name) => [name, { type: 'string', default: DEFAULTS[name] }]);
  let values;
  try {
    ({ values } = parseArgs({ args: argv, options: { ...Object.fromEntries(names), rounds: { type: 'string' },
      json: { type: 'boolean', default: false }, help: { type: 'boolean', default: false } } }));
  } catch (why) {
    throw new UsageError(why.message);
  }
  return { ...values, concurrency: values.concurrency.split(',').map((text) => wholeNumber('concurrency', text, CONCURRENCY_MAX)),
    rounds: values.rounds && wholeNumber('rounds', values.rounds, 1000), timeoutMs: 1000 * wholeNumber('timeout', values.timeout, 3600) };
}

/** Node has a WebSocket of its own from 22 on; before, that of the package next to the client. */
function webSocketClass() {
  if (globalThis.WebSocket) return globalThis.WebSocket;
  try {
    return createRequire(new URL('../js/proxyfetch.mjs', import.meta.url))('ws').WebSocket;
  } catch {
    throw new UsageError(`Node ${process.version} has no WebSocket: run \`npm ci\` in clients/js, or use Node 22`);
  }
}

async function main(argv) {
  const given = options(argv);
  if (given.help) {
    console.log('usage: node measure.mjs [--url WS] [--target URL] [--concurrency 1,10,100,1000] [--rounds N] [--timeout S] [--json]');
    return 0;
  }
  const live = process.stderr.isTTY;
  const progress = (what) => live && process.stderr.write(`\r\x1b[K${what} …`);
  const found = await measure({ ...given, WebSocket: webSocketClass(), progress });
  if (live) process.stderr.write('\r\x1b[K');
  const machine = `${os.cpus()[0]?.model ?? 'unknown processor'}, ${os.cpus().length} cores`;
  const header = { date: new Date().toISOString(), url: given.url, target: given.target, node: process.version, machine };
  if (given.json) console.log(JSON.stringify({ ...header, ...found }, null, 2));
  else console.log(`${header.date}, node ${header.node}, ${machine}\n${given.url} fetches ${given.target}; all times in ms\n\n${report(found)}`);
  if (!given.json && found.ok) console.log(`\n${found.fetches} fetches, each with exactly one enqueued and one good result`);
  for (const error of found.errors.slice(0, 10)) console.error(`wrong: ${error}`);
  if (!found.ok) console.error(`FAILED: ${found.errors.length} errors in ${found.fetches} fetches`);
  return found.ok ? 0 : 1;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  main(process.argv.slice(2)).then((code) => (process.exitCode = code), (why) => {
    console.error(`measure: ${why.message}`);
    process.exitCode = why instanceof UsageError ? 2 : 1;
  });
}
