// The same messages on a Redis-backed job queue: a fetch is a job, a worker of this process runs it.
//
//   node server.mjs REDIS-SOCKET
import { performance } from 'node:perf_hooks';
import { Queue, Worker } from 'bullmq';
import { wsServer } from '../../../tests/process/lib/ws_server.mjs';

const WORKERS = 8; // each fetches its jobs one after the other, so several are faster
const IN_FLIGHT = 1000; // of all workers
const connection = { path: process.argv[2], maxRetriesPerRequest: null, enableAutoPipelining: true };
const queue = new Queue('fetches', { connection });
const sockets = new Map(); // by id: sockets do not fit into a job

const workers = Array.from({ length: WORKERS }, () => new Worker('fetches', async (job) => {
  const response = await fetch(job.data.url);
  return { status: response.status, responseLength: Buffer.byteLength(await response.text()) };
}, { connection, concurrency: IN_FLIGHT / WORKERS, removeOnComplete: { count: 0 }, removeOnFail: { count: 0 } }));

const enqueued = new Map(); // job id → resolves when the client knows
async function finish(job, outcome) {
  await enqueued.get(job.id)?.promise;
  enqueued.delete(job.id);
  sockets.get(job.data.socket)?.send({ type: 'result', reqId: job.id, clientId: job.data.clientId,
    duration: performance.now() - job.data.start, ...outcome });
}
for (const worker of workers) {
  worker.on('completed', (job, value) => finish(job, { success: true, ...value }));
  worker.on('failed', (job, why) => finish(job, { success: false, error: why.message }));
}

let jobs = 0;
const server = await wsServer({ after() {} }, async (socket, m) => {
  if (m.type === 'ping') return socket.send({ type: 'pong', id: m.id });
  socket.id ??= sockets.size + 1;
  sockets.set(socket.id, socket);
  const jobId = `fetch-${++jobs}`, start = performance.now(), known = {};
  known.promise = new Promise((done) => (known.done = done));
  enqueued.set(jobId, known);
  await queue.add('fetch', { url: m.url, clientId: m.clientId, socket: socket.id, start }, { jobId });
  socket.send({ type: 'enqueued', reqId: jobId, clientId: m.clientId, enqueueTime: performance.now() - start });
  known.done();
});
process.on('SIGTERM', () => process.exit(0));
await Promise.all([queue.waitUntilReady(), ...workers.map((w) => w.waitUntilReady())]);
console.log(`bullmq listening on ${server.httpUrl}`);
