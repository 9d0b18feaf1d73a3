// `proxyfetch fetch` and `proxyfetch measure` against scripted servers: what they send, what they
// print, and that nothing wrong passes unnoticed.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { heldTarget } from './lib/held_target.mjs';
import { WAIT_MS, program, run, start, tempDir, until, within } from './lib/process.mjs';
import { http, startSystem } from './lib/system.mjs';
import { frame, wsServer } from './lib/ws_server.mjs';

const timingNames = ['commit', 'enqueue', 'queue', 'dispatch', 'dns', 'connect', 'tls', 'ttfb', 'transfer',
  'callback', 'continuation'];

/** A server that does everything right; `change(socket, message, answers)` may spoil the answers. */
function goodServer(t, change = (socket, message, answers) => answers, options = {}) {
  let next = 0;
  return wsServer(t, (socket, message) => {
    if (message.type === 'ping') return socket.send({ type: 'pong', id: message.id });
    if (message.type === 'resume') return socket.send({ type: 'error', error: 'no such type', code: 'unknown_type' });
    assert.equal(message.type, 'start-fetch');
    const { clientId } = message, reqId = `job-${next++}`;
    const timings = Object.fromEntries(timingNames.map((name, i) => [name, i / 10]));
    timings.total = 5.5;
    const answers = [
      { type: 'enqueued', reqId, clientId, enqueueTime: 0.25 },
      { type: 'result', reqId, clientId, success: true, status: 200, responseLength: 5, duration: 1.5,
        ...(message.include?.includes('timings') && { timings }),
        ...(message.include?.includes('body') && { body: 'hello' }) },
    ];
    for (const answer of change(socket, message, answers) ?? answers) socket.send(answer);
  }, { onRequest: (req, res) => res.end('ok'), ...options });
}
const measure = (t, server, ...args) => run(t, 'proxyfetch',
  ['measure', '--url', server.url, '--target', `${server.httpUrl}/uuid`, ...args]);
const fetchUrl = (t, server, ...args) => run(t, 'proxyfetch', ['fetch', '--url', server.url, ...args]);

// ---- measure ----

test('measure reports every level and each phase', async (t) => {
  const { code, stdout, stderr } = await measure(t, await goodServer(t), '--concurrency', '1,10', '--iterations', '50', '--phases');
  assert.equal(code, 0, stderr + stdout);
  assert.match(stdout, /commit \S+/);
  assert.match(stdout, /WebSocket round trip +p50 \d/);
  assert.match(stdout, /direct fetch +p50 \d/);
  assert.match(stdout, /first fetch \(cold\) +\d/);
  assert.match(stdout, /added latency +-?\d/);
  assert.match(stdout, /\n +10 +\|.*\| +50 /);
  assert.match(stdout, /enqueueTime \(origin\) +0\.250 +0\.250/);
  for (const name of [...timingNames, 'total']) assert.match(stdout, new RegExp(`\\n  ${name} +\\d`));
  assert.match(stdout, /the parts add up to the total in 50 of 50/);
  assert.match(stdout, /connection re-use +0 of 50/); // connect is 0.5 each time
  assert.match(stdout, /all 212 fetches ended exactly once/); // 1 + (1 + 50 + 50) + (10 + 50 + 50)
});

test('measure --json says the same to programs', async (t) => {
  const { code, stdout } = await measure(t, await goodServer(t), '--concurrency', '5', '--iterations', '40', '--json');
  assert.equal(code, 0);
  const found = JSON.parse(stdout);
  assert.equal(found.ok, true);
  assert.deepEqual(found.runs.map((r) => [r.kind, r.concurrency, r.fetches]),
    [['cold', 1, 1], ['burst', 5, 5], ['sustained', 5, 40], ['timings', 10, 200]]);
  assert.equal(found.runs[2].originEnqueueMs.p50, 0.25);
  assert.ok(found.runs[2].perSecond > 0 && found.roundTripMs.p50 > 0 && found.directMs.p99 > 0);
  assert.deepEqual(Object.keys(found.runs[2].cpuUsPerFetch), ['client']);
});

