// proxyfetch-executor between scripted neighbours (lib/hops.mjs), fetching from proxyfetch-test-endpoints and
// from servers made here.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { heldTarget } from './lib/held_target.mjs';
import { program, run, start, tempDir, until } from './lib/process.mjs';
import { reasonsOf } from './lib/metrics.mjs';
import { BATCH, hex, post, record, records, startOrigin, startQueue } from './lib/hops.mjs';

/** A server of this test on a port of its own; closed with t. */
async function listen(t, server) {
  const sockets = new Set();
  server.on('connection', (socket) => sockets.add(socket.on('close', () => sockets.delete(socket))));
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  t.after(() => new Promise((done) => {
    server.close(done);
    sockets.forEach((socket) => socket.destroy());
  }));
  return server.address().port;
}

async function system(t, { args = [], env, allow = [], name, command } = {}) {
  const target = await start(t, 'proxyfetch-test-endpoints', ['--listen', 'localhost:0']);
  const queue = await startQueue(t);
  const origin = await startOrigin(t, queue);
  // A lease that does not run out because the machine stands still; who wants it to, asks for a shorter one.
  const all = ['--listen', '127.0.0.1:0', '--orchestrator', queue.url, '--heartbeat-ms', '100',
    '--lease-ms', '10000', ...[target.port, ...allow].flatMap((port) => ['--allow-target', `127.0.0.1:${port}`]),
    ...args];
  const executor = command
    ? await start(t, ...command(all), { env, ready: /^proxyfetch-executor listening on / })
    : await start(t, 'proxyfetch-executor', all, { env });
  await queue.joined();
  const at = (path) => `http://127.0.0.1:${target.port}${path}`;
  /** Fetches and returns the result as the origin got it. */
  const fetched = async (path, request = {}) => {
    const job = await queue.fetch(origin, { url: path.startsWith('http') ? path : at(path), ...request });
    const { result, body } = await origin.result(job);
    return { ...result, body, job };
  };
  const hits = async (key) => (await (await fetch(at(`/hits/${key}`))).json()).hits;
  return { target, queue, origin, executor, at, fetched, hits };
}

const everything = { include: ['headers', 'body', 'timings'] };
const failure = ({ code, certainty }) => ({ code, certainty });
const healthOf = async (url) => (await fetch(`${url}/health/detailed`)).json();
const header = (result, name) =>
  result.headers.filter(([n]) => n.toLowerCase() === name.toLowerCase()).map(([, value]) => value);

