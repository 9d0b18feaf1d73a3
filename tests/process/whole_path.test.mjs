// The whole path with the real programs: client, origin, orchestrator, executor, target and back.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { test } from 'node:test';
import { program, run, start, tempDir, until } from './lib/process.mjs';
import { http, roles, startSystem } from './lib/system.mjs';
import { connectWs } from './lib/ws_client.mjs';

const BURST_MS = 60_000;

/** Sends `count` fetches of url; every one gets clientId "c0", "c1", … */
function sendBurst(ws, url, count, more = {}) {
  for (let i = 0; i < count; i++) ws.send({ type: 'start-fetch', url, clientId: `c${i}`, ...more });
}

/** Each of `count` fetches got exactly one enqueued and then exactly one result. */
function assertExactlyOnce(ws, count) {
  const enqueued = new Map(), results = new Map();
  for (const m of ws.messages) {
    if (m.type === 'enqueued') {
      assert.ok(!enqueued.has(m.clientId), `${m.clientId} was enqueued twice`);
      enqueued.set(m.clientId, m);
      assert.ok(m.enqueueTime >= 0);
    } else if (m.type === 'result') {
      assert.ok(enqueued.has(m.clientId), `${m.clientId}: result before enqueued`);
      assert.ok(!results.has(m.clientId), `${m.clientId} has two results`);
      assert.equal(m.reqId, enqueued.get(m.clientId).reqId);
      results.set(m.clientId, m);
    }
  }
  assert.equal(enqueued.size, count);
  assert.equal(results.size, count);
  return results;
}
/** A target that answers with the body it got. */
async function reflector(t) {
  const server = createServer((req, res) => req.pipe(res)).listen(0, '127.0.0.1');
  await new Promise((done) => server.on('listening', done));
  t.after(() => (server.closeAllConnections(), server.close()));
  const { port } = server.address();
  return { port, url: `http://127.0.0.1:${port}` };
}
const isResult = (m) => m.type === 'result';