test('measure works with a server that knows rows 1 to 7 only', async (t) => {
  const server = await wsServer(t, (socket, { type, clientId }) => {
    if (type !== 'start-fetch') return socket.send({ type: 'error', error: `unknown type ${type}` });
    socket.send({ type: 'enqueued', reqId: clientId, clientId, enqueueTime: 80 });
    socket.send({ type: 'result', reqId: clientId, clientId, success: true, status: 200, responseLength: 1, duration: 101 });
  });
  const { code, stdout } = await measure(t, server, '--concurrency', '10', '--iterations', '20');
  assert.equal(code, 0, stdout);
  assert.match(stdout, /round trip .*\(protocol ping\)/);
  assert.match(stdout, /connection re-use +not reported/);
});

test('measure sees whatever goes wrong', async (t) => {
  const spoil = (nth, change) => {
    let count = 0;
    return (socket, message, answers) => (++count === nth ? change(answers, message) : answers);
  };
  const cases = {
    'a failed fetch': [/1 failed/, spoil(5, ([e, r]) => [e, { ...r, success: false, error: 'no route' }])],
    'a missing result': [/1 are missing/, spoil(5, ([e]) => [e]), '--timeout-ms', '2000'],
    'a missing enqueued': [/1 came out of order/, spoil(5, ([, r]) => [r])],
    'the wrong order': [/1 came out of order/, spoil(5, ([e, r]) => [r, e])],
    'two results': [/1 were answered twice/, spoil(5, ([e, r]) => [e, r, r])],
    'two enqueued': [/1 were answered twice/, spoil(5, ([e, r]) => [e, e, r])],
    'another reqId': [/1 changed their id/, spoil(5, ([e, r]) => [e, { ...r, reqId: 'other' }])],
    'a refusal': [/1 failed/, spoil(5, ([e]) => [{ type: 'error', clientId: e.clientId, error: 'limit', code: 'limit' }])],
    'no JSON': [/1 messages belong to none/, spoil(5, (answers) => [...answers, '{"type":'])],
    'a stranger': [/1 messages belong to none/, spoil(5, ([e, r]) => [e, r, { ...r, clientId: 'who' }])],
  };
  for (const [name, [expected, change, ...args]] of Object.entries(cases))
    await t.test(name, async (t) => {
      const { code, stdout } = await measure(t, await goodServer(t, change), '--concurrency', '3', '--iterations', '20', ...args);
      assert.equal(code, 1, stdout);
      assert.match(stdout, /FAILED/);
      assert.match(stdout, expected);
    });
});

test('measure without a session heeds nothing that is said of one', async (t) => {
  const server = await goodServer(t, (socket, message, [e, r]) => [e, { type: 'gap', from: 1, to: 4 },
    { type: 'session', session: 'ab'.repeat(16), offset: 9, oldest: 1, pending: 0 }, r]);
  const { code, stdout, stderr } = await measure(t, server, '--concurrency', '3', '--iterations', '20');
  assert.equal(code, 0, stdout + stderr);
});

test('measure notices a repetition that comes after the end of its load', async (t) => {
  let last;
  const server = await wsServer(t, (socket, { type, id, clientId }) => {
    if (type === 'ping') {
      if (last) socket.send(last);
      return socket.send({ type: 'pong', id });
    }
    socket.send({ type: 'enqueued', reqId: clientId, clientId, enqueueTime: 1 });
    socket.send(last = { type: 'result', reqId: clientId, clientId, success: true, status: 200, responseLength: 1, duration: 1 });
  });
  const { code, stdout } = await measure(t, server, '--concurrency', '1', '--iterations', '5');
  assert.equal(code, 1, stdout);
  assert.match(stdout, /first: a message after the end of all fetches/);
});

test('measure fails when the server goes away, whenever that is', async (t) => {
  for (const after of [1, 50]) {
    let count = 0;
    const server = await goodServer(t, (socket, message, answers) => {
      if (++count !== after) return answers;
      socket.destroy();
      return [];
    });
    const { code, stderr } = await measure(t, server, '--concurrency', '3', '--iterations', '100');
    assert.equal(code, 1);
    assert.match(stderr, /closed the connection|reset/);
  }
});