test('fetches', async (t) => {
  const { queue, origin, executor, at, fetched, target } = await system(t);

  await t.test('a job goes the whole way', async () => {
    const job = await queue.fetch(origin, { url: at('/uuid'), ...everything, timers: { queueMs: 12.5 } });
    const { result, body } = await origin.result(job);
    assert.equal(result.code ?? 'ok', 'ok');
    assert.equal(result.certainty, 'answered');
    assert.equal(result.status, 200);
    assert.equal(result.responseLength, 47);
    assert.equal(result.capability, job.capability);
    assert.equal(result.fence, job.fence);
    assert.match(body.toString(), /^\{"uuid":"[0-9a-f-]{36}"\}$/);
    assert.equal(result.timings.queue, 12.5);
    for (const part of ['dispatch', 'dns', 'connect', 'tls', 'ttfb', 'transfer'])
      assert.ok(result.timings[part] >= 0 && result.timings[part] < 30_000, part);
    assert.deepEqual(await queue.completed(job), { job: job.job, fence: job.fence, outcome: 'delivered' });
    assert.equal((await fetched('/uuid')).reused, true);
  });

  await t.test('an answer is shipped only as far as it is wanted', async () => {
    const plain = await fetched('/uuid');
    assert.equal(plain.headers, undefined);
    assert.equal(plain.hasBody ?? false, false);
    assert.equal(plain.body.length, 0);
    assert.equal(plain.responseLength, 47);
  });

  await t.test('any status is a result', async () => {
    for (const status of [201, 204, 304, 400, 404, 500, 503]) {
      const result = await fetched(`/status/${status}`);
      assert.equal(result.code ?? 'ok', 'ok');
      assert.equal(result.status, status);
    }
  });

  await t.test('methods, headers and bodies arrive as they were given', async () => {
    const bodies = { GET: '', HEAD: '', POST: 'text', PUT: Buffer.from([0, 1, 2, 255]), PATCH: '{}', DELETE: '', OPTIONS: '' };
    for (const [method, body] of Object.entries(bodies)) {
      const result = await fetched('/echo', { method, body, headers: [['X-One', '1'], ['X-Empty', ''], ['x-one', '2']],
        repeatable: true, ...everything });
      assert.equal(result.status, 200, method);
      if (method === 'HEAD') continue;
      const echo = JSON.parse(result.body);
      const values = (name) => echo.headers.filter(([n]) => n.toLowerCase() === name).map(([, v]) => v);
      assert.equal(echo.method, method);
      assert.deepEqual(values('x-one'), ['1', '2']);
      assert.deepEqual(values('x-empty'), ['']);
      assert.deepEqual(values('x-job-id'), [result.job.job]);
      assert.deepEqual(values('expect'), []);
      assert.deepEqual(values('cookie'), []);
      assert.deepEqual(values('content-type'), []);
      if (Buffer.isBuffer(body)) assert.deepEqual(Buffer.from(echo.bodyBase64, 'base64'), body);
      else assert.equal(echo.body ?? '', body);
      if (body.length) assert.deepEqual(values('content-length'), [String(body.length)]);
    }
  });

  await t.test('an empty POST says that it is empty, and the idempotency key goes along', async () => {
    const result = await fetched('/echo', { method: 'POST', idempotencyKey: 'key-1', repeatable: true, ...everything });
    const echo = new Map(JSON.parse(result.body).headers.map(([n, v]) => [n.toLowerCase(), v]));
    assert.equal(echo.get('content-length'), '0');
    assert.equal(echo.get('idempotency-key'), 'key-1');
  });

  await t.test('gzip is decoded, and the headers that spoke of it are gone', async () => {
    const result = await fetched('/gzip', everything);
    assert.ok(JSON.parse(result.body));
    assert.equal(result.responseLength, result.body.length);
    assert.deepEqual(header(result, 'content-encoding'), []);
    assert.deepEqual(header(result, 'content-length'), []);
    const raw = await fetched('/gzip', { ...everything, headers: [['Accept-Encoding', 'gzip']] });
    assert.deepEqual(header(raw, 'content-encoding'), ['gzip']);
    assert.deepEqual([...raw.body.subarray(0, 2)], [0x1f, 0x8b]);
  });

  await t.test('chunks, drips and events end up whole', async () => {
    assert.equal((await fetched('/stream/100', everything)).body.toString().trim().split('\n').length, 100);
    assert.equal((await fetched('/drip?bytes=20&ms=5', everything)).responseLength, 20);
    assert.match((await fetched('/sse?count=3&ms=1', everything)).body.toString(), /data/);
    assert.equal((await fetched('/slow-headers?ms=1')).status, 200);
  });

  await t.test('what is broken is said, and how much of it was sent', async () => {
    assert.deepEqual(failure(await fetched('/reset')), { code: 'reset', certainty: 'sent_unknown' });
    assert.deepEqual(failure(await fetched('/close-after-request')), { code: 'reset', certainty: 'sent_unknown' });
    assert.deepEqual(failure(await fetched('/truncate?bytes=10')), { code: 'reset', certainty: 'answered_partial' });
    assert.deepEqual(failure(await fetched('/reset?bytes=10')), { code: 'reset', certainty: 'answered_partial' });
    // Enough to send the request and to see the first byte, and not to see the end.
    const attemptMs = 1000;
    assert.deepEqual(failure(await fetched('/hang', { timers: { attemptMs } })),
      { code: 'timeout_first_byte', certainty: 'sent_unknown' });
    assert.deepEqual(failure(await fetched('/drip?bytes=1000&ms=50', { timers: { attemptMs } })),
      { code: 'timeout_attempt', certainty: 'answered_partial' });
    assert.equal((await fetched('/slow-headers?ms=200', { timers: { attemptMs } })).code, 'timeout_first_byte');
  });

  await t.test('a bomb is noticed while it is read', async () => {
    const before = executor.residentKiB();
    const result = await fetched('/gzip-bomb', everything);
    assert.deepEqual(failure(result), { code: 'decode_failed', certainty: 'answered_partial' });
    assert.equal(result.status, 200);
    assert.ok(executor.residentKiB() - before < 32 * 1024);
  });

  await t.test('redirects', async () => {
    assert.equal((await fetched('/redirect/10')).status, 200);
    assert.deepEqual(failure(await fetched('/redirect/11')), { code: 'redirect_limit', certainty: 'answered_partial' });
    const manual = await fetched('/redirect/1', { redirect: 'manual', ...everything });
    assert.equal(manual.status, 302);
    assert.equal(header(manual, 'location').length, 1);
    assert.deepEqual(failure(await fetched('/redirect/1', { redirect: 'error' })),
      { code: 'redirect_refused', certainty: 'answered' });
    for (const [status, method] of [[303, 'GET'], [302, 'GET'], [307, 'POST'], [308, 'POST']]) {
      const url = encodeURIComponent(at('/echo'));
      const result = await fetched(`/redirect-to?url=${url}&status=${status}`,
        { method: 'POST', body: 'x', repeatable: true, ...everything });
      assert.equal(JSON.parse(result.body).method, method);
      assert.equal(JSON.parse(result.body).body ?? '', method === 'GET' ? '' : 'x');
    }
    for (const url of ['file:///etc/passwd', 'gopher://127.0.0.1/', 'http://user:pw@127.0.0.1/'])
      assert.equal((await fetched(`/redirect-to?url=${encodeURIComponent(url)}`)).code, 'bad_url');
  });

  await t.test('secrets do not follow to another origin', async () => {
    const headers = [['Authorization', 'Bearer s3cret'], ['X-Api-Key', 's3cret'], ['Accept', 'text/plain']];
    // The same server by another name is another origin.
    const other = await listen(t, http.createServer((req, res) => res.end(JSON.stringify(req.headers))));
    const second = await system(t, { allow: [other] });
    const result = await second.fetched(`/redirect-to?url=${encodeURIComponent(`http://127.0.0.1:${other}/`)}`,
      { headers, ...everything });
    assert.equal(result.status, 200);
    assert.doesNotMatch(result.body.toString(), /s3cret/);
    assert.equal(JSON.parse(result.body).accept, 'text/plain');
  });

  await t.test('addresses that are not allowed are refused, however they are written', async () => {
    const other = target.port === 65535 ? 1 : target.port + 1;
    const refused = [`http://127.0.0.1:${other}/`, `http://localhost:${target.port === 9 ? 10 : 9}/`, 'http://127.1/', 'http://0/',
      'http://2130706433/', 'http://0x7f.1/', 'http://017700000001/', 'http://[::ffff:127.0.0.1]:9/', 'http://[::1]:9/',
      'http://10.0.0.1/', 'http://169.254.169.254/latest/meta-data', 'http://[fd00:ec2::254]/', 'http://168.63.129.16/'];
    for (const url of refused) {
      const result = await fetched(url);
      assert.deepEqual(failure(result), { code: 'policy_refused', certainty: 'not_sent' }, url);
      assert.match(result.error, /start the executor with --allow-target \S+ to allow it/, url);
    }
    const redirected = await fetched(`/redirect-to?url=${encodeURIComponent('http://169.254.169.254/')}`);
    assert.equal(redirected.code, 'policy_refused');
    assert.equal(redirected.certainty, 'sent_unknown'); // the first hop was
    assert.equal((await fetched(`http://127.0.0.1:${other}/`)).error, `127.0.0.1:${other} is a loopback address; ` +
      `start the executor with --allow-target 127.0.0.1/32:${other} to allow it`);
  });

  await t.test('environment, proxies and cookies have no say', async () => {
    const proxied = await system(t, { env: { http_proxy: 'http://127.0.0.1:9', HTTP_PROXY: 'http://127.0.0.1:9',
      ALL_PROXY: 'socks5://127.0.0.1:9', all_proxy: 'socks5://127.0.0.1:9' } });
    assert.equal((await proxied.fetched('/uuid')).status, 200);
    let seen = 0;
    const port = await listen(t, http.createServer((req, res) => {
      seen += 'cookie' in req.headers;
      res.writeHead(200, { 'Set-Cookie': 'planted=1; Path=/', 'X-Evil': 'a\tb' }).end('x');
    }));
    const planted = await system(t, { allow: [port] });
    for (let i = 0; i < 3; i++) {
      const result = await planted.fetched(`http://127.0.0.1:${port}/`, everything);
      assert.deepEqual(header(result, 'set-cookie'), []);
      assert.deepEqual(header(result, 'x-evil'), ['a b']);
    }
    assert.equal(seen, 0);
  });

  await t.test('a request that cannot be read ends as an error', async () => {
    const job = queue.job(origin, { url: at('/uuid') });
    job.request = Buffer.from('no record');
    assert.deepEqual(await queue.execute([job]), ['taken']);
    assert.deepEqual(failure((await origin.result(job)).result), { code: 'bad_request', certainty: 'not_sent' });
    for (const headers of [[['Host', 'x']], [['Transfer-Encoding', 'chunked']], [['X', 'a\r\nY: b']], [['X-Pf-Version', '2']]])
      assert.equal((await fetched('/uuid', { headers })).code, 'bad_request');
    assert.equal((await fetched('/uuid', { method: 'CONNECT' })).code, 'bad_request');
    assert.equal((await fetched('ftp://127.0.0.1/')).code, 'bad_url');
  });
});

