// The orchestrator as a process, between an origin and executors that the test plays.

import assert from 'node:assert/strict';
import { openSync, writeSync, closeSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { run, start, tempDir, until } from './lib/process.mjs';
import { RawConnection } from './lib/raw.mjs';
import { reasonsOf } from './lib/metrics.mjs';
import { BATCH, call, encodeBatch, FakeExecutor, FakeOrigin, hex } from './lib/hop.mjs';

const LEASE_MS = 1500; // many heartbeats of the played executors, which a busy machine may hold up

function startOrchestrator(t, { data = tempDir(t), port = 0, args = [], env } = {}) {
  return start(t, 'proxyfetch-orchestrator', ['--listen', `localhost:${port}`, '--data', data,
    '--lease-ms', `${LEASE_MS}`, '--grace-ms', '500', '--retry-base-ms', '20', ...args], { env });
}

const queueOf = async (url) => (await fetch(`${url}/v1/queue`)).json();
const empty = (url) => until(async () => (await queueOf(url)).jobs === 0, 'empty queue');

async function setUp(t, options) {
  const orchestrator = await startOrchestrator(t, options);
  const origin = await FakeOrigin.start(t, orchestrator.url);
  return { orchestrator, origin, url: orchestrator.url };
}

test('a job goes through', async (t) => {
  const { origin, url } = await setUp(t);
  const executor = await FakeExecutor.start(t, url);
  const job = origin.job(1, { statuses: undefined });
  assert.deepEqual(await origin.announce([job]), [{ answer: 'queued' }]);
  const item = await executor.next();
  assert.equal(item.job, job.job);
  assert.equal(item.body, `request ${job.job}`);
  assert.equal(item.capability, job.capability);
  assert.equal(item.attempt, 1);
  assert.equal(item.batch.queueEpoch, origin.queueEpoch);
  assert.equal(item.fence.slice(0, 16), origin.queueEpoch);
  assert.deepEqual(item.batch.origins[origin.id], { epoch: origin.epoch, url: origin.url });
  assert.equal((await origin.announce([job]))[0].answer, 'known');
  assert.equal(await executor.complete(item), 'ok');
  assert.equal((await queueOf(url)).jobs, 0);
  assert.equal((await origin.announce([job]))[0].answer, 'done');
  assert.equal(await executor.complete(item), 'ok'); // its answer was lost: once more
});

test('without an executor jobs wait, and it is said', async (t) => {
  const { origin, url } = await setUp(t);
  assert.deepEqual(await origin.announce([origin.job(1)]), [{ answer: 'queued', noExecutor: true }]);
  assert.equal((await queueOf(url)).states.ready, 1);
  const executor = await FakeExecutor.start(t, url);
  await executor.complete(await executor.next());
  await empty(url);
});

test('queue wait over: a typed failure with the capability', async (t) => {
  const { origin, url } = await setUp(t);
  await origin.announce([origin.job(1, { queueMs: 50 })]);
  const result = await origin.results.take('result');
  assert.equal(result.code, 'queue_timeout');
  assert.equal(result.certainty, 'not_sent');
  assert.equal(result.capability, 'ab'.repeat(32));
  assert.equal(result.fence, '0'.repeat(32));
  await empty(url);
});

test('more jobs than slots: the rest follows as slots get free', async (t) => {
  const { origin, url } = await setUp(t);
  const executor = await FakeExecutor.start(t, url, { slots: 2 });
  await origin.announce([1, 2, 3, 4, 5].map((local) => origin.job(local)));
  for (let i = 0; i < 5; i++) {
    const item = await executor.next();
    assert.ok(executor.held.size <= 2);
    await executor.complete(item);
  }
  await empty(url);
});

test('an executor joins once, whatever it says afterwards', async (t) => {
  const orchestrator = await startOrchestrator(t);
  const id = hex(7);
  const beat = (incarnation, leaving) => call('PUT', `${orchestrator.url}/v1/executors/${id}`, [[
    { executor: id, incarnation, url: 'http://127.0.0.1:9', slots: 1, free: 1, ...(leaving && { leaving }) }]]);
  await beat(hex(1)); // by the second one it is replaced
  await beat(hex(2));
  await beat(hex(1)); // a delayed one
  await beat(hex(2), true);
  await beat(hex(2), true); // a repeated goodbye
  await orchestrator.waitFor(/event=executor_left /);
  const joined = [...orchestrator.stderr.matchAll(/event=executor_joined executor=\w+ incarnation=(\w+)/g)].map(([, who]) => who);
  assert.deepEqual(joined, [hex(1), hex(2)]);
  assert.equal((await queueOf(orchestrator.url)).executors.length, 0);
});

test('a dead executor: the origin is asked, then another one gets the job', async (t) => {
  const { origin, url } = await setUp(t);
  const first = await FakeExecutor.start(t, url);
  await origin.announce([origin.job(1)]);
  const lost = await first.next();
  first.silence();
  const second = await FakeExecutor.start(t, url);
  const item = await second.next();
  assert.equal(item.attempt, 2);
  assert.notEqual(item.fence, lost.fence);
  assert.equal(await origin.asked.take('status'), item.job);
  await second.complete(item);
  await empty(url);
});

test('a dead executor whose result had arrived: nothing is fetched again', async (t) => {
  const { origin, url } = await setUp(t);
  const executor = await FakeExecutor.start(t, url);
  await origin.announce([origin.job(1)]);
  await executor.next();
  origin.status = () => 'done';
  executor.silence();
  await empty(url);
  assert.equal((await queueOf(url)).counters.redispatched, 0);
});

test('while the origin is silent nothing is dispatched again', async (t) => {
  const { origin, url } = await setUp(t);
  const first = await FakeExecutor.start(t, url);
  await origin.announce([origin.job(1)]);
  await first.next();
  origin.status = () => 'silent';
  first.silence();
  const second = await FakeExecutor.start(t, url);
  for (let i = 0; i < 4; i++) await origin.asked.take('status');
  assert.equal(second.dispatches.size, 0);
  origin.status = () => 'pending';
  assert.equal((await second.next()).attempt, 2);
});

test('an answer by another origin counts as none', async (t) => {
  const { origin, url } = await setUp(t);
  origin.pretend = hex(99);
  await origin.announce([origin.job(1, { queueMs: 20 })]);
  await origin.results.take('result');
  await origin.results.take('result, again');
  assert.equal((await queueOf(url)).states.exhausted, 1);
  delete origin.pretend;
  await empty(url);
});

test('a status by another origin counts as none', async (t) => {
  const { origin, url } = await setUp(t);
  const executor = await FakeExecutor.start(t, url);
  await origin.announce([origin.job(1)]);
  await executor.next();
  origin.pretend = hex(99);
  origin.status = () => 'done'; // says one that has never heard of the job
  executor.silence();
  await origin.asked.take('status');
  await origin.asked.take('status, again');
  assert.equal((await queueOf(url)).states.asking, 1);
  delete origin.pretend;
  await empty(url);
});

test('an origin that moved is found where it registers', async (t) => {
  const { origin, url } = await setUp(t);
  await origin.server.close();
  await origin.announce([origin.job(1, { queueMs: 20 })]);
  await until(async () => (await queueOf(url)).states.exhausted === 1, 'exhausted');
  origin.epoch = hex(2);
  await origin.listen(t);
  assert.deepEqual(await origin.register(), { epoch: (await queueOf(url)).epoch });
  assert.equal((await origin.results.take('result')).code, 'queue_timeout');
  const known = await (await fetch(`${url}/v1/origins/${origin.id}`)).json();
  assert.equal(known.url, origin.url);
  assert.equal(known.originEpoch, origin.epoch);
  await empty(url);
});

test('START: go for the lease, no after it; lost after START is sent_unknown', async (t) => {
  const { origin, url } = await setUp(t);
  const executor = await FakeExecutor.start(t, url);
  await origin.announce([origin.job(1, { repeatable: false })]);
  const item = await executor.next();
  assert.equal(await executor.start({ ...item, fence: origin.queueEpoch + hex(99999) }), 'no');
  assert.equal(await executor.start(item), 'go');
  executor.silence();
  const result = await origin.results.take('result');
  assert.equal(result.code, 'executor_lost');
  assert.equal(result.certainty, 'sent_unknown');
  assert.equal(result.fence, item.fence);
  assert.equal(await executor.start(item), 'no');
  await empty(url);
});

test('retryable failures come back until the last attempt', async (t) => {
  const { origin, url } = await setUp(t);
  const executor = await FakeExecutor.start(t, url);
  await origin.announce([origin.job(1, { attempts: 3 })]);
  for (let attempt = 1; attempt <= 3; attempt++) {
    const item = await executor.next();
    assert.equal(item.attempt, attempt);
    assert.equal(item.last ?? false, attempt === 3);
    if (attempt < 3) await executor.retry(item);
    else await executor.complete(item);
  }
  assert.equal((await queueOf(url)).counters.retried, 2);
  await empty(url);
});

test('cancel: the job is gone, and its executor hears of it', async (t) => {
  const { origin, url } = await setUp(t);
  const executor = await FakeExecutor.start(t, url);
  const job = origin.job(1);
  await origin.announce([job]);
  await executor.next();
  assert.equal((await origin.announce([{ job: job.job, end: true }]))[0].answer, 'done');
  assert.equal(await executor.aborted.take('abort'), job.job);
  assert.equal((await origin.announce([job]))[0].answer, 'done');
  await empty(url);
});

test('kill -9: what was queued is dispatched, what was leased goes on', async (t) => {
  const data = tempDir(t);
  const { orchestrator, origin, url } = await setUp(t, { data });
  const executor = await FakeExecutor.start(t, url, { slots: 1 });
  await origin.announce([origin.job(1), origin.job(2)]);
  const item = await executor.next();
  await orchestrator.kill();
  const again = await startOrchestrator(t, { data, port: orchestrator.port });
  const { epoch } = await origin.register();
  assert.equal(epoch, origin.queueEpoch);
  assert.equal((await origin.announce([origin.job(1)]))[0].answer, 'known');
  await executor.complete(item);
  const second = await executor.next();
  assert.equal(second.job, origin.job(2).job);
  assert.ok(second.fence > item.fence);
  await executor.complete(second);
  await empty(again.url);
  assert.equal((await queueOf(again.url)).counters.leasesLost, 0);
});

test('kill -9 of both: a job that must not be repeated is not', async (t) => {
  const data = tempDir(t);
  const { orchestrator, origin, url } = await setUp(t, { data });
  const executor = await FakeExecutor.start(t, url);
  await origin.announce([origin.job(1, { repeatable: false })]);
  assert.equal(await executor.start(await executor.next()), 'go');
  executor.silence();
  await orchestrator.kill();
  const again = await startOrchestrator(t, { data, port: orchestrator.port });
  await FakeExecutor.start(t, again.url);
  await origin.register();
  assert.equal((await origin.results.take('result')).certainty, 'sent_unknown');
  await empty(again.url);
});

test('another queue: what may have been sent is lost, the rest is taken', async (t) => {
  const { origin } = await setUp(t);
  const firstEpoch = hex(0xdead);
  const answers = await origin.announce([
    origin.job(1, { repeatable: false, firstEpoch }), origin.job(2, { firstEpoch })]);
  assert.deepEqual(answers.map((item) => item.answer), ['lost', 'queued']);
});

test('queue-max: full above it', async (t) => {
  const { origin } = await setUp(t, { args: ['--queue-max', '2'] });
  const answers = await origin.announce([1, 2, 3].map((local) => origin.job(local)));
  assert.deepEqual(answers.map((item) => item.answer), ['queued', 'queued', 'full']);
});

test('requests over the memory budget are read again', async (t) => {
  const { origin, url } = await setUp(t, { args: ['--queue-memory', '1k'] });
  const jobs = Array.from({ length: 20 }, (_, i) => origin.job(i + 1));
  await origin.announce(jobs);
  await until(async () => (await queueOf(url)).requestBytes <= 1024, 'memory freed');
  const executor = await FakeExecutor.start(t, url);
  for (let i = 0; i < jobs.length; i++) {
    const item = await executor.next();
    assert.equal(item.body, `request ${item.job}`);
    await executor.complete(item);
  }
  await empty(url);
});

test('metrics', async (t) => {
  const { origin, url } = await setUp(t);
  const executor = await FakeExecutor.start(t, url);
  await origin.announce([origin.job(1), origin.job(2)]);
  await executor.complete(await executor.next());
  const text = await (await fetch(`${url}/metrics`)).text();
  const value = (name) => Number(new RegExp(`^${name} (.*)$`, 'm').exec(text)[1]);
  assert.equal(value('pf_jobs{state="leased"}'), 1);
  assert.equal(value('pf_announcements_total{answer="queued"}'), 2);
  assert.equal(value('pf_job_ends_total{how="delivered"}'), 1);
  assert.equal(value('pf_invariant_failures_total'), 0);
  assert.ok(value('pf_loop_lag_seconds_max') >= value('pf_loop_lag_seconds'));
});

test('health in detail', async (t) => {
  const { orchestrator, origin, url } = await setUp(t, { args: ['--queue-max', '2'] });
  const health = async () => (await fetch(`${url}/health/detailed`)).json();
  const codes = async () => reasonsOf(await health());
  // Right after the start it may still be reading its rows, and says so.
  await until(async () => (await codes()).join() === 'no_executor', 'an executor is all that is lacking');
  const executor = await FakeExecutor.start(t, url, { slots: 1 });
  const good = await health();
  assert.deepEqual(reasonsOf(good), []);
  assert.deepEqual([good.role, good.pid, good.executors, good.slots, good.slotsFree], ['orchestrator', orchestrator.pid, 1, 1, 1]);
  assert.equal(good.store.spaceLow, false);
  await origin.announce([origin.job(1), origin.job(2)]);
  const busy = await health();
  assert.equal(busy.status, 'degraded');
  assert.deepEqual(reasonsOf(busy), ['no_free_slot', 'queue_full']);
  assert.deepEqual([busy.queue.ready, busy.queue.leased], [1, 1]);
  await executor.complete(await executor.next());
  await executor.complete(await executor.next());
  await until(async () => (await codes()).length === 0, 'all is well again');
  assert.ok((await health()).store.commitMsMax > 0);
});

test('bad input', async (t) => {
  const { origin, url } = await setUp(t);
  const status = async (method, path, body, headers = {}) =>
    (await fetch(url + path, { method, body, headers: { 'content-type': BATCH, ...headers } })).status;
  const good = encodeBatch([[origin.head()], [origin.job(1)]]);
  assert.equal(await status('POST', '/v1/jobs', 'not a batch'), 400);
  assert.equal(await status('POST', '/v1/jobs', ''), 400);
  assert.equal(await status('POST', '/v1/jobs', good.subarray(0, good.length - 1)), 400);
  assert.equal(await status('POST', '/v1/jobs', encodeBatch([[{ origin: 'x' }]])), 400);
  assert.equal(await status('PUT', '/v1/executors/00', good), 404);
  assert.equal(await status('PUT', `/v1/executors/${hex(1)}`, good), 400);
  const json = { 'content-type': 'application/json' };
  assert.equal(await status('PUT', `/v1/origins/${hex(1)}`, JSON.stringify(origin.head()), json), 400);
  assert.equal(await status('PUT', `/v1/origins/${origin.id}`, JSON.stringify(origin.head())), 415);
  const other = await fetch(`${url}/v1/jobs`, { method: 'POST', body: good, headers: { 'content-type': 'text/plain' } });
  assert.deepEqual([other.status, (await other.json()).error],
    [415, { code: 'unsupported_media_type', message: `send Content-Type: ${BATCH}` }]);
  assert.equal(await status('POST', '/v1/jobs', good, { origin: 'http://evil.example' }), 403);
  assert.equal(await status('GET', `/v1/origins/${hex(1)}`), 404);
  assert.equal(await status('GET', '/v1/jobs'), 405);
  assert.equal(await status('GET', '/nothing'), 404);
  assert.equal(await status('POST', '/v1/jobs', good, { 'x-pf-version': '2' }), 400);
  assert.equal(await status('POST', '/v1/jobs', good, { 'x-pf-version': '0' }), 400);
  const large = await RawConnection.open(t, url);
  large.send(`POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${(8 << 20) + 1}\r\n\r\n`);
  await large.receive(/^HTTP\/1.1 413 /);
  assert.equal((await fetch(`${url}/health`)).status, 200);
  const foreign = { ...origin.job(1), job: hex(1) + hex(1) };
  const [, refused, malformed] = await call('POST', `${url}/v1/jobs`, [
    [origin.head()], [foreign, 'x'], [{ job: 'nonsense' }, 'x']]);
  assert.equal(refused.head.answer, 'refused');
  assert.equal(malformed.head.answer, 'refused');
  for (const [method, path, code] of [['GET', '/nothing', 'not_found'], ['GET', '/v1/jobs', 'method_not_allowed']])
    assert.equal((await (await fetch(url + path, { method })).json()).error.code, code);
});

test('one completion that cannot be read is refused alone', async (t) => {
  const { orchestrator, origin, url } = await setUp(t);
  const executor = await FakeExecutor.start(t, url);
  await origin.announce([origin.job(1), origin.job(2)]);
  const items = [await executor.next(), await executor.next()];
  const good = items.map(({ job, fence }) => [{ job, fence, outcome: 'delivered' }]);
  const [, ...answers] = await call('POST', `${url}/v1/complete`, [[{}], good[0], [{ job: 'nonsense' }], good[1]]);
  assert.deepEqual(answers.map(({ head }) => head.answer), ['ok', 'refused', 'ok']);
  await empty(url);
  await orchestrator.waitFor(/event=completion_refused/);
});

test('start and stop', async (t) => {
  const data = tempDir(t);
  const { orchestrator } = await setUp(t, { data });
  assert.equal(orchestrator.urls.length, 2); // 127.0.0.1 and ::1
  const second = await run(t, 'proxyfetch-orchestrator', ['--listen', 'localhost:0', '--data', data]);
  assert.equal(second.code, 3);
  assert.match(second.stderr, /process/);
  const taken = await run(t, 'proxyfetch-orchestrator',
    ['--listen', `127.0.0.1:${orchestrator.port}`, '--data', tempDir(t)]);
  assert.equal(taken.code, 3);
  assert.match(taken.stderr, /in use/);
  const bad = await run(t, 'proxyfetch-orchestrator', ['--lease-ms', '0']);
  assert.equal(bad.code, 2);
  assert.match(bad.stderr, /lease-ms/);
  await orchestrator.stop();
  const file = openSync(join(data, 'queue.db'), 'r+');
  writeSync(file, 'This is no database', 0);
  closeSync(file);
  const foreign = await run(t, 'proxyfetch-orchestrator', ['--listen', 'localhost:0', '--data', data]);
  assert.equal(foreign.code, 3);
  assert.match(foreign.stderr, /queue\.db/);
});

test('told to stop it leases nothing more, and waits for the answers that are due', async (t) => {
  const data = tempDir(t);
  const { orchestrator, origin, url } = await setUp(t, { data, args: ['--drain-ms', '60000'] });
  const executor = await FakeExecutor.start(t, url);
  const open = await RawConnection.open(t, url); // new ones it does not take any more
  let take;
  executor.answer = () => new Promise((done) => (take = () => done('taken')));
  await origin.announce([origin.job(1)]);
  await until(() => take, 'a dispatch is under way');
  orchestrator.signal('SIGTERM');
  await orchestrator.waitFor(/event=stopping/);
  const batch = encodeBatch([[origin.head()], [origin.job(2), 'request']]).toString('latin1');
  open.send(`POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: ${BATCH}\r\nContent-Length: ${batch.length}\r\n\r\n${batch}`);
  await open.receive(/"answer":"queued"/);
  executor.answer = () => 'taken';
  take();
  await orchestrator.ends({ code: 0 });
  assert.equal((await executor.next()).job, origin.job(1).job);
  assert.equal(executor.dispatches.size, 0);
  executor.orchestrator = origin.orchestrator = (await startOrchestrator(t, { data })).url;
  await origin.register();
  await executor.beat();
  assert.equal((await executor.next()).job, origin.job(2).job);
});

// Each labelled point once: after the crash and a restart the job ends, and no request that must not
// be repeated was granted twice.
for (const point of ['enqueue.before_commit', 'enqueue.after_commit', 'lease.before_commit',
  'dispatch.before_send', 'dispatch.after_send', 'complete.before_commit', 'complete.after_commit']) {
  test(`crash at ${point}`, async (t) => {
    const data = tempDir(t);
    const orchestrator = await startOrchestrator(
      t, { data, env: { PF_CRASH: `orchestrator.${point}:1` } });
    const origin = await FakeOrigin.start(t, orchestrator.url);
    const executor = await FakeExecutor.start(t, orchestrator.url);
    let done = false, starts = 0;
    origin.status = () => (done ? 'done' : 'pending');
    origin.receive = () => {
      assert.ok(!done);
      done = true;
      return 'accepted';
    };
    const work = (async () => { // an executor that goes on whatever happens
      while (!done) {
        const item = await executor.next();
        let go;
        await until(async () => done || (go = await executor.start(item).catch(() => '')), 'START');
        if (go !== 'go') continue;
        assert.equal(++starts, 1);
        done = true;
        await until(() => executor.complete(item).catch(() => ''), 'complete');
      }
    })();
    const job = origin.job(1, { repeatable: false });
    origin.announce([job]).catch(() => {}); // the answer may never come
    const { code, signal } = await orchestrator.exited;
    orchestrator.ended = true;
    assert.deepEqual({ code, signal }, { code: 137, signal: null });
    const again = await startOrchestrator(t, { data, port: orchestrator.port });
    await until(() => origin.announce(done ? [] : [job]).then(() => done, () => false), 'end of job');
    if (starts) await work;
    await empty(again.url);
    assert.equal((await origin.announce([job]))[0].answer, 'done');
    executor.dispatches.put({ job: job.job, fence: '0'.repeat(32) }); // lets the loop end
  });
}
