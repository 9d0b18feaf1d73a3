// Every role is told to stop and started again in its turn, as at an upgrade, while work goes on: it
// drains, exits with 0, and nobody who submitted anything notices more than a broken connection.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defer, until, within } from './lib/process.mjs';
import { SessionClient } from './lib/session_client.mjs';
import { http, startSystem } from './lib/system.mjs';

const TICK_MS = 20; // a GET and a POST each
const ROUNDS = 2;
const NEW_RESULTS = 40; // after each restart, before the next role stops
const JOBS_MAX = 4000;
const PATHS = ['/uuid?', '/delay/150?', '/uuid?', '/drip?bytes=20&ms=5&'];

/** A GET of one session and a POST of the other at each tick, until it is cleared. */
function steadyLoad(t, { target, gets, posts }) {
  let count = 0;
  const timer = setInterval(() => {
    if (count >= JOBS_MAX / 2) return;
    const path = PATHS[count % PATHS.length], key = count++;
    gets.submit(`g${key}`, { url: `${target}${path}key=g${key}` });
    posts.submit(`p${key}`, { url: `${target}${path}key=p${key}`, method: 'POST', body: 'x' });
  }, TICK_MS);
  defer(t, () => clearInterval(timer));
  return () => clearInterval(timer);
}

const results = (client) => [...client.events.values()].filter((m) => m.type === 'result');

/** Until so many results have come that were not there before. */
function news(client, count) {
  const due = results(client).length + count;
  return within(new Promise((done) => {
    const look = () => results(client).length >= due && (client.looking.delete(look), done());
    client.looking.add(look);
    look();
  }), 30_000, `${count} new results`);
}

test('a rolling restart of all roles under load: no GET fails, no POST is sent twice', { timeout: 150_000 }, async (t) => {
  const system = await startSystem(t);
  const open = (name) => SessionClient.open(t, () => `${system.wsUrl}actors/proxy/${name}`);
  const gets = await open('gets'), posts = await open('posts');
  const endLoad = steadyLoad(t, { target: system.target, gets, posts });
  const both = () => Promise.all([gets, posts].map((client) => news(client, NEW_RESULTS)));

  await both();
  for (let round = 0; round < ROUNDS; round++)
    for (const role of ['executor', 'orchestrator', 'origin']) {
      await system.procs[role].stop(); // asserts exit code 0
      await system.restart(role);
      await both();
    }
  endLoad();
  await Promise.all([gets, posts].map((client) => client.settled(30_000)));

  for (const client of [gets, posts]) {
    client.assertDense(); // one result each: its continuation took effect once
    assert.ok(client.breaks >= ROUNDS, 'the origin did go away');
    assert.deepEqual(client.errors, [], 'no refusal');
    assert.deepEqual(results(client).filter((m) => !m.success), [], 'no job failed');
  }
  const hits = async (key) => (await http(`${system.target}/hits/${key}`)).body.hits;
  for (const key of posts.submitted.keys()) assert.equal(await hits(key), 1, `${key} is sent once`);
  for (const key of gets.submitted.keys()) assert.ok((await hits(key)) >= 1, key);
  t.diagnostic(`${gets.submitted.size} GETs, ${posts.submitted.size} POSTs, ${gets.breaks} breaks`);
});

test('an orchestrator that is told to stop while it commits a lease: the POST is sent once', { timeout: 150_000 }, async (t) => {
  const system = await startSystem(t);
  await system.procs.orchestrator.stop();
  system.env.orchestrator = { PF_CRASH: 'orchestrator.lease.before_commit:1:stop' };
  const proc = await system.restart('orchestrator');
  const client = await SessionClient.open(t, () => `${system.wsUrl}actors/proxy/one`);
  client.submit('p', { url: `${system.target}/uuid?key=p`, method: 'POST', body: 'x' });

  await until(() => proc.stopped(), 'the lease is about to be committed');
  proc.signal('SIGTERM');
  proc.signal('SIGCONT');
  await within(proc.exited, 10_000, 'it ends');
  proc.ended = true;
  delete system.env.orchestrator;
  await system.restart('orchestrator');

  await client.settled(30_000);
  const [result] = results(client);
  assert.ok(result.success, JSON.stringify(result));
  assert.equal((await http(`${system.target}/hits/p`)).body.hits, 1);
});

test('an executor that does not answer delays the stop of the orchestrator, but does not prevent it', { timeout: 150_000 }, async (t) => {
  const system = await startSystem(t);
  const { orchestrator, executor } = system.procs;
  const client = await SessionClient.open(t, () => `${system.wsUrl}actors/proxy/one`);
  executor.signal('SIGSTOP');
  client.submit('g', { url: `${system.target}/uuid?key=g` });
  const queue = `http://127.0.0.1:${system.ports.orchestrator}`;
  await until(async () => (await http(`${queue}/v1/queue`)).body.states.leased === 1, 'the job is leased');
  await orchestrator.stop(); // asserts exit code 0
  assert.match(orchestrator.stderr, /drain_cut_short/);
  executor.signal('SIGCONT');
  await system.restart('orchestrator');
  await client.settled(30_000);
  assert.ok(results(client)[0].success);
});