test('a request is never sent twice by libcurl itself', async (t) => {
  const { fetched, hits } = await system(t);
  assert.equal((await fetched('/uuid')).status, 200); // a connection to be used again
  for (const method of ['GET', 'POST', 'PUT']) {
    const result = await fetched(`/close-after-request?key=once-${method}`, { method, body: method === 'GET' ? '' : 'x', repeatable: true });
    assert.deepEqual(failure(result), { code: 'reset', certainty: 'sent_unknown' });
    assert.equal(await hits(`once-${method}`), 1);
    assert.equal((await fetched('/uuid')).status, 200);
  }
});

test('caps of answers, at max and max + 1', async (t) => {
  let lines = [];
  const port = await listen(t, net.createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', () => socket.end(`HTTP/1.1 200 OK\r\nContent-Length: 0\r\n${lines.join('')}\r\n`));
  }));
  const { fetched } = await system(t, { allow: [port], args: ['--body-max', '1000'] });
  assert.equal((await fetched('/bytes/1000', everything)).body.length, 1000);
  const over = await fetched('/bytes/1001', everything);
  assert.deepEqual(failure(over), { code: 'too_large', certainty: 'answered_partial' });
  assert.equal(over.status, 200);
  assert.ok(over.headers.length > 0);
  assert.equal((await fetched('/bytes/1001')).code, 'too_large'); // also if nobody wants the body
  assert.equal((await fetched('/stream/1000', everything)).code, 'too_large');

  const url = `http://127.0.0.1:${port}/`;
  lines = Array.from({ length: 255 }, (_, i) => `X-${i}: v\r\n`);
  assert.equal((await fetched(url, everything)).headers.length, 256);
  lines.push('X-Last: v\r\n');
  assert.equal((await fetched(url, everything)).code, 'too_large');
  const fixed = 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'.length;
  lines = [`X: ${'v'.repeat(65536 - fixed - 'X: \r\n'.length)}\r\n`];
  assert.equal((await fetched(url, everything)).status, 200);
  lines = [`X: ${'v'.repeat(65536 - fixed - 'X: \r\n'.length + 1)}\r\n`];
  assert.equal((await fetched(url, everything)).code, 'too_large');
});

test('budgets', async (t) => {
  // Accepts into the backlog of the kernel only, and never speaks: for TLS.
  const mute = await listen(t, net.createServer((socket) => socket.on('error', () => {})));
  const { fetched } = await system(t, { allow: [mute, 1], args: ['--connect-ms', '1000', '--idle-ms', '1000'] });
  assert.deepEqual(failure(await fetched(`https://127.0.0.1:${mute}/`)), { code: 'connect_timeout', certainty: 'not_sent' });
  assert.deepEqual(failure(await fetched('http://127.0.0.1:1/')), { code: 'connect_failed', certainty: 'not_sent' });
  // Longer than idle to the first byte, or slow but steady: no idle. A pause in the body: idle.
  assert.equal((await fetched('/delay/1500')).status, 200);
  assert.equal((await fetched('/drip?bytes=30&ms=50')).status, 200);
  assert.deepEqual(failure(await fetched('/drip?bytes=3&ms=5000')), { code: 'timeout_idle', certainty: 'answered_partial' });
  // The rest of the job's deadline bounds an attempt too.
  assert.equal((await fetched('/hang', { timers: { deadlineMs: 1000 } })).code, 'timeout_first_byte');
});

test('answers that are not HTTP', async (t) => {
  const say = (text) => listen(t, net.createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', () => socket.end(text));
  }));
  const garbage = await say('SSH-2.0-x\r\n'), broken = await say('HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nxxxx');
  const early = await say('HTTP/1.1 103 Early Hints\r\nX-A: 1\r\n\r\nHTTP/1.1 200 OK\r\nX-B: 2\r\nContent-Length: 1\r\n\r\ny');
  const { fetched } = await system(t, { allow: [garbage, broken, early] });
  assert.equal((await fetched(`http://127.0.0.1:${garbage}/`)).code, 'bad_response');
  assert.deepEqual(failure(await fetched(`http://127.0.0.1:${broken}/`)), { code: 'decode_failed', certainty: 'answered_partial' });
  assert.deepEqual(failure(await fetched(`https://127.0.0.1:${garbage}/`)), { code: 'tls_failed', certainty: 'not_sent' });
  const result = await fetched(`http://127.0.0.1:${early}/`, everything);
  assert.equal(result.status, 200);
  assert.deepEqual(header(result, 'x-a'), []);
  assert.deepEqual(header(result, 'x-b'), ['2']);
});

test('https', async (t) => {
  const dir = tempDir(t), key = join(dir, 'key.pem'), cert = join(dir, 'cert.pem');
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', key,
    '-out', cert, '-days', '2', '-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1'], { stdio: 'ignore' });
  const { createServer } = await import('node:https');
  const port = await listen(t, createServer({ key: readFileSync(key), cert: readFileSync(cert) }, (req, res) => res.end('secure')));
  const trusting = await system(t, { allow: [port], args: ['--ca-file', cert] });
  const result = await trusting.fetched(`https://127.0.0.1:${port}/`, everything);
  assert.equal(result.body.toString(), 'secure');
  assert.ok(result.timings.tls > 0);
  assert.equal((await trusting.fetched(`https://127.0.0.1:${port}/`)).reused, true);
  // Right certificate, wrong name.
  assert.equal((await trusting.fetched(`https://localhost:${port}/`)).code, 'tls_verify');
  const usual = await system(t, { allow: [port] });
  assert.deepEqual(failure(await usual.fetched(`https://127.0.0.1:${port}/`)), { code: 'tls_verify', certainty: 'not_sent' });
});

