// An origin that is gone: its results leave the executors after the jobs' deadline, what is left of them waits
// in the queue, and it loses nothing but the bodies if it comes back.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { bodyOf, heldTarget } from './lib/held_target.mjs';
import { run, until } from './lib/process.mjs';
import { SessionClient } from './lib/session_client.mjs';
import { http, startSystem } from './lib/system.mjs';

const DEADLINE_MS = 4000;

const url = (system, role) => `http://127.0.0.1:${system.ports[role]}`;
const sample = async (system, role, name) =>
  Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(await (await fetch(`${url(system, role)}/metrics`)).text())[1]);

/** A GET and a POST that are answered only after their origin has been killed. */
async function loseOrigin(t, { orchestrator } = {}, more = {}) {
  const held = await heldTarget(t);
  const system = await startSystem(t, { args: { executor: [...held.allow, '--result-grace-ms', '0'], orchestrator } });
  const client = await SessionClient.open(t, () => `${system.wsUrl}actors/proxy/gone`);
  client.submit('get', { url: held.url('get'), deadlineMs: DEADLINE_MS, ...more });
  client.submit('post', { url: held.url('post'), method: 'POST', body: 'x', deadlineMs: DEADLINE_MS, ...more });
  for (const key of ['get', 'post']) await held.asked(key);
  await system.crash('origin');
  held.release();
  return { system, client, hits: held.hits };
}

const undelivered = async (t, system, ...args) => {
  const { code, stdout, stderr } = await run(t, 'proxyfetch',
    ['jobs', 'undelivered', '--orchestrator', url(system, 'orchestrator'), ...args]);
  assert.equal(code, 0, stderr);
  return stdout;
};

test('results of an origin that is gone leave their slots, and are shown', { timeout: 150_000 }, async (t) => {
  const { system, client, hits } = await loseOrigin(t);
  await until(async () => JSON.parse(await undelivered(t, system, '--json')).total === 2, 'both are given up');
  const { jobs } = JSON.parse(await undelivered(t, system, '--json'));
  for (const job of jobs) {
    assert.deepEqual([job.code, job.certainty, job.attempts], ['undelivered', 'answered', 1]);
    assert.match(job.error, /status 200, \d+ bytes$/);
    assert.ok(job.originSilentMs > 0);
  }
  const table = await undelivered(t, system);
  for (const { reqId } of jobs) assert.match(table, new RegExp(`^${reqId} +[0-9.]+ s ago +answered +the answer came`, 'm'));
  assert.match(table, /^2 jobs$/m);
  // It hears a moment after that the queue knows.
  await until(async () => (await sample(system, 'executor', 'pf_slots_free')) === (await sample(system, 'executor', 'pf_slots')),
    'the slots are free');
  assert.equal(await sample(system, 'executor', 'pf_results_held'), 0);
  assert.equal(await sample(system, 'executor', 'pf_undelivered_total'), 2);

  await system.crash('orchestrator'); // what is left is durable
  await system.restart('orchestrator');
  await until(async () => JSON.parse(await undelivered(t, system, '--json')).total === 2, 'both are still there');

  await system.restart('origin'); // it hears of the answers, if need be after it has ended the jobs itself
  for (const key of ['get', 'post']) {
    const told = await client.event((m) => m.code === 'undelivered' && m.clientId === key);
    assert.deepEqual([told.success, told.certainty], [false, 'answered']);
    assert.match(told.error, /status 200/);
    assert.equal(hits(key), 1, 'nothing is fetched again');
  }
  await until(async () => JSON.parse(await undelivered(t, system, '--json')).total === 0, 'nothing is left');
  client.assertDense();
});

test('the digest is that of the body', { timeout: 150_000 }, async (t) => {
  const { system } = await loseOrigin(t, {}, { include: ['body'] });
  await until(async () => JSON.parse(await undelivered(t, system, '--json')).total === 2, 'both are given up');
  const text = bodyOf('get');
  const digest = createHash('sha256').update(text).digest('hex');
  assert.match(await undelivered(t, system), new RegExp(`, ${text.length} bytes, SHA-256 ${digest}$`, 'm'));
});

test('jobs of an origin that stays silent are dropped after --undelivered-keep-ms', { timeout: 150_000 }, async (t) => {
  const { system, client, hits } = await loseOrigin(t, { orchestrator: ['--undelivered-keep-ms', '500'] });
  await until(async () => (await sample(system, 'orchestrator', 'pf_abandoned_total')) === 2, 'both are dropped', 20_000);
  assert.equal((await http(`${url(system, 'orchestrator')}/v1/queue`)).body.jobs, 0);
  assert.match(system.procs.orchestrator.stderr, /jobs_abandoned count=/);
  await system.restart('origin');
  await client.settled();
  for (const m of client.events.values()) assert.ok(['deadline', 'queue_lost'].includes(m.code), m.code);
  for (const key of ['get', 'post']) assert.equal(hits(key), 1);
});
