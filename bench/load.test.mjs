// `proxyfetch bench` against servers that end their answers in every way HTTP/1.1 has.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { run } from '../tests/process/lib/process.mjs';

async function serve(t, answer) {
  const seen = { connections: 0, requests: 0, bodies: new Set() };
  const server = createServer((req, res) => {
    let body = '';
    seen.requests++;
    req.on('data', (chunk) => (body += chunk)).on('end', () => (seen.bodies.add(`${req.method} ${body}`), answer(req, res)));
  }).on('connection', () => seen.connections++);
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  t.after(() => (server.closeAllConnections(), server.close()));
  return { url: `http://127.0.0.1:${server.address().port}/`, seen };
}

async function bench(t, url, ...args) {
  const { code, stdout, stderr } = await run(t, 'proxyfetch', ['bench', '--json', '-u', url, '-d', '1', '-w', '0', '-c', '4', ...args]);
  return { code, stderr, result: stdout ? JSON.parse(stdout) : null };
}

const answers = {
  'a length': (req, res) => res.writeHead(200, { 'Content-Length': 5 }).end('12345'),
  chunks: (req, res) => (res.write('one'), res.write('two'.repeat(9000)), res.end('three')),
  'no body': (req, res) => res.writeHead(204).end(),
  'an empty body': (req, res) => res.writeHead(200, { 'Content-Length': 0 }).end(),
  'the end of the connection': (req, res) => (res.useChunkedEncodingByDefault = false, res.writeHead(200, { Connection: 'close' }), res.end('x'.repeat(70000))),
};
for (const [how, answer] of Object.entries(answers))
  test(`an answer that ends with ${how}`, async (t) => {
    const { url, seen } = await serve(t, answer);
    const { code, result } = await bench(t, url);
    assert.equal(code, 0);
    assert.equal(result.failed, 0, result.problem);
    assert.ok(result.fetches > 0 && seen.requests >= result.fetches && seen.requests <= result.fetches + 4);
    if (how !== 'the end of the connection') assert.equal(seen.connections, 4);
    assert.equal(result.histogram.reduce((sum, [, n]) => sum + n, 0), result.fetches);
  });

test('--no-keepalive: a connection for each request', async (t) => {
  const { url, seen } = await serve(t, answers['a length']);
  const { code } = await bench(t, url, '--no-keepalive');
  assert.equal(code, 0);
  assert.ok(Math.abs(seen.connections - seen.requests) <= 4);
});

test('method and body are sent', async (t) => {
  const { url, seen } = await serve(t, answers['a length']);
  assert.equal((await bench(t, url, '-m', 'POST', '-b', '{"a":1}')).code, 0);
  assert.deepEqual([...seen.bodies], ['POST {"a":1}']);
});

test('--rate is kept, and a stall is charged to what was due', async (t) => {
  let stalled = false;
  const { url } = await serve(t, (req, res) => {
    if (stalled) return answers['a length'](req, res);
    stalled = true; // the process itself stands still, so that nobody is answered
    setTimeout(() => {
      const end = Date.now() + 300;
      while (Date.now() < end);
      answers['a length'](req, res);
    }, 100);
  });
  const { result } = await bench(t, url, '--rate', '200');
  assert.ok(result.fetches + result.late >= 199 && result.fetches + result.late <= 201, JSON.stringify(result.figures));
  assert.ok(result.figures.p90_ms > 100, JSON.stringify(result.figures));
});

test('errors are counted, and the exit code says so', async (t) => {
  const bad = await serve(t, (req, res) => res.writeHead(500).end());
  const { code, result } = await bench(t, bad.url);
  assert.deepEqual([code, result.fetches, result.problem], [1, 0, 'status 500']);
  const gone = await serve(t, (req) => req.socket.destroy());
  assert.match((await bench(t, gone.url)).result.problem, /closed|reset/);
});

test('assertions decide the exit code', async (t) => {
  const { url } = await serve(t, answers['a length']);
  assert.equal((await bench(t, url, '--assert', 'fetches_per_s>1,error_percent=0')).code, 0);
  const failed = await bench(t, url, '--assert', 'fetches_per_s>1e9');
  assert.equal(failed.code, 1);
  assert.match(failed.stderr, /fetches_per_s>1e9 does not hold/);
  assert.equal((await bench(t, url, '--assert', 'nonsense<1')).code, 2);
});
