// The calls between processes, for tests that play one of the sides: batches, and an origin and an
// executor whose every answer the test decides.
//
//   const origin = await FakeOrigin.start(t, orchestrator.url);
//   const executor = await FakeExecutor.start(t, orchestrator.url, { slots: 4 });
//   const [answer] = await origin.announce([origin.job(1)]);
//   const item = await executor.next();              // the next dispatch
//   await executor.complete(item);
//
// Node 18 or later, built-in modules only.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import http from 'node:http';

import { within, WAIT_MS } from './process.mjs';

export const BATCH = 'application/x-proxyfetch-batch';

/** [[head, body], …] -> bytes; head is an object, body a Buffer, a string or nothing. */
export function encodeBatch(records) {
  const parts = [];
  for (const [head, body = ''] of records) {
    const json = Buffer.from(JSON.stringify(head));
    const raw = Buffer.from(body);
    const lengths = Buffer.alloc(8);
    lengths.writeUInt32BE(json.length, 0);
    lengths.writeUInt32BE(raw.length, 4);
    parts.push(lengths, json, raw);
  }
  return Buffer.concat(parts);
}

/** bytes -> [{head, body}, …] */
export function decodeBatch(bytes) {
  const records = [];
  for (let at = 0; at < bytes.length;) {
    const headEnd = at + 8 + bytes.readUInt32BE(at);
    const bodyEnd = headEnd + bytes.readUInt32BE(at + 4);
    assert.ok(bodyEnd <= bytes.length, 'torn record');
    records.push({
      head: JSON.parse(bytes.subarray(at + 8, headEnd).toString()),
      body: bytes.subarray(headEnd, bodyEnd),
    });
    at = bodyEnd;
  }
  return records;
}

export const hex = (value) => BigInt(value).toString(16).padStart(16, '0');
export const randomId = () => randomBytes(8).toString('hex');

/** Sends a batch and returns the records of its answer. Throws unless the status is 200. */
export async function call(method, url, records) {
  const answer = await fetch(url, {
    method,
    headers: { 'content-type': BATCH, 'x-pf-version': '1' },
    body: encodeBatch(records),
  });
  const bytes = Buffer.from(await answer.arrayBuffer());
  if (answer.status !== 200) throw new Error(`${url}: ${answer.status} ${bytes}`);
  return decodeBatch(bytes);
}

