// message_bench against a server whose every answer is scripted: nothing is counted that did not happen.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { run, start } from '../tests/process/lib/process.mjs';
import { wsServer } from '../tests/process/lib/ws_server.mjs';

const pong = (socket, m) => socket.send({ type: 'pong', id: m.id });

async function bench(t, server, ...args) {
  const { code, stdout, stderr } = await run(t, 'message_bench', ['--server', server.url, ...args.map(String)]);
  return { code, stderr, result: stdout ? JSON.parse(stdout) : null };
}

test('a count of messages: each client greets, then all are answered', async (t) => {
  const paths = new Set(), sizes = new Set();
  let seen = 0;
  const server = await wsServer(t, (socket, m) => (seen++, paths.add(socket.path), sizes.add(JSON.stringify(m).length > 900), pong(socket, m)));
  const { code, result } = await bench(t, server, '--clients', 3, '--in-flight', 2, '--count', 50, '--bytes', 1000);
  assert.equal(code, 0);
  assert.deepEqual([result.sent, result.answered, result.refused, result.lost, seen], [50, 50, 0, 0, 53]);
  assert.deepEqual([result.firstMs.samples, result.ms.samples, [...sizes]], [3, 50, [true]]);
  assert.deepEqual([...paths].sort(), [0, 1, 2].map((i) => `/actors/proxy/bench-${i}`));
});

test('what is not answered is lost, what is refused is refused', async (t) => {
  const server = await wsServer(t, (socket, m) => {
    if (m.id === 7) return;
    if (m.id === 9) return socket.send({ type: 'error', code: 'busy', id: m.id });
    pong(socket, m);
  });
  const { code, result } = await bench(t, server, '--count', 20, '--in-flight', 4, '--timeout-ms', 300);
  assert.equal(code, 0);
  assert.deepEqual([result.sent, result.answered, result.refused, result.lost], [20, 18, 1, 1]);
  assert.match(result.problem, /busy/);
});

test('an answer counts once, and only for what was sent', async (t) => {
  const server = await wsServer(t, (socket, m) => (pong(socket, m), pong(socket, m), pong(socket, { id: m.id + 500 })));
  const { result } = await bench(t, server, '--count', 20);
  assert.deepEqual([result.answered, result.lost], [20, 0]);
});

test('fetches end with their result, which must be good', async (t) => {
  const server = await wsServer(t, (socket, m) => {
    socket.send({ type: 'enqueued', reqId: 'x', clientId: m.clientId });
    socket.send({ type: 'result', reqId: 'x', clientId: m.clientId, success: m.clientId !== '3', status: 200 });
  });
  const { result } = await bench(t, server, '--kind', 'fetch', '--count', 10);
  assert.deepEqual([result.answered, result.refused, result.lost], [9, 1, 0]);
});

test('--rate: so many are offered, step by step, and a stall is charged to what was due', async (t) => {
  let stalled = false;
  const server = await wsServer(t, (socket, m) => {
    if (m.id > 20 && !stalled) {
      stalled = true;
      const end = Date.now() + 300;
      while (Date.now() < end); // the process itself stands still
    }
    pong(socket, m);
  });
  const { result } = await bench(t, server, '--rate', '200:0.5,400:0.5', '--clients', 2);
  assert.ok(Math.abs(result.sent - 300) <= 2, `${result.sent}`);
  assert.deepEqual([result.lost, result.timeline.reduce((sum, s) => sum + s[0], 0)], [0, result.sent]);
  assert.equal(result.timeline.reduce((sum, s) => sum + s[1], 0), result.sent);
  assert.ok(result.ms.p90 > 100, `${result.ms.p90}`);
});

test('--hold stays until it is told to go; --leave goes by itself', async (t) => {
  let seen = 0;
  const server = await wsServer(t, (socket, m) => (seen++, pong(socket, m)));
  const held = await start(t, 'message_bench', ['--server', server.url, '--clients', '5', '--hold', '--shared'], { ready: /holds 5 connections/ });
  assert.equal(seen, 5);
  await held.stop();
  const { code, result } = await bench(t, server, '--clients', 7, '--opening', 2, '--leave');
  assert.deepEqual([code, result.firstMs.samples, seen], [0, 7, 12]);
});

test('a server that refuses, closes or is not there is no measurement', async (t) => {
  const refuses = await wsServer(t, (socket) => socket.send({ type: 'error', code: 'no' }));
  assert.deepEqual((await bench(t, refuses, '--count', 1)).code, 1);
  const closes = await wsServer(t, (socket, m) => (m.id > 3 ? socket.close(1011) : pong(socket, m)));
  assert.deepEqual((await bench(t, closes, '--count', 10)).code, 1);
  assert.equal((await bench(t, { url: 'ws://127.0.0.1:9/' }, '--count', 1)).code, 1);
  const silent = await wsServer(t, () => {});
  assert.match((await bench(t, silent, '--count', 1, '--timeout-ms', 200)).stderr, /nothing comes back/);
});

test('wrong options', async (t) => {
  for (const args of [['--clients', '0'], ['--clients', '100001'], ['--rate', 'x'], ['--rate', '5:0'], ['--rate', '1:1;'], ['--server', 'ftp://x'],
    ['--rate', Array(17).fill('1:1').join(',')], ['--pids', 'x=1,'.repeat(2) + '!']])
    assert.equal((await run(t, 'message_bench', args)).code, 2, args.join(' '));
});