test('measure refuses bad options by name', async (t) => {
  for (const [args, message] of [
    [['--concurrency', '0'], /concurrency/], [['--concurrency', '1,x'], /concurrency/],
    [['--concurrency', ''], /concurrency/], [['--concurrency', '100001'], /concurrency/],
    [['--url', 'wss://h/'], /url: .*TLS/], [['--pids', 'origin'], /pids/], [['--pids', 'origin=999999999'], /pids/],
    [['--iterations', '5000001'], /iterations/],
  ]) {
    const { code, stderr } = await run(t, 'proxyfetch', ['measure', ...args]);
    assert.equal(code, 2, stderr);
    assert.match(stderr, message);
  }
});

test('measure counts the CPU time of the processes it is told', async (t) => {
  const { stdout } = await measure(t, await goodServer(t), '--concurrency', '10', '--iterations', '500', '--json',
    '--pids', `origin=${process.pid}`);
  const { cpuUsPerFetch } = JSON.parse(stdout).runs[2];
  assert.ok(cpuUsPerFetch.origin > 0 && cpuUsPerFetch.client > 0, JSON.stringify(cpuUsPerFetch));
});

test('measure stops at Ctrl-C', async (t) => {
  let asked;
  const underWay = new Promise((done) => (asked = done));
  const server = await goodServer(t, () => (asked(), []));
  const p = await start(t, 'proxyfetch', ['measure', '--url', server.url, '--target', `${server.httpUrl}/x`], { ready: null });
  p.ended = true; // its exit code is not 0
  await within(underWay, WAIT_MS, 'the first fetch');
  p.signal('SIGINT');
  assert.deepEqual(await within(p.exited, WAIT_MS, 'exit after SIGINT'), { code: 130, signal: null });
});

// ---- the connection ----

test('an upgrade that is refused or forged is an error', async (t) => {
  for (const [answer, message] of [
    ['HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n', /did not upgrade to WebSocket: HTTP\/1.1 404/],
    ['HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: bm8=\r\n\r\n', /did not upgrade/],
    [`HTTP/1.1 200 OK\r\n${'X: y\r\n'.repeat(4000)}`, /too long/],
  ]) {
    const server = await wsServer(t, () => {}, { onUpgrade: (req, tcp) => tcp.write(answer) });
    const { code, stderr } = await fetchUrl(t, server, 'http://t/');
    assert.equal(code, 1);
    assert.match(stderr, message);
  }
});

test('frames that a server must not send end the connection', async (t) => {
  for (const [bytes, message] of [
    [Buffer.from([0x81, 0x80, 0, 0, 0, 0]), /broke the WebSocket protocol/],
    [frame(2, 'binary'), /binary message/],
    [frame(0, 'no start'), /out of order/],
    [Buffer.concat([frame(1, 'a', { final: false }), frame(1, 'b')]), /out of order/],
    [Buffer.from([0x81, 127, 0, 0, 0, 0, 1, 0, 0, 1]), /too long/],
  ]) {
    const server = await wsServer(t, (socket) => socket.raw(bytes));
    const { code, stderr } = await fetchUrl(t, server, 'http://t/');
    assert.equal(code, 1);
    assert.match(stderr, message);
  }
});

test('fragments, split frames, pings in between and large messages arrive whole', async (t) => {
  const body = 'ü'.repeat(300_000);
  const server = await wsServer(t, async (socket, { clientId }) => {
    const result = Buffer.from(JSON.stringify({ type: 'result', reqId: 'r', clientId, success: true, status: 200,
      responseLength: body.length, duration: 1, body }));
    const bytes = Buffer.concat([frame(1, `{"type":"enqueued","reqId":"r","clientId":"${clientId}","enqueueTime":1}`),
      frame(1, result.subarray(0, 10), { final: false }), frame(9, 'are you there'),
      frame(0, result.subarray(10, 200_000), { final: false }), frame(0, result.subarray(200_000))]);
    for (let at = 0; at < bytes.length; at += 99_991) {
      socket.raw(bytes.subarray(at, at + 99_991));
      await new Promise(setImmediate);
    }
  });
  const { code, stdout, stderr } = await fetchUrl(t, server, 'http://t/');
  assert.equal(code, 0, stderr);
  assert.equal(stdout.trimEnd(), body);
});

test('a server that closes is quoted', async (t) => {
  const server = await wsServer(t, (socket) => socket.close(1013, 'try later'));
  const { code, stderr } = await fetchUrl(t, server, 'http://t/');
  assert.equal(code, 1);
  assert.match(stderr, /closed the connection \(1013: try later\)/);
});

