// The named scenarios. Each is measured by run(stage) and gives a record: ops (per second), the
// distribution of one operation (unit), samples, margin, and what else belongs to it (extra).
//
//   micro  in one process, without sockets and disks (turn_bench, queue_bench)
//   path   through real processes: client, origin, orchestrator, executor, target
//   slot   the feature is not there yet
import { performance } from 'node:perf_hooks';
import { run } from '../tests/process/lib/process.mjs';
import { startSystem } from '../tests/process/lib/system.mjs';
import { connectWs } from '../tests/process/lib/ws_client.mjs';
import { figuresOf, median } from './lib/figures.mjs';
import { bench, json, measure, ofRun, scope } from './lib/tools.mjs';

/** What scenarios share during a run of the suite: one system, started when it is first needed. */
export class Stage {
  constructor(t, short) {
    Object.assign(this, { t, short, system: null, memory: {} });
  }
  async started() {
    this.system ??= await startSystem(this.t, { args: Object.fromEntries(['origin', 'orchestrator', 'executor', 'test-endpoints'].map((r) => [r, ['--log-level', 'warn']])) });
    return this.system;
  }
  /** Seconds to measure, warm-up, and operations of a micro-benchmark. */
  get timing() {
    return this.short ? ['-d', 1, '-w', 0] : ['-d', 5, '-w', 1];
  }
  residentMiB() {
    const of = (role) => Math.round(this.system.procs[role].residentKiB() / 1024);
    return { 'origin MiB': of('origin'), 'orchestrator MiB': of('orchestrator'), 'executor MiB': of('executor') };
  }
}

const micro = (name, help) => ({ name, kind: 'micro', help, async run(stage) {
  const [r] = await json(stage.t, 'turn_bench', ['--json', name, stage.short ? '100' : '5000']);
  return { ...r, ops: r.opsPerSecond };
} });

const path = (name, help, fn) => ({ name, kind: 'path', help, run: fn });
const slot = (name, help) => ({ name, kind: 'slot', help });

/** A closed loop through the origin of a system. */
function loadOf(t, system, timing, concurrency, target = '/uuid', more = []) {
  const pids = Object.entries(system.procs).map(([role, proc]) => `${role}=${proc.pid}`).join(',');
  return bench(t, ['--ws', '--server', system.wsUrl, '--pids', pids, '-u', system.target + target, '-c', concurrency,
    ...timing, ...more]);
}
const load = async (stage, ...how) => loadOf(stage.t, await stage.started(), stage.timing, ...how);

const phases = (concurrency) => path(`phases-${concurrency}`,
  `enqueue, dispatch and execution, ${concurrency} in flight`, async (stage) => {
    const system = await stage.started();
    const iterations = stage.short ? Math.max(concurrency, 50) : Math.max(concurrency * 5, 1000);
    const m = await measure(stage.t, ['--url', system.wsUrl, '--target', `${system.target}/uuid`, '--phases',
      '--concurrency', concurrency, '--iterations', iterations]);
    const of = (kind) => m.runs.find((r) => r.kind === kind && r.concurrency === concurrency);
    const all = of('sustained'), parts = of('timings');
    const p = (s) => `${s.p50.toFixed(2)} / ${s.p99.toFixed(2)}`;
    return { ...ofRun(all), extra: { 'enqueue p50/p99': p(all.enqueueMs), 'execution p50/p99': p(all.executionMs),
      'queue p50/p99': p(parts.timingsMs.queue), 'dispatch p50/p99': p(parts.timingsMs.dispatch) } };
  });

const payload = (name, target, help) => path(`payload-${name}`, help, async (stage) => {
  const record = await load(stage, 25, target, ['--include', 'body']);
  return { ...record, extra: stage.residentMiB() };
});

/** How many fetches in flight bring nine tenths of the most there is. */
async function knee(stage) {
  const levels = stage.short ? [1, 25, 100] : [1, 2, 5, 10, 25, 50, 100, 200, 500, 1000];
  const found = [];
  for (const c of levels) found.push({ c, ...(await load(stage, c)) });
  const most = Math.max(...found.map((f) => f.ops));
  const at = found.find((f) => f.ops >= 0.9 * most);
  return { ...at, curve: found.map(({ c, ops, p50, p99 }) => ({ c, ops, p50, p99 })),
    extra: { knee: at.c, ...Object.fromEntries(found.map((f) => [`c=${f.c}`, `${Math.round(f.ops)}/s, p99 ${f.p99.toFixed(1)}`])) } };
}

