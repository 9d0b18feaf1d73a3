// The plainest way: a Node server that awaits the fetch. Same messages, nothing durable.
import { randomUUID } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import { wsServer } from '../../tests/process/lib/ws_server.mjs';

const server = await wsServer({ after() {} }, async (socket, m) => {
  if (m.type === 'ping') return socket.send({ type: 'pong', id: m.id });
  const { clientId, url } = m, reqId = randomUUID(), start = performance.now();
  socket.send({ type: 'enqueued', reqId, clientId, enqueueTime: 0 });
  try {
    const response = await fetch(url), text = await response.text();
    socket.send({ type: 'result', reqId, clientId, success: true, status: response.status,
      responseLength: Buffer.byteLength(text), duration: performance.now() - start });
  } catch (why) {
    socket.send({ type: 'result', reqId, clientId, success: false, error: why.message, duration: performance.now() - start });
  }
});
process.on('SIGTERM', () => process.exit(0));
console.log(`node-await listening on ${server.httpUrl}`);