test('who repeats', async (t) => {
  const patient = await listen(t, http.createServer((req, res) => res.writeHead(503, { 'Retry-After': '99999999999' }).end()));
  const { queue, origin, at, fetched, hits } = await system(t, { allow: [1, patient] });
  const failed = async (request) => {
    const job = await queue.fetch(origin, { last: false, ...request });
    return { job, certainty: 'not_sent', ...(await queue.completed(job)) };
  };

  await t.test('a failure that may be repeated goes to the queue only', async () => {
    const reset = await failed({ url: at('/reset?key=r') });
    assert.deepEqual([reset.outcome, reset.code, reset.certainty], ['retry', 'reset', 'sent_unknown']);
    assert.equal(await hits('r'), 1);
    const refused = await failed({ url: 'http://127.0.0.1:1/', method: 'POST', repeatable: false });
    assert.deepEqual([refused.outcome, refused.code, refused.certainty], ['retry', 'connect_failed', 'not_sent']);
    const named = await failed({ url: at('/retry-after/7?status=503'), statuses: ['5xx'] });
    assert.deepEqual([named.outcome, named.code, named.retryAfterMs], ['retry', 'status_named', 7000]);
    const century = await failed({ url: `http://127.0.0.1:${patient}/`, statuses: [503] });
    assert.equal(century.retryAfterMs, 604800000); // as much as any deadline
    for (const { job } of [reset, refused, named, century]) assert.deepEqual(origin.results.all(job.job), []);
  });

  await t.test('others go to the origin', async () => {
    const post = await fetched('/reset?key=p', { method: 'POST', repeatable: false, last: false });
    assert.deepEqual(failure(post), { code: 'reset', certainty: 'sent_unknown' });
    assert.equal(await hits('p'), 1);
    assert.equal((await queue.completed(post.job)).outcome, 'delivered');
    assert.equal((await fetched('http://10.0.0.1/', { last: false })).code, 'policy_refused');
    const last = await fetched('/status/503', { statuses: [503], last: true, ...everything });
    assert.equal(last.code, 'status_named');
    assert.equal(last.status, 503);
    assert.ok(last.body.length > 0);
    assert.equal((await fetched('/status/404', { statuses: ['5xx'], last: false })).code ?? 'ok', 'ok');
  });
});

test('START', async (t) => {
  const { queue, origin, at, hits } = await system(t);
  const submit = (key, more) => queue.fetch(origin, { url: at(`/uuid?key=${key}`), method: 'POST', repeatable: false, ...more });

  await t.test('jobs that must not be repeated ask first', async () => {
    queue.onStart = () => 'go';
    const job = await submit('go');
    assert.equal((await origin.result(job)).result.status, 200);
    assert.equal((await queue.starts.get(job.job)).fence, job.fence);
    const get = await queue.fetch(origin, { url: at('/uuid') });
    await origin.result(get);
    assert.deepEqual(queue.starts.all(get.job), []);
  });

  await t.test('and again until they are answered', async () => {
    let asked = 0;
    queue.onStart = () => (++asked < 3 ? 503 : 'go');
    const job = await submit('again');
    assert.equal((await origin.result(job)).result.status, 200);
    assert.equal(asked, 3);
    assert.equal(await hits('again'), 1);
  });

  await t.test('and are dropped if they may not', async () => {
    queue.onStart = () => 'no';
    const job = await submit('no');
    await queue.starts.get(job.job);
    const beat = await until(async () => {
      const { held } = await queue.nextBeat();
      return held.every((h) => h.job !== job.job);
    }, 'the job is no longer held');
    assert.ok(beat);
    assert.equal(await hits('no'), 0);
    assert.deepEqual(origin.results.all(job.job), []);
    assert.deepEqual(queue.completes.all(job.job), []);
  });

  /** Canceled before the answer to START has come, by whatever onStart makes of that. */
  const canceled = async (key, meanwhile) => {
    const job = await submit(key);
    await queue.starts.get(job.job);
    queue.aborts = [{ job: job.job, fence: job.fence }];
    for (let i = 0; i < 2; i++) await queue.nextBeat(); // the first was answered before the second left
    await meanwhile?.();
    await until(async () => (await queue.nextBeat()).held.length === 0, 'the job is no longer held');
    queue.aborts = [];
    assert.equal(await hits(key), 0);
    assert.deepEqual(origin.results.all(job.job), []);
    assert.deepEqual(queue.completes.all(job.job), []);
  };

  await t.test('and are dropped if they are canceled meanwhile, whatever the answer', async () => {
    let go;
    queue.onStart = () => new Promise((done) => (go = () => done('go')));
    await canceled('late-go', () => go());
  });

  await t.test('and if they are canceled before they ask again', async () => {
    queue.onStart = () => 503;
    await canceled('never-answered');
  });
});

test('what the queue says', async (t) => {
  const { queue, origin, at, executor, hits } = await system(t, { args: ['--slots', '3'] });

  await t.test('a dispatch is taken once', async () => {
    const job = queue.job(origin, { url: at('/uuid?key=twice') });
    assert.deepEqual(await queue.execute([job, job]), ['taken', 'seen']);
    await queue.completed(job);
    assert.deepEqual(await queue.execute([job]), ['seen']);
    assert.equal(await hits('twice'), 1);
  });

  await t.test('another incarnation is not this one', async () => {
    const job = queue.job(origin, { url: at('/uuid?key=other') });
    assert.deepEqual(await queue.execute([job], { incarnation: hex(8) }), ['wrong_incarnation']);
    assert.deepEqual(await queue.execute([job]), ['taken']);
    await queue.completed(job);
  });

  await t.test('slots are counted, and what is held is told', async () => {
    const jobs = [1, 2, 3, 4].map(() => queue.job(origin, { url: at('/hang') }));
    assert.deepEqual(await queue.execute(jobs), ['taken', 'taken', 'taken', 'full']);
    assert.deepEqual(await queue.execute(jobs), ['seen', 'seen', 'seen', 'full']); // each copy is answered alike
    let beat; // the next one may have left before they came
    await until(async () => (beat = await queue.nextBeat()).held.length > 0, 'a heartbeat that knows of them');
    assert.equal(beat.slots, 3);
    assert.equal(beat.free, 0);
    assert.deepEqual(beat.held.map((h) => h.job).sort(), jobs.slice(0, 3).map((j) => j.job).sort());

    queue.aborts = jobs.slice(0, 3).map(({ job, fence }) => ({ job, fence }));
    await until(async () => (await queue.nextBeat()).free === 3, 'free slots after the aborts');
    for (const job of jobs) assert.deepEqual(origin.results.all(job.job), []);
    assert.deepEqual(await queue.execute([jobs[3]]), ['full']); // a late copy: the queue has dispatched it anew
    const anew = { ...jobs[3], fence: queue.job(origin, { url: at('/hang') }).fence };
    assert.deepEqual(await queue.execute([anew]), ['taken']);
    queue.aborts = [{ job: anew.job, fence: anew.fence }];
    await until(async () => (await queue.nextBeat()).free === 3, 'free slots after the abort');
  });

  await t.test('bad calls are refused', async () => {
    const url = `${executor.url}/v1/execute`;
    const head = { queueEpoch: queue.epoch, incarnation: queue.executor.incarnation, origins: {} };
    const cases = [
      [400, await post(url, Buffer.from('x'))],
      [400, await post(url, Buffer.alloc(0))],
      [400, await post(url, record({}))],
      [400, await post(url, Buffer.concat([record(head), Buffer.from([0, 0, 0, 9])]))],
      [415, await post(url, record(head), { 'Content-Type': 'text/plain' })],
      [400, await post(url, record(head), { 'X-Pf-Version': '2' })],
      [403, await post(url, record(head), { Origin: 'http://evil.example' })],
      [413, await post(url, null, { 'Content-Length': (4 << 20) + 1 })], // refused before it is sent
      [404, await post(`${executor.url}/v1/other`, record(head))],
    ];
    for (const [status, answer] of cases) assert.equal(answer.status, status, answer.body.toString());
    assert.equal(JSON.parse(cases[4][1].body).error.code, 'unsupported_media_type');
    assert.equal((await fetch(url)).status, 405);
    assert.equal((await (await fetch(url)).json()).error.code, 'method_not_allowed');
    assert.equal((await (await fetch(`${executor.url}/nothing`)).json()).error.code, 'not_found');
    const { body } = await post(url, Buffer.concat([record(head), record({ job: 'x' })]));
    assert.equal(records(body)[1].head.answer, 'refused');
    const { status, role, pid } = await (await fetch(`${executor.url}/health`)).json();
    assert.deepEqual({ status, role, pid }, { status: 'ok', role: 'executor', pid: executor.pid });
  });
});