test('nobody there: one clear line', async (t) => {
  const { code, stderr } = await fetchUrl(t, { url: 'ws://127.0.0.1:1/' }, 'http://t/');
  assert.equal(code, 1);
  assert.match(stderr, /^proxyfetch: ws:\/\/127\.0\.0\.1:1\/: cannot connect to 127\.0\.0\.1:1: connection refused; is it running\?\n$/);
  const jobs = await run(t, 'proxyfetch', ['jobs', 'list', '--url', 'http://127.0.0.1:1']);
  assert.equal(jobs.code, 1);
  assert.match(jobs.stderr, /^proxyfetch jobs: http:\/\/127\.0\.0\.1:1\/v1\/jobs.*; is it running\?\n$/);
});

test('a URL that is none is refused with examples of what is one', async (t) => {
  for (const [command, ...args] of [['fetch', '--url', 'foo', 'http://t/'], ['jobs', 'list', '--url', 'foo'], ['bench', '-u', 'foo'], ['measure', '--url', 'foo']]) {
    const { code, stderr } = await run(t, 'proxyfetch', [command, ...args]);
    assert.equal(code, 2, stderr);
    assert.match(stderr, new RegExp(`^proxyfetch ${command}: (url: )?'foo' is not a URL like ws://localhost:8787/ or http://localhost:8787/\n$`));
  }
});

// ---- fetch ----

test('fetch sends what it was told and prints the body', async (t) => {
  let seen;
  const server = await goodServer(t, (socket, message) => void (seen = message));
  const { code, stdout, stderr } = await fetchUrl(t, server, 'http://t/x?y=1', '-X', 'PUT', '-H', 'A: b: c', '-H', 'D:e',
    '-d', 'däta', '--timeout-ms', '1500', '--deadline-ms', '9000', '--redirect', 'manual', '--idempotency-key', 'k');
  assert.equal(code, 0, stderr);
  assert.equal(stdout, 'hello\n'); // the helper adds the line's end
  const { clientId, ...rest } = seen;
  assert.deepEqual(rest, { type: 'start-fetch', url: 'http://t/x?y=1', method: 'PUT', headers: [['A', 'b: c'], ['D', 'e']],
    body: 'däta', include: ['body'], timeoutMs: 1500, deadlineMs: 9000, redirect: 'manual', idempotencyKey: 'k' });
});

test('fetch -d reads files and standard input, binary too', async (t) => {
  const bytes = Buffer.from([0, 1, 2, 255, 254]);
  const file = join(tempDir(t), 'data');
  writeFileSync(file, bytes);
  let seen;
  const server = await goodServer(t, (socket, message) => void (seen = message));
  assert.equal((await fetchUrl(t, server, 'http://t/', '-d', `@${file}`)).code, 0);
  assert.equal(seen.bodyBase64, bytes.toString('base64'));
  assert.equal(seen.method, 'POST');
  const p = await run(t, 'proxyfetch', ['fetch', '--url', server.url, 'http://t/', '-d', '@-'], { input: 'from stdin' });
  assert.equal(p.code, 0);
  assert.equal(seen.body, 'from stdin');
});

test('fetch takes a body of exactly the limit and refuses one more byte', async (t) => {
  const file = join(tempDir(t), 'data');
  let seen;
  const server = await goodServer(t, (socket, message) => void (seen = message));
  writeFileSync(file, 'x'.repeat(1 << 20));
  assert.equal((await fetchUrl(t, server, 'http://t/', '-d', `@${file}`)).code, 0);
  assert.equal(seen.body.length, 1 << 20);
  writeFileSync(file, 'x'.repeat((1 << 20) + 1));
  const { code, stderr } = await fetchUrl(t, server, 'http://t/', '-d', `@${file}`);
  assert.equal(code, 2);
  assert.match(stderr, /data: more than 1048576 bytes/);
});

test('fetch --json prints the result message as it came', async (t) => {
  const server = await goodServer(t, (socket, message, [e, r]) => [e, { ...r, extra: [1, { a: null }] }]);
  const { code, stdout } = await fetchUrl(t, server, 'http://t/', '--json');
  assert.equal(code, 0);
  assert.deepEqual(JSON.parse(stdout).extra, [1, { a: null }]);
});