/** Chains of five fetches (class checkout), 25 at a time. */
async function checkout(stage) {
  const system = await stage.started();
  return scope(async (t) => {
    const ws = await connectWs(t, `${system.wsUrl}actors/checkout/bench`);
    const count = stage.short ? 50 : 5000, began = new Map(), samples = [];
    const send = (i) => {
      began.set(`c${i}`, performance.now());
      ws.send({ type: 'checkout', clientId: `c${i}`, base: system.target, items: 3 });
    };
    const start = performance.now();
    let sent = 0, seen = 0;
    while (sent < Math.min(25, count)) send(sent++);
    while (samples.length < count) {
      const m = await ws.next(() => true, { after: seen++ });
      if (m.type === 'enqueued') continue; // of one of its fetches
      if (m.type !== 'checkout-complete') throw new Error(`checkout failed: ${JSON.stringify(m)}`);
      if (m.items.length !== 3) throw new Error(`a chain lost items: ${JSON.stringify(m)}`);
      samples.push(performance.now() - began.get(m.clientId));
      if (sent < count) send(sent++);
    }
    const seconds = (performance.now() - start) / 1000;
    return { unit: 'ms', ops: count / seconds, ...figuresOf(samples), extra: { 'fetches a chain': 5 } };
  });
}

/** So many fetches at once by each of so many actors. */
const actors = (count, each) => path(`actors-${count}`, `${count} actors, ${each} fetches each, all at once`, async (stage) => {
  const system = await stage.started(), per = stage.short ? each / 10 : each;
  return scope(async (t) => {
    const sockets = [];
    for (let i = 0; i < count; i++) sockets.push(await connectWs(t, `${system.wsUrl}actors/proxy/bench-${i}`));
    const isResult = (m) => m.type === 'result';
    const start = performance.now();
    for (const ws of sockets)
      for (let k = 0; k < per; k++) ws.send({ type: 'start-fetch', url: `${system.target}/uuid`, clientId: `${k}` });
    await Promise.all(sockets.map((ws) => ws.count(isResult, per)));
    const seconds = (performance.now() - start) / 1000;
    const results = sockets.flatMap((ws) => ws.messages.filter(isResult));
    if (results.some((m) => !m.success)) throw new Error('a fetch failed');
    return { unit: 'ms (at the origin)', ops: results.length / seconds, ...figuresOf(results.map((m) => m.duration)),
      extra: { ...stage.residentMiB(), 'all done in ms': Math.round(seconds * 1000) } };
  });
});

/** Messages that neither fetch nor write: to the actor's process and back. */
async function messages(stage) {
  const system = await stage.started(), count = stage.short ? 1000 : 10_000;
  return scope(async (t) => {
    const ws = await connectWs(t, system.wsUrl);
    const start = performance.now();
    for (let i = 0; i < count; i++) ws.send({ type: 'ping', id: i });
    await ws.count((m) => m.type === 'pong', count);
    const seconds = (performance.now() - start) / 1000;
    return { unit: 'ms', ops: count / seconds, samples: count, mean: (seconds * 1000) / count,
      extra: { note: 'bounded by this Node client' } };
  });
}

/** Processes from nothing; the first fetch; fetches after it. */
async function cold(stage) {
  const rounds = stage.short ? 2 : 5, starts = [], firsts = [], warm = [];
  for (let i = 0; i < rounds; i++)
    await scope(async (t) => {
      const before = performance.now();
      const system = await startSystem(t);
      starts.push((performance.now() - before) / 4);
      const m = await measure(t, ['--url', system.wsUrl, '--target', `${system.target}/uuid`, '--concurrency', 1,
        '--iterations', 50]);
      firsts.push(m.runs.find((r) => r.kind === 'cold').wholeMs.p50);
      warm.push(m.runs.find((r) => r.kind === 'sustained').wholeMs.p50);
    });
  return { unit: 'ms (first fetch)', ops: 1000 / median(firsts), ...figuresOf(firsts),
    extra: { 'process start ms': median(starts).toFixed(1), 'first fetch ms': median(firsts).toFixed(2), 'warm fetch ms': median(warm).toFixed(2) } };
}

