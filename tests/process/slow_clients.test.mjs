// Clients that send slowly, or half of it, and clients that do not read: each listener closes them at its
// limit, serves the others meanwhile, and keeps nothing of them. The limits are those of lib/web/web.h, made
// short by PF_LIMIT. (proxyfetch-test-endpoints does not share that server; its --idle-ms is tested with it.)
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { binDir, until } from './lib/process.mjs';
import { metrics } from './lib/metrics.mjs';
import { RawConnection } from './lib/raw.mjs';
import { http, listenersOf, startSystem } from './lib/system.mjs';
import { connectWs } from './lib/ws_client.mjs';

const SHORT = { PF_LIMIT: 'web.header_s:1,web.body_grace_s:1,web.stall_s:1,web.close_s:1,web.ping_s:1,web.pong_s:2' };
const EACH = 20; // clients of a kind, at each listener
const DRIP_MS = 100; // a byte each: far below the 1,024 bytes a second that a body has to bring
const KEPT = 6; // connections between the processes and from this test, that come and go
const GROWTH_KIB = 8 << 10;
const BODY = 6 << 20; // more than the kernel keeps for a client that does not read

/** The system, its listeners, and a client that fetches as long as it is busy: one after the other at least once, and
 *  each must succeed within the time of anything that is waited for. */
async function setUp(t) {
  const system = await startSystem(t, { env: { origin: SHORT, orchestrator: SHORT, executor: SHORT } });
  const { origin, orchestrator, executor } = system.procs;
  const listeners = await listenersOf(system.procs);
  const ws = await connectWs(t, system.wsUrl);
  let done = 0;
  const busy = async (work) => {
    let over = false;
    const end = work.finally(() => (over = true));
    while (!over) {
      ws.send({ type: 'start-fetch', url: `${system.target}/uuid`, clientId: `${done}` });
      const result = await ws.next((m) => m.type === 'result' && m.clientId === `${done}`, { after: ws.messages.length });
      assert.ok(result.success, JSON.stringify(result));
      done++;
      await Promise.race([end, new Promise(setImmediate)]);
    }
  };
  await busy(Promise.resolve());
  return { system, listeners, procs: [origin, orchestrator, executor], busy, fetches: () => done };
}

/** What each process holds now; `returned` fails unless it is what it was. */
async function gauges(procs) {
  return Promise.all(procs.map(async (proc) => ({ ...await metrics(proc.url), files: proc.openFiles(), rss: proc.residentKiB() })));
}
async function returned(procs, before) {
  for (const [i, proc] of procs.entries()) {
    const near = (now, then) => Math.abs(now - then) <= KEPT;
    await until(async () => {
      const now = await metrics(proc.url);
      return near(now.pf_web_connections, before[i].pf_web_connections) && now.pf_web_sockets === before[i].pf_web_sockets &&
        now.pf_web_unread_bytes === 0 && near(proc.openFiles(), before[i].files);
    }, `${proc.name}: connections and files as before`);
    if (!binDir.includes('san'))
      assert.ok(proc.residentKiB() - before[i].rss < GROWTH_KIB, `${proc.name}: ${before[i].rss} KiB before, ${proc.residentKiB()} now`);
  }
}

test('slow heads and slow bodies', async (t) => {
  const { listeners, procs, busy, fetches } = await setUp(t);
  const before = await gauges(procs);
  const begun = fetches();

  /** Sends text, then (drip) a byte of rest at a time. Resolves to the status, or 0, once the server has closed. */
  const slow = async (url, text, rest) => {
    const c = await RawConnection.open(t, url);
    c.send(text);
    let at = 0;
    const drip = rest && setInterval(() => c.send(rest[at++ % rest.length]), DRIP_MS);
    const end = await c.ended;
    clearInterval(drip);
    c.socket.destroy();
    assert.ok(end === 'fin' || end === 'reset', end);
    return Number(/^HTTP\/1\.1 (\d+)/.exec(c.text)?.[1] ?? 0);
  };
  const clients = listeners.flatMap(({ url, path, type = 'application/x-proxyfetch-batch' }) => {
    const head = `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: ${type}\r\n`;
    const body = `${head}Content-Length: 100000\r\n\r\n{"url":"`;
    return [
      ['silent', 0, ''], ['half a head', 408, head], ['a slow head', 408, head, 'X-A: b\r\n'],
      ['half a body', 408, body], ['a slow body', 408, body, 'x'],
    ].flatMap(([what, status, ...texts]) => Array.from({ length: EACH }, async () =>
      assert.equal(await slow(url, ...texts), status, `${what} at ${url}${path}`)));
  });
  await busy(Promise.all(clients));
  t.diagnostic(`${fetches() - begun} fetches of others meanwhile`);
  await returned(procs, before);
  const after = await gauges(procs);
  const refused = after.map((now, i) => now.pf_web_refused_total - before[i].pf_web_refused_total);
  assert.deepEqual(refused, [8 * EACH, 4 * EACH, 4 * EACH]); // the origin has two listeners
});