test('fetch --include shows headers on stdout, timings and logs on stderr', async (t) => {
  const server = await goodServer(t, (socket, message, [e, r]) =>
    [e, { ...r, headers: [['content-type', 'text/plain'], ['x', 'y']], logs: ['line one'] }]);
  const { code, stdout, stderr } = await fetchUrl(t, server, 'http://t/', '--include', 'headers,body,timings,logs');
  assert.equal(code, 0);
  assert.equal(stdout.trimEnd(), 'HTTP 200\ncontent-type: text/plain\nx: y\n\nhello');
  assert.match(stderr, /ttfb +0\.700 ms/);
  assert.match(stderr, /log: line one/);
});

test('fetch says what failed, whose fault it was and whether the request was sent', async (t) => {
  const server = await goodServer(t, (socket, message, [e, { reqId, clientId }]) => [e, { type: 'result', reqId, clientId,
    success: false, error: 'the target refused the connection', duration: 9, code: 'connect_failed', certainty: 'not_sent',
    owner: 'target', attempts: 4 }]);
  for (const flags of [[], ['--json']]) {
    const { code, stdout, stderr } = await fetchUrl(t, server, 'http://t/', ...flags);
    assert.equal(code, 1);
    if (flags.length) assert.equal(JSON.parse(stdout).code, 'connect_failed');
    else assert.equal(stderr, 'proxyfetch: the target refused the connection (code connect_failed, owner target, certainty not_sent, attempts 4)\n');
  }
});

test('fetch reports a refusal of the message', async (t) => {
  const server = await goodServer(t, (socket, { clientId }) => [{ type: 'error', clientId, error: 'no such scheme', code: 'bad_url' }]);
  const { code, stderr } = await fetchUrl(t, server, 'gopher://t/');
  assert.equal(code, 1);
  assert.equal(stderr, 'proxyfetch: bad_url: no such scheme\n');
});

test('fetch --fail minds the status', async (t) => {
  const server = await goodServer(t, (socket, message, [e, r]) => [e, { ...r, status: 404 }]);
  assert.equal((await fetchUrl(t, server, 'http://t/')).code, 0);
  assert.equal((await fetchUrl(t, server, 'http://t/', '--fail')).code, 1);
});

test('fetch writes binary bodies unchanged, and gets large ones over HTTP', async (t) => {
  const bytes = Buffer.from([0xff, 0, 0x80]);
  const binary = await goodServer(t, (socket, message, [e, r]) => [e, { ...r, body: undefined, bodyBase64: bytes.toString('base64') }]);
  const first = await run(t, '/bin/sh', ['-c', `"$0" fetch --url ${binary.url} http://t/ | od -An -tx1`, program('proxyfetch')]);
  assert.equal(first.stdout.trim(), 'ff 00 80');
  const large = 'z'.repeat(3_000_000);
  const server = await goodServer(t, (socket, message, [e, r]) => [e, { ...r, body: undefined, bodyUrl: `/v1/jobs/${r.reqId}/body` }],
    { onRequest: (req, res) => (req.url === '/v1/jobs/job-0/body' ? res.end(large) : res.writeHead(404).end()) });
  const { code, stdout } = await fetchUrl(t, server, 'http://t/');
  assert.equal(code, 0);
  assert.equal(stdout.trimEnd(), large);
  const gone = await fetchUrl(t, server, 'http://t/'); // job-1: the server does not have it
  assert.equal(gone.code, 1);
  assert.match(gone.stderr, /the body could not be read.*404/);
});

test('fetch reads a large body once, though its result comes twice', async (t) => {
  let asked = 0; // a result answers a repeated submit, and is an event as well
  const server = await goodServer(t, (socket, message, [e, r]) => [e, { ...r, bodyUrl: '/body' }, { ...r, bodyUrl: '/body' }],
    { onRequest: (req, res) => (asked++, res.end('z'.repeat(100_000))) });
  const { code, stdout, stderr } = await fetchUrl(t, server, 'http://t/');
  assert.equal(code, 0, stderr);
  assert.deepEqual([stdout.trimEnd().length, asked], [100_000, 1]);
});