const metricsOf = async (url) => {
  const text = await (await fetch(`${url}/metrics`)).text();
  return (name) => {
    const line = text.split('\n').find((l) => l.startsWith(`${name} `));
    assert.ok(line, `${name} is among the metrics`);
    return Number(line.slice(name.length + 1));
  };
};

test('it cannot get rights that it was not started with', async (t) => {
  const { executor } = await system(t);
  assert.match(readFileSync(`/proc/${executor.pid}/status`, 'utf8'), /^NoNewPrivs:\s+1$/m);
});

test('metrics tell what happened, and nothing else', async (t) => {
  const { queue, origin, executor, at, fetched } = await system(t, { args: ['--slots', '7'] });
  await fetched('/uuid');
  await fetched('/uuid');
  await fetched('/uuid', { method: 'POST' });
  await fetched('http://127.0.0.2:1/');
  queue.onStart = () => 'no';
  const refused = await queue.fetch(origin, { url: at('/uuid'), method: 'POST' });
  await queue.starts.get(refused.job);
  const again = queue.job(origin, { url: at('/uuid') });
  assert.deepEqual(await queue.execute([again]), ['taken']);
  assert.deepEqual(await queue.execute([again]), ['seen']);
  const retried = await queue.fetch(origin, { url: at('/reset'), last: false });
  assert.equal((await queue.completed(retried)).outcome, 'retry');
  const hangs = await queue.fetch(origin, { url: at('/hang') });
  const value = await until(async () => {
    const now = await metricsOf(executor.url);
    const count = (...states) => states.reduce((sum, state) => sum + now(`pf_jobs{state="${state}"}`), 0);
    return count('fetching') === 1 && count('starting', 'delivering', 'reporting') === 0 && now;
  }, 'only /hang is left');
  const expected = {
    pf_slots: 7, pf_slots_free: 6, pf_transfers: 1,
    'pf_dispatches_total{answer="taken"}': 8, 'pf_dispatches_total{answer="seen"}': 1,
    'pf_attempts_total{code="ok"}': 4, 'pf_attempts_total{code="policy_refused"}': 1, 'pf_attempts_total{code="reset"}': 1,
    'pf_starts_total{answer="go"}': 1, 'pf_starts_total{answer="no"}': 1, pf_retries_total: 1, pf_aborted_total: 0,
    'pf_deliveries_total{answer="accepted"}': 5, pf_delivery_failures_total: 0, pf_results_held: 0, pf_body_bytes: 0,
    pf_dns_lookups_total: 0, pf_dns_running: 0, pf_heartbeat_failures_total: 0, pf_invariant_failures_total: 0,
  };
  for (const [name, count] of Object.entries(expected)) assert.equal(value(name), count, name);
  assert.ok(value('pf_target_connections_reused_total') >= 1);
  assert.ok(value('pf_target_connections') >= 1);
  assert.ok(value('pf_target_connections_opened_total') >= value('pf_target_connections'));
  assert.ok(value('pf_heartbeat_age_seconds') >= 0 && value('pf_heartbeat_age_seconds') < 10);
  assert.ok(value('pf_loop_lag_seconds_max') >= value('pf_loop_lag_seconds'));

  queue.aborts.push({ job: hangs.job, fence: hangs.fence });
  await until(async () => (await metricsOf(executor.url))('pf_aborted_total') === 1, 'the abort is counted');

  origin.onResult = () => 'retry';
  const held = await queue.fetch(origin, { url: at('/bytes/1000'), include: ['body'] });
  await until(async () => (await metricsOf(executor.url))('pf_delivery_failures_total') >= 2, 'it is sent again');
  const later = await metricsOf(executor.url);
  assert.equal(later('pf_results_held'), 1);
  assert.equal(later('pf_body_bytes'), 1000);
  origin.onResult = () => 'accepted';
  await queue.completed(held);
  await until(async () => (await metricsOf(executor.url))('pf_body_bytes') === 0, 'and then let go');
  assert.equal((await metricsOf(executor.url))('pf_invariant_failures_total'), 0);
});

test('a name that is not there is counted', async (t) => {
  const { executor, fetched } = await system(t);
  assert.equal((await fetched('http://nothing.invalid/')).code, 'dns_failed');
  const value = await metricsOf(executor.url);
  assert.equal(value('pf_dns_lookups_total'), 1);
  assert.equal(value('pf_dns_failures_total'), 1);
  assert.equal(value('pf_dns_queued') + value('pf_dns_running'), 0);
});

