// The client against a scripted server: what it sends, and what it makes of every answer and fault.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WebSocket } from 'ws';
import { createServer } from 'node:net';
import { frame, wsServer } from '../../../tests/process/lib/ws_server.mjs';
import { ConnectionError, FRAME_BYTES_MAX, JobError, ProxyFetchClient, RefusedError, connect } from '../proxyfetch.mjs';

const FAST = { WebSocket, backoff: { minMs: 5, maxMs: 20 } };
const URL_A = 'http://a.test/';
const SESSION = 'ab'.repeat(16);

/** A server whose messages wait to be taken: `(await server.next('start-fetch')).answer({…})`. */
async function scripted(t) {
  const queue = [], takers = [];
  const give = () => {
    for (let i = 0; i < takers.length; i++) {
      const at = queue.findIndex((entry) => !takers[i].type || entry.message.type === takers[i].type);
      if (at < 0) continue;
      const [entry] = queue.splice(at, 1);
      takers.splice(i--, 1)[0].done(entry);
    }
  };
  const server = await wsServer(t, (socket, message) => {
    queue.push({ socket, message, answer: (...frames) => frames.forEach((f) => socket.send(f)) });
    give();
  });
  return {
    ...server,
    /** Those not taken yet. */
    get untaken() {
      return queue.map((entry) => entry.message.type);
    },
    next: (type) => new Promise((done) => (takers.push({ type, done }), give())),
  };
}

async function open(t, server, options) {
  const client = new ProxyFetchClient(server.url, { ...FAST, ...options });
  t.after(() => client.close());
  return client;
}
/** A client with a session that starts at offset 0. */
async function openSession(t, server, options) {
  const client = await open(t, server, { session: true, ...options });
  const resume = await server.next('resume');
  resume.answer({ type: 'session', session: SESSION, offset: 0, oldest: 1, pending: 0 });
  await client.ready();
  return { client, socket: resume.socket };
}
async function resumed(server, frame) {
  const resume = await server.next('resume');
  resume.answer({ type: 'session', session: SESSION, oldest: 1, pending: 0, ...frame });
  return resume;
}
const event = (client, type) => new Promise((done) => {
  const off = client.on(type, (message) => (off(), done(message)));
});
const late = (offset) => ({ type: 'late-result', reqId: 'x', clientId: 'x', success: true, offset });
const closed = (socket) => new Promise((done) => socket.tcp.on('close', done));
/** Everything that the client has sent so far has arrived. */
async function settled(server, client) {
  client.ping().catch(() => {});
  await server.next('ping');
}
/** The pauses that the client asks for from now on. None of them is waited for; with `fires: false` they never end. */
function pausesOf(t, { fires = true } = {}) {
  const pauses = [], { setTimeout: real } = globalThis, { random } = Math;
  t.after(() => Object.assign(globalThis, { setTimeout: real }) && (Math.random = random));
  Math.random = () => 1; // no jitter: the longest
  globalThis.setTimeout = (fn, ms, ...args) => {
    if (!new Error().stack.split('\n')[2].includes('proxyfetch.mjs')) // ws has timers, too
      return real(fn, ms, ...args);
    pauses.push(ms);
    return fires ? real(fn, 0) : real(() => {}, 0);
  };
  return pauses;
}
const enqueued = (message, reqId = 'r1') => ({ type: 'enqueued', reqId, clientId: message.clientId, enqueueTime: 0.5 });
const result = (message, more = {}) => ({ type: 'result', reqId: 'r1', clientId: message.clientId, success: true, status: 200,
  responseLength: 3, duration: 2, ...more });

// ---- plain messages ----

test('a plain fetch sends three fields, and resolves with the result and the phases', async (t) => {
  const server = await scripted(t), client = await open(t, server);
  const seen = [];
  const done = client.fetch(URL_A, { onEnqueued: (m) => seen.push(m) });
  const { message, answer } = await server.next();
  assert.deepEqual(Object.keys(message).sort(), ['clientId', 'type', 'url']);
  answer(enqueued(message), result(message));
  const got = await done;
  assert.equal(got.status, 200);
  assert.equal(got.enqueueTime, 0.5);
  assert.ok(got.times.enqueue >= 0 && got.times.execution >= 0);
  assert.ok(Math.abs(got.times.total - got.times.enqueue - got.times.execution) < 1);
  assert.equal(seen.length, 1);
  assert.equal(seen[0].reqId, 'r1');
  assert.equal(client.pending, 0);
  assert.deepEqual(server.untaken, []); // nothing unasked
});

