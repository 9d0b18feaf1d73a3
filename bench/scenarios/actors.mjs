// Many actors and many clients: what they cost to make, to keep and to leave alone.
import { performance } from 'node:perf_hooks';
import { setTimeout as pause } from 'node:timers/promises';
import { start, until } from '../../tests/process/lib/process.mjs';
import { connectWs } from '../../tests/process/lib/ws_client.mjs';
import { figuresOf } from '../lib/figures.mjs';
import { scope } from '../lib/tools.mjs';
import { fetches, messages, metric, notes, ofMessages, path, pidsOf, residentMiB, startNotes, startQuiet } from './stage.mjs';

/** So many fetches at once by each of so many actors. */
const actors = (count, each) => path(`actors-${count}`, `${count} actors, ${each} fetches each, all at once`, async (stage) => {
  const system = await stage.started(), per = stage.pick(each, each / 10);
  const r = await fetches(stage.t, system, ['--clients', count, '--in-flight', per, '--count', count * per, '--pids', pidsOf(system)]);
  return { ...ofMessages(r), extra: { ...residentMiB(system), 'all done in ms': Math.round(r.seconds * 1000) } };
});

/** Chains of five fetches (class checkout), 25 at a time. */
async function checkout(stage) {
  const system = await stage.started();
  return scope(async (t) => {
    const ws = await connectWs(t, `${system.wsUrl}actors/checkout/bench`);
    const seconds = stage.pick(20, 0.3), began = new Map(), samples = [];
    const start = performance.now(), open = () => performance.now() - start < seconds * 1000;
    let sent = 0, seen = 0;
    const send = () => {
      began.set(`c${sent}`, performance.now());
      ws.send({ type: 'checkout', clientId: `c${sent++}`, base: system.target, items: 3 });
    };
    while (sent < 25) send();
    while (samples.length < sent) {
      const m = await ws.next(() => true, { after: seen++ });
      if (m.type === 'enqueued') continue; // of one of its fetches
      if (m.type !== 'checkout-complete') throw new Error(`checkout failed: ${JSON.stringify(m)}`);
      if (m.items.length !== 3) throw new Error(`a chain lost items: ${JSON.stringify(m)}`);
      samples.push(performance.now() - began.get(m.clientId));
      began.delete(m.clientId);
      if (open()) send();
    }
    const took = (performance.now() - start) / 1000;
    return { unit: 'ms', ops: samples.length / took, ...figuresOf(samples), extra: { 'fetches a chain': 5 } };
  });
}

/** Share of one processor that a process uses while nothing happens. */
async function idlePercent(proc, seconds) {
  const before = proc.cpuMs();
  await pause(seconds * 1000);
  return (proc.cpuMs() - before) / seconds / 10;
}

const heldBy = (t, system, args) => start(t, 'message_bench', ['--server', system.wsUrl, '--hold', ...args.map(String)], { ready: /holds \d+ conn/ });

const MEANINGFUL = 1000; // actors, above which the memory of the process divided by them says something

/** Actors that each got one message which wrote: two waves, so that the memory which the first one
 *  leaves behind in its sleep is seen, and not what the allocator keeps. */
