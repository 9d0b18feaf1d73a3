// The executor's neighbours, scripted: a queue (the orchestrator's side of its calls) and origins, so that a
// test decides what is answered, when, and sees every call. The real ones are in the tests of the whole path.
//
//   const queue = await startQueue(t), origin = await startOrigin(t, queue);
//   const executor = await start(t, 'proxyfetch-executor', ['--orchestrator', queue.url, …]);
//   await queue.joined();
//   const job = await queue.fetch(origin, { url, include: ['body'] });   // taken
//   const { result, body } = await origin.result(job);                   // {code, status, …}
//   const complete = await queue.completed(job);

import http from 'node:http';
import { randomBytes } from 'node:crypto';
import { WAIT_MS, within } from './process.mjs';

export const BATCH = 'application/x-proxyfetch-batch';
export const hex = (bytes) => randomBytes(bytes).toString('hex');

/** One record of a batch. */
export function record(head, body = Buffer.alloc(0)) {
  const text = Buffer.from(JSON.stringify(head));
  const lengths = Buffer.alloc(8);
  lengths.writeUInt32BE(text.length, 0);
  lengths.writeUInt32BE(body.length, 4);
  return Buffer.concat([lengths, text, Buffer.from(body)]);
}

/** The records of a batch: [{head, body}]. Throws on a torn one. */
export function records(bytes) {
  const all = [];
  for (let at = 0; at < bytes.length;) {
    const headEnd = at + 8 + bytes.readUInt32BE(at), end = headEnd + bytes.readUInt32BE(at + 4);
    if (end > bytes.length) throw new Error('torn record');
    all.push({ head: JSON.parse(bytes.subarray(at + 8, headEnd)), body: bytes.subarray(headEnd, end) });
    at = end;
  }
  return all;
}

/** Values by key that come before or after somebody waits for them. */
class Mailbox {
  constructor(what) {
    this.what = what;
    this.values = new Map();
    this.waiting = new Map();
  }
  put(key, value) {
    const list = this.values.get(key) ?? [];
    list.push(value);
    this.values.set(key, list);
    (this.waiting.get(key) ?? []).splice(0).forEach((look) => look());
  }
  all(key) {
    return this.values.get(key) ?? [];
  }
  /** The n-th value of key, counted from 1. */
  get(key, n = 1, ms = WAIT_MS) {
    const found = new Promise((done) => {
      const look = () => {
        if (this.all(key).length >= n) return done(this.all(key)[n - 1]);
        const list = this.waiting.get(key) ?? [];
        list.push(look);
        this.waiting.set(key, list);
      };
      look();
    });
    return within(found, ms, `${this.what} ${key} #${n}`);
  }
}