test('a failed job rejects with all that is known of it', async (t) => {
  const server = await scripted(t), client = await open(t, server);
  const done = client.fetch(URL_A);
  const { message, answer } = await server.next();
  answer(enqueued(message), { type: 'result', reqId: 'r1', clientId: message.clientId, success: false, error: 'refused',
    code: 'policy_refused', certainty: 'not_sent', owner: 'policy', attempts: 1, duration: 3 });
  const why = await done.catch((e) => e);
  assert.ok(why instanceof JobError);
  const { code, certainty, owner, attempts, reqId, clientId, name } = why;
  assert.deepEqual({ code, certainty, owner, attempts, reqId, clientId, name },
    { code: 'policy_refused', certainty: 'not_sent', owner: 'policy', attempts: 1, reqId: 'r1', clientId: message.clientId, name: 'JobError' });
});

test('a failure with nothing but its text (row 4) leaves the rest unknown', async (t) => {
  const server = await scripted(t), client = await open(t, server);
  const done = client.fetch(URL_A);
  const { message, answer } = await server.next();
  answer({ type: 'result', reqId: 'r1', clientId: message.clientId, success: false, error: 'no luck', duration: 3 });
  const why = await done.catch((e) => e);
  assert.equal(why.message, 'no luck');
  assert.equal(why.certainty, null);
});

test('a batch counts at the server', async (t) => {
  const server = await scripted(t), client = await open(t, server);
  let started = 0;
  const done = client.batch(URL_A, 7, { onStarted: () => started++ });
  const { message, answer } = await server.next('start-batch-fetch');
  assert.deepEqual(Object.keys(message).sort(), ['batchId', 'count', 'type', 'url']);
  answer({ type: 'batch-started', batchId: message.batchId, count: 7 },
    { type: 'batch-complete', batchId: message.batchId, count: 7, successCount: 6 });
  assert.equal((await done).successCount, 6);
  assert.equal(started, 1);
});

test('a refusal rejects the one it names; one that names nobody is an event', async (t) => {
  const server = await scripted(t), client = await open(t, server);
  const bad = client.fetch('nonsense'), good = client.fetch(URL_A);
  const first = await server.next(), second = await server.next();
  const loose = event(client, 'error');
  first.answer({ type: 'error', error: 'who?', code: 'bad_message' });
  assert.equal((await loose).error, 'who?');
  first.answer({ type: 'error', error: 'not a URL', code: 'bad_url', clientId: first.message.clientId });
  const why = await bad.catch((e) => e);
  assert.ok(why instanceof RefusedError);
  assert.deepEqual([why.code, why.certainty], ['bad_url', 'not_sent']);
  second.answer(result(second.message));
  assert.equal((await good).status, 200);
});

test('options become the fields of row 8', async (t) => {
  const server = await scripted(t), client = await open(t, server);
  client.fetch(URL_A, { method: 'POST', headers: new Headers({ 'x-a': '1' }), body: 'text', timeoutMs: 5, deadlineMs: 6,
    retry: { attempts: 2, statuses: ['5xx'] }, submitKey: 'k', idempotencyKey: 'i', redirect: 'manual',
    include: ['body'], continuation: 'c', context: { a: 1 } }).catch(() => {});
  const { message } = await server.next();
  const { type, url, ...rest } = message;
  assert.deepEqual(rest, { clientId: 'k', method: 'POST', headers: [['x-a', '1']], body: 'text', timeoutMs: 5,
    deadlineMs: 6, retry: { attempts: 2, statuses: ['5xx'] }, submitKey: 'k', idempotencyKey: 'i',
    redirect: 'manual', include: ['body'], continuation: 'c', context: { a: 1 } });
  for (const body of [new Uint8Array([0, 255, 7]), new Uint8Array([0, 255, 7]).buffer, new DataView(new Uint8Array([9, 0, 255, 7]).buffer, 1)]) {
    client.fetch(URL_A, { body }).catch(() => {});
    assert.equal((await server.next()).message.bodyBase64, 'AP8H');
  }
  client.fetch(URL_A, { body: 'a\0b' }).catch(() => {});
  assert.equal((await server.next()).message.bodyBase64, 'YQBi');
  await assert.rejects(client.fetch(URL_A, { body: 5 }), TypeError);
  await assert.rejects(client.fetch(URL_A, { methd: 'GET' }), /unknown option 'methd'/);
});

test('a message of exactly the frame limit is sent, one byte more is refused here', async (t) => {
  const server = await scripted(t), client = await open(t, server);
  const frameOf = (length) => client.fetch(URL_A, { body: 'x'.repeat(length), submitKey: 'k' });
  frameOf(0).catch(() => {});
  const empty = JSON.stringify((await server.next()).message).length;
  client.close();
  const other = await open(t, server);
  other.fetch(URL_A, { body: 'x'.repeat(FRAME_BYTES_MAX - empty), submitKey: 'k' }).catch(() => {});
  assert.equal(JSON.stringify((await server.next()).message).length, FRAME_BYTES_MAX);
  const why = await other.fetch(URL_A, { body: 'x'.repeat(FRAME_BYTES_MAX - empty + 1), submitKey: 'l' }).catch((e) => e);
  assert.deepEqual([why.name, why.code, why.certainty], ['RefusedError', 'limit', 'not_sent']);
  const wide = await other.fetch(URL_A, { body: 'ä'.repeat(FRAME_BYTES_MAX / 2), submitKey: 'm' }).catch((e) => e);
  assert.equal(wide.code, 'limit'); // bytes, not characters
});