test('health in detail', async (t) => {
  const LEASE_MS = 3000;
  const { queue, origin, executor, at } = await system(t, { args: ['--slots', '2', '--lease-ms', `${LEASE_MS}`] });
  const codes = async () => reasonsOf(await healthOf(executor.url));
  const well = () => until(async () => {
    const health = await healthOf(executor.url);
    return reasonsOf(health).length === 0 && health;
  }, 'it is well');
  const good = await well(); // it has heard of its first heartbeat
  assert.equal(good.status, good.reasons.length ? 'degraded' : 'ok');
  assert.equal(good.pid, executor.pid);
  assert.deepEqual([good.role, good.slots, good.slotsFree, good.orchestrator.reachable], ['executor', 2, 2, true]);
  assert.ok(good.uptimeMs > 0 && good.orchestrator.sinceMs <= good.uptimeMs);

  origin.onResult = () => 'retry';
  const held = [await queue.fetch(origin, { url: at('/uuid') }), await queue.fetch(origin, { url: at('/uuid') })];
  await until(async () => (await healthOf(executor.url)).resultsParked > 0, 'a result waits');
  assert.ok((await codes()).includes('no_free_slot'));
  await until(async () => (await codes()).join() === 'no_free_slot,results_wait', 'both are reasons');
  assert.equal((await queue.nextBeat()).free, 0); // each has a slot as long as it waits
  assert.deepEqual(await queue.execute([queue.job(origin, { url: at('/uuid') })]), ['full']);
  origin.onResult = () => 'accepted';
  for (const job of held) await queue.completed(job);
  await well();

  queue.onBeat = () => 503;
  await until(async () => (await codes()).join() === 'orchestrator_unreachable', 'a heartbeat was refused');
  const over = await until(async () => {
    const answer = await fetch(`${executor.url}/health/detailed`);
    return answer.status === 503 && answer.json();
  }, 'the lease is over');
  assert.equal(over.status, 'failing');
  assert.deepEqual(reasonsOf(over), ['lease_over']);
  assert.ok(over.orchestrator.heartbeatAgeMs >= LEASE_MS);
  queue.onBeat = () => 200;
  await well();

  executor.child.kill('SIGSTOP'); // a loop that does not turn
  await new Promise((done) => setTimeout(done, 1100));
  executor.child.kill('SIGCONT');
  await until(async () => (await healthOf(executor.url)).reasons.some(({ code }) => code === 'loop_lag'), 'the loop was late');
});

// How the wiring is seen: the age that the process tells of its last answered heartbeat is what its lease counts from.
test('a lease counts from when the heartbeat left, however slow its answer', async (t) => {
  const { queue, executor, fetched } = await system(t, { args: ['--lease-ms', '20000'] });
  const held = []; // answers, in the order of the heartbeats
  const beat = (n) => until(() => held.length >= n, `heartbeat ${n}`);
  queue.onBeat = () => new Promise((answer) => held.push(answer));
  await beat(1);
  await fetched('/hang', { timers: { attemptMs: 400 } }); // the executor's own clock says when these have passed
  held[0](200);
  await beat(2); // so it has read the first answer
  const age = (await metricsOf(executor.url))('pf_heartbeat_age_seconds');
  queue.onBeat = () => 200;
  held[1](200);
  assert.ok(age >= 0.4, `${age} s`);
});

test('results stay until the origin has taken them', async (t) => {
  const { queue, origin, executor, at, fetched } = await system(t);

  await t.test('a refused batch, and an answer that is not final', async () => {
    const answers = [503, 'retry', 'accepted'];
    origin.onResult = () => answers.shift();
    const result = await fetched('/uuid', everything);
    assert.equal(result.body.length, 47);
    assert.deepEqual(answers, []);
    await queue.completed(result.job);
    origin.onResult = () => 'accepted';
  });

  await t.test('duplicate, stale and unknown are final', async () => {
    for (const answer of ['duplicate', 'stale', 'unknown']) {
      origin.onResult = () => answer;
      const { job } = await fetched('/uuid');
      assert.equal((await queue.completed(job)).outcome, 'delivered');
    }
    origin.onResult = () => 'accepted';
  });

  await t.test('an origin that has moved is found', async () => {
    const moved = await startOrigin(t, queue);
    const job = await queue.fetch(moved, { url: at('/uuid') });
    await moved.result(job);
    moved.stop();
    const job2 = await queue.fetch({ ...moved, url: moved.url }, { url: at('/uuid') });
    await until(() => queue.lookups > 0, 'the executor asks where the origin is');
    assert.deepEqual(queue.completes.all(job2.job), []);
    const again = await startOrigin(t, queue);
    again.answersAs = moved.id;
    queue.origins.set(moved.id, { origin: moved.id, originEpoch: again.epoch, url: again.url, low: '0'.repeat(16) });
    await again.result(job2);
    await queue.completed(job2);
  });

  await t.test('another origin under the old address is not the right one', async () => {
    const wrong = await startOrigin(t, queue), right = await startOrigin(t, queue);
    const job = await queue.fetch({ ...right, url: wrong.url }, { url: at('/uuid') });
    assert.equal((await right.result(job)).result.status, 200);
    await queue.completed(job);
    assert.ok(wrong.batches > 0);
    assert.equal(wrong.results.all(job.job).length, 0);
  });

  await t.test('a report that the queue refuses as malformed is not repeated', async () => {
    queue.onComplete = () => 'refused';
    const job = await queue.fetch(origin, { url: at('/uuid') });
    await queue.completed(job);
    await executor.waitFor(new RegExp(`event=completion_refused job=${job.job}`));
    queue.onComplete = () => 'ok';
    await until(async () => (await healthOf(executor.url)).jobs.reporting === 0, 'the job is gone');
  });

  await t.test('a report is repeated until the queue has it', async () => {
    const answers = [500, 503, 'ok'];
    queue.onComplete = () => answers.shift() ?? 'ok';
    const { job } = await fetched('/uuid');
    await queue.completed(job);
    assert.deepEqual(answers, []);
    queue.onComplete = () => 'ok';
  });
});