async function serve(t, handle) {
  const server = http.createServer((req, res) => {
    const parts = [];
    req.on('data', (part) => parts.push(part));
    req.on('end', () => handle(req, Buffer.concat(parts), res));
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  const stop = () => new Promise((done) => {
    server.close(done);
    server.closeAllConnections();
  });
  t.after(stop);
  return { server, stop, url: `http://127.0.0.1:${server.address().port}` };
}

const answerBatch = (res, head, items) => {
  res.writeHead(200, { 'Content-Type': BATCH });
  res.end(Buffer.concat([record(head), ...items]));
};

/** A body of null announces one without sending it. */
const post = (url, body, headers = {}) => new Promise((done, failed) => {
  const req = http.request(url, { method: 'POST', headers: { 'Content-Type': BATCH, ...headers } }, (res) => {
    const parts = [];
    res.on('data', (part) => parts.push(part));
    res.on('end', () => done({ status: res.statusCode, body: Buffer.concat(parts) }));
  });
  req.on('error', failed);
  if (body === null) req.flushHeaders();
  else req.end(body);
});

export async function startQueue(t) {
  const queue = {
    epoch: hex(8),
    counter: 0,
    beats: new Mailbox('heartbeat'),
    starts: new Mailbox('start of'),
    completes: new Mailbox('complete of'),
    origins: new Map(), // id -> head of GET /v1/origins/{id}
    aborts: [], // {job, fence}, for the next heartbeat
    lookups: 0,
    /** Overridden by tests: */
    onStart: () => 'go', // or a promise of it; a number is the HTTP status of the batch
    onComplete: () => 'ok', // or 'refused'; a number is the HTTP status of the batch
    onBeat: () => 200, // or a promise of it
  };
  const routes = {
    '/v1/start': async (items, res) => {
      for (const { head } of items) queue.starts.put(head.job, head);
      const answers = await Promise.all(items.map(({ head }) => queue.onStart(head)));
      const bad = answers.find((answer) => typeof answer === 'number');
      if (bad) return res.writeHead(bad).end();
      answerBatch(res, { epoch: queue.epoch }, answers.map((answer) => record({ answer })));
    },
    '/v1/complete': (items, res) => {
      const answers = items.map(({ head }) => [head, queue.onComplete(head)]);
      const bad = answers.find(([, answer]) => typeof answer === 'number');
      if (bad) return res.writeHead(bad[1]).end();
      for (const [head] of answers) queue.completes.put(head.job, head);
      answerBatch(res, { epoch: queue.epoch }, answers.map(([, answer]) => record({ answer })));
    },
  };
  const { url, stop } = await serve(t, async (req, bytes, res) => {
    if (req.method === 'PUT' && req.url.startsWith('/v1/executors/')) {
      const status = await queue.onBeat();
      if (status !== 200) return res.writeHead(status).end();
      const [{ head, body }] = records(bytes);
      const held = [];
      for (let at = 0; at < body.length; at += 32)
        held.push({ job: body.toString('hex', at, at + 16), fence: body.toString('hex', at + 16, at + 32) });
      const aborts = Buffer.from(queue.aborts.splice(0).map((a) => a.job + a.fence).join(''), 'hex');
      res.writeHead(200, { 'Content-Type': BATCH }).end(record({ epoch: queue.epoch }, aborts));
      queue.executor = head;
      queue.beats.put('any', { ...head, held });
    } else if (req.method === 'GET' && req.url.startsWith('/v1/origins/')) {
      queue.lookups++;
      const head = queue.origins.get(req.url.slice('/v1/origins/'.length));
      if (!head) return res.writeHead(404).end();
      res.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(head));
    } else {
      routes[req.url](records(bytes).slice(1), res);
    }
  });
  return Object.assign(queue, {
    url,
    stop,
    /** The first heartbeat, or the next one. */
    joined: () => queue.beats.get('any'),
    nextBeat: () => queue.beats.get('any', queue.beats.all('any').length + 1),
    completed: (job, n) => queue.completes.get(job.job, n),
    /** A job for origin; request as for a client, with more for the item. */
    job(origin, { url: target, method = 'GET', headers, body = '', include, redirect, idempotencyKey, ...item }) {
      const fence = queue.epoch + (++queue.counter).toString(16).padStart(16, '0');
      return {
        job: origin.id + hex(8), fence, attempt: 1, last: true, capability: hex(32), repeatable: method !== 'POST', ...item,
        timers: { attemptMs: 30000, deadlineMs: 300000, queueMs: 0, ...item.timers },
        origin,
        request: record({ url: target, method, headers, include, redirect, idempotencyKey }, Buffer.from(body)),
      };
    },
    /** Sends jobs in one batch; resolves to the answers. */
    async execute(jobs, { incarnation = queue.executor.incarnation } = {}) {
      const origins = {};
      for (const { origin } of jobs)
        if (origin.url) origins[origin.id] = { epoch: origin.epoch, url: origin.url }; // else nobody knows it
      const items = jobs.map(({ origin, request, ...head }) => record(head, request));
      const { status, body } = await post(`${queue.executor.url}/v1/execute`,
        Buffer.concat([record({ queueEpoch: queue.epoch, incarnation, origins }), ...items]));
      if (status !== 200) throw new Error(`execute: ${status} ${body}`);
      return records(body).slice(1).map(({ head }) => head.answer);
    },
    /** One job, taken. */
    async fetch(origin, request) {
      const job = queue.job(origin, request);
      const [answer] = await queue.execute([job]);
      if (answer !== 'taken') throw new Error(`execute: ${answer}`);
      return job;
    },
  });
}

export async function startOrigin(t, queue) {
  const origin = {
    id: hex(8),
    epoch: hex(8),
    results: new Mailbox('result of'),
    batches: 0,
    /** Overridden by tests: an answer, or the HTTP status of the batch. */
    onResult: () => 'accepted',
    answersAs: null,
  };
  const { url, stop, server } = await serve(t, (req, bytes, res) => {
    const [head, ...items] = records(bytes);
    origin.batches++;
    const answers = items.map((item) => origin.onResult(item.head));
    const bad = answers.find((answer) => typeof answer === 'number');
    if (bad) return res.writeHead(bad).end();
    const self = origin.answersAs ?? origin.id;
    answerBatch(res, { origin: self, originEpoch: origin.epoch }, answers.map((answer) => record({ answer })));
    if (self !== head.head.to) return;
    items.forEach(({ head: result, body }, i) => {
      if (answers[i] !== 'retry') origin.results.put(result.job, { result, body });
    });
  });
  origin.result = (job, n) => origin.results.get(job.job, n);
  origin.announce = (at = url) =>
    queue.origins.set(origin.id, { origin: origin.id, originEpoch: origin.epoch, url: at, low: '0'.repeat(16) });
  origin.announce();
  return Object.assign(origin, { url, stop, server });
}

export { post };