test('without a session a drop rejects what was sent, and what was not goes with the next connection', async (t) => {
  const server = await scripted(t), client = await open(t, server);
  const sent = client.fetch(URL_A).catch((e) => e);
  const { socket } = await server.next();
  socket.destroy();
  const why = await sent;
  assert.ok(why instanceof ConnectionError);
  assert.deepEqual([why.code, why.certainty], ['connection_lost', 'sent_unknown']);
  assert.equal(client.state, 'waiting');
  const later = client.fetch(URL_A);
  const { message, answer } = await server.next();
  answer(enqueued(message), result(message));
  assert.equal((await later).status, 200);
});

test('what was not sent survives connections that fail', async (t) => {
  const server = await scripted(t);
  let tries = 0;
  class Late extends WebSocket {
    constructor(url) {
      super(tries++ < 2 ? 'ws://127.0.0.1:1/' : url);
    }
  }
  const client = await open(t, server, { WebSocket: Late });
  const done = client.fetch(URL_A);
  const { message, answer } = await server.next('start-fetch');
  answer(enqueued(message), result(message));
  assert.equal((await done).status, 200);
  assert.equal(tries, 3);
});

test('a server that accepts and says nothing is given up', async (t) => {
  const silent = createServer((socket) => socket.on('error', () => {}).resume());
  await new Promise((done) => silent.listen(0, '127.0.0.1', done));
  t.after(() => new Promise((done) => silent.close(done)));
  const client = new ProxyFetchClient(`ws://127.0.0.1:${silent.address().port}/`, { ...FAST, connectMs: 30, reconnect: false });
  t.after(() => client.close());
  const why = await client.ready().catch((e) => e);
  assert.match(why.message, /no connection within 30 ms/);
});

test('what is not JSON ends the connection', async (t) => {
  const server = await scripted(t), client = await open(t, server);
  const sent = client.fetch(URL_A).catch((e) => e);
  const { socket } = await server.next('start-fetch');
  socket.raw(frame(1, 'nonsense'));
  assert.equal((await sent).closeCode, 1003);
  await closed(socket);
});

test('close ends the connection, and the pings on it', async (t) => {
  const server = await scripted(t), client = await open(t, server);
  await client.ready();
  const ping = client.ping().catch((e) => e);
  const { socket } = await server.next('ping');
  client.close();
  assert.equal((await ping).code, 'closed');
  await closed(socket);
});

test('close rejects what is pending and says what is certain', async (t) => {
  const server = await scripted(t), client = await open(t, server);
  const early = client.fetch(URL_A).catch((e) => e); // not connected yet
  client.close();
  assert.deepEqual([(await early).code, (await early).certainty], ['closed', 'not_sent']);
  await assert.rejects(client.fetch(URL_A), ConnectionError);
  await assert.rejects(client.ready(), ConnectionError);
});

test('connect rejects when nobody listens', async (t) => {
  const server = await scripted(t);
  const client = await connect(server.url, FAST);
  client.close();
  await assert.rejects(connect('ws://127.0.0.1:1/', FAST), { name: 'ConnectionError', code: 'connection_lost', message: 'cannot connect to ws://127.0.0.1:1/ (1006)' });
});

test('ping measures; without a connection it rejects', async (t) => {
  const server = await scripted(t), client = await open(t, server);
  await client.ready();
  const ms = client.ping();
  const { message, answer } = await server.next('ping');
  answer({ type: 'pong', id: message.id });
  assert.ok((await ms) >= 0);
  const lost = client.ping().catch((e) => e);
  (await server.next('ping')).socket.destroy();
  assert.equal((await lost).code, 'connection_lost');
  await assert.rejects(client.ping(), { code: 'not_connected' });
});

test('abort: before it is sent at once, later by asking the origin', async (t) => {
  const server = await scripted(t), client = await open(t, server);
  const never = new AbortController();
  const unsent = client.fetch(URL_A, { signal: never.signal }).catch((e) => e);
  never.abort();
  assert.deepEqual([(await unsent).code, (await unsent).certainty], ['canceled', 'not_sent']);
  await assert.rejects(client.fetch(URL_A, { signal: never.signal }), { code: 'canceled' });

  const stop = new AbortController();
  const done = client.fetch(URL_A, { signal: stop.signal }).catch((e) => e);
  const { message, answer } = await server.next('start-fetch');
  stop.abort(); // nobody knows its reqId yet
  answer(enqueued(message));
  const cancel = await server.next('cancel');
  assert.equal(cancel.message.reqId, 'r1');
  cancel.answer({ type: 'result', reqId: 'r1', clientId: message.clientId, success: false, error: 'canceled', code: 'canceled',
    certainty: 'sent_unknown', owner: 'client', attempts: 1, duration: 1 });
  assert.deepEqual([(await done).code, (await done).certainty], ['canceled', 'sent_unknown']);
});

