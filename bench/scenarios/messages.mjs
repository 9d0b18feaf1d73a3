// Messages without a fetch, by a client in C (message_bench).
import { scope } from '../lib/tools.mjs';
import { messages, notes, ofMessages, path, pidsOf, startNotes, startQuiet } from './stage.mjs';

/** As many as there can be; then 100,000 a second, which shows the latency. */
async function messagePath(stage) {
  const system = await stage.started();
  const most = await messages(stage.t, system, ['--clients', 16, '--in-flight', 64, ...stage.messageTiming, '--pids', pidsOf(system, ['origin'])]);
  const rate = stage.pick(100_000, 10_000);
  const paced = ofMessages(await messages(stage.t, system, ['--clients', 16, '--rate', `${rate}:${stage.seconds(5)}`]));
  return { ...ofMessages(most), facts: { pacedP50: paced.p50, pacedP99: paced.p99 },
    extra: { [`at ${rate}/s`]: `p50 ${paced.p50.toFixed(2)}, p99 ${paced.p99.toFixed(2)} ms` } };
}

async function thousands(stage) {
  const count = stage.pick(10_000, 1000);
  return ofMessages(await messages(stage.t, await stage.started(), ['--count', count, '--in-flight', count]));
}

/** Class `note` writes to rows by turns: no two messages of a commit become one write. */
const note = (kind, bytes, clients, inFlight) => (stage) => scope(async (t) => {
  const system = await startNotes(t);
  return ofMessages(await messages(t, system, [...notes, '--kind', kind, '--bytes', bytes, '--clients', stage.pick(clients, clients / 10),
    '--in-flight', inFlight, ...stage.messageTiming, '--pids', pidsOf(system, ['origin'])]));
});

/** 1,000 actors, 100,000 messages a second of 1,024 B, for up to 300 s. */
const peak = (stage) => scope(async (t) => {
  const system = await startQuiet(t), seconds = stage.seconds(10, 300), rate = stage.pick(100_000, 5000);
  const r = await messages(t, system, ['--clients', stage.pick(1000, 100), '--bytes', 1024, '--rate', `${rate}:${seconds}`,
    '--pids', pidsOf(system, ['origin'])], (seconds + 120) * 1000);
  const okPercent = (100 * r.answered) / r.sent;
  return { ...ofMessages(r, { refusals: true }), paced: true, facts: { okPercent }, extra: { 'offered/s': rate, seconds, 'ok %': okPercent.toFixed(3) } };
});

const SLOWER_NEEDS = 60; // seconds, for a first and a last tenth that say something

/** 100 actors, 10,000 messages a second of 512 B, for up to a day: does it leak, does it get slower? */
const sustained = (stage) => scope(async (t) => {
  const system = await startQuiet(t), seconds = stage.seconds(10, 86_400), rate = stage.pick(10_000, 1000);
  const args = (s) => ['--clients', 100, '--bytes', 512, '--rate', `${rate}:${s}`, '--pids', pidsOf(system, ['origin'])];
  await messages(t, system, args(stage.pick(5, 0.2))); // so that what is needed once is there
  const before = system.procs.origin.residentKiB();
  const r = await messages(t, system, args(seconds), (seconds + 120) * 1000);
  const grownKiB = system.procs.origin.residentKiB() - before;
  const tenth = Math.floor(r.timeline.length / 10), mean = (part) => part.reduce((sum, s) => sum + s[2], 0) / part.length;
  const slowerPercent = r.timeline.length < SLOWER_NEEDS ? undefined
    : 100 * (mean(r.timeline.slice(-tenth - 1, -1)) / mean(r.timeline.slice(0, tenth)) - 1);
  return { ...ofMessages(r), paced: true, facts: { grownKiB: seconds >= SLOWER_NEEDS ? grownKiB : undefined, slowerPercent },
    extra: { 'offered/s': rate, seconds, 'origin grew by KiB': grownKiB,
      'p50 of the last tenth against the first': slowerPercent === undefined ? 'too short a run: --long 86400' : `${slowerPercent.toFixed(1)} %` } };
});

export const messageScenarios = [
  path('messages', '10,000 messages without a fetch, at once', thousands),
  path('message-path', 'messages without a fetch, as many as there can be; and at 100,000/s', messagePath),
  path('message-turn', 'messages that make a turn, 100 actors, 20 in flight for each', note('echo', 0, 100, 20)),
  path('message-write', 'messages that write a row of 100 bytes each, 100 actors, 20 in flight for each', note('put', 140, 100, 20)),
  path('message-write-single', 'the same, 1,000 actors, one in flight for each', note('put', 140, 1000, 1)),
  path('message-peak', '1,000 actors, 100,000 messages/s of 1,024 B (--long: 300 s)', peak),
  path('message-sustained', '100 actors, 10,000 messages/s of 512 B (--long: a day)', sustained),
];
