// What an operator does: look at jobs, cancel them, check, back up and restore the database.
import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { reasonsOf } from './lib/metrics.mjs';
import { run, start, tempDir, until } from './lib/process.mjs';
import { http, internalUrl, startSystem } from './lib/system.mjs';


async function submit(system, request) {
  const { status, body } = await http(`${system.httpUrl}/v1/actors/proxy/default/fetch`, {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(request) });
  assert.equal(status, 202, JSON.stringify(body));
  return body.reqId;
}
const state = async (system, id) => (await http(`${system.httpUrl}/v1/jobs/${id}`)).body;

test('jobs are listed, shown and canceled', async (t) => {
  const system = await startSystem(t);
  const jobs = (...args) => run(t, 'proxyfetch', ['jobs', '--url', system.httpUrl, ...args]);
  await system.crash('executor');
  const id = await submit(system, { url: `${system.target}/uuid`, clientId: 'mine' });

  const list = await jobs('list');
  assert.equal(list.code, 0, list.stderr);
  assert.match(list.stdout, new RegExp(`^${id} .* mine$`, 'm'));
  assert.match(list.stdout, /^1 job$/m);
  assert.match((await jobs('list', '--state', 'parked')).stdout, /^0 jobs$/m);
  await submit(system, { url: `${system.target}/uuid`, clientId: 'red\u001b[31m\u009b1mé' });
  assert.match((await jobs('list')).stdout, / red\?\[31m\?1mé$/m); // nothing that a terminal would obey

  const gone = await jobs('cancel', id);
  assert.equal(gone.code, 0, gone.stderr);
  assert.equal(JSON.parse((await jobs('show', id)).stdout).result.code, 'canceled');
  const again = await jobs('cancel', id);
  assert.equal(again.code, 1);
  assert.match(again.stderr, /no pending/);
  assert.match((await jobs('rerun', id)).stderr, /no parked job/);

  for (const args of [['list', '--state', 'lost'], ['show', 'xyz'], ['list', 'more'], ['dance', id], []]) assert.equal((await jobs(...args)).code, 2);
});

test('a backup is made while the origin works, and becomes an origin again', async (t) => {
  const system = await startSystem(t);
  await system.crash('executor');
  const get = await submit(system, { url: `${system.target}/uuid?key=get` });
  const post = await submit(system, { url: `${system.target}/uuid?key=post`, method: 'POST' });
  for (const id of [get, post]) await until(async () => (await state(system, id)).state === 'enqueued', `${id} is enqueued`);

  const backup = await run(t, 'proxyfetch', ['db', 'backup', '--internal-url', await internalUrl(system.procs.origin)]);
  assert.equal(backup.code, 0, backup.stderr);
  const { path } = JSON.parse(backup.stdout);
  await system.restart('executor');
  for (const id of [get, post]) await until(async () => (await state(system, id)).state === 'done', `${id} is done`);

  const restored = join(tempDir(t), 'restored');
  assert.equal((await run(t, 'proxyfetch', ['db', 'restore', path, restored])).code, 0);
  assert.equal((await run(t, 'proxyfetch', ['db', 'check', restored])).code, 0);
  const twice = await run(t, 'proxyfetch', ['db', 'restore', path, restored]);
  assert.equal(twice.code, 1);
  assert.match(twice.stderr, /restored\/origin\.db exists: .*choose an empty directory/);

  await system.procs.origin.stop();
  system.extra.origin = ['--data', restored];
  await system.restart('origin');
  const hits = async (key) => (await http(`${system.target}/hits/${key}`)).body.hits;
  await until(async () => (await hits('get')) === 2, 'the GET is made again: it may be repeated');
  await until(async () => (await http(`${system.httpUrl}/v1/jobs`)).body.total === 0, 'the restored jobs have ended');
  assert.equal(await hits('post'), 1); // not made again: it may have been sent
});

test('results above --result-bytes-max go, the oldest first', async (t) => {
  const system = await startSystem(t, { args: { origin: ['--result-bytes-max', '4k'] } });
  const request = { url: `${system.target}/uuid`, include: ['body', 'headers'] };
  const kept = async () => Number(/^pf_results_kept_bytes (\d+)$/m.exec(await (await fetch(`${system.httpUrl}/metrics`)).text())[1]);
  const found = async (id) => (await http(`${system.httpUrl}/v1/jobs/${id}`)).status;
  const ids = [];
  for (let i = 0; i < 20; i++) {
    ids.push(await submit(system, request));
    await until(async () => (await state(system, ids[i])).state === 'done', 'the job has ended');
  }
  await until(async () => (await found(ids[0])) === 404 && (await kept()) <= 4096, 'the oldest has gone');
  assert.equal(await found(ids.at(-1)), 200);
  assert.ok((await kept()) > 0);
});

test('a database is checked, and what is wrong is said', async (t) => {
  const system = await startSystem(t);
  await submit(system, { url: `${system.target}/uuid` });
  const dir = `${system.dir}/origin`;
  const check = (where) => run(t, 'proxyfetch', ['db', 'check', where]);
  const busy = await check(dir);
  assert.deepEqual([busy.code, /in use by process/.test(busy.stderr)], [3, true], busy.stderr); // nothing was found out
  await system.stop();
  assert.match((await check(dir)).stdout, /origin\.db: ok/);
  assert.match((await check(`${system.dir}/orchestrator`)).stdout, /queue\.db: ok/);
  assert.match((await check(tempDir(t))).stderr, /neither origin\.db nor queue\.db/);

  const file = join(dir, 'origin.db');
  const bytes = readFileSync(file);
  bytes.fill(0xff, 4096, 4096 + 2048); // the middle of a page
  writeFileSync(file, bytes);
  const bad = await check(dir);
  assert.equal(bad.code, 1);
  assert.match(bad.stderr, /origin\.db/);
  assert.ok(existsSync(file), 'a check moves nothing aside');

  const queue = join(system.dir, 'orchestrator', 'queue.db');
  writeFileSync(queue, 'this was a database'.repeat(300));
  const lost = await check(`${system.dir}/orchestrator`);
  assert.equal(lost.code, 1);
  assert.match(lost.stderr, /move it aside, .*; the origins announce their jobs again/); // there is no backup of a queue
});

test('what is no backup of an origin is not put in its place', async (t) => {
  const dir = tempDir(t), to = join(dir, 'to'), queue = join(dir, 'queue.db'), text = join(dir, 'text'), empty = join(dir, 'empty');
  writeFileSync(text, 'no database'.repeat(100));
  writeFileSync(empty, '');
  const orchestrator = await start(t, 'proxyfetch-orchestrator', ['--listen', 'localhost:0', '--data', dir]);
  await orchestrator.stop();
  for (const [from, why] of [[join(dir, 'nothing'), /cannot read .*\/nothing: No such file/], [dir, /is not a regular file/],
    [text, /\/text is damaged or no database: choose another backup/], [empty, /\/empty is empty: choose another backup/], [queue, /\/queue\.db was written by another program/]]) {
    const { code, stderr } = await run(t, 'proxyfetch', ['db', 'restore', from, to]);
    assert.equal(code, from === queue ? 3 : 1, stderr);
    assert.match(stderr, why);
    assert.deepEqual(readdirSync(to), []);
  }
  const forged = readFileSync(queue); // says that it is an origin's, and has other tables
  forged.writeUInt32BE(1, 60); // user_version
  forged.writeUInt32BE(0x70664f31, 68); // application_id
  writeFileSync(queue, forged);
  assert.equal((await run(t, 'proxyfetch', ['db', 'restore', queue, to])).code, 1);
  assert.deepEqual(readdirSync(to), []);
});

test('an origin that has gone, and what the queue holds for it, are shown', async (t) => {
  const system = await startSystem(t);
  const orchestrator = `http://127.0.0.1:${system.ports.orchestrator}`;
  const origins = (...args) => run(t, 'proxyfetch', ['jobs', 'origins', '--orchestrator', orchestrator, ...args]);
  await system.crash('executor');
  await submit(system, { url: `${system.target}/uuid` });
  const shown = async () => JSON.parse((await origins('--json')).stdout).origins[0];
  await until(async () => (await shown())?.jobs === 1, 'the queue holds the job');
  await system.crash('origin');
  const { silentMs } = await shown();
  await until(async () => (await shown()).silentMs > silentMs, 'its silence grows');
  const table = await origins();
  assert.equal(table.code, 0, table.stderr);
  assert.match(table.stdout, new RegExp(`^[0-9a-f]{16} +[0-9.]+ s ago +1  ${await internalUrl(system.procs.origin)}$`, 'm'));

  await system.crash('orchestrator');
  await system.restart('orchestrator');
  await until(async () => (await shown())?.jobs === 1, 'the queue has the job again');
  assert.match((await origins()).stdout, / 1 {2}- \(not heard of since the queue started\)$/m);
  assert.equal((await run(t, 'proxyfetch', ['jobs', 'origins', 'more'])).code, 2);
});

test('each process says what it lacks', async (t) => {
  const system = await startSystem(t);
  const health = async (role = 'origin') => (await http(`http://127.0.0.1:${system.ports[role]}/health/detailed`)).body;
  const codes = async (role) => reasonsOf(await health(role)).join();
  for (const role of ['origin', 'orchestrator', 'executor'])
    await until(async () => (await codes(role)) === '', `${role} is well`);
  const good = await health();
  assert.deepEqual([good.role, good.pid, good.orchestrator.reachable, good.jobs.outbox], ['origin', system.procs.origin.pid, true, 0]);
  assert.deepEqual(reasonsOf((await http(`${await internalUrl(system.procs.origin)}/health/detailed`)).body), []);
  assert.equal((await http(`${system.httpUrl}/health/detailed`, { method: 'POST' })).status, 415);

  await system.crash('orchestrator');
  const id = await submit(system, { url: `${system.target}/uuid` });
  await until(async () => (await codes()) === 'orchestrator_unreachable', 'the origin misses the orchestrator');
  const bad = await health();
  assert.deepEqual([bad.status, bad.orchestrator.reachable, bad.jobs.outbox], ['degraded', false, 1]);
  assert.ok(bad.orchestrator.sinceMs <= bad.uptimeMs && bad.jobs.oldestMs <= bad.uptimeMs);
  const { text } = bad.reasons.find(({ code }) => code === 'orchestrator_unreachable');
  assert.match(text, /no answer for \d+ ms/);
  await until(async () => (await codes('executor')) === 'lease_over', 'the executor misses it too');

  await system.restart('orchestrator');
  for (const role of ['origin', 'orchestrator', 'executor'])
    await until(async () => (await codes(role)) === '', `${role} is well again`);
  await until(async () => (await state(system, id)).state === 'done', 'the job is done');
  await system.crash('executor');
  await until(async () => (await codes('orchestrator')) === 'no_executor', 'the orchestrator misses the executor');
  const metrics = await (await fetch(`${system.httpUrl}/metrics`)).text();
  for (const line of ['pf_outbox 0', 'pf_oldest_job_seconds 0', 'pf_queue_reachable 1', 'pf_invariant_failures_total 0'])
    assert.ok(metrics.includes(`\n${line}\n`), line);
  assert.match(metrics, /^pf_loop_lag_seconds_max \d/m);
});