test('a cancel from onEnqueued, or an abort there, is sent once', async (t) => {
  const server = await scripted(t), client = await open(t, server);
  const stop = new AbortController();
  const how = [{ onEnqueued: ({ reqId }) => client.cancel(reqId) }, { signal: stop.signal, onEnqueued: () => stop.abort() }];
  for (const [i, options] of how.entries()) {
    client.fetch(URL_A, options).catch(() => {});
    const { message, answer } = await server.next('start-fetch');
    answer(enqueued(message, `r${i}`));
    await server.next('cancel');
    const ping = client.ping();
    const { message: after, answer: pong } = await server.next(); // the next message of all
    assert.equal(after.type, 'ping');
    pong({ type: 'pong', id: after.id });
    await ping;
  }
});

test('a listener that throws harms nobody else', async (t) => {
  const server = await scripted(t), client = await open(t, server);
  const uncaught = [];
  process.setUncaughtExceptionCaptureCallback((error) => uncaught.push(error.message));
  t.after(() => process.setUncaughtExceptionCaptureCallback(null));
  const fail = (text) => () => {
    throw new Error(text);
  };
  client.on('enqueued', fail('listener'));
  const done = client.fetch(URL_A, { onEnqueued: fail('callback') });
  const { message, answer } = await server.next();
  answer(enqueued(message), result(message));
  await done;
  assert.deepEqual(uncaught, ['callback', 'listener']);
  assert.throws(() => client.on('nonsense', () => {}), TypeError);
});

// ---- sessions ----

test('a session is asked for first, and every event is acknowledged once handled', async (t) => {
  const server = await scripted(t), { client } = await openSession(t, server);
  assert.deepEqual(client.session, { id: SESSION, offset: 0 });
  const done = client.fetch(URL_A);
  const { message, answer } = await server.next('start-fetch');
  assert.equal(message.submitKey, message.clientId);
  answer(enqueued(message), result(message, { offset: 1 }));
  await done;
  assert.equal((await server.next('ack')).message.offset, 1);
  assert.deepEqual(client.session, { id: SESSION, offset: 1 });
});

test('a close acknowledges what was handled, without a pause', async (t) => {
  const server = await scripted(t), { client } = await openSession(t, server);
  const done = client.fetch(URL_A);
  const { message, answer } = await server.next('start-fetch');
  answer(enqueued(message), result(message, { offset: 1 }));
  await done;
  client.close();
  assert.equal((await server.next('ack')).message.offset, 1);
});

test('64 events are acknowledged at once, in one message', async (t) => {
  const server = await scripted(t), { client, socket } = await openSession(t, server);
  socket.raw(Buffer.concat(Array.from({ length: 64 }, (_, i) => // at once: a pause of 50 ms would be acknowledged too
    frame(1, JSON.stringify({ type: 'late-result', reqId: `x${i + 1}`, clientId: 'x', success: true, offset: i + 1 })))));
  assert.equal((await server.next('ack')).message.offset, 64);
  assert.deepEqual(server.untaken, []);
  assert.equal(client.session.offset, 64);
});

test('64 events are acknowledged without any pause, and none by itself with autoAck: false', async (t) => {
  const server = await scripted(t), { client, socket } = await openSession(t, server);
  pausesOf(t, { fires: false });
  for (let offset = 1; offset <= 64; offset++) socket.send(late(offset));
  assert.equal((await server.next('ack')).message.offset, 64);

  const other = await openSession(t, server, { autoAck: false });
  const all = new Promise((done) => other.client.on('late-result', (m) => m.offset === 64 && done()));
  for (let offset = 1; offset <= 64; offset++) other.socket.send(late(offset));
  await all;
  other.client.ack(3);
  other.client.ack(2); // is in that
  other.client.ack(3);
  await settled(server, other.client);
  assert.deepEqual(server.untaken, ['ack']);
  assert.equal((await server.next('ack')).message.offset, 3);
  client.close();
});

test('an event that comes twice is told once, and old gaps say nothing', async (t) => {
  const server = await scripted(t), { client, socket } = await openSession(t, server);
  const seen = [];
  for (const type of ['late-result', 'batch-complete', 'gap']) client.on(type, (m) => seen.push([type, m.offset ?? m.to]));
  const batch = { type: 'batch-complete', batchId: 'other', count: 1, successCount: 1, offset: 2 };
  for (const message of [late(1), batch, late(1), batch, { type: 'gap', from: 1, to: 1 }]) socket.send(message);
  const last = event(client, 'waiting');
  socket.send({ type: 'waiting', reqId: 'r', reason: 'no-executor' });
  await last;
  assert.deepEqual(seen, [['late-result', 1], ['batch-complete', 2]]);
  assert.equal(client.session.offset, 2);
  while ((await server.next('ack')).message.offset < 2) continue;
  socket.send({ type: 'gap', from: 3, to: 4 });
  assert.equal((await server.next('ack')).message.offset, 4); // a new one is dealt with when it is told
});

