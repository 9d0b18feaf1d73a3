// proxyfetch-test-endpoints as a process: what clients see on the wire, limits, signals.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { createGunzip } from 'node:zlib';
import { RawConnection } from './lib/raw.mjs';
import { binDir, run, sourceDir, start, until } from './lib/process.mjs';

const NAME = 'proxyfetch-test-endpoints';
const serve = (t, ...args) => start(t, NAME, ['--listen', 'localhost:0', ...args]);
const get = (path, extra = '') => `GET ${path} HTTP/1.1\r\nHost: h\r\n${extra}\r\n`;
const json = async (url, options) => (await fetch(url, options)).json();

test('start: addresses, options, a taken port', async (t) => {
  const p = await serve(t);
  assert.match(p.readyLine,
    /^proxyfetch-test-endpoints listening on http:\/\/127\.0\.0\.1:(\d+) http:\/\/\[::1\]:\1$/);
  for (const url of p.urls) assert.equal((await fetch(`${url}/health`)).status, 200);

  const taken = await run(t, NAME, ['--listen', `127.0.0.1:${p.port}`]);
  assert.equal(taken.code, 3);
  assert.equal(taken.stdout, '');
  assert.equal(taken.stderr, `${NAME}: cannot listen on 127.0.0.1:${p.port}: Address already in use; stop what serves there, or choose another port\n`);

  const bad = await run(t, NAME, ['--listen', 'nowhere']);
  assert.equal(bad.code, 2);
  assert.match(bad.stderr, /listen.*'nowhere'/);
  const env = await run(t, NAME, [], { env: { PROXYFETCH_TEST_ENDPOINTS_KEYS_MAX: '0' } });
  assert.equal(env.code, 2);
  assert.match(env.stderr, /PROXYFETCH_TEST_ENDPOINTS_KEYS_MAX/);
});