const health = (name, help, more) => path(name, help, async (stage) => {
  const system = await stage.started();
  return bench(stage.t, ['-u', `${system.httpUrl}/health`, '-c', 50, ...stage.timing, ...more]);
});

const sync = (mode) => path(`sync-${mode}`, `state saved with --sync ${mode}, one in flight and 100`, (stage) =>
  scope(async (t) => {
    const system = await startSystem(t, { sync: mode });
    const at = (c) => loadOf(t, system, stage.timing, c);
    const many = await at(100), one = await at(1);
    return { ...one, extra: { 'c=100': `${Math.round(many.ops)}/s, p99 ${many.p99.toFixed(1)} ms` } };
  }));

/** All of them at once at a target that takes a second. */
const slow = (count) => path(`slow-${count}`, `${count} fetches of a target that takes one second, at once`, async (stage) => {
  const system = await stage.started(), n = stage.short ? Math.min(count, 100) : count;
  const m = await measure(stage.t, ['--url', system.wsUrl, '--target', `${system.target}/delay/1000`, '--concurrency', n, '--iterations', n]);
  const burst = m.runs.find((r) => r.kind === 'burst');
  return { ...ofRun(burst), extra: { 'all done in ms': Math.round(burst.totalMs) } };
});

/** What a job costs in the queue, with few and with many others waiting. */
async function queue(stage) {
  const { code, stdout } = await run(stage.t, 'queue_bench', [stage.short ? '20000' : '500000']);
  const ns = [...stdout.matchAll(/queued: +(\d+) ns/g)].map((m) => Number(m[1]));
  if (code !== 0 || ns.length !== 2) throw new Error(`queue_bench: ${stdout}`);
  return { unit: 'us', ops: 1e9 / ns[1], samples: stage.short ? 20000 : 500000, mean: ns[1] / 1000,
    extra: { 'ns with 1,000 queued': ns[0], 'ns with 100,000 queued': ns[1], ratio: (ns[1] / ns[0]).toFixed(2) } };
}

export const scenarios = [
  micro('continuation-noop', 'a continuation that does nothing'),
  micro('continuation-steps', '1,000 steps of computation'),
  micro('continuation-follow', 'one follow-up fetch'),
  micro('continuation-parallel', 'five follow-up fetches and a join'),
  micro('continuation-extract', 'a field of a JSON body'),
  micro('continuation-append', 'a string grows in the state'),
  micro('continuation-row', 'a new row of state'),
  micro('continuation-iterate', 'over 1,000 rows of state'),
  ...['internal', 'tenant', 'public'].flatMap((tier) => [
    slot(`permission-${tier}`, `permission look-up, tier ${tier}`),
    slot(`authorize-${tier}`, `authorization alone, tier ${tier}`),
    slot(`authorized-${tier}`, `whole path, tier ${tier}`)]),
  micro('wake-1k', 'an actor with 1 KB of state wakes'),
  micro('wake-64k', 'an actor with 64 KB of state wakes'),
  micro('wake-1m', 'an actor with 1 MB of state wakes'),
  ...[5, 10, 25, 50].map((c) => path(`concurrency-${c}`, `${c} in flight`, (stage) => load(stage, c))),
  path('knee', 'where more in flight brings no more', knee),
  micro('log-off', 'log capture off'),
  ...[0, 1, 5, 10].map((n) => micro(`log-${n}`, `log capture on, ${n} lines`)),
  payload('100', '/bytes/100', '100 bytes'),
  payload('1k', '/bytes/1024', '1 KB'),
  payload('10k', '/bytes/10240', '10 KB'),
  payload('array-100', '/array/100', 'an array of 100 objects'),
  payload('array-1000', '/array/1000', 'an array of 1,000 objects'),
  slot('rate-limit', 'rate limiting on against off'),
  ...[1, 10, 100, 1000, 2000, 10_000].map(phases),
  path('messages', '10,000 messages without a fetch', messages),
  path('checkout', 'chains of five fetches, 25 at a time', checkout),
  actors(1, 1000),
  actors(10, 1000),
  path('cold', 'start of a process, first fetch, warm fetch', cold),
  health('health', 'GET /health of the origin, 50 connections', []),
  health('health-no-keepalive', 'the same, a connection for each', ['--no-keepalive']),
  sync('full'),
  sync('normal'),
  slow(1000),
  slow(10_000),
  { name: 'queue', kind: 'micro', help: 'a job in the queue, with 1,000 and 100,000 queued', run: queue },
];
