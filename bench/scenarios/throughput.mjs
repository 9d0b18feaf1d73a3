// Fetches through the whole path: in flight, by phases, at fixed rates, in a burst.
import { median } from '../lib/figures.mjs';
import { bench, measure, ofRun, scope } from '../lib/tools.mjs';
import { fetches, load, messages, ofMessages, path, pidsOf, startQuiet } from './stage.mjs';

/** How many fetches in flight bring nine tenths of the most there is. */
async function knee(stage) {
  const levels = stage.pick([1, 2, 5, 10, 25, 50, 100, 200, 500, 1000], [1, 25, 100]), system = await stage.started(), found = [];
  for (const c of levels)
    found.push({ c, ...(stage.short ? ofMessages(await fetches(stage.t, system, ['--in-flight', c, ...stage.messageTiming])) : await load(stage, c)) });
  const most = Math.max(...found.map((f) => f.ops));
  const at = found.find((f) => f.ops >= 0.9 * most);
  return { ...at, curve: found.map(({ c, ops, p50, p99 }) => ({ c, ops, p50, p99 })),
    extra: { knee: at.c, ...Object.fromEntries(found.map((f) => [`c=${f.c}`, `${Math.round(f.ops)}/s, p99 ${f.p99.toFixed(1)}`])) } };
}

const phases = (concurrency) => path(`phases-${concurrency}`,
  `enqueue, dispatch and execution, ${concurrency} in flight`, async (stage) => {
    const system = await stage.started();
    const iterations = stage.pick(Math.max(concurrency * 5, 1000), Math.max(concurrency, 50));
    const m = await measure(stage.t, ['--url', system.wsUrl, '--target', `${system.target}/uuid`, '--phases',
      '--concurrency', concurrency, '--iterations', iterations]);
    const of = (kind) => m.runs.find((r) => r.kind === kind && r.concurrency === concurrency);
    const all = of('sustained'), parts = of('timings');
    const p = (s) => `${s.p50.toFixed(2)} / ${s.p99.toFixed(2)}`;
    return { ...ofRun(all), facts: { queueP50: parts.timingsMs.queue.p50 }, extra: { 'enqueue p50/p99': p(all.enqueueMs), 'execution p50/p99': p(all.executionMs),
      'queue p50/p99': p(parts.timingsMs.queue), 'dispatch p50/p99': p(parts.timingsMs.dispatch) } };
  });

const health = (name, help, more) => path(name, help, async (stage) => {
  const system = await stage.started();
  return bench(stage.t, ['-u', `${system.httpUrl}/health`, '-c', 50, ...stage.timing, ...more]);
});

/** All of them at once at a target that takes a second. */
const slow = (count) => path(`slow-${count}`, `${count} fetches of a target that takes one second, at once`, async (stage) => {
  const system = await stage.started(), n = stage.pick(count, Math.min(count, 100));
  const r = await messages(stage.t, system, ['--kind', 'fetch', '--url', `${system.target}/delay/1000`, '--count', n, '--in-flight', n, '--pids', pidsOf(system)]);
  return { ...ofMessages(r), extra: { 'all done in ms': Math.round(r.seconds * 1000) } };
});

const CLIENTS = 10; // that share an offered load

/** So many fetches a second, whatever comes back. Errors are those of the 10,000 that are allowed one. */
const rate = (perSecond, usual, most) => path(`rate-${perSecond}`, `${perSecond} fetches/s offered for ${usual} s${most > usual ? ` (--long: ${most} s)` : ''}`,
  (stage) => scope(async (t) => {
    const system = await startQuiet(t), seconds = stage.seconds(usual, most);
    const r = await fetches(t, system, ['--clients', CLIENTS, '--rate', `${perSecond}:${seconds}`, '--pids', pidsOf(system)], (seconds + 120) * 1000);
    const errorPercent = (100 * r.refused) / r.sent;
    return { ...ofMessages(r, { refusals: true }), paced: true, facts: { offered: perSecond, errorPercent, keptUp: r.timeline.length <= Math.ceil(seconds) + 1 },
      extra: { seconds, sent: r.sent, 'errors %': errorPercent.toFixed(4), 'last answer within s': r.timeline.length } };
  }));