test('with everything running', async (t) => {
  const binary = await reflector(t);
  const system = await startSystem(t, { args: { executor: ['--allow-target', `127.0.0.1/32:${binary.port}`] } });
  const cli = (...args) => run(t, 'proxyfetch', ['fetch', '--url', system.wsUrl, ...args]);

  await t.test('a fetch: enqueued, then its result, and nothing unasked', async (t) => {
    const ws = await connectWs(t, system.wsUrl);
    ws.send({ type: 'start-fetch', url: `${system.target}/latency-test/uuid?token=x`, clientId: 'one' });
    await ws.next(isResult);
    ws.send({ type: 'ping', id: 7 });
    await ws.next((m) => m.type === 'pong' && m.id === 7);
    assert.deepEqual(ws.messages.map((m) => m.type), ['enqueued', 'result', 'pong']);
    const [enqueued, result] = ws.messages;
    assert.deepEqual(Object.keys(enqueued).sort(), ['clientId', 'enqueueTime', 'reqId', 'type']);
    const { duration, responseLength, ...rest } = result;
    assert.deepEqual(rest, { type: 'result', reqId: enqueued.reqId, clientId: 'one', success: true, status: 200 });
    assert.ok(duration > 0 && responseLength > 10 && Number.isInteger(responseLength));
    assert.match(enqueued.reqId, /^[0-9a-f]{32}$/);
  });

  await t.test('a clientId is echoed as it came: an empty one too, and none if there was none', async (t) => {
    const ws = await connectWs(t, system.wsUrl), url = `${system.target}/uuid`;
    ws.send({ type: 'start-fetch', url });
    await ws.next(isResult);
    assert.deepEqual(ws.messages.map((m) => 'clientId' in m), [false, false], JSON.stringify(ws.messages));
    ws.send({ type: 'start-fetch', url, clientId: '' });
    await ws.next(isResult, { after: 2 });
    assert.deepEqual(ws.messages.slice(2).map((m) => m.clientId), ['', '']);
    const posted = await http(`${system.httpUrl}/v1/actors/proxy/default/fetch`, { method: 'POST',
      headers: { 'content-type': 'application/json', prefer: 'wait=10' }, body: JSON.stringify({ url }) });
    assert.equal(posted.body.result.success, true);
    assert.equal('clientId' in posted.body.result, false, JSON.stringify(posted.body));
  });

  await t.test('another actor, another class path', async (t) => {
    const ws = await connectWs(t, `${system.wsUrl}actors/proxy/somebody`);
    ws.send({ type: 'start-fetch', url: `${system.target}/uuid`, clientId: 'x' });
    assert.equal((await ws.next(isResult)).success, true);
  });

  for (const count of [10, 100, 1000])
    await t.test(`${count} at once, each exactly once`, async (t) => {
      const ws = await connectWs(t, system.wsUrl);
      sendBurst(ws, `${system.target}/uuid`, count);
      await ws.count(isResult, count);
      for (const m of assertExactlyOnce(ws, count).values()) assert.equal(m.success, true, JSON.stringify(m));
    });

  await t.test('proxyfetch measure: 2,000 fetches at 1,000 in flight, timings that add up', async (t) => {
    const { code, stdout, stderr } = await run(t, 'proxyfetch', ['measure', '--url', system.wsUrl, '--target',
      `${system.target}/uuid`, '--concurrency', '1000', '--iterations', '2000', '--json', '--phases']);
    assert.equal(code, 0, stderr + stdout);
    const found = JSON.parse(stdout);
    assert.equal(found.ok, true);
    for (const r of found.runs.filter((r) => r.kind === 'timings')) {
      assert.equal(r.timingsReported, 2000);
      assert.equal(r.timingsNotAddingUp, 0);
      assert.ok(r.connectionsReused > 0);
    }
    for (const r of found.runs.filter((r) => r.kind === 'sustained')) assert.ok(r.originEnqueueMs.p50 > 0);
    assert.ok(found.runs[2].cpuUsPerFetch.origin > 0, stdout); // found by /health
  });

  await t.test('no hop waits for a delayed acknowledgement', async (t) => {
    // One that does (no TCP_NODELAY somewhere) takes 40 ms each time; a busy machine or disk may, but not always.
    const p50s = [];
    await until(async () => {
      const { stdout } = await run(t, 'proxyfetch', ['measure', '--url', system.wsUrl, '--target', `${system.target}/uuid`,
        '--concurrency', '1', '--iterations', '100', '--json']);
      p50s.push(JSON.parse(stdout).runs.find((r) => r.kind === 'sustained').wholeMs.p50);
      return p50s.at(-1) < 30;
    }, 'a p50 of a single fetch below 30 ms').catch((why) => assert.fail(`${why.message}: ${p50s}`));
  });

  await t.test('proxyfetch measure: 10,000 fetches at 1,000 in flight, each exactly once', async (t) => {
    const { code, stdout, stderr } = await run(t, 'proxyfetch', ['measure', '--url', system.wsUrl, '--target',
      `${system.target}/uuid`, '--concurrency', '1000', '--iterations', '10000']);
    assert.equal(code, 0, stderr + stdout);
    assert.match(stdout, /all 11201 fetches ended exactly once/); // 1 + 1,000 + 10,000 + 200 with timings
  });

  await t.test('a batch of 2,000 is really concurrent', async (t) => {
    const ws = await connectWs(t, system.wsUrl);
    const begin = Date.now();
    ws.send({ type: 'start-batch-fetch', batchId: 'b', count: 2000, url: `${system.target}/delay/1000` });
    const done = await ws.next((m) => m.type === 'batch-complete');
    assert.deepEqual(done, { type: 'batch-complete', batchId: 'b', count: 2000, successCount: 2000 });
    assert.deepEqual(ws.messages, [{ type: 'batch-started', batchId: 'b', count: 2000 }, done]);
    assert.ok(Date.now() - begin < 20_000, `took ${Date.now() - begin} ms`); // one after the other: 2,000 s
  });

  await t.test('every method, with headers and a body', async () => {
    for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE']) {
      const body = method === 'GET' ? [] : ['-d', 'some däta'];
      const { code, stdout, stderr } = await cli(`${system.target}/echo`, '-X', method, '-H', 'X-Mine: yes', ...body);
      assert.equal(code, 0, stderr);
      assert.match(stdout, new RegExp(method));
      assert.match(stdout.toLowerCase(), /x-mine/);
      if (body.length) assert.match(stdout, /some däta/);
    }
  });

  await t.test('binary bodies go and come byte by byte', async (t) => {
    const bytes = randomBytes(100_000), file = join(tempDir(t), 'bytes');
    writeFileSync(file, bytes);
    const there = await cli(`${system.target}/echo`, '-d', `@${file}`);
    assert.equal(there.code, 0, there.stderr);
    assert.ok(Buffer.from(JSON.parse(there.stdout).bodyBase64, 'base64').equals(bytes));
    const ws = await connectWs(t, system.wsUrl);
    ws.send({ type: 'start-fetch', clientId: 'x', url: `${binary.url}/`, method: 'PUT', bodyBase64: bytes.toString('base64'), include: ['body'] });
    const back = await ws.next(isResult);
    assert.equal(back.responseLength, bytes.length, JSON.stringify(back).slice(0, 300));
    assert.ok(Buffer.from(back.bodyBase64, 'base64').equals(bytes));
  });

  await t.test('a body that is larger than a frame waits at the origin', async () => {
    const json = await cli(`${system.target}/bytes/3000000`, '--json');
    assert.match(JSON.parse(json.stdout).bodyUrl, /^\/v1\/jobs\/[0-9a-f]{32}\/body$/);
    const { code, stdout } = await run(t, '/bin/sh', ['-c', '"$0" fetch --url "$1" "$2/bytes/3000000" | wc -c',
      program('proxyfetch'), system.wsUrl, system.target]);
    assert.equal(code, 0);
    assert.equal(Number(stdout), 3_000_000);
  });

  await t.test('a status is a result, whatever it is', async () => {
    for (const status of [204, 404, 500]) {
      const { code, stdout } = await cli(`${system.target}/status/${status}`, '--json');
      assert.equal(code, 0);
      assert.equal(JSON.parse(stdout).status, status);
    }
  });

  await t.test('errors say whose fault they are and what is certain', async () => {
    const cases = [
      ['loopback beside the allowed port', ['http://127.0.0.1:1/'], { code: 'policy_refused', owner: 'policy', certainty: 'not_sent' }],
      ['a broken connection, request sent', [`${system.target}/close-after-request`, '-X', 'POST', '-d', 'x'],
        { code: 'reset', owner: 'target', certainty: 'sent_unknown', attempts: 1 }],
      ['a target that never answers', [`${system.target}/hang`, '-X', 'POST', '-d', 'x', '--timeout-ms', '300'],
        { owner: 'target', certainty: 'sent_unknown', attempts: 1 }],
    ];
    for (const [name, args, expected] of cases) {
      const { code, stdout } = await cli(...args, '--json');
      assert.equal(code, 1, name);
      const { success, error, ...result } = JSON.parse(stdout);
      assert.equal(success, false, name);
      assert.ok(error.length > 5);
      for (const [key, value] of Object.entries(expected)) assert.equal(result[key], value, `${name}: ${key} of ${stdout}`);
    }
    const refused = await cli('http://127.0.0.1:1/');
    assert.match(refused.stderr, /--allow-target 127\.0\.0\.1\/32:1\b/); // the exact option that would allow it
    const nonsense = await cli('gopher://x/');
    assert.match(nonsense.stderr, /bad_url/);
  });

  await t.test('the HTTP API alone is enough', async () => {
    const post = (headers) => http(`${system.httpUrl}/v1/actors/proxy/default/fetch`, { method: 'POST',
      headers: { 'Content-Type': 'application/json', ...headers },
      body: JSON.stringify({ url: `${system.target}/json`, include: ['body'] }) });
    const now = await post({ Prefer: 'wait=20' });
    assert.equal(now.status, 200);
    assert.equal(now.body.result.success, true);
    const later = await post({});
    assert.equal(later.status, 202);
    const job = await http(`${system.httpUrl}/v1/jobs/${later.body.reqId}?wait=20`);
    assert.equal(job.body.state, 'done');
    assert.equal(job.body.result.status, 200);
  });
});