test('fetch --no-wait prints the id as soon as the job is durable', async (t) => {
  const server = await goodServer(t, (socket, message, [e]) => [e]);
  const { code, stdout } = await fetchUrl(t, server, 'http://t/', '--no-wait');
  assert.equal(code, 0);
  assert.equal(stdout, 'job-0\n');
});

test('fetch tells where the result will be when the connection breaks', async (t) => {
  const server = await goodServer(t, (socket, message, [e]) => {
    socket.send(e);
    socket.close(1001, 'restart');
    return [];
  });
  const { code, stderr } = await fetchUrl(t, server, 'http://t/');
  assert.equal(code, 1);
  assert.match(stderr, /\/v1\/jobs\/job-0/);
});

test('fetch with a session comes back after each break, and submits once', async (t) => {
  const seen = [], session = 'ab'.repeat(16);
  const say = { // what is answered to the n-th message, and whether the connection then breaks
    0: (socket) => socket.send({ type: 'session', session, offset: 0, oldest: 1, pending: 0 }),
    1: (socket) => socket.destroy(), // start-fetch: nobody knows whether it arrived
    2: (socket) => socket.send({ type: 'session', session, offset: 0, oldest: 1, pending: 0 }),
    3: (socket, { clientId }) => (socket.send({ type: 'enqueued', reqId: 'job-0', clientId, enqueueTime: 1 }), socket.close(1001, 'restart')),
    4: (socket) => {
      socket.send({ type: 'session', session, offset: 1, oldest: 1, pending: 0 });
      socket.send({ type: 'result', reqId: 'job-0', clientId: 'cli', offset: 1, success: true, status: 200, responseLength: 2, duration: 3, body: 'ok' });
    },
  };
  const server = await wsServer(t, (socket, message) => say[seen.push(message) - 1]?.(socket, message));
  const { code, stdout, stderr } = await fetchUrl(t, server, 'http://t/', '-X', 'POST');
  assert.equal(code, 0, stderr);
  assert.equal(stdout.trimEnd(), 'ok');
  assert.match(stderr, /trying to get the connection back/);
  assert.deepEqual(seen.map(({ type }) => type), ['resume', 'start-fetch', 'resume', 'start-fetch', 'resume', 'ack']);
  assert.deepEqual(seen[0], { type: 'resume' });
  assert.deepEqual(seen[2], { type: 'resume', session, offset: 0 });
  assert.match(seen[1].submitKey, /^[0-9a-f]{32}$/);
  assert.deepEqual(seen[3], seen[1]);
  assert.deepEqual(seen[5], { type: 'ack', session, offset: 1 });
});

test('fetch asks again for what a gap swallowed, or a server forgot that had confirmed it', async (t) => {
  const session = 'ef'.repeat(16);
  const greet = (offset) => ({ type: 'session', session, offset, oldest: 1, pending: 0 });
  const enqueued = { type: 'enqueued', reqId: 'job-0', clientId: 'cli', enqueueTime: 1 };
  const result = { type: 'result', reqId: 'job-0', clientId: 'cli', success: true, status: 200, responseLength: 2, duration: 3, body: 'ok' };
  const event = { type: 'waiting', reqId: 'job-0', reason: 'no-executor', offset: 1 };
  const cases = {
    gap: [[greet(0)], [enqueued, { type: 'gap', from: 1, to: 4 }], [], [enqueued, result]],
    forgotten: [[greet(0)], [enqueued, event], [], 'break', [greet(0)], [enqueued, result]],
  };
  for (const [name, says] of Object.entries(cases)) {
    const seen = [];
    let at = 0;
    const server = await wsServer(t, (socket, message) => {
      seen.push(message);
      for (const answer of says[at++]) socket.send(answer);
      if (says[at] === 'break') at++, socket.close(1001, 'restart');
    });
    const { code, stdout, stderr } = await fetchUrl(t, server, 'http://t/', '-X', 'POST');
    assert.equal(code, 0, stderr);
    assert.equal(stdout.trimEnd(), 'ok');
    const submitted = seen.filter(({ type }) => type === 'start-fetch');
    assert.deepEqual(submitted, [submitted[0], submitted[0]], `${name}: submitted twice under one key`);
    assert.ok(submitted[0].submitKey);
  }
});

