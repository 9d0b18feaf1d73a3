// In one process: what continuations, actors, logs, tables and the queue's decisions cost.
import { run } from '../../tests/process/lib/process.mjs';
import { micro, slot } from './stage.mjs';

/** What a job costs in the queue, with few and with many others waiting. */
async function queue(stage) {
  const jobs = stage.pick(500_000, 20_000);
  const { code, stdout } = await run(stage.t, 'queue_bench', [`${jobs}`]);
  const ns = [...stdout.matchAll(/queued: +(\d+) ns/g)].map((m) => Number(m[1]));
  if (code !== 0 || ns.length !== 2) throw new Error(`queue_bench: ${stdout}`);
  return { unit: 'us', ops: 1e9 / ns[1], samples: jobs, mean: ns[1] / 1000, facts: { ratio: ns[1] / ns[0] },
    extra: { 'ns with 1,000 queued': ns[0], 'ns with 100,000 queued': ns[1], ratio: (ns[1] / ns[0]).toFixed(2) } };
}

export const continuations = [
  micro('continuation-noop', 'a continuation that does nothing'),
  micro('continuation-steps', '1,000 steps of computation'),
  micro('continuation-follow', 'one follow-up fetch'),
  micro('continuation-parallel', 'five follow-up fetches and a join'),
  micro('continuation-extract', 'a field of a JSON body'),
  micro('continuation-append', 'a string grows in the state'),
  micro('continuation-row', 'a new row of state'),
  micro('continuation-iterate', 'over 1,000 rows of state'),
];
export const authorization = ['internal', 'tenant', 'public'].flatMap((tier) => [
  slot(`permission-${tier}`, `permission look-up, tier ${tier}`),
  slot(`authorize-${tier}`, `authorization alone, tier ${tier}`),
  slot(`authorized-${tier}`, `whole path, tier ${tier}`)]);
export const wake = [
  micro('wake-1k', 'an actor with 1 KB of state wakes'),
  micro('wake-64k', 'an actor with 64 KB of state wakes'),
  micro('wake-1m', 'an actor with 1 MB of state wakes', 'turn_bench', 1000),
];
export const logs = [
  micro('log-off', 'log capture off'),
  ...[0, 1, 5, 10].map((n) => micro(`log-${n}`, `log capture on, ${n} lines`)),
];
export const limits = [slot('rate-limit', 'rate limiting on against off')];
export const steps = [
  slot('users-100', '100 authenticated users with mixed tiers'),
  micro('continuation-dispatch', 'from a result that is safe to the first line of its continuation', 'core_bench', 20_000),
  micro('message-state', 'a message that writes state, in one process'),
  micro('create-1k', 'an actor with 1 KB of state is made'),
  micro('create-64k', 'an actor with 64 KB of state is made'),
  micro('create-1m', 'an actor with 1 MB of state is made', 'turn_bench', 500),
  micro('table-hit', 'an actor is found in memory', 'core_bench', 2000),
  micro('table-miss', 'an actor is not found in memory', 'core_bench', 2000),
  micro('table-insert', 'an actor is entered, and asked for in the database', 'core_bench', 2000),
  micro('table-evict', 'an actor leaves memory', 'core_bench', 2000),
  micro('slot-acquire', 'a job that is ready gets a free slot', 'queue_bench', 100_000),
  { name: 'queue', kind: 'micro', help: 'a job in the queue, with 1,000 and 100,000 queued', run: queue },
];
