// Processes of different versions: every call between them, with another version (refused in words, and
// nothing changes) and with members that this version does not know (ignored, wherever they stand).
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { reasonsOf } from './lib/metrics.mjs';
import { defer, start, tempDir } from './lib/process.mjs';
import { BATCH, FakeExecutor, FakeOrigin, decodeBatch, encodeBatch, hex, randomId } from './lib/hop.mjs';
import { http } from './lib/system.mjs';

const NOWHERE = 'http://127.0.0.1:1';
const OTHERS = ['0', '2', '10', '1.0', '01', 'one', ''];
/** What a later version may say more. */
const NEWS = { later: { deep: [1, null, { more: true }] }, andMore: 'text', priority: 7 };
const JSON_TYPE = 'application/json';

/** Every JSON object of a value says more. */
function said(value) {
  if (Array.isArray(value) || value === null || typeof value !== 'object') return value;
  return { ...NEWS, ...Object.fromEntries(Object.entries(value).map(([k, v]) => [k, said(v)])) };
}

/** One call: what it takes in this version, and how to tell that it took effect. */
async function send(base, { method = 'POST', path, json, records }, { version = '1', news = false } = {}) {
  const with_ = (value) => (news ? said(value) : value);
  const answer = await fetch(base + path, {
    method,
    headers: { 'content-type': json ? JSON_TYPE : BATCH, ...(version === null ? {} : { 'x-pf-version': version }) },
    body: json ? JSON.stringify(with_(json)) : records && encodeBatch(records.map(([head, body]) => [with_(head), body])),
  });
  const bytes = Buffer.from(await answer.arrayBuffer());
  const batch = answer.headers.get('content-type') === BATCH;
  return { status: answer.status, ...(batch ? { answers: decodeBatch(bytes).slice(1).map(({ head }) => head.answer) } : { json: JSON.parse(bytes) }) };
}

async function refused(base, call) {
  for (const version of OTHERS) {
    const { status, json } = await send(base, call, { version });
    assert.deepEqual([status, json?.error.code], [400, 'bad_version'], `${call.path} with version "${version}"`);
    assert.match(json.error.message, /speaks version 1/);
  }
}

test('calls to the orchestrator', async (t) => {
  const orchestrator = await start(t, 'proxyfetch-orchestrator', ['--listen', '127.0.0.1:0', '--data', tempDir(t)]);
  const url = orchestrator.url;
  const origin = await FakeOrigin.start(t, url);
  const view = async () => (await http(`${url}/v1/queue`)).body;
  const sizes = ({ executors, origins, counters }) => JSON.stringify([executors.length, origins.length, counters]);
  const executor = randomId();
  const beat = { executor, incarnation: randomId(), url: NOWHERE, slots: 4, free: 0 };
  const enqueue = { path: '/v1/jobs', records: [[origin.head()], [origin.job(1, { statuses: [503] }), 'request']] };
  const register = { method: 'PUT', path: `/v1/origins/${origin.id}`, json: origin.head() };
  const heartbeat = { method: 'PUT', path: `/v1/executors/${executor}`, records: [[beat, '']] };
  const held = { job: origin.id + hex(1), fence: '0'.repeat(32) };
  const begin = { path: '/v1/start', records: [[{}], [held]] };
  const complete = { path: '/v1/complete', records: [[{}], [{ ...held, outcome: 'retry', code: 'reset', certainty: 'sent_unknown' }]] };
  const ask = { method: 'GET', path: `/v1/origins/${origin.id}` };

  await t.test('another version is refused, and nothing changes', async () => {
    const before = sizes(await view());
    for (const call of [enqueue, register, heartbeat, begin, complete, ask]) await refused(url, call);
    assert.equal(sizes(await view()), before);
    assert.equal((await send(url, ask)).status, 404); // not heard of
  });

  await t.test('unknown members are ignored', async () => {
    assert.equal((await send(url, register, { news: true })).status, 200);
    assert.equal((await send(url, ask)).json.url, origin.url);
    assert.deepEqual((await send(url, enqueue, { news: true })).answers, ['queued']);
    assert.equal((await send(url, heartbeat, { news: true })).status, 200);
    assert.equal((await view()).executors.length, 1);
    assert.deepEqual((await send(url, begin, { news: true })).answers, ['no']); // read, and not leased
    assert.deepEqual((await send(url, complete, { news: true })).answers, ['ok']);
    assert.deepEqual((await send(url, { path: '/v1/jobs', records: [[origin.head()], [{ job: origin.id + hex(1), end: true }]] }, { news: true })).answers, ['done']);
  });

  await t.test('a caller that names no version is of this one', async () => {
    assert.equal((await send(url, register, { version: null })).status, 200);
  });

  await t.test('answers that say more, of an executor and an origin', async (t) => {
    origin.more = NEWS;
    const peer = await FakeExecutor.start(t, url, { slots: 2 });
    peer.more = NEWS;
    const [answer] = await origin.announce([origin.job(2)]);
    assert.equal(answer.answer, 'queued');
    const item = await peer.next();
    assert.equal(item.job, origin.id + hex(2));
    assert.equal(await peer.complete(item), 'ok');
  });
});