test('an acknowledgement that was due on a lost connection is not sent on none', async (t) => {
  const server = await scripted(t), { client, socket } = await openSession(t, server, { backoff: { minMs: 200, maxMs: 200 } });
  const seen = event(client, 'late-result');
  socket.send(late(1));
  await seen;
  socket.destroy();
  assert.equal((await resumed(server, { offset: 1 })).message.offset, 1); // which acknowledges it
  await client.ready();
});

test('autoAck: false acknowledges when told, and replays from there', async (t) => {
  const server = await scripted(t), { client, socket } = await openSession(t, server, { autoAck: false });
  const second = new Promise((done) => client.on('late-result', (m) => m.offset === 2 && done()));
  for (const offset of [1, 2]) socket.send({ type: 'late-result', reqId: 'x', clientId: 'x', success: true, offset });
  await second;
  client.ack(1);
  assert.equal((await server.next('ack')).message.offset, 1);
  assert.throws(() => client.ack(3), RangeError);
  socket.destroy();
  assert.equal((await resumed(server, { offset: 2 })).message.offset, 1);
});

test('a drop before enqueued: sent again under the same key', async (t) => {
  const server = await scripted(t), { client } = await openSession(t, server);
  const done = client.fetch(URL_A);
  const first = await server.next('start-fetch');
  first.socket.destroy();
  const resume = await resumed(server, { offset: 0 });
  assert.deepEqual(resume.message, { type: 'resume', session: SESSION, offset: 0 });
  const again = await server.next('start-fetch');
  assert.deepEqual(again.message, first.message);
  again.answer(enqueued(again.message), result(again.message, { offset: 1 }));
  assert.equal((await done).status, 200);
});

test('a drop after enqueued: not sent again; the replay has the result', async (t) => {
  const server = await scripted(t), { client } = await openSession(t, server);
  let told = 0;
  const done = client.fetch(URL_A, { onEnqueued: () => told++ });
  const { message, answer, socket } = await server.next('start-fetch');
  answer(enqueued(message));
  await event(client, 'enqueued');
  socket.destroy();
  const { answer: replay } = await resumed(server, { offset: 1 });
  replay(result(message, { offset: 1 }), result(message, { offset: 1 }));
  assert.equal((await done).status, 200);
  assert.equal((await server.next('ack')).message.offset, 1);
  assert.deepEqual(server.untaken, []);
  assert.equal(told, 1);
});

test('a result that was replayed and then answered again settles once', async (t) => {
  const server = await scripted(t), { client } = await openSession(t, server);
  const results = [];
  client.on('result', (m) => results.push(m));
  const done = client.fetch(URL_A);
  const first = await server.next('start-fetch');
  first.socket.destroy();
  const resume = await server.next('resume');
  resume.answer({ type: 'session', session: SESSION, offset: 1, oldest: 1, pending: 0 }, result(first.message, { offset: 1 }));
  await done;
  const again = await server.next('start-fetch'); // crossed with the replay
  again.answer(enqueued(again.message), result(again.message, { offset: 1 }), result(again.message)); // the stored one
  await event(client, 'enqueued');
  const pong = client.ping();
  const ping = await server.next('ping');
  ping.answer({ type: 'pong', id: ping.message.id });
  await pong;
  assert.equal(results.length, 1);
  assert.equal(client.pending, 0);
});

test('an announced gap: what was confirmed is asked for again', async (t) => {
  const server = await scripted(t), { client } = await openSession(t, server);
  const done = client.fetch(URL_A);
  const { message, answer, socket } = await server.next('start-fetch');
  answer(enqueued(message));
  await event(client, 'enqueued');
  socket.destroy();
  const resume = await server.next('resume');
  const gap = event(client, 'gap');
  resume.answer({ type: 'session', session: SESSION, offset: 9, oldest: 6, pending: 0 }, { type: 'gap', from: 1, to: 5 });
  assert.deepEqual(await gap, { type: 'gap', from: 1, to: 5 });
  const again = await server.next('start-fetch');
  assert.deepEqual(again.message, message);
  again.answer(enqueued(again.message), result(again.message)); // the stored result, without an offset
  assert.equal((await done).status, 200);
  assert.equal(client.session.offset, 5);
});

test('a hole that nobody announced: the events are asked for again, once', async (t) => {
  const server = await scripted(t), { client, socket } = await openSession(t, server);
  const seen = [], gone = closed(socket);
  client.on('late-result', (m) => seen.push(m.offset));
  socket.send(late(1));
  socket.send(late(3));
  const { message, answer } = await resumed(server, { offset: 3 });
  await gone; // the connection that had the hole
  assert.equal(message.offset, 1);
  const gap = event(client, 'gap');
  answer(late(3)); // still not there: it is gone
  assert.deepEqual(await gap, { type: 'gap', from: 2, to: 2 });
  assert.deepEqual(seen, [1, 3]);
});