/** Half of what it can do is offered; what the target itself takes at that rate is taken off. */
const halfLoad = (stage) => scope(async (t) => {
  const system = await startQuiet(t, { sync: 'normal' }), seconds = stage.seconds(10);
  const most = ofMessages(await fetches(t, system, ['--clients', CLIENTS, '--in-flight', 10, ...stage.messageTiming]));
  const half = Math.max(1, Math.round(most.ops / 2));
  const through = ofMessages(await fetches(t, system, ['--clients', CLIENTS, '--rate', `${half}:${seconds}`, '--pids', pidsOf(system)]));
  const direct = await bench(t, ['-u', `${system.target}/uuid`, '--rate', half, '-c', 100, '-d', Math.ceil(seconds), '-w', 0]);
  const facts = Object.fromEntries(['p50', 'p99', 'p99_9'].map((q) => [q, Math.max(0, through[q] - direct[q])]));
  return { ...through, paced: true, facts, extra: { 'offered/s': half, ...Object.fromEntries(Object.entries(facts).map(([q, v]) => [`added ${q.replace('_', '.')} ms`, v.toFixed(2)])) } };
});

const RECOVERED = 2; // times the p99 of the calm before, and no later second above it

/** Seconds after the burst until p99 is what it was; NaN: not within the measurement. */
export function recoverySeconds(timeline, calm, burst) {
  const before = median(timeline.slice(0, calm).map((s) => s[3])), limit = Math.max(RECOVERED * before, before + 5);
  const after = timeline.slice(calm + burst);
  let last = after.length;
  while (last > 0 && (after[last - 1][1] === 0 || after[last - 1][3] <= limit)) last--;
  return last === after.length && last > 0 ? NaN : last;
}

/** 1,000 a second, then 50,000 a second for ten, then 1,000 again. */
const burst = (stage) => scope(async (t) => {
  const system = await startQuiet(t), [low, high, calm, length, after] = stage.pick([1000, 50_000, 5, 10, 40], [500, 5000, 1, 1, 1]);
  const r = await fetches(t, system, ['--clients', CLIENTS, '--rate', `${low}:${calm},${high}:${length},${low}:${after}`, '--pids', pidsOf(system)]);
  const recovery = recoverySeconds(r.timeline, calm, length), most = Math.max(...r.timeline.map((s) => s[1]));
  return { ...ofMessages(r, { refusals: true }), paced: true,
    facts: { lost: r.lost, recoverySeconds: Number.isNaN(recovery) ? Infinity : recovery },
    extra: { 'offered/s': high, 'most answered/s': most, sent: r.sent, lost: r.lost, 'refused (busy)': r.refused,
      'p99 is back after s': Number.isNaN(recovery) ? `more than ${after}` : recovery } };
});

const connections = (name, help, target) => path(`connections-${name}`, help, async (stage) => {
  const system = await stage.started(), url = system.target + target;
  const args = ['--kind', 'fetch', '--url', url];
  const one = ofMessages(await messages(stage.t, system, [...args, ...stage.messageTiming]));
  const r = ofMessages(await messages(stage.t, system, [...args, '--in-flight', 50, ...stage.messageTiming, '--pids', pidsOf(system)]));
  return { ...r, extra: { 'alone p50/p99': `${one.p50.toFixed(2)} / ${one.p99.toFixed(2)}` } };
});

export const concurrencyScenarios = [5, 10, 25, 50].map((c) => path(`concurrency-${c}`, `${c} in flight`, (stage) => load(stage, c)));
export const knees = [path('knee', 'where more in flight brings no more', knee)];
export const throughputScenarios = [
  ...[1, 10, 100, 1000, 2000, 10_000].map(phases),
  health('health', 'GET /health of the origin, 50 connections', []),
  health('health-no-keepalive', 'the same, a connection for each', ['--no-keepalive']),
  connections('warm', 'the target keeps connections open', '/uuid'),
  connections('none', 'the target closes each connection', '/uuid?close=1'),
  slow(1000),
  slow(10_000),
  rate(1000, 30, 300),
  rate(7000, 10, 30),
  rate(10_000, 30, 30),
  rate(20_000, 10, 30),
  path('half-load', 'latency added at half load, sync normal', halfLoad),
  path('burst', '1,000/s, then 50,000/s offered for 10 s, then 1,000/s', burst),
];
