// The script against the real processes, and against servers that do it wrong.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { run } from '../../tests/process/lib/process.mjs';
import { startSystem } from '../../tests/process/lib/system.mjs';
import { wsServer } from '../../tests/process/lib/ws_server.mjs';
import { Ledger, options, spread, table } from './measure.mjs';

const script = fileURLToPath(new URL('measure.mjs', import.meta.url));
const measure = (t, ...args) => run(t, process.execPath, [script, ...args]);

test('percentiles by nearest rank', () => {
  assert.equal(spread([]), null);
  assert.deepEqual(spread([7]), { min: 7, p50: 7, p90: 7, p99: 7, max: 7 });
  const hundred = Array.from({ length: 100 }, (_, i) => 100 - i);
  assert.deepEqual(spread(hundred), { min: 1, p50: 50, p90: 90, p99: 99, max: 100 });
});

test('the table is aligned', () => {
  assert.equal(table([['', 'a'], ['long', '12']]), '       a\nlong  12');
});

test('options are checked', () => {
  assert.deepEqual(options(['--concurrency', '1,20']).concurrency, [1, 20]);
  for (const bad of [['--concurrency', '0'], ['--concurrency', '1,x'], ['--concurrency', '100001'], ['--rounds', '1001'], ['--nonsense']])
    assert.throws(() => options(bad), bad.join(' '));
  assert.equal(options(['--concurrency', '100000', '--rounds', '1000']).rounds, 1000);
});

test('the ledger notices what is missing, doubled, early and failed', () => {
  const enqueued = { type: 'enqueued', clientId: 'a' }, result = { type: 'result', clientId: 'a', success: true };
  const errors = (messages, count = 1) => {
    const ledger = new Ledger();
    messages.forEach((m) => ledger.message(m));
    ledger.close(count);
    return ledger.errors;
  };
  assert.deepEqual(errors([enqueued, result]), []);
  assert.match(errors([enqueued])[0], /no result/);
  assert.match(errors([result, enqueued])[0], /before enqueued/);
  assert.match(errors([enqueued, enqueued, result])[0], /enqueued 2 times/);
  assert.match(errors([enqueued, result, result])[0], /2 results/);
  assert.match(errors([enqueued, { ...result, success: false, error: 'no' }])[0], /a: no/);
  assert.match(errors([])[0], /no answer at all/);
  assert.match(errors([enqueued, result], 0)[0], /for nothing/);
  assert.match(errors([{ type: 'error', error: 'bad' }, enqueued, result])[0], /bad/);
});

test('with the real processes', async (t) => {
  const system = await startSystem(t);
  const common = ['--url', system.wsUrl, '--target', `${system.target}/latency-test/uuid?token=x`];
  await t.test('a table, and exit code 0', async (t) => {
    const { code, stdout, stderr } = await measure(t, ...common, '--concurrency', '1,10', '--rounds', '3');
    assert.equal(code, 0, stderr);
    for (const text of ['first fetch (cold)', '1 at once, 3 times', '10 at once', 'enqueueTime of the origin', '45 fetches, each'])
      assert.ok(stdout.includes(text), `${text} in\n${stdout}`);
  });
  await t.test('JSON whose parts agree', async (t) => {
    const { code, stdout, stderr } = await measure(t, ...common, '--concurrency', '100', '--rounds', '2', '--json');
    assert.equal(code, 0, stderr);
    const found = JSON.parse(stdout), [level] = found.levels;
    assert.deepEqual([found.ok, found.fetches, level.concurrency], [true, 301, 100]);
    assert.ok(level.enqueue.min > 0 && level.enqueue.p50 <= level.enqueue.p99 && level.originEnqueue.p50 > 0);
    assert.ok(level.total.max <= level.roundMs * 3 + 1000);
  });
  await t.test('a target that fails is an error exit', async (t) => {
    const { code, stderr } = await measure(t, '--url', system.wsUrl, '--target', 'http://127.0.0.1:1/', '--concurrency', '1', '--rounds', '1');
    assert.equal(code, 1);
    assert.match(stderr, /FAILED: 3 errors in 3 fetches/);
  });
});

test('a plain server is sent nothing but rows 1-7', async (t) => {
  const seen = new Set();
  const server = await wsServer(t, (socket, { type, url, clientId, ...rest }) => {
    seen.add([type, ...Object.keys(rest)].join());
    socket.send({ type: 'enqueued', reqId: clientId, clientId, enqueueTime: 1 });
    socket.send({ type: 'result', reqId: clientId, clientId, success: true, status: 200, responseLength: 1, duration: 1 });
  });
  const { code, stderr } = await measure(t, '--url', server.url, '--concurrency', '5', '--rounds', '1');
  assert.equal(code, 0, stderr);
  assert.deepEqual([...seen], ['start-fetch']);
});

for (const [what, answer, complaint] of [
  ['forgets results', () => {}, /no result/],
  ['sends results twice', (socket, result) => (socket.send(result), socket.send(result)), /2 results/],
  ['hangs up', (socket) => socket.destroy(), /connection was lost/],
])
  test(`a server that ${what} is an error exit`, async (t) => {
    const server = await wsServer(t, (socket, { clientId }) => {
      socket.send({ type: 'enqueued', reqId: clientId, clientId, enqueueTime: 1 });
      answer(socket, { type: 'result', reqId: clientId, clientId, success: true, status: 200, responseLength: 1, duration: 1 });
    });
    const { code, stderr } = await measure(t, '--url', server.url, '--concurrency', '2', '--rounds', '1', '--timeout', '1');
    assert.equal(code, 1);
    assert.match(stderr, complaint);
  });

test('nobody there, and nonsense on the command line', async (t) => {
  const none = await measure(t, '--url', 'ws://127.0.0.1:1/');
  assert.equal(none.code, 1);
  assert.match(none.stderr, /^measure: cannot connect to ws:\/\/127\.0\.0\.1:1\/? \(1006\)$/m);
  assert.equal((await measure(t, '--rounds', 'x')).code, 2);
});
