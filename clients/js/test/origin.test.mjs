// The client against the real processes, over connections that break at random.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WebSocket } from 'ws';
import { heldTarget } from '../../../tests/process/lib/held_target.mjs';
import { until } from '../../../tests/process/lib/process.mjs';
import { startSystem } from '../../../tests/process/lib/system.mjs';
import { ProxyFetchClient, connect } from '../proxyfetch.mjs';

const FAST = { WebSocket, backoff: { minMs: 5, maxMs: 50 } };
const JOBS = 300;

/** Numbers in [0, 1) from a seed (mulberry32): a failure can be repeated. */
function randomFrom(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let x = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Frames that the longest connection lives for. More than JOBS: a client first sends again what
 *  was not confirmed, and one that never gets past that gets nowhere. */
const LIFE_MAX = 400;

/** A WebSocket class whose connections die without a word: before or after a message, either way. */
function breaking(random, counts) {
  return class extends WebSocket {
    #left = Math.ceil(random() * LIFE_MAX);
    /** Whether this frame is one too many. */
    #dies() {
      if (this.#left === 0) return true;
      if (--this.#left > 0) return false;
      counts.broken++;
      this.terminate();
      return true;
    }
    send(data) {
      // The last one gets out half of the time, and no answer comes back.
      const last = this.#left === 1 && random() < 0.5;
      if (last) setImmediate(() => this.#dies());
      else if (this.#dies()) return;
      super.send(data);
    }
    set onmessage(handler) {
      // What the socket had read before it died is not let out: a frame lost between two that come
      // is no broken connection.
      super.onmessage = (event) => this.#dies() || handler(event);
    }
  };
}

/** How often the target was asked with ?key=KEY. */
const hits = async (system, key) => (await (await fetch(`${system.target}/hits/${key}`)).json()).hits;

test('with the real processes', async (t) => {
  const held = await heldTarget(t);
  const system = await startSystem(t, { args: { executor: held.allow } });
  const open = async (t, options) => {
    const client = await connect(system.wsUrl, { ...FAST, ...options });
    t.after(() => client.close());
    return client;
  };

  await t.test('plain: fetch, batch, refusal, failure, ping', async (t) => {
    const client = await open(t);
    const got = await client.fetch(`${system.target}/json`, { include: ['headers', 'body', 'timings'] });
    assert.equal(got.status, 200);
    assert.ok(JSON.parse(got.body));
    assert.ok(got.timings.total > 0 && got.times.total > 0 && got.enqueueTime > 0);
    assert.equal((await client.batch(`${system.target}/uuid`, 50)).successCount, 50);
    await assert.rejects(client.fetch('nonsense'), { name: 'RefusedError', code: 'bad_url', certainty: 'not_sent' });
    await assert.rejects(client.fetch(`${system.target}/reset`, { method: 'POST' }),
      { name: 'JobError', owner: 'target', certainty: 'sent_unknown' });
    assert.ok((await client.ping()) >= 0);
  });

  await t.test('a body, small, binary and larger than a frame', async (t) => {
    const client = await open(t);
    const get = async (path, options) => client.body(await client.fetch(system.target + path, { include: ['body'], ...options }));
    const bytes = Uint8Array.from({ length: 256 }, (_, i) => i);
    const echo = JSON.parse(new TextDecoder().decode(await get('/echo', { method: 'POST', body: bytes })));
    assert.deepEqual(new Uint8Array(Buffer.from(echo.bodyBase64, 'base64')), bytes);
    assert.equal((await get('/bytes/3000000')).length, 3_000_000);
    assert.equal(await client.body(await client.fetch(`${system.target}/uuid`)), null);
  });

  await t.test('cancel ends a running fetch', async (t) => {
    const client = await open(t, { session: true });
    const stop = new AbortController();
    const done = client.fetch(`${system.target}/hang`, { signal: stop.signal, onEnqueued: () => stop.abort() });
    await assert.rejects(done, { name: 'JobError', code: 'canceled', owner: 'client' });
  });

  await t.test('a session that is not known any more: a new one begins', async (t) => {
    const gone = 'ab'.repeat(16);
    const client = await open(t, { session: { id: gone, offset: 7 } });
    assert.match(client.session.id, /^[0-9a-f]{32}$/);
    assert.notEqual(client.session.id, gone);
    assert.equal((await client.fetch(`${system.target}/uuid`)).offset, 1);
  });

  for (const seed of [1, 2, 3])
    await t.test(`${JOBS} fetches over breaking connections: each once (seed ${seed})`, async (t) => {
      const counts = { broken: 0 };
      const client = new ProxyFetchClient(system.wsUrl, { ...FAST, WebSocket: breaking(randomFrom(seed), counts), session: true });
      t.after(() => client.close());
      const results = new Map();
      client.on('result', (m) => results.set(m.clientId, (results.get(m.clientId) ?? 0) + 1));
      client.on('gap', (m) => assert.fail(`a gap: ${JSON.stringify(m)}`));
      const keys = Array.from({ length: JOBS }, (_, i) => `s${seed}-${i}`);
      const all = await Promise.all(keys.map((key) => client.fetch(`${system.target}/uuid?key=${key}`, { submitKey: key })));
      assert.ok(all.every((r) => r.status === 200));
      assert.ok(counts.broken >= 2, `only ${counts.broken} connections broke`);
      // The answer to a repeated submit carries no offset, and may have come before its event.
      await until(() => keys.every((key) => results.has(key)), 'all events');
      for (const key of keys) {
        assert.equal(results.get(key), 1, `results of ${key}`);
        assert.equal(await hits(system, key), 1, `hits of ${key}`);
      }
    });

  await t.test('the session outlives its client; a second one takes it over', async (t) => {
    const first = await open(t, { session: true });
    const slow = first.fetch(held.url('slow')).catch((e) => e);
    await new Promise((done) => first.on('enqueued', done));
    const second = new ProxyFetchClient(system.wsUrl, { ...FAST, session: first.session });
    t.after(() => second.close());
    const result = new Promise((done) => second.on('result', done));
    assert.equal((await slow).code, 'taken_over');
    assert.equal((await slow).certainty, 'sent_unknown');
    held.release();
    assert.equal((await result).status, 200);
    assert.equal((await result).reqId, (await slow).reqId);
  });

  await t.test('the origin is killed under a burst: everything ends, once', async (t) => {
    const client = await open(t, { session: true });
    const results = new Map();
    client.on('result', (m) => results.set(m.clientId, (results.get(m.clientId) ?? 0) + 1));
    const keys = Array.from({ length: JOBS }, (_, i) => `k-${i}`);
    const all = Promise.all(keys.map((key) => client.fetch(`${system.target}/delay/50?key=${key}`, { submitKey: key })));
    await until(() => results.size > JOBS / 10, 'some results');
    await system.crash('origin');
    await system.restart('origin');
    assert.ok((await all).every((r) => r.status === 200));
    await until(() => keys.every((key) => results.has(key)), 'all events');
    for (const key of keys) assert.equal(results.get(key), 1, `results of ${key}`);
  });
});