test('a session that lost its last events counts from there, and is asked again', async (t) => {
  const server = await scripted(t), { client, socket } = await openSession(t, server);
  for (const offset of [1, 2]) socket.send({ type: 'late-result', reqId: 'x', clientId: 'x', success: true, offset });
  const done = client.fetch(URL_A);
  const { message, answer } = await server.next('start-fetch');
  answer(enqueued(message));
  await event(client, 'enqueued');
  socket.destroy();
  await resumed(server, { offset: 1 }); // after a power cut under --sync normal
  const again = await server.next('start-fetch');
  assert.deepEqual(again.message, message);
  again.answer(enqueued(message), result(message, { offset: 2 }));
  assert.equal((await done).offset, 2);
  assert.equal(client.session.offset, 2);
});

test('a rewound session takes the offsets that it had for new ones, and acknowledges them', async (t) => {
  const server = await scripted(t), { client, socket } = await openSession(t, server, { autoAck: false });
  const seen = [];
  client.on('late-result', (m) => seen.push(m.offset));
  for (const offset of [1, 2, 3]) socket.send(late(offset));
  while (seen.length < 3) await event(client, 'late-result');
  client.ack(3);
  await server.next('ack');
  socket.destroy();
  const { answer } = await resumed(server, { offset: 1 });
  const again = event(client, 'late-result');
  answer(late(2));
  await again;
  assert.deepEqual(seen, [1, 2, 3, 2]);
  client.ack(2);
  assert.equal((await server.next('ack')).message.offset, 2);
});

test('a result that has expired leaves open what was done', async (t) => {
  const server = await scripted(t), { client } = await openSession(t, server);
  const done = client.fetch(URL_A).catch((e) => e);
  const { message, answer } = await server.next('start-fetch');
  answer(enqueued(message), { type: 'error', error: 'gone', code: 'result_expired', clientId: message.clientId });
  assert.deepEqual([(await done).code, (await done).certainty], ['result_expired', null]);
});

test('a listener may close on a refused resume', async (t) => {
  const server = await scripted(t), client = await open(t, server, { session: true });
  client.on('error', () => client.close());
  (await server.next('resume')).answer({ type: 'error', error: 'not now', code: 'busy' });
  await assert.rejects(client.ready(), { code: 'closed' });
  assert.equal(client.state, 'closed');
});

test('an origin that has fewer jobs and events than were confirmed is asked again', async (t) => {
  const server = await scripted(t), { client, socket } = await openSession(t, server);
  const done = [client.fetch(URL_A), client.fetch(`${URL_A}b`)];
  const sent = [await server.next('start-fetch'), await server.next('start-fetch')];
  sent.forEach(({ message, answer }, i) => answer(enqueued(message, `r${i}`)));
  await new Promise((all) => client.on('enqueued', ({ reqId }) => reqId === 'r1' && all()));
  socket.destroy();
  const whole = await resumed(server, { offset: 1, pending: 1 }); // one has ended, one has not
  await client.ready();
  client.ping().catch(() => {});
  await server.next('ping');
  assert.deepEqual(server.untaken, []); // nothing was asked before it
  whole.socket.destroy();
  await resumed(server, { offset: 1, pending: 0 }); // and now one is missing
  for (let i = 0; i < 2; i++) {
    const { message, answer } = await server.next('start-fetch');
    answer(enqueued(message, message.url.endsWith('b') ? 'r1' : 'r0'), result(message, { reqId: message.url.endsWith('b') ? 'r1' : 'r0' }));
  }
  for (const one of done) assert.equal((await one).status, 200);
});

test('an unknown session: what was sent is rejected, a new session begins', async (t) => {
  const server = await scripted(t), { client } = await openSession(t, server);
  const sent = client.fetch(URL_A).catch((e) => e);
  (await server.next('start-fetch')).socket.destroy();
  const resume = await server.next('resume');
  const unsent = client.fetch(URL_A);
  resume.answer({ type: 'error', error: 'no such session', code: 'session_unknown' });
  assert.deepEqual([(await sent).code, (await sent).certainty], ['session_lost', 'sent_unknown']);
  const fresh = await server.next('resume');
  assert.deepEqual(fresh.message, { type: 'resume' });
  fresh.answer({ type: 'session', session: 'cd'.repeat(16), offset: 0, oldest: 1, pending: 0 });
  const { message, answer } = await server.next('start-fetch');
  answer(enqueued(message), result(message, { offset: 1 }));
  assert.equal((await unsent).status, 200);
  assert.equal(client.session.id, 'cd'.repeat(16));
});

test('a server without sessions is an error with a name', async (t) => {
  const server = await scripted(t), client = await open(t, server, { session: true });
  const ready = client.ready().catch((e) => e);
  (await server.next('resume')).answer({ type: 'error', error: 'unknown message type' });
  assert.equal((await ready).code, 'no_session');
  assert.equal(client.state, 'closed');
});