test('a result is kept until its deadline and the grace are over, then a last try decides', async (t) => {
  /** Nobody takes anything, for longer than 200 ms. */
  const refuseLong = async ({ queue, origin, at }) => {
    const clock = await queue.fetch(origin, { url: at('/delay/600') });
    origin.onResult = ({ job }) => (job === clock.job ? 'accepted' : 'retry');
    await origin.result(clock);
  };

  await t.test('the grace comes on top of the deadline', async (t) => {
    const all = await system(t); // a minute of grace
    all.origin.onResult = () => 'retry';
    const job = await all.queue.fetch(all.origin, { url: all.at('/uuid'), timers: { deadlineMs: 200 } });
    await refuseLong(all);
    all.origin.onResult = () => 'accepted';
    assert.equal((await all.queue.completed(job)).outcome, 'delivered');
  });

  await t.test('the deadline counts, without any grace', async (t) => {
    const all = await system(t, { args: ['--result-grace-ms', '0'] });
    all.origin.onResult = () => 'retry';
    const job = await all.queue.fetch(all.origin, { url: all.at('/uuid'), timers: { deadlineMs: 60000 } });
    await refuseLong(all);
    all.origin.onResult = () => 'accepted';
    assert.equal((await all.queue.completed(job)).outcome, 'delivered');
  });

  await t.test('after both a failure goes whole to the queue, an answer as a note', async (t) => {
    const { queue, origin, at } = await system(t, { args: ['--result-grace-ms', '0'] });
    origin.onResult = () => 'retry';
    const timers = { deadlineMs: 2500 }; // also what each fetch may take
    const failed = await queue.fetch(origin, { url: at('/reset'), timers });
    const named = await queue.fetch(origin, { url: at('/status/503'), statuses: [503], timers });
    const bodiless = await queue.fetch(origin, { url: at('/uuid'), timers });
    const report = async (job) => {
      const { outcome, code, certainty, detail } = await queue.completed(job);
      assert.equal(outcome, 'undelivered');
      return { code, certainty, detail };
    };
    assert.deepEqual(failure(await report(failed)), { code: 'reset', certainty: 'sent_unknown' });
    assert.match((await report(failed)).detail, /^the connection broke/);
    assert.deepEqual(await report(named), { code: 'undelivered', certainty: 'answered',
      detail: 'the answer came, and the origin could not be reached until the deadline; it was dropped: status 503, 14 bytes' });
    assert.match((await report(bodiless)).detail, /; it was dropped: status 200, 47 bytes$/); // no digest of what was not kept
    assert.deepEqual(origin.results.all(failed.job), []);
  });
});

test('results of an origin whose address nobody knows are given up, a few large ones at a time', async (t) => {
  const COUNT = 5, BYTES = 8 << 20; // more than GIVE_UP_BYTES in all
  const { queue, at } = await system(t, { args: ['--result-grace-ms', '0'] });
  const batches = []; // how many items each has
  let open = false;
  queue.onComplete = () => {
    if (!open) {
      batches.push(0);
      open = true;
      queueMicrotask(() => (open = false));
    }
    batches[batches.length - 1]++;
    return 'ok';
  };
  const nowhere = { id: hex(8) };
  const jobs = Array.from({ length: COUNT }, () => queue.job(nowhere,
    { url: at(`/bytes/${BYTES}`), include: ['body'], timers: { deadlineMs: 8000 } }));
  await queue.execute(jobs);
  for (const job of jobs) {
    const report = await queue.completed(job);
    assert.deepEqual([report.outcome, report.code, report.certainty], ['undelivered', 'undelivered', 'answered']);
    assert.match(report.detail, new RegExp(`status 200, ${BYTES} bytes, SHA-256 [0-9a-f]{64}$`));
  }
  assert.ok(queue.lookups > 1);
  assert.ok(batches[0] < COUNT, `${batches}`);
});

test('2,000 slow answers keep nobody out, and a large one goes whole', async (t) => {
  const { queue, origin, at, fetched, executor } = await system(t);
  const slow = Array.from({ length: 2000 }, () => queue.job(origin, { url: at('/drip?bytes=100000&ms=1000') }));
  assert.ok((await queue.execute(slow)).every((answer) => answer === 'taken'));
  await until(async () => (await queue.nextBeat()).held.length >= 2000, 'all are held');
  for (let i = 0; i < 10; i++) assert.equal((await fetched('/uuid')).status, 200);
  assert.ok((await queue.nextBeat()).held.length >= 2000, 'all of them are still under way');
  const large = await fetched(`/bytes/${8 << 20}`, everything);
  assert.equal(large.body.length, 8 << 20);
  const before = executor.residentKiB();
  assert.equal((await fetched(`/bytes/${1 << 30}`)).code, 'too_large');
  assert.ok(executor.residentKiB() - before < 8 * 1024);
  queue.aborts = slow.map(({ job, fence }) => ({ job, fence }));
  await until(async () => (await queue.nextBeat()).held.length === 0, 'all are gone');
});

test('a lease that has run out keeps every request in', async (t) => {
  const { queue, origin, at, hits, executor } = await system(t, { args: ['--heartbeat-ms', '50', '--lease-ms', '1500'] });
  queue.onBeat = () => 503;
  await until(async () => (await healthOf(executor.url)).reasons.some(({ code }) => code === 'lease_over'), 'the lease runs out');
  const get = queue.job(origin, { url: at('/uuid?key=late') });
  const post = queue.job(origin, { url: at('/uuid?key=late'), method: 'POST', repeatable: false });
  assert.deepEqual(await queue.execute([get, post]), ['taken', 'taken']);
  queue.onBeat = () => 200;
  await until(async () => (await queue.nextBeat()).held.length === 0, 'nothing is held');
  assert.equal(await hits('late'), 0);
  for (const job of [get, post]) assert.deepEqual(origin.results.all(job.job), []);
  assert.deepEqual(queue.starts.all(post.job), []);
  const after = await queue.fetch(origin, { url: at('/uuid?key=late') });
  await origin.result(after);
  assert.equal(await hits('late'), 1);
});

test('a lease that ran out and was renewed does not let in what was taken before', async (t) => {
  const { queue, origin, at, hits, executor } = await system(t, { args: ['--heartbeat-ms', '50', '--lease-ms', '1500'] });
  let go;
  queue.onStart = () => new Promise((done) => (go = () => done('go')));
  const post = await queue.fetch(origin, { url: at('/uuid?key=lapsed'), method: 'POST', repeatable: false });
  await until(() => go, 'START is asked');
  const over = (reasons) => reasons.some(({ code }) => code === 'lease_over');
  queue.onBeat = () => 503;
  await until(async () => over((await healthOf(executor.url)).reasons), 'the lease runs out');
  queue.onBeat = () => 200;
  await until(async () => !over((await healthOf(executor.url)).reasons), 'and is renewed');
  go(); // the answer was on its way all the time; the job may be somebody else's by now
  await until(async () => (await queue.nextBeat()).held.length === 0, 'it is dropped');
  assert.equal(await hits('lapsed'), 0);
  assert.deepEqual(origin.results.all(post.job), []);
  assert.deepEqual(queue.completes.all(post.job), []);
});

test('stopped past its lease and continued, it does not start what it had taken', async (t) => {
  const { queue, origin, at, hits, executor } = await system(t, { args: ['--heartbeat-ms', '50', '--lease-ms', '1500'],
    env: { PF_CRASH: 'executor.before_start:1:stop' } });
  const job = queue.job(origin, { url: at('/uuid?key=zombie') });
  const answer = queue.execute([job]);
  await until(() => /^State:\s+T/m.test(readFileSync(`/proc/${executor.pid}/status`, 'utf8')), 'it has stopped');
  const stopped = Date.now();
  await until(() => Date.now() - stopped > 1600, 'its lease has run out');
  executor.signal('SIGCONT');
  assert.deepEqual(await answer, ['taken']);
  await until(async () => (await queue.nextBeat()).held.length === 0, 'nothing is held');
  assert.equal(await hits('zombie'), 0);
});