test('without an executor jobs wait, and one that comes takes them', async (t) => {
  const system = await startSystem(t);
  await system.procs.executor.stop();
  const ws = await connectWs(t, system.wsUrl);
  sendBurst(ws, `${system.target}/uuid`, 100);
  await ws.count((m) => m.type === 'enqueued', 100);
  assert.equal(ws.messages.filter(isResult).length, 0);
  await system.restart('executor');
  await ws.count(isResult, 100);
  for (const m of assertExactlyOnce(ws, 100).values()) assert.equal(m.success, true, JSON.stringify(m));
});

for (const role of ['test-endpoints', 'orchestrator', 'executor'])
  test(`kill -9 of the ${role} in a burst of 1,000: all end, each exactly once`, { timeout: 150_000 }, async (t) => {
    const system = await startSystem(t);
    const ws = await connectWs(t, system.wsUrl);
    // While the target is down, 4 attempts of 1,000 jobs may all come too early: their pauses are drawn from 0 on.
    sendBurst(ws, `${system.target}/delay/20`, 1000, { retry: { attempts: 16 } });
    await ws.count(isResult, 50); // in the middle of it
    await system.crash(role);
    await system.restart(role);
    await ws.count(isResult, 1000, BURST_MS);
    const results = assertExactlyOnce(ws, 1000);
    for (const m of results.values()) assert.equal(m.success, true, JSON.stringify(m)); // GET: tried again
  });