for (const code of ['busy', 'sessions_full']) {
  const refusal = { type: 'error', error: 'not now', code };

  test(`a resume refused with ${code} is asked again on another connection, and nothing is lost`, async (t) => {
    const server = await scripted(t), client = await open(t, server, { session: true });
    const done = client.fetch(URL_A);
    const sockets = new Set();
    for (let i = 0; i < 3; i++) {
      const resume = await server.next('resume');
      assert.deepEqual(resume.message, { type: 'resume' });
      sockets.add(resume.socket);
      resume.answer(refusal);
    }
    await resumed(server, { offset: 0 });
    const { message, answer } = await server.next('start-fetch');
    answer(enqueued(message), result(message, { offset: 1 }));
    assert.equal((await done).status, 200);
    assert.equal(sockets.size, 3);
  });

  test(`a session that is returned to survives ${code}`, async (t) => {
    const server = await scripted(t), { client, socket } = await openSession(t, server);
    const done = client.fetch(URL_A);
    const first = await server.next('start-fetch');
    socket.destroy();
    (await server.next('resume')).answer(refusal);
    assert.equal((await resumed(server, { offset: 0 })).message.session, SESSION);
    const again = await server.next('start-fetch');
    assert.deepEqual(again.message, first.message);
    again.answer(enqueued(again.message), result(again.message, { offset: 1 }));
    assert.equal((await done).status, 200);
  });

  test(`connect waits through ${code}; without reconnect it rejects with it`, async (t) => {
    const server = await scripted(t);
    const opening = connect(server.url, { ...FAST, session: true });
    (await server.next('resume')).answer(refusal);
    await resumed(server, { offset: 0 });
    const client = await opening;
    t.after(() => client.close());
    assert.equal(client.session.id, SESSION);

    const refused = connect(server.url, { ...FAST, session: true, reconnect: false }).catch((e) => e);
    (await server.next('resume')).answer(refusal);
    assert.equal((await refused).code, code);
  });
}

test('pauses grow also between refusals of a resume', async (t) => {
  const server = await scripted(t), pauses = pausesOf(t);
  await open(t, server, { session: true, backoff: { minMs: 10, maxMs: 40 } });
  for (let i = 0; i < 5; i++)
    (await server.next('resume')).answer({ type: 'error', error: 'not now', code: 'busy' });
  assert.deepEqual(pauses.slice(0, 4), [10, 20, 40, 40]);
});

test('taken over: the end, and the job is not lost but elsewhere', async (t) => {
  const server = await scripted(t), { client } = await openSession(t, server);
  const done = client.fetch(URL_A).catch((e) => e);
  (await server.next('start-fetch')).socket.close(4001, 'taken over');
  assert.deepEqual([(await done).code, (await done).certainty], ['taken_over', 'sent_unknown']);
  assert.equal(client.state, 'closed');
});

test('a close that blames our message does not send it again', async (t) => {
  const server = await scripted(t), { client } = await openSession(t, server);
  const done = client.fetch(URL_A).catch((e) => e);
  (await server.next('start-fetch')).socket.close(1009, 'too large');
  assert.deepEqual([(await done).code, (await done).closeCode], ['connection_lost', 1009]);
  await resumed(server, { offset: 0 });
  await client.ready();
  assert.deepEqual(server.untaken, []);
});

test('a session given by the caller is returned to; results of its earlier life are events', async (t) => {
  const server = await scripted(t);
  const client = await open(t, server, { session: { id: SESSION, offset: 4 } });
  const got = event(client, 'result');
  const { message, answer } = await resumed(server, { offset: 5 });
  assert.deepEqual(message, { type: 'resume', session: SESSION, offset: 4 });
  answer(result({ clientId: 'earlier' }, { offset: 5 }));
  assert.equal((await got).clientId, 'earlier');
});

test('one key, one job: the same request joins, another one is refused', async (t) => {
  const server = await scripted(t), { client } = await openSession(t, server);
  const both = [client.fetch(URL_A, { submitKey: 'k' }), client.fetch(URL_A, { submitKey: 'k' })];
  await assert.rejects(client.fetch('http://b.test/', { submitKey: 'k' }), { code: 'submit_key_conflict' });
  const { message, answer } = await server.next('start-fetch');
  answer(enqueued(message), result(message, { offset: 1 }));
  assert.deepEqual((await Promise.all(both)).map((r) => r.reqId), ['r1', 'r1']);
  assert.ok(!server.untaken.includes('start-fetch'));
});

test('a cancel is repeated after a drop', async (t) => {
  const server = await scripted(t), { client } = await openSession(t, server);
  const stop = new AbortController();
  client.fetch(URL_A, { signal: stop.signal }).catch(() => {});
  const { message, answer, socket } = await server.next('start-fetch');
  answer(enqueued(message));
  await event(client, 'enqueued');
  stop.abort();
  await server.next('cancel');
  socket.destroy();
  await resumed(server, { offset: 0, pending: 1 });
  assert.equal((await server.next('cancel')).message.reqId, 'r1');
});