const many = (full) => path(`many-actors-${full}`, `${full} actors: creation, throughput, memory, CPU when idle`, (stage) => scope(async (t) => {
  const count = stage.pick(full, Math.min(full, 200)), idleMs = stage.pick(5000, 200);
  const system = await startNotes(t, { args: { origin: ['--actor-idle-ms', `${idleMs}`] } });
  const origin = system.procs.origin, rss = () => origin.residentKiB() * 1024;
  const wave = (name) => messages(t, system, ['--path', `/actors/note/${name}-`, '--kind', 'put', '--bytes', 128, '--clients', count, '--opening', 50, '--leave']);
  const asleep = () => until(async () => (await metric(system, 'pf_actors_resident')) === 0, 'all actors sleep', 30_000);
  await messages(t, system, [...notes, '--kind', 'put', '--bytes', 128, '--clients', 50, '--leave']); // what is needed once
  await asleep();
  const base = rss(), first = await wave('a'), awake = rss();
  await asleep();
  await wave('b');
  const second = rss();
  const load = ofMessages(await messages(t, system, ['--path', '/actors/note/a-', '--kind', 'echo', '--clients', count,
    '--in-flight', Math.max(1, Math.floor(64 / count)), ...stage.messageTiming]));
  const idle = await scope(async (inner) => {
    await heldBy(inner, system, ['--path', '/actors/note/a-', '--kind', 'echo', '--clients', count]);
    return idlePercent(origin, stage.pick(10, 0.2));
  });
  const each = (bytes) => (count >= MEANINGFUL ? Math.max(0, Math.round(bytes / count)) : undefined);
  const facts = { createdPerS: (count / first.openedMs) * 1000, createdP50: first.firstMs.p50, awakeBytes: each(awake - base),
    asleepBytes: each(second - awake), idlePercent: idle };
  return { ...load, facts, extra: { 'created/s': Math.round(facts.createdPerS), 'creation p50/p99 ms': `${first.firstMs.p50.toFixed(2)} / ${first.firstMs.p99.toFixed(2)}`,
    'bytes awake': facts.awakeBytes ?? 'too few to tell', 'bytes asleep': facts.asleepBytes ?? 'too few to tell',
    'CPU idle %': idle.toFixed(1) } };
}));

/** Connections on which nothing happens. */
const idleClients = (stage) => scope(async (t) => {
  const system = await startQuiet(t), count = stage.pick(5000, 200), origin = system.procs.origin;
  const args = (clients) => ['--clients', clients, '--shared'];
  await messages(t, system, [...args(50), '--leave']);
  const before = origin.residentKiB();
  await heldBy(t, system, args(count));
  const bytes = Math.round(((origin.residentKiB() - before) * 1024) / count);
  const idle = await idlePercent(origin, stage.pick(10, 0.2));
  const busy = ofMessages(await messages(t, system, ['--clients', 1, ...stage.messageTiming]));
  return { ...busy, facts: { bytes }, extra: { 'idle clients': count, 'bytes each': bytes, 'CPU idle %': idle.toFixed(1) } };
});

/** One actor: after it was made, after 1,000 messages that write a row of 1 KB each, after the checkpoint. */
const memory = (stage) => scope(async (t) => {
  const system = await startNotes(t), kiB = () => system.procs.origin.residentKiB();
  const put = (count, inFlight) => messages(t, system, [...notes, '--kind', 'put', '--bytes', 1060, '--count', count, '--in-flight', inFlight]);
  const started = kiB();
  await put(1, 1);
  const made = kiB(), checkpoints = await metric(system, 'pf_store_checkpoints_total');
  const r = await put(stage.pick(1000, 100), 10), written = kiB();
  await until(async () => (await metric(system, 'pf_store_checkpoints_total')) > checkpoints, 'a checkpoint');
  return { ...ofMessages(r), extra: { 'KiB at start': started, 'after creation': made, 'after the messages': written, 'after the checkpoint': kiB() } };
});

const clients500 = async (stage) => {
  const system = await stage.started(), seconds = stage.seconds(10, 60);
  return ofMessages(await fetches(stage.t, system, ['--clients', stage.pick(500, 100), '--duration-ms', seconds * 1000, '--pids', pidsOf(system)]));
};

export const actorScenarios = [
  path('checkout', 'chains of five fetches, 25 at a time', checkout),
  actors(1, 1000),
  actors(10, 1000),
  ...[1, 10, 100, 1000, 10_000].map(many),
  path('idle-clients', 'WebSocket clients that do nothing: bytes of each', idleClients),
  path('memory', 'memory after creation, after 1,000 messages, after a checkpoint', memory),
  path('clients-500', '500 clients, each with one fetch after the other (--long: 60 s)', clients500),
];