test('kill -9 of the origin in a burst of 1,000: every job that was enqueued has its result', { timeout: 150_000 }, async (t) => {
  const system = await startSystem(t);
  const ws = await connectWs(t, system.wsUrl);
  sendBurst(ws, `${system.target}/delay/20`, 1000);
  await ws.count(isResult, 50);
  await system.crash('origin');
  await ws.closed;
  await system.restart('origin');
  const enqueued = ws.messages.filter((m) => m.type === 'enqueued');
  assert.ok(enqueued.length >= 50);
  for (const { reqId } of enqueued) {
    const job = await until(async () => {
      const { status, body } = await http(`${system.httpUrl}/v1/jobs/${reqId}?wait=10`);
      assert.equal(status, 200, JSON.stringify(body));
      return body.state === 'done' && body;
    }, `end of ${reqId}`, BURST_MS);
    assert.equal(job.result.success, true, JSON.stringify(job));
    assert.equal(job.result.reqId, reqId);
  }
});

test('proxyfetch up: killed roles come back, and fetches go on', { timeout: 150_000 }, async (t) => {
  const up = await start(t, 'proxyfetch', ['up', '--data', tempDir(t), '--origin', 'localhost:0', '--origin-internal',
    'localhost:0', '--orchestrator', 'localhost:0', '--executor', 'localhost:0', '--test-endpoints', 'localhost:0',
    '--executors', '2'], { ready: /^proxyfetch listening on / });
  const pids = {}, urls = {};
  for (const { text } of up.lines) {
    const row = /^(\S+) +pid (\d+) +(http:\S+)/.exec(text);
    if (row) [pids[row[1]], urls[row[1]]] = [Number(row[2]), row[3]];
  }
  const fetchOnce = () => run(t, 'proxyfetch', ['fetch', '--url', `ws${urls.origin.slice(4)}/`, `${urls['test-endpoints']}/uuid`]);
  assert.equal((await fetchOnce()).code, 0);
  for (const role of roles) {
    const seen = up.lines.length;
    process.kill(pids[role], 'SIGKILL');
    const [, pid] = await up.waitFor(new RegExp(`event=child_serves_again name=${role} pid=(\\d+)`), { after: seen });
    pids[role] = Number(pid);
    const { code, stderr } = await fetchOnce();
    assert.equal(code, 0, `after the crash of ${role}: ${stderr}`);
  }
});