test('a cancel is not lost when what it cancels has to be sent again', async (t) => {
  const server = await scripted(t), { client, socket } = await openSession(t, server);
  const stop = new AbortController();
  socket.send({ type: 'late-result', reqId: 'x', clientId: 'x', success: true, offset: 1 });
  client.fetch(URL_A, { signal: stop.signal }).catch(() => {});
  const { message, answer } = await server.next('start-fetch');
  answer(enqueued(message));
  await event(client, 'enqueued');
  socket.destroy();
  await event(client, 'state');
  stop.abort(); // while nobody can be told
  await resumed(server, { offset: 0 }); // less than was seen: all is asked for again
  (await server.next('start-fetch')).answer(enqueued(message));
  assert.equal((await server.next('cancel')).message.reqId, 'r1');
});

// The origin lost the job itself (a power cut, sync normal): the same key makes another one.
test('a job that was made anew is known by its new reqId', async (t) => {
  const server = await scripted(t), { client, socket } = await openSession(t, server);
  const stop = new AbortController(), told = [], waits = [];
  socket.send({ type: 'late-result', reqId: 'x', clientId: 'x', success: true, offset: 1 });
  client.fetch(URL_A, { signal: stop.signal, onEnqueued: (m) => told.push(m.reqId), onWaiting: () => waits.push(1) }).catch(() => {});
  const { message, answer } = await server.next('start-fetch');
  answer(enqueued(message));
  await event(client, 'enqueued');
  socket.destroy();
  await resumed(server, { offset: 0 });
  const again = await server.next('start-fetch');
  const waiting = event(client, 'waiting');
  again.answer(enqueued(message, 'r2'), { type: 'waiting', reqId: 'r2', reason: 'no-executor' });
  await waiting;
  assert.deepEqual([told, waits], [['r1'], [1]]);
  stop.abort();
  assert.equal((await server.next('cancel')).message.reqId, 'r2');
});

test('a batch survives drops: the same batchId is the same batch', async (t) => {
  const server = await scripted(t), { client } = await openSession(t, server);
  const done = client.batch(URL_A, 3);
  const first = await server.next('start-batch-fetch');
  first.socket.destroy();
  await resumed(server, { offset: 0 });
  const again = await server.next('start-batch-fetch');
  assert.deepEqual(again.message, first.message);
  again.answer({ type: 'batch-started', batchId: first.message.batchId, count: 3 });
  await event(client, 'batch-started');
  again.socket.destroy();
  const { answer } = await resumed(server, { offset: 1 });
  answer({ type: 'batch-complete', batchId: first.message.batchId, count: 3, successCount: 3, offset: 1 });
  assert.equal((await done).successCount, 3);
  await settled(server, client);
  assert.ok(!server.untaken.includes('start-batch-fetch')); // once it was confirmed
});

test('waiting is told to the one who waits', async (t) => {
  const server = await scripted(t), { client } = await openSession(t, server);
  const reasons = [];
  const done = client.fetch(URL_A, { onWaiting: (m) => reasons.push(m.reason) });
  const { message, answer } = await server.next('start-fetch');
  answer(enqueued(message), { type: 'waiting', reqId: 'r1', reason: 'no-executor' }, result(message, { offset: 1 }));
  await done;
  assert.deepEqual(reasons, ['no-executor']);
});

test('a silent connection is pinged, then given up', async (t) => {
  const server = await scripted(t), { client } = await openSession(t, server, { heartbeatMs: 20 });
  const states = [];
  client.on('state', (state) => states.push(state));
  let next = await server.next();
  for (; next.message.type === 'resume'; next = await server.next()) // a machine that stood still: given up unasked
    next.answer({ type: 'session', session: SESSION, offset: 0, oldest: 1, pending: 0 });
  assert.equal(next.message.id, 'heartbeat');
  assert.equal((await server.next('resume')).message.session, SESSION); // nobody has answered
  assert.ok(states.includes('waiting'), states.join());
});

test('pauses between attempts grow, with jitter, up to the cap, until a connection serves', async (t) => {
  const server = await scripted(t), { client, socket } = await openSession(t, server, { backoff: { minMs: 10, maxMs: 40 } });
  const pauses = pausesOf(t);
  socket.destroy();
  for (let i = 0; i < 4; i++) (await server.next('resume')).socket.destroy(); // never greeted: failures
  const served = await resumed(server, { offset: 0 });
  await client.ready();
  served.answer({ type: 'pong', id: 0 });
  const heard = event(client, 'message');
  served.answer({ type: 'pong', id: 1 });
  await heard;
  Math.random = () => 0; // the other end of the jitter
  served.socket.destroy();
  await server.next('resume');
  assert.deepEqual(pauses, [10, 20, 40, 40, 40, 5]);
});