test('what the endpoints answer', async (t) => {
  const p = await serve(t);

  await t.test('uuid: 47 bytes, each another', async () => {
    const texts = await Promise.all(
      Array.from({ length: 50 }, async () => (await fetch(`${p.url}/latency-test/uuid`)).text()));
    assert.equal(new Set(texts).size, 50);
    for (const text of texts) {
      assert.equal(text.length, 47);
      assert.match(JSON.parse(text).uuid, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    }
  });

  await t.test('json, status, headers', async () => {
    assert.equal((await json(`${p.url}/json`)).nested.text, 'grüße "quoted" ✓');
    for (const status of [200, 204, 304, 404, 500, 599])
      assert.equal((await fetch(`${p.url}/status/${status}`)).status, status);
    const { headers } = await json(`${p.url}/headers`, { headers: { 'X-Mine': 'a, b' } });
    assert.deepEqual(headers.find(([name]) => name.toLowerCase() === 'x-mine')[1], 'a, b');
    const date = (await fetch(`${p.url}/json`)).headers.get('date');
    assert.ok(Math.abs(Date.parse(date) - Date.now()) < 5000, date);
  });

  await t.test('close=1 ends the connection, and nothing else does', async () => {
    const of = async (path) => (await fetch(`${p.url}${path}`)).headers.get('connection');
    assert.equal(await of('/uuid?close=1'), 'close');
    for (const path of ['/uuid', '/uuid?close=0', '/uuid?closed=1']) assert.notEqual(await of(path), 'close', path);
  });

  await t.test('delay is never early', async () => {
    await Promise.all([0, 1, 10, 55, 200].map(async (ms) => {
      const from = performance.now();
      assert.deepEqual(await json(`${p.url}/delay/${ms}`), { delayMs: ms });
      assert.ok(performance.now() - from >= ms, `${performance.now() - from} < ${ms}`);
    }));
  });

  await t.test('echo: text, binary and large bodies, any method', async () => {
    const text = await json(`${p.url}/echo?a=b`, { method: 'PATCH', body: 'grüße', headers: { a: 'b' } });
    assert.deepEqual([text.method, text.path, text.query, text.body], ['PATCH', '/echo', 'a=b', 'grüße']);
    const bytes = Uint8Array.from({ length: 1000 }, (_, i) => i & 255);
    const binary = await json(`${p.url}/echo`, { method: 'PUT', body: bytes });
    assert.deepEqual(Uint8Array.from(Buffer.from(binary.bodyBase64, 'base64')), bytes);
    const large = 'x'.repeat(3_000_000);
    assert.equal((await json(`${p.url}/echo`, { method: 'POST', body: large })).body, large);
  });

  await t.test('bytes, stream, drip, sse', async () => {
    for (const n of [0, 1, 65, 5_000_000]) {
      const body = Buffer.from(await (await fetch(`${p.url}/bytes/${n}`)).arrayBuffer());
      const line = '0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-\n';
      assert.equal(body.length, n);
      assert.ok(body.equals(Buffer.alloc(n, line)));
    }
    const lines = (await (await fetch(`${p.url}/stream/30000`)).text()).trim().split('\n');
    assert.deepEqual(lines.map((l) => JSON.parse(l).line), Array.from({ length: 30000 }, (_, i) => i));
    const from = performance.now();
    assert.equal(await (await fetch(`${p.url}/drip?bytes=5&ms=20`)).text(), '01234');
    assert.ok(performance.now() - from >= 80);
    const events = await fetch(`${p.url}/sse?count=3&ms=1`);
    assert.equal(events.headers.get('content-type'), 'text/event-stream');
    assert.equal(await events.text(), [0, 1, 2].map((n) => `id: ${n}\ndata: {"event":${n}}\n\n`).join(''));
  });

  await t.test('gzip, and a bomb that is valid to its end', async () => {
    const page = await fetch(`${p.url}/gzip`);
    assert.equal(page.headers.get('content-encoding'), 'gzip');
    assert.equal((await page.json()).gzipped, true);
    const size = await new Promise((done, failed) => http.get(`${p.url}/gzip-bomb`, (res) => {
      let total = 0;
      assert.ok(Number(res.headers['content-length']) < 300_000);
      res.pipe(createGunzip({ chunkSize: 1 << 20 })).on('error', failed) // checks CRC and length
        .on('data', (piece) => (total += piece.length)).on('end', () => done(total));
    }).on('error', failed));
    assert.equal(size, 274694149);
  });

  await t.test('redirects', async () => {
    const end = await fetch(`${p.url}/any/redirect/5?status=307&x=y`);
    assert.equal(end.url, `${p.url}/any/redirect/0?status=307&x=y`);
    assert.deepEqual(await end.json(), { redirected: true });
    const to = await fetch(`${p.url}/redirect-to?url=${encodeURIComponent('/status/418')}`);
    assert.equal(to.status, 418);
  });

  await t.test('flaky, retry-after and hits', async () => {
    const statuses = [];
    for (let i = 0; i < 4; i++) statuses.push((await fetch(`${p.url}/flaky/2?key=k1`)).status);
    assert.deepEqual(statuses, [503, 503, 200, 200]);
    await assert.rejects(fetch(`${p.url}/flaky/1?key=k2&fail=reset`));
    assert.equal((await fetch(`${p.url}/flaky/1?key=k2&fail=reset`)).status, 200);
    const later = await fetch(`${p.url}/retry-after/3`, { headers: { 'X-Key': 'k1' } });
    assert.deepEqual([later.status, later.headers.get('retry-after')], [503, '3']);
    assert.deepEqual(await json(`${p.url}/hits/k1`), { key: 'k1', hits: 5 });
    assert.deepEqual(await json(`${p.url}/hits/k2`), { key: 'k2', hits: 2 });
    await fetch(`${p.url}/hits/k1`, { method: 'DELETE' });
    assert.equal((await json(`${p.url}/hits/k1`)).hits, 0);
  });

  await t.test('errors name themselves', async () => {
    for (const [path, method, status, code] of [
      ['/nothing', 'GET', 404, 'not_found'],
      ['/delay/x', 'GET', 400, 'bad_argument'],
      ['/health', 'POST', 405, 'method_not_allowed'],
      [`/uuid?key=${'k'.repeat(257)}`, 'GET', 400, 'bad_key'],
    ]) {
      const res = await fetch(p.url + path, { method });
      assert.deepEqual([res.status, (await res.json()).error.code], [status, code], path);
    }
  });

  await t.test('the index and the README name the same endpoints', async () => {
    const names = (text) => [...new Set(text.match(/(?<=^(?:\| `)?\/)[a-z-]+(\/{\w+})?/gm))].sort();
    const readme = readFileSync(join(sourceDir, 'test-endpoints/README.md'), 'utf8');
    const list = names(await (await fetch(`${p.url}/`)).text());
    assert.ok(list.includes('flaky/{n}') && list.length > 20, String(list));
    assert.deepEqual(names(readme).filter((name) => name !== 'hits'), list);
  });
});

test('how connections end', async (t) => {
  const p = await serve(t);
  const end = async (request) => {
    const c = await RawConnection.open(t, p.url);
    c.send(request);
    return [await c.ended, c.text.replace(/^Date: .*\r\n/m, '')];
  };

  await t.test('reset', async () => {
    assert.deepEqual(await end(get('/reset')), ['reset', '']);
    // Node takes a reset that it finds together with the last bytes for an end: it has time to read them before.
    const [how, text] = await end(get('/reset?bytes=100&ms=1000'));
    assert.equal(how, 'reset');
    assert.match(text, /Content-Length: 1100\r\n/);
    assert.equal(text.split('\r\n\r\n')[1].length, 100);
  });
  await t.test('truncate', async () => {
    const [how, text] = await end(get('/truncate?bytes=7'));
    assert.equal(how, 'fin');
    assert.match(text, /Content-Length: 507\r\n[^]*\r\n\r\n0123456$/);
  });
  await t.test('close-after-request', async () => {
    const body = 'x'.repeat(100_000);
    assert.deepEqual(
      await end(`POST /close-after-request HTTP/1.1\r\nHost: h\r\nContent-Length: ${body.length}\r\n\r\n${body}`),
      ['fin', '']);
    const c = await RawConnection.open(t, p.url); // on a connection that has been used before
    c.send(get('/uuid'));
    await c.receive(/uuid.*}/);
    c.send(get('/close-after-request'));
    assert.deepEqual([await c.ended, c.text], ['fin', '']);
  });
  await t.test('hang lasts until the client leaves', async () => {
    const before = p.openFiles();
    const c = await RawConnection.open(t, p.url);
    c.send(get('/hang?key=hang'));
    await until(async () => (await json(`${p.url}/hits/hang`)).hits === 1, 'the request');
    assert.equal(c.text, '');
    c.socket.destroy();
    await until(() => p.openFiles() <= before + 1, 'the server closes');
  });
  await t.test('slow-headers come byte by byte', async () => {
    const c = await RawConnection.open(t, p.url);
    let pieces = 0;
    c.socket.on('data', () => pieces++);
    c.send(get('/slow-headers?ms=5'));
    await c.receive(/{"slow":true}/);
    assert.ok(pieces > 5, `${pieces} pieces`); // a busy reader finds several at once
  });
  await t.test('Connection: close, HTTP/1.0, and a body that only the end delimits', async () => {
    const [how, text] = await end(get('/json', 'Connection: close\r\n'));
    assert.equal(how, 'fin');
    assert.match(text, /\r\nConnection: close\r\n/);
    assert.deepEqual((await end('GET /stream/1 HTTP/1.0\r\n\r\n')),
      ['fin', 'HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n{"line":0}\n']);
  });
  await t.test('a client that has sent FIN still gets its answer', async () => {
    const c = await RawConnection.open(t, p.url);
    c.send(get('/bytes/20000000'));
    c.finish();
    assert.equal(await c.ended, 'fin');
    assert.equal(c.text.split('\r\n\r\n')[1].length, 20_000_000);
  });
});

test('requests as they come on the wire', async (t) => {
  const p = await serve(t, '--body-bytes-max', '1000', '--head-bytes-max', '2000', '--keys-max', '2');
  const open = () => RawConnection.open(t, p.url);

  await t.test('pipelined, with waits and streams between', async () => {
    const c = await open();
    let text = '';
    for (let i = 0; i < 300; i++)
      text += get(`/hits/${i}`) + get(i % 50 ? '/stream/2' : '/delay/3') +
        `POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n${String(i).padStart(3)}`;
    c.send(text);
    for (let i = 0; i < 300; i++) {
      assert.equal((await c.receive(/^HTTP[^{]*({.*})/))[1], `{"key":"${i}","hits":0}`);
      await c.receive(i % 50 ? /^HTTP[^{]*{"line":0}[^]*?0\r\n\r\n/ : /^HTTP[^{]*{"delayMs":3}/);
      assert.equal(JSON.parse((await c.receive(/^HTTP[^{]*({.*})/))[1]).body, String(i).padStart(3));
    }
    assert.equal(c.text, '');
  });

  await t.test('byte by byte', async () => {
    const c = await open();
    for (const byte of 'POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n' +
      '3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: u\r\n\r\n' + get('/uuid')) {
      c.send(byte);
      await new Promise(setImmediate);
    }
    assert.equal((await c.receive(/"body":"(.*?)"/))[1], 'abcde');
    await c.receive(/"uuid"/);
  });

  await t.test('HEAD has the length and no body', async () => {
    const c = await open();
    c.send('HEAD /bytes/100 HTTP/1.1\r\nHost: h\r\n\r\nHEAD /stream/3 HTTP/1.1\r\nHost: h\r\n\r\n' + get('/uuid'));
    await c.receive(/^HTTP\/1.1 200 OK\r\n(.+\r\n)*Content-Length: 100\r\n\r\n/);
    await c.receive(/^HTTP\/1.1 200 OK\r\n(.+\r\n)*Transfer-Encoding: chunked\r\n\r\n/);
    await c.receive(/^HTTP[^{]*{"uuid"/);
  });

  await t.test('Expect: 100-continue', async () => {
    const c = await open();
    c.send('PUT /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n');
    await c.receive(/^HTTP\/1.1 100 Continue\r\n\r\n/);
    c.send('ok');
    await c.receive(/^HTTP\/1.1 200 OK[^]*"body":"ok"}/);
  });

  const refusals = [
    [400, 'no request\r\n\r\n'],
    [400, 'GET /uuid HTTP/1.1\nHost: h\n\n'],
    [400, 'GET /uuid HTTP/1.1\r\n\r\n'],
    [400, 'POST /uuid HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n'],
    [400, 'POST /uuid HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n'],
    [413, 'POST /uuid HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n'],
    [413, 'POST /uuid HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n'],
    [413, `POST /uuid HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n${'x'.repeat(1001)}`],
    [417, 'POST /uuid HTTP/1.1\r\nHost: h\r\nExpect: x\r\n\r\n'],
    [431, get('/uuid', `X: ${'x'.repeat(2000)}\r\n`)],
    [431, get('/uuid', 'X: y\r\n'.repeat(100))],
    [501, 'POST /uuid HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: br\r\n\r\n'],
    [505, 'GET /uuid HTTP/2.0\r\nHost: h\r\n\r\n'],
  ];
  for (const [status, text] of refusals) {
    await t.test(`${status}: ${JSON.stringify(text.slice(0, 90))}`, async () => {
      const c = await open();
      c.send(text);
      assert.equal(await c.ended, 'fin');
      assert.match(c.text, new RegExp(`^HTTP/1.1 ${status} [^]*\r\nConnection: close\r\n[^]*"bad_request"`));
    });
  }

  await t.test('limits at their maximum', async () => {
    const c = await open();
    c.send(`POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n${'x'.repeat(1000)}`);
    await c.receive(/"body":"x{1000}"/);
    c.send(`POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n${'y'.repeat(1000)}\r\n0\r\n\r\n`);
    await c.receive(/"body":"y{1000}"/);
    const head = get('/uuid', 'X: \r\n').length;
    c.send(get('/uuid', `X: ${'x'.repeat(2000 - head)}\r\n`));
    await c.receive(/"uuid"/);
    c.send(get('/uuid', 'X: y\r\n'.repeat(99)));
    await c.receive(/"uuid"/);
    c.send(get('/uuid?key=a') + get('/uuid?key=b') + get('/uuid?key=c') + get('/uuid?key=a'));
    await c.receive(/^[^]*?"uuid"[^]*?"uuid"[^]*?503[^]*?"too_many_keys"[^]*?"uuid"/);
  });
});

test('token', async (t) => {
  const p = await serve(t, '--token', 'a&b');
  assert.equal((await fetch(`${p.url}/uuid`)).status, 401);
  assert.equal((await fetch(`${p.url}/latency-test/uuid?token=a%26b`)).status, 200);
  assert.equal((await fetch(`${p.url}/uuid`, { headers: { 'X-Test-Token': 'a&b' } })).status, 200);
  assert.equal((await fetch(`${p.url}/redirect/2?token=a%26b`)).status, 200);
  assert.equal((await fetch(`${p.url}/health`)).status, 200);
});

test('idle connections and readers that do not read are closed', async (t) => {
  const p = await serve(t, '--idle-ms', '1000');
  const idle = await RawConnection.open(t, p.url);
  const half = await RawConnection.open(t, p.url);
  half.send('GET /uuid HT');
  const stuck = await RawConnection.open(t, p.url);
  stuck.socket.pause();
  stuck.send(get('/bytes/1000000000'));
  const waits = await RawConnection.open(t, p.url);
  waits.send(get('/delay/2500'));
  assert.equal(await idle.ended, 'fin');
  assert.equal(await half.ended, 'fin');
  await waits.receive(/delayMs/); // an answer that takes its time is not idle
  await until(() => p.openFiles() < 20, 'the stuck one is closed');
  stuck.socket.resume();
  await stuck.ended;
  assert.ok(stuck.text.length < 1_000_000_000);
});

test('connections at the maximum and one more', async (t) => {
  const p = await serve(t, '--connections-max', '3');
  const three = [];
  for (let i = 0; i < 3; i++) {
    three.push(await RawConnection.open(t, p.url));
    three[i].send(get('/uuid'));
    await three[i].receive(/"uuid"/);
  }
  const tryOpen = () => RawConnection.open(t, p.url).catch((why) => ({ ended: why.code }));
  assert.match(await (await tryOpen()).ended, /^(reset|ECONNRESET)$/);
  await p.waitFor(/event=connection_refused connections=3/);
  three[0].socket.destroy();
  await until(async () => {
    const again = await tryOpen();
    again.send?.(get('/uuid'));
    return again.receive?.(/"uuid"/).catch(() => null);
  }, 'room for another');
});

test('10,000 requests wait in /delay at once, and cost little', async (t) => {
  const COUNT = 10_000;
  const p = await serve(t);
  const before = p.residentKiB();
  const waiting = [];
  while (waiting.length < COUNT) { // not more at a time than a backlog takes
    for (let i = 0; i < 500; i++) {
      const socket = connect({ host: '127.0.0.1', port: p.port });
      socket.on('error', () => {}); // the count below tells
      socket.write(get('/delay/86400000?key=many'));
      waiting.push(socket);
    }
    await until(async () => (await json(`${p.url}/hits/many`)).hits === waiting.length, 'they wait');
  }
  assert.ok(p.openFiles() > COUNT);
  const each = ((p.residentKiB() - before) * 1024) / COUNT;
  if (!binDir.includes('asan')) assert.ok(each < 2048, `${each} bytes each`);

  const agent = new http.Agent({ keepAlive: true, maxSockets: 1000 });
  t.after(() => agent.destroy());
  const late = await Promise.all(Array.from({ length: 3000 }, (_, i) => new Promise((done, failed) => {
    const ms = i % 300;
    let from; // when it is really sent: the agent may keep it waiting
    http.get(`${p.url}/delay/${ms}`, { agent }, (res) => {
      const took = performance.now() - from;
      res.resume().on('end', () => done(took - ms));
    }).on('error', failed).on('socket', () => (from = performance.now()));
  })));
  assert.ok(Math.min(...late) >= 0, `${Math.min(...late)} ms early`);

  for (const socket of waiting) socket.destroy();
  await until(() => p.openFiles() < COUNT / 2, 'those who left are closed');
});

test('signals', async (t) => {
  await t.test('an idle server ends at once, closing its connections', async (t2) => {
    const p = await serve(t2, '--drain-ms', '60000');
    const c = await RawConnection.open(t2, p.url);
    c.send(get('/uuid'));
    await c.receive(/"uuid"/);
    await p.stop();
    assert.equal(await c.ended, 'fin');
  });

  await t.test('answers under way are finished, connections are refused', async (t2) => {
    const p = await serve(t2, '--drain-ms', '60000');
    const c = await RawConnection.open(t2, p.url);
    c.send(get('/drip?bytes=10&ms=50') + get('/json'));
    await c.receive(/\r\n\r\n0/);
    p.signal('SIGINT');
    await p.waitFor(/event=draining connections=1/);
    await assert.rejects(fetch(`${p.url}/uuid`));
    assert.equal((await c.receive(/123456789HTTP[^{]*Connection: (\w+)/))[1], 'close');
    await p.ends();
  });

  await t.test('draining has an end', async (t2) => {
    const p = await serve(t2, '--drain-ms', '50');
    const c = await RawConnection.open(t2, p.url);
    c.send(get('/hang?key=h'));
    await until(async () => (await json(`${p.url}/hits/h`)).hits === 1, 'the request');
    await p.stop();
    assert.equal(await c.ended, 'fin');
  });

  await t.test('a second signal exits at once', async (t2) => {
    const p = await serve(t2, '--drain-ms', '60000');
    const c = await RawConnection.open(t2, p.url);
    c.send(get('/hang?key=h'));
    await until(async () => (await json(`${p.url}/hits/h`)).hits === 1, 'the request');
    p.signal('SIGTERM');
    await p.waitFor(/event=draining/);
    p.signal('SIGTERM');
    await p.ends({ code: 143 });
  });
});

test('nothing stays behind after all kinds of requests', async (t) => {
  const p = await serve(t);
  await json(`${p.url}/uuid`);
  const before = p.openFiles();
  const paths = ['/uuid', '/reset', '/truncate', '/close-after-request', '/stream/9', '/flaky/1?key=x&fail=reset',
    '/bytes/9999999', '/drip?bytes=9&ms=1', '/gzip-bomb', '/nothing', '/hang', '/slow-headers?ms=1'];
  const connections = await Promise.all(Array.from({ length: 200 }, async (_, i) => {
    const c = await RawConnection.open(t, p.url);
    c.send(get(paths[i % paths.length]));
    return c;
  }));
  await until(async () => (await json(`${p.url}/hits/x`)).hits > 0, 'they have arrived');
  for (const c of connections) c.socket.destroy();
  await until(() => p.openFiles() <= before, 'all connections are closed');
});