test('clients that do not read', async (t) => {
  const { system, listeners, procs, busy, fetches } = await setUp(t);
  const [origin] = procs;
  const text = { url: `${system.target}/bytes/${BODY}`, include: ['body'] };
  const { body: job } = await http(`${origin.url}/v1/actors/proxy/default/fetch`,
    { method: 'POST', headers: { 'Content-Type': 'application/json', Prefer: 'wait=30' }, body: JSON.stringify(text) });
  assert.equal(job.result.responseLength, BODY);
  const flood = (ws, count) => {
    for (let i = 0; i < count; i++) ws.send({ type: 'start-fetch', url: `${system.target}/bytes/700000`, include: ['body'] });
  };
  const reader = await connectWs(t, system.wsUrl); // what that costs with one who reads: caches, results that are kept
  for (let done = 4; done <= 32; done += 4) { // so few that a busy machine does not make it a slow one
    flood(reader, 4);
    await reader.count((m) => m.type === 'result' && m.success, done);
  }
  await reader.close();
  const before = await gauges(procs);
  const begun = fetches();
  /** Resolves when a process has given up `count` more such clients. */
  const givenUp = (i, count) => until(async () =>
    (await metrics(procs[i].url)).pf_web_slow_readers_total - before[i].pf_web_slow_readers_total === count,
  `${procs[i].name}: ${count} given up`);
  const deaf = async (url, request) => {
    const c = await RawConnection.open(t, url);
    c.socket.pause();
    c.send(request);
    return c;
  };

  await t.test('one large answer', async () => {
    const all = await Promise.all(Array.from({ length: EACH }, () =>
      deaf(origin.url, `GET ${job.result.bodyUrl} HTTP/1.1\r\nHost: localhost\r\n\r\n`)));
    await until(async () => (await metrics(origin.url)).pf_web_unread_bytes > 0, 'answers that wait');
    await busy(givenUp(0, EACH));
    await returned(procs, before);
    for (const c of all) c.socket.resume();
    for (const c of all) { // what the kernel had is there, and no more
      await c.ended;
      assert.ok(c.text.startsWith('HTTP/1.1 200') && c.text.length < BODY);
    }
  });

  await t.test('many small answers, on every listener', async () => {
    const before2 = await gauges(procs);
    const all = await Promise.all(listeners.map(({ url }) =>
      deaf(url, 'GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(4000))));
    await busy(Promise.all([givenUp(0, EACH + 2), givenUp(1, 1), givenUp(2, 1)]));
    for (const c of all) c.socket.destroy();
    await returned(procs, before2);
  });

  await t.test('a WebSocket', async (t) => {
    const idle = await connectWs(t, system.wsUrl);
    const flooded = await connectWs(t, system.wsUrl);
    const talking = await connectWs(t, system.wsUrl);
    for (const ws of [idle, flooded, talking]) ws.tcp.pause();
    for (const ws of [flooded, talking]) flood(ws, 24); // 16 MiB: more than the kernel and the outbox take
    const talk = setInterval(() => talking.send({ type: 'ack', offset: 0 }), DRIP_MS);
    await busy(until(async () => (await metrics(origin.url)).pf_web_sockets === 1, 'only the worker is left'));
    clearInterval(talk);
    await returned([origin], before); // the executor keeps connections to the target
    const now = await metrics(origin.url);
    assert.ok(now.pf_web_slow_readers_total - before[0].pf_web_slow_readers_total >= EACH + 3);
  });
  t.diagnostic(`${fetches() - begun} fetches of others meanwhile`);
});
