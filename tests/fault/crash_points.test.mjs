// Every labelled crash point, in every role that has it: the process dies exactly there, comes back, and
// nothing is lost and nothing happens twice. A point that is never reached fails its test.
//
//   node tests/fault/crash_points.test.mjs            the first hit of each point
//   PF_FAULT_HITS=1,2,3 PF_FAULT_MODES=crash,stop …   the long form (scripts/campaign)
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { until, within } from '../process/lib/process.mjs';
import { startSystem } from '../process/lib/system.mjs';
import { SessionClient } from '../process/lib/session_client.mjs';
import { assertHits, assertQuiet, submitAll } from './work.mjs';

const STORE = ['store.before_commit', 'store.after_commit', 'store.before_checkpoint', 'store.after_checkpoint'];
const POINTS = {
  origin: ['origin.commit.before', 'origin.commit.after', 'origin.release.before', 'origin.announce.before_send',
    'origin.announce.after_send', 'origin.result.before_ack', 'origin.continuation.before', ...STORE],
  orchestrator: ['orchestrator.enqueue.before_commit', 'orchestrator.enqueue.after_commit',
    'orchestrator.lease.before_commit', 'orchestrator.dispatch.before_send', 'orchestrator.dispatch.after_send',
    'orchestrator.complete.before_commit', 'orchestrator.complete.after_commit', ...STORE],
  executor: ['executor.before_start', 'executor.after_start', 'executor.mid_body', 'executor.after_fetch',
    'executor.after_callback', 'executor.before_complete'],
};
const HITS = (process.env.PF_FAULT_HITS ?? '1').split(',').map(Number);
const MODES = (process.env.PF_FAULT_MODES ?? 'crash').split(',');
const ONLY = process.env.PF_FAULT_ONLY; // one label
const STOPPED_MS = 3000;                // longer than the lease
const AT_START = 6;                     // a store commits a few times before its process serves
const FETCHES = 24;

/** Short leases, so that a lost executor is noticed soon. */
const QUICK = {
  orchestrator: ['--lease-ms', '1000', '--grace-ms', '500', '--retry-base-ms', '20'],
  executor: ['--lease-ms', '1000', '--heartbeat-ms', '200'],
};

/** Waits for the crash and brings the role back; a stopped one is a zombie first: silent, then back. */
async function watch(system, role, proc, plan, mode) {
  if (mode === 'stop') {
    await until(() => proc.stopped(), `${plan} is hit`, 30_000);
    await new Promise((done) => setTimeout(done, STOPPED_MS));
    proc.signal('SIGCONT');
    return;
  }
  const { code } = await within(proc.exited, 30_000, `${plan} is hit`);
  assert.equal(code, 137, `${role} died at ${plan}`);
  proc.ended = true;
  await system.restart(role);
}

async function campaign(t, role, label, hit, mode) {
  const at = /^store\..*commit$/.test(label) ? hit + AT_START : hit;
  const plan = `${label}:${at}${mode === 'stop' ? ':stop' : ''}`;
  const system = await startSystem(t, { args: QUICK });
  await system.procs[role].stop();
  system.env[role] = { PF_CRASH: plan };
  const proc = await system.restart(role);
  delete system.env[role];
  const back = watch(system, role, proc, plan, mode);
  back.catch(() => {}); // awaited below

  const client = await SessionClient.open(t, () => `${system.wsUrl}actors/proxy/fault`);
  const shop = await SessionClient.open(t, () => `${system.wsUrl}actors/checkout/fault`);
  submitAll(client, system.target, 'k', FETCHES, () => 1);
  // beside it a chain whose continuations are user code
  shop.send({ type: 'checkout', clientId: 'shop', base: system.target, items: 3 });
  await back;
  await client.settled();
  client.assertDense();
  await assertHits(system, client, ['sent_unknown', 'not_sent'], plan);
  if (label === 'origin.continuation.before') {
    const complete = await shop.event((m) => m.type === 'checkout-complete');
    assert.equal(complete.items.length, 3);
  }
  await assertQuiet(system);
  shop.assertDense();
}

test('every label in the sources is one of these', () => {
  const cwd = new URL('../../', import.meta.url);
  const text = execFileSync('grep', ['-rhoE', '--include=*.c', 'PF_FAULT\\("[^"]+"\\)', 'lib', 'origin', 'orchestrator', 'executor'], { cwd });
  const labels = new Set(text.toString().match(/[a-z_]+(\.[a-z_]+)+/g));
  assert.deepEqual([...labels].sort(), [...new Set(Object.values(POINTS).flat())].sort());
});

for (const [role, labels] of Object.entries(POINTS))
  for (const label of labels)
    for (const hit of label.includes('checkpoint') ? HITS.slice(0, 1) : HITS) // a short run has one
      for (const mode of MODES)
        if (!ONLY || ONLY === label)
          test(`${role} at ${label}, hit ${hit}: ${mode}`, { timeout: 150_000 },
            (t) => campaign(t, role, label, hit, mode));