test('labelled crash points are reached', async (t) => {
  const points = { 'executor.before_start': 0, 'executor.after_start': 0, 'executor.mid_body': 1, 'executor.after_fetch': 1,
    'executor.after_callback': 1, 'executor.before_complete': 1 };
  for (const [point, count] of Object.entries(points)) {
    await t.test(point, async (inner) => {
      const { queue, origin, at, hits, executor } = await system(inner, { env: { PF_CRASH: `${point}:1` } });
      const job = queue.job(origin, { url: at('/uuid?key=k'), method: 'POST', repeatable: false, ...everything });
      queue.execute([job]).catch(() => {}); // the answer may die with it
      const { code } = await executor.exited;
      executor.ended = true;
      assert.equal(code, 137);
      assert.equal(await hits('k'), count);
      assert.equal(queue.completes.all(job.job).length, 0);
    });
  }
});

test('SIGTERM', async (t) => {
  await t.test('what is under way ends, nothing new is taken, and it says good-bye', async (inner) => {
    const held = await heldTarget(inner);
    const { queue, origin, at, executor } = await system(inner, { args: held.allow });
    const job = await queue.fetch(origin, { url: held.url('last') });
    await held.asked('last');
    executor.signal('SIGTERM');
    const leaving = await until(async () => {
      const beat = await queue.nextBeat();
      return beat.leaving && beat;
    }, 'a heartbeat that says so');
    assert.equal(leaving.free, 0);
    assert.deepEqual(await queue.execute([queue.job(origin, { url: at('/uuid') })]), ['full']);
    held.release();
    assert.equal((await origin.result(job)).result.status, 200);
    await queue.completed(job);
    assert.deepEqual(await executor.exited, { code: 0, signal: null });
    const last = queue.beats.all('any').at(-1);
    assert.equal(last.leaving, true);
    assert.deepEqual(last.held, []);
  });
  await t.test('but not for ever', async (inner) => {
    const { queue, origin, at, executor } = await system(inner, { args: ['--drain-ms', '200'] });
    await queue.fetch(origin, { url: at('/hang') });
    executor.signal('SIGTERM');
    assert.deepEqual(await executor.exited, { code: 0, signal: null });
    assert.match(executor.stderr, /event=jobs_dropped jobs=1/);
  });
  await t.test('the second one ends it at once', async (inner) => {
    const { queue, origin, at, executor } = await system(inner);
    await queue.fetch(origin, { url: at('/hang') });
    executor.signal('SIGTERM');
    await executor.waitFor(/event=draining/);
    executor.signal('SIGTERM');
    assert.deepEqual(await executor.exited, { code: 143, signal: null });
    executor.ended = true;
  });
  await t.test('without an orchestrator too', async (inner) => {
    const executor = await start(inner, 'proxyfetch-executor', ['--listen', '127.0.0.1:0', '--orchestrator', 'http://127.0.0.1:1']);
    await executor.waitFor(/event=orchestrator_unreachable/);
    await executor.stop();
  });
});

test('bad options stop the start and are named', async (t) => {
  const cases = [['--slots', '0'], ['--slots', '38001'], ['--allow-target', 'localhost'], ['--deny-target', '1.2.3'], ['--allow-port', '0'],
    ['--orchestrator', 'ftp://x'], ['--advertise', 'nonsense'], ['--ca-file', '/no/such/file.pem'], ['--heartbeat-ms', '2000'], ['--listen', 'nowhere'], ['--nonsense', '1']];
  for (const [option, value] of cases) {
    const { code, stderr } = await run(t, 'proxyfetch-executor', [option, value]);
    assert.equal(code, 2, stderr);
    assert.match(stderr, new RegExp(`^proxyfetch-executor: .*${option.slice(2)}`), stderr);
  }
  const port = await listen(t, net.createServer());
  const taken = await run(t, 'proxyfetch-executor', ['--listen', `127.0.0.1:${port}`]);
  assert.equal(taken.code, 3);
  assert.match(taken.stderr, new RegExp(`127.0.0.1:${port}`));
});

// The system's resolver with a name server that never answers, in a mount namespace of its own.
const canIsolate = (() => {
  try {
    execFileSync('/usr/bin/unshare', ['-m', 'true'], { stdio: 'ignore' });
    return process.getuid() === 0;
  } catch {
    return false;
  }
})();

test('500 names that no server answers delay nobody', { skip: canIsolate ? false : 'needs root and unshare(1)' }, async (t) => {
  const dir = tempDir(t), conf = join(dir, 'resolv.conf'), hosts = join(dir, 'hosts');
  const silent = createSocket('udp4');
  const address = `127.53.${process.pid >> 8 & 255}.${process.pid & 255}`; // one that no other run of this test has
  await new Promise((done, failed) => silent.once('error', failed).bind(53, address, done));
  t.after(() => silent.close());
  writeFileSync(conf, `nameserver ${address}\n`);
  writeFileSync(hosts, '127.0.0.1 localhost good.example\n');
  const script = 'mount --bind "$1" /etc/resolv.conf && mount --bind "$2" /etc/hosts && shift 2 && exec "$@"';
  const { queue, origin, target, executor } = await system(t, {
    command: (args) => ['/usr/bin/unshare', ['-m', 'sh', '-c', script, 'sh', conf, hosts, program('proxyfetch-executor'), ...args,
      '--dns-ms', '6000']], env: { RES_OPTIONS: 'timeout:30 attempts:1' } }); // it does not give up by itself
  const dead = Array.from({ length: 500 }, (_, i) => queue.job(origin, { url: `http://dead-${i}.example/` }));
  const good = queue.job(origin, { url: `http://good.example:${target.port}/uuid` });
  assert.ok((await queue.execute([...dead, good])).every((answer) => answer === 'taken'));
  assert.equal((await origin.result(good)).result.status, 200);
  for (const job of dead) assert.deepEqual(origin.results.all(job.job), []); // it came before the first of them gave up
  for (const job of dead)
    assert.deepEqual(failure((await origin.result(job)).result), { code: 'dns_timeout', certainty: 'not_sent' });
  const { held } = await queue.nextBeat(); // it went on beating
  assert.ok(held.length <= 501);
  assert.doesNotMatch(executor.stderr, /unreachable/);
});