test('fetch counts from where an origin stands that lost its last moments', async (t) => {
  const seen = [], session = 'ab'.repeat(16);
  const late = (offset) => ({ type: 'late-result', reqId: 'job-1', clientId: 'other', offset, success: true, status: 200 });
  const say = {
    0: (socket) => socket.send({ type: 'session', session, offset: 0, oldest: 1, pending: 0 }),
    1: (socket) => socket.send(late(9)),
    2: (socket) => socket.destroy(), // ack
    3: (socket) => {
      socket.send({ type: 'session', session, offset: 2, oldest: 1, pending: 0 });
      socket.send(late(3));
    },
    5: (socket) => socket.send({ type: 'result', reqId: 'job-0', clientId: 'cli', offset: 4, success: true, status: 200, responseLength: 2, duration: 3, body: 'ok' }),
  };
  const server = await wsServer(t, (socket, message) => say[seen.push(message) - 1]?.(socket, message));
  const { code, stderr } = await fetchUrl(t, server, 'http://t/');
  assert.equal(code, 0, stderr);
  assert.deepEqual(seen.filter(({ type }) => type !== 'start-fetch').map(({ type, offset }) => [type, offset]),
    [['resume', undefined], ['ack', 9], ['resume', 9], ['ack', 3], ['ack', 4]]);
});

test('fetch submits again what the origin has lost', async (t) => {
  const seen = [], session = 'ab'.repeat(16);
  const greeting = { type: 'session', session, offset: 0, oldest: 1 };
  const enqueued = (clientId) => ({ type: 'enqueued', reqId: 'job-0', clientId, enqueueTime: 1 });
  const say = {
    0: (socket) => socket.send({ ...greeting, pending: 0 }),
    1: (socket, { clientId }) => (socket.send(enqueued(clientId)), socket.close(1001, 'restart')),
    2: (socket) => (socket.send({ ...greeting, pending: 1 }), socket.close(1001, 'restart')), // it is there
    3: (socket) => socket.send({ ...greeting, pending: 0 }), // and now it is not, nor is its result
    4: (socket, { clientId }) => socket.send({ type: 'result', reqId: 'job-0', clientId, success: true, status: 200, responseLength: 2, duration: 3, body: 'ok' }),
  };
  const server = await wsServer(t, (socket, message) => say[seen.push(message) - 1]?.(socket, message));
  const { code, stderr } = await fetchUrl(t, server, 'http://t/');
  assert.equal(code, 0, stderr);
  assert.deepEqual(seen.map(({ type }) => type), ['resume', 'start-fetch', 'resume', 'resume', 'start-fetch']);
  assert.deepEqual(seen[4], seen[1]);
});

test('fetch does not ask again for a result that it has, while it reads the body', async (t) => {
  const seen = [], session = 'ab'.repeat(16);
  const greet = (socket, offset) => socket.send({ type: 'session', session, offset, oldest: 1, pending: 0 });
  let first, body;
  const say = {
    0: (socket) => greet(first = socket, 0),
    1: (socket, { clientId }) => {
      socket.send({ type: 'enqueued', reqId: 'job-0', clientId, enqueueTime: 1 });
      socket.send({ type: 'result', reqId: 'job-0', clientId, offset: 1, success: true, status: 200, responseLength: 2, duration: 3, bodyUrl: '/v1/jobs/job-0/body' });
    },
    3: (socket) => {
      greet(socket, 1);
      socket.send({ type: 'late-result', reqId: 'job-1', clientId: 'other', offset: 2, success: true, status: 200 });
    },
  };
  const server = await wsServer(t, (socket, message) => {
    say[seen.push(message) - 1]?.(socket, message);
    if (message.type === 'ack' && message.offset === 2) body.end('ok');
  }, { onRequest: (req, res) => ((body = res), first.destroy()) });
  const { code, stdout, stderr } = await fetchUrl(t, server, 'http://t/');
  assert.equal(code, 0, stderr);
  assert.equal(stdout.trimEnd(), 'ok');
  assert.deepEqual(seen.map(({ type }) => type), ['resume', 'start-fetch', 'ack', 'resume', 'ack']);
});