/** A server on a free port; handler(path, records) returns the records of the answer, or a status. */
async function serve(t, handler) {
  const server = http.createServer((req, res) => {
    const parts = [];
    req.on('data', (part) => parts.push(part));
    req.on('end', async () => {
      const reply = await handler(req.url, decodeBatch(Buffer.concat(parts)));
      if (typeof reply === 'number') return res.writeHead(reply).end();
      const body = encodeBatch(reply);
      res.writeHead(200, { 'content-type': BATCH, 'content-length': body.length }).end(body);
    });
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  const close = () => new Promise((done) => {
    server.close(done);
    server.closeAllConnections();
  });
  t.after(close);
  return { url: `http://127.0.0.1:${server.address().port}`, close };
}

/** Values that come now or later, in order. */
class Channel {
  #values = [];
  #waiting = [];
  put(value) {
    const taker = this.#waiting.shift();
    if (taker) taker(value);
    else this.#values.push(value);
  }
  take(what, ms = WAIT_MS) {
    if (this.#values.length) return Promise.resolve(this.#values.shift());
    return within(new Promise((done) => this.#waiting.push(done)), ms, what);
  }
  get size() {
    return this.#values.length;
  }
}

export class FakeOrigin {
  id = randomId();
  epoch = hex(1);
  low = 1n;
  /** What /__status says; a function of the job id. 'silent' answers 503. */
  status = () => 'pending';
  /** What /__receiveResult says; a function of the item's head. */
  receive = () => 'accepted';
  results = new Channel();
  asked = new Channel();
  /** Further members of each answer. */
  more = {};
  /** Who the answers claim to be from. */
  get name() {
    return this.pretend ?? this.id;
  }

  static async start(t, orchestrator) {
    const origin = new FakeOrigin();
    origin.orchestrator = orchestrator;
    await origin.listen(t);
    return origin;
  }

  async listen(t) {
    this.server = await serve(t, (path, [, ...items]) => this.#answer(path, items));
    this.url = this.server.url;
  }

  #answer(path, items) {
    const answers = items.map(({ head, body }) => {
      if (path === '/__status') {
        const answer = this.status(head.job);
        this.asked.put(head.job);
        return answer;
      }
      assert.equal(path, '/__receiveResult');
      const answer = this.receive(head);
      this.results.put({ ...head, body });
      return answer;
    });
    if (answers.includes('silent')) return 503;
    return [
      [{ ...this.more, origin: this.name, originEpoch: this.epoch }],
      ...answers.map((answer) => [{ ...this.more, answer }]),
    ];
  }

  head() {
    return { origin: this.id, originEpoch: this.epoch, url: this.url, low: hex(this.low) };
  }

  /** The head of a job; local is its number. */
  job(local, more = {}) {
    return {
      job: this.id + hex(local),
      capability: 'ab'.repeat(32),
      host: 'target:80',
      repeatable: true,
      attempts: 4,
      deadlineMs: 300000,
      queueMs: 60000,
      attemptMs: 30000,
      ...more,
    };
  }

  /** Announces jobs; their requests are `request ID`. Returns the answers. */
  async announce(jobs) {
    const [head, ...answers] = await call('POST', `${this.orchestrator}/v1/jobs`, [
      [this.head()],
      ...jobs.map((job) => [job, job.end ? '' : `request ${job.job}`]),
    ]);
    this.queueEpoch = head.head.epoch;
    return answers.map((answer) => answer.head);
  }

  async register() {
    const answer = await fetch(`${this.orchestrator}/v1/origins/${this.id}`, {
      method: 'PUT',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(this.head()),
    });
    assert.equal(answer.status, 200);
    return answer.json();
  }
}

export class FakeExecutor {
  id = randomId();
  incarnation = randomId();
  held = new Map(); // fence -> item
  dispatches = new Channel();
  aborted = new Channel();
  /** Further members of each answer. */
  more = {};
  /** What /v1/execute says about an item, now or later. */
  answer = () => 'taken';

  static async start(t, orchestrator, { slots = 10, beatMs = 100 } = {}) {
    const executor = new FakeExecutor();
    executor.orchestrator = orchestrator;
    executor.slots = slots;
    executor.server = await serve(t, (path, records) => executor.#execute(path, records));
    await executor.beat();
    executor.timer = setInterval(() => executor.beat().catch(() => {}), beatMs);
    t.after(() => executor.silence());
    return executor;
  }

  /** No more heartbeats, as if it had died. */
  silence() {
    clearInterval(this.timer);
  }

  async #execute(path, [batch, ...items]) {
    assert.equal(path, '/v1/execute');
    if (batch.head.incarnation !== this.incarnation)
      return [[{}], ...items.map(() => [{ answer: 'wrong_incarnation' }])];
    return [[this.more], ...await Promise.all(items.map(async ({ head, body }) => {
      if (this.held.has(head.fence)) return [{ ...this.more, answer: 'seen' }];
      const answer = await this.answer(head);
      if (answer === 'taken') {
        const item = { ...head, body: body.toString(), batch: batch.head };
        this.held.set(head.fence, item);
        this.dispatches.put(item);
      }
      return [{ ...this.more, answer }];
    }))];
  }

  async beat() {
    const packed = Buffer.concat(
      [...this.held.values()].map((item) => Buffer.from(item.job + item.fence, 'hex')));
    const [answer] = await call('PUT', `${this.orchestrator}/v1/executors/${this.id}`, [[{
      executor: this.id,
      incarnation: this.incarnation,
      url: this.server.url,
      slots: this.slots,
      free: Math.max(0, this.slots - this.held.size),
    }, packed]]);
    for (let at = 0; at < answer.body.length; at += 32) {
      const fence = answer.body.subarray(at + 16, at + 32).toString('hex');
      this.held.delete(fence);
      this.aborted.put(answer.body.subarray(at, at + 16).toString('hex'));
    }
    return answer.head;
  }

  next(ms) {
    return this.dispatches.take('dispatch', ms);
  }

  async start(item) {
    const [, answer] = await call('POST', `${this.orchestrator}/v1/start`, [
      [{}], [{ job: item.job, fence: item.fence }]]);
    return answer.head.answer;
  }

  async complete(item, more = { outcome: 'delivered' }) {
    const [, answer] = await call('POST', `${this.orchestrator}/v1/complete`, [
      [{}], [{ job: item.job, fence: item.fence, ...more }]]);
    this.held.delete(item.fence);
    return answer.head.answer;
  }

  retry(item, more = {}) {
    return this.complete(item,
      { outcome: 'retry', code: 'connect_failed', certainty: 'not_sent', ...more });
  }
}
