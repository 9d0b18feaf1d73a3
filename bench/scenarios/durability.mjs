// What being durable costs, and what it is for: sync modes, starts, recovery, a long queue.
import { performance } from 'node:perf_hooks';
import { until } from '../../tests/process/lib/process.mjs';
import { http, startSystem } from '../../tests/process/lib/system.mjs';
import { connectWs } from '../../tests/process/lib/ws_client.mjs';
import { figuresOf, median } from '../lib/figures.mjs';
import { measure, scope } from '../lib/tools.mjs';
import { fetches, loadOf, metric, ofMessages, path, pidsOf, startQuiet } from './stage.mjs';

/** Processes from nothing; the first fetch; fetches after it. */
async function cold(stage) {
  const rounds = stage.pick(5, 2), starts = [], firsts = [], warm = [];
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
  const facts = { startMs: median(starts), firstMs: median(firsts), warmMs: median(warm) };
  return { unit: 'ms (first fetch)', ops: 1000 / facts.firstMs, ...figuresOf(firsts), facts,
    extra: { 'process start ms': facts.startMs.toFixed(1), 'first fetch ms': facts.firstMs.toFixed(2), 'warm fetch ms': facts.warmMs.toFixed(2) } };
}

const sync = (mode) => path(`sync-${mode}`, `state saved with --sync ${mode}, one in flight and 100`, (stage) =>
  scope(async (t) => {
    const system = await startQuiet(t, { sync: mode });
    const many = await loadOf(t, system, stage.timing, 100);
    const one = ofMessages(await fetches(t, system, [...stage.messageTiming, '--pids', pidsOf(system)]));
    return { ...one, extra: { 'c=100': `${Math.round(many.ops)}/s, p99 ${many.p99.toFixed(1)} ms` } };
  }));

const BATCH = 10_000;

/** Origin and queue are killed with so many jobs pending. Time counts from the first restart. */
const recovery = (stage) => scope(async (t) => {
  const count = stage.pick(100_000, 2000), batch = Math.min(count, BATCH), system = await startQuiet(t);
  await system.crash('executor');
  const ws = await connectWs(t, system.wsUrl);
  for (let i = 0; i < count / batch; i++)
    ws.send({ type: 'start-batch-fetch', batchId: `b${i}`, count: batch, url: `${system.target}/uuid?key=old` });
  await until(async () => (await metric(system, 'pf_enqueued_total')) === count, 'all are enqueued', 120_000);
  await system.crash('origin');
  await system.crash('orchestrator');
  const began = performance.now(), seconds = () => (performance.now() - began) / 1000;
  const hits = async () => (await http(`${system.target}/hits/old`)).body.hits;
  for (const role of ['orchestrator', 'executor', 'origin']) await system.restart(role);
  await until(async () => (await hits()) > 0, 'the first dispatch', 60_000);
  const firstSeconds = seconds();
  await until(async () => (await http(`${system.httpUrl}/v1/jobs?limit=1`)).body.total === 0 && (await hits()) >= count, 'all have ended', 300_000);
  const allSeconds = seconds(), fetched = await hits();
  if (fetched !== count) throw new Error(`${count} jobs became ${fetched} fetches`);
  return { unit: 'ms', ops: count / allSeconds, samples: count, facts: { firstSeconds, allSeconds },
    extra: { jobs: count, 'first dispatch after s': firstSeconds.toFixed(2), 'all done after s': allSeconds.toFixed(1), 'fetched twice': 0 } };
});

const SLOTS = 100, CLIENTS = 10;

async function queuedNow(system) {
  const text = await (await fetch(`http://127.0.0.1:${system.ports.orchestrator}/metrics`)).text();
  return Number(/^pf_jobs\{state="ready"\} (\d+)/m.exec(text)[1]);
}

/** The whole path with an executor of few slots, so that all others in flight wait in the queue: what a
 *  job costs origin, orchestrator and executor when many wait, and when few do. */
async function costQueued(t, stage, queued) {
  const system = await startQuiet(t, { args: { executor: ['--slots', `${SLOTS}`] } });
  let seen = 0, done = false;
  const watch = until(async () => (seen = Math.max(seen, await queuedNow(system))) && done, 'the end', 280_000);
  const r = await fetches(t, system, ['--clients', CLIENTS, '--in-flight', (queued + SLOTS) / CLIENTS,
    ...(stage.short ? ['--duration-ms', 300] : ['--duration-ms', 10_000, '--warmup-ms', 15_000]),
    '--pids', pidsOf(system, ['origin', 'orchestrator', 'executor'])]);
  done = true;
  await watch;
  const { client, ...ours } = r.cpuUs;
  return { record: ofMessages(r), us: Object.values(ours).reduce((a, b) => a + b, 0), parts: ours, seen };
}

async function flatCost(stage) {
  const [few, many] = stage.pick([1000, 100_000], [100, 1000]);
  const a = await scope((t) => costQueued(t, stage, few)), b = await scope((t) => costQueued(t, stage, many));
  const text = (r) => `${Object.entries(r.parts).map(([role, us]) => `${role} ${us.toFixed(1)}`).join(' + ')} = ${r.us.toFixed(1)} us (${r.seen} seen waiting, ${Math.round(r.record.ops)}/s)`;
  return { ...b.record, facts: { ratio: b.us / a.us, seen: b.seen },
    extra: { [`${few} queued`]: text(a), [`${many} queued`]: text(b), ratio: (b.us / a.us).toFixed(2) } };
}

export const durabilityScenarios = [
  path('cold', 'start of a process, first fetch, warm fetch', cold),
  sync('full'),
  sync('normal'),
  path('recovery', 'origin and queue are killed with 100,000 jobs pending', recovery),
  path('flat-cost', 'CPU of a job with 1,000 and with 100,000 queued, whole path', flatCost),
];