test('fetch gives up when the connection does not come back, and says where the result will be', async (t) => {
  const session = 'cd'.repeat(16);
  const server = await wsServer(t, (socket, { type, clientId }) => {
    if (type === 'resume') return socket.send({ type: 'session', session, offset: 0, oldest: 1, pending: 0 });
    socket.send({ type: 'enqueued', reqId: 'job-0', clientId, enqueueTime: 1 });
    socket.destroy();
  });
  const { code, stderr } = await fetchUrl(t, server, 'http://t/', '--reconnect-ms', '0');
  assert.equal(code, 1);
  assert.match(stderr, /\/v1\/jobs\/job-0/);
});

test('fetch goes on without a session where there is none, or when it is told to', async (t) => {
  const silent = await wsServer(t, (socket, { type, clientId, submitKey }) => {
    if (type !== 'start-fetch') return;
    assert.equal(submitKey, undefined);
    socket.send({ type: 'enqueued', reqId: 'j', clientId, enqueueTime: 1 });
    socket.send({ type: 'result', reqId: 'j', clientId, success: true, status: 200, responseLength: 2, duration: 3, body: 'ok' });
  });
  assert.equal((await fetchUrl(t, silent, 'http://t/')).stdout.trimEnd(), 'ok');
  const types = [];
  const server = await goodServer(t, (socket, { type }) => void types.push(type));
  assert.equal((await fetchUrl(t, server, 'http://t/', '--no-session')).code, 0);
  assert.deepEqual(types, ['start-fetch']);
});

test('fetch survives a kill -9 of the origin', async (t) => {
  const held = await heldTarget(t);
  const system = await startSystem(t, { args: { executor: held.allow } });
  const fetching = run(t, 'proxyfetch', ['fetch', '--url', system.wsUrl, held.url('once')]);
  await held.asked('once');
  await system.crash('origin');
  held.release();
  await system.restart('origin');
  const { code, stdout, stderr } = await fetching;
  assert.equal(code, 0, stderr);
  assert.ok(stdout.length > 0);
  assert.match(stderr, /trying to get the connection back/);
  assert.equal(held.hits('once'), 1);
  assert.equal((await http(`${system.httpUrl}/v1/jobs`)).body.total, 0);
});

test('measure --session survives a kill -9 of the origin, and each fetch ends once', async (t) => {
  const system = await startSystem(t);
  const measuring = run(t, 'proxyfetch', ['measure', '--session', '--url', system.wsUrl, '--target',
    `${system.target}/delay/20?key=all`, '--concurrency', '200', '--iterations', '4000', '--json']);
  await until(async () => (await http(`${system.target}/hits/all`)).body.hits > 1000, 'it is in full swing');
  await system.crash('origin');
  await system.restart('origin');
  const { code, stdout, stderr } = await measuring;
  assert.equal(code, 0, stderr + stdout);
  assert.match(stderr, /trying to get the connection back/);
});

test('measure --session says so when there are none', async (t) => {
  const server = await goodServer(t);
  const { code, stderr } = await measure(t, server, '--concurrency', '1', '--iterations', '1', '--session');
  assert.equal(code, 1);
  assert.match(stderr, /has no sessions/);
});

test('fetch stops at Ctrl-C', async (t) => {
  let asked;
  const underWay = new Promise((done) => (asked = done));
  const server = await goodServer(t, () => (asked(), []));
  const p = await start(t, 'proxyfetch', ['fetch', '--url', server.url, 'http://t/'], { ready: null });
  p.ended = true; // its exit code is not 0
  await within(underWay, WAIT_MS, 'the request');
  p.signal('SIGINT');
  assert.deepEqual(await within(p.exited, WAIT_MS, 'exit after SIGINT'), { code: 130, signal: null });
});

test('fetch refuses a bad command line', async (t) => {
  for (const [args, message] of [
    [[], /exactly one URL/], [['http://a/', 'http://b/'], /exactly one URL/],
    [['http://a/', '-H', 'nocolon'], /header: 'nocolon'/], [['http://a/', '-d', '@/nonexistent'], /cannot read/],
    [['http://a/', '--redirect', 'maybe'], /redirect/],
  ]) {
    const { code, stderr } = await run(t, 'proxyfetch', ['fetch', ...args]);
    assert.equal(code, 2, stderr);
    assert.match(stderr, message);
  }
});