test('calls to the executor', async (t) => {
  const { executor, queue, origin } = await neighbours(t);
  const job = { job: origin.id + hex(1), fence: queue.epoch + hex(1), attempt: 1, last: true, repeatable: true,
    capability: 'ab'.repeat(32), timers: { attemptMs: 30000, deadlineMs: 300000, queueMs: 0 } };
  const head = { queueEpoch: queue.epoch, incarnation: queue.beat.incarnation, origins: { [origin.id]: { epoch: origin.epoch, url: origin.url } } };
  const request = (more) => encodeBatch([[{ url: 'http://127.0.0.1:9/', method: 'GET', ...more }]]);
  const dispatch = { path: '/v1/execute', records: [[head], [job, request({})]] };
  await refused(executor.url, dispatch);
  assert.equal(origin.results.length, 0);
  // The members of `origins` are ids, so what is new stands beside them and inside of each.
  const news = { ...NEWS, ...head, origins: { [origin.id]: { ...NEWS, ...head.origins[origin.id] } } };
  const later = { path: '/v1/execute', records: [[news], [said(job), request(NEWS)]] };
  assert.deepEqual((await send(executor.url, later)).answers, ['taken']);
  const result = await origin.next();
  assert.deepEqual([result.job, result.code], [job.job, 'policy_refused']);
  assert.deepEqual((await send(executor.url, dispatch)).answers, ['seen']); // so the refused ones were not
});

/** A queue and an origin that answer with more than the executor knows. */
async function neighbours(t) {
  const { createServer } = await import('node:http');
  const origin = { id: randomId(), epoch: hex(1), results: [], waiting: [] };
  const queue = { epoch: randomId() };
  origin.next = () => new Promise((done) => (origin.results.length ? done(origin.results.shift()) : origin.waiting.push(done)));
  const server = createServer((req, res) => {
    const parts = [];
    req.on('data', (part) => parts.push(part));
    req.on('end', () => {
      const [head, ...items] = decodeBatch(Buffer.concat(parts));
      assert.equal(req.headers['x-pf-version'], '1');
      const beat = req.url.startsWith('/v1/executors/');
      if (beat) queue.beat = head.head;
      const results = req.url === '/__receiveResult';
      const answers = items.map(({ head: item }) => {
        if (results) (origin.waiting.shift() ?? ((r) => origin.results.push(r)))(item);
        return [said({ answer: results ? 'accepted' : 'ok' })];
      });
      const first = results ? { origin: origin.id, originEpoch: origin.epoch } : { epoch: queue.epoch };
      res.writeHead(200, { 'content-type': BATCH }).end(encodeBatch([[said(first)], ...answers]));
      if (beat) queue.joined?.();
    });
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  defer(t, () => new Promise((done) => (server.close(done), server.closeAllConnections())));
  origin.url = `http://127.0.0.1:${server.address().port}`;
  const joined = new Promise((done) => (queue.joined = done));
  const executor = await start(t, 'proxyfetch-executor', ['--listen', '127.0.0.1:0', '--orchestrator', origin.url]);
  await joined;
  return { executor, queue, origin };
}

test('calls to the origin', async (t) => {
  const origin = await start(t, 'proxyfetch-origin',
    ['--listen', '127.0.0.1:0', '--internal-listen', '127.0.0.1:0', '--orchestrator', NOWHERE, '--data', tempDir(t)]);
  const [, id, internal] = await origin.waitFor(/event=serving origin=([0-9a-f]{16}) .*internal=(\S+)/);
  const { body } = await http(`${origin.url}/v1/actors/proxy/default/fetch`,
    { method: 'POST', headers: { 'content-type': JSON_TYPE }, body: JSON.stringify({ ...NEWS, url: 'http://127.0.0.1:9/' }) });
  const item = { job: body.reqId, fence: '0'.repeat(32), attempt: 1, capability: 'cd'.repeat(32), certainty: 'answered',
    status: 200, responseLength: 0, timings: { ttfb: 1 } };
  const results = { path: '/__receiveResult', records: [[{ to: id }], [item]] };
  const status = { path: '/__status', records: [[{ to: id }], [{ job: body.reqId }]] };
  for (const call of [results, status]) await refused(internal, call);
  assert.deepEqual((await send(internal, status, { news: true })).answers, ['pending']);
  assert.deepEqual((await send(internal, results, { news: true })).answers, ['unknown']); // read; a wrong capability
  const news = { path: '/__receiveResult', records: [[said({ to: id })], [said({ ...item, job: id + hex(1) })]] };
  assert.deepEqual((await send(internal, news)).answers, ['unknown']);
  assert.deepEqual((await send(internal, status)).answers, ['pending']);
});

// What a process does whose own peer refuses its version: it goes on, keeps what it has, and says so.
test('a peer that refuses our version', async (t) => {
  const { createServer } = await import('node:http');
  const server = createServer((req, res) => {
    req.resume();
    res.writeHead(400, { 'content-type': JSON_TYPE })
      .end(JSON.stringify({ error: { code: 'bad_version', message: 'this process speaks version 2' } }));
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  defer(t, () => new Promise((done) => (server.close(done), server.closeAllConnections())));
  const url = `http://127.0.0.1:${server.address().port}`;
  const origin = await start(t, 'proxyfetch-origin',
    ['--listen', '127.0.0.1:0', '--internal-listen', '127.0.0.1:0', '--orchestrator', url, '--data', tempDir(t)]);
  const executor = await start(t, 'proxyfetch-executor', ['--listen', '127.0.0.1:0', '--orchestrator', url]);
  const { status, body } = await http(`${origin.url}/v1/actors/proxy/default/fetch`,
    { method: 'POST', headers: { 'content-type': JSON_TYPE }, body: JSON.stringify({ url: 'http://127.0.0.1:9/' }) });
  assert.equal(status, 202);
  await origin.waitFor(/event=orchestrator_unreachable .*status=400/);
  await executor.waitFor(/event=orchestrator_unreachable .*http=400/);
  assert.equal((await http(`${origin.url}/v1/jobs/${body.reqId}`)).body.state, 'pending');
  const reasons = async (proc) => reasonsOf((await http(`${proc.url}/health/detailed`)).body);
  assert.ok((await reasons(origin)).includes('orchestrator_unreachable'));
  assert.deepEqual(await reasons(executor), ['lease_over']); // it never had one: nothing is sent
});
