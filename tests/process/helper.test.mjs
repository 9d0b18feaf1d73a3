// The helper itself: a test suite whose helper misses a leftover process proves nothing.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { Process, defer, run, start, tempDir, until } from './lib/process.mjs';

const script = (text) => ['-c', text];
/** A program that prints text and lives until SIGTERM, at which it exits with code. */
const node = process.execPath;
const lasting = (text, code) => ['-e',
  `process.on('SIGTERM', () => process.exit(${code})); setInterval(() => {}, 1e6); console.log(${JSON.stringify(text)})`];
const alive = (pid) => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

test('start waits for the line and reads its addresses', async (t) => {
  const p = await start(t, node, lasting('noise\nnode listening on http://127.0.0.1:41 http://[::1]:41', 0));
  assert.deepEqual(p.urls, ['http://127.0.0.1:41', 'http://[::1]:41']);
  assert.equal(p.port, 41);
  assert.ok(p.running && p.openFiles() > 0 && p.residentKiB() > 0 && p.cpuMs() >= 0);
  await p.stop();
  assert.equal(alive(p.pid), false);
});

test('start rejects with the output of a program that ends at once', async (t) => {
  await assert.rejects(
    start(t, '/bin/sh', script('echo "port taken" >&2; exit 3')), /ended[\s\S]*port taken/);
});

test('start rejects when there is no such program', async (t) => {
  await assert.rejects(start(t, '/nonexistent/program'), /ENOENT/);
});

test('a wrong exit code fails the test', async () => {
  const p = new Process(node, lasting('up', 7));
  await p.waitFor(/^up$/);
  await assert.rejects(p.cleanUp(), /ended unexpectedly/);
  assert.equal(alive(p.pid), false);
});

test('a child left behind fails the test and is killed', async () => {
  const p = new Process('/bin/sh', script('sleep 600 >/dev/null 2>&1 & echo "child $!"'));
  const child = Number((await p.waitFor(/^child (\d+)$/))[1]);
  await p.exited;
  await assert.rejects(p.cleanUp(), /left child processes behind/);
  await until(() => !alive(child), 'end of the child');
});

test('waitFor rejects when the process ends without the line', async () => {
  const p = new Process('/bin/sh', script('echo one; echo two >&2'));
  await assert.rejects(p.waitFor(/three/), /ended[\s\S]*one\ntwo/);
  await p.cleanUp();
});

test('kill is not a failure, and the status shows it', async (t) => {
  const p = await start(t, '/bin/sh', script('echo up; exec sleep 600'), { ready: /^up$/ });
  assert.deepEqual(await p.kill(), { code: null, signal: 'SIGKILL' });
});

test('run gives input and returns the output', async (t) => {
  assert.deepEqual(await run(t, '/bin/sh', script('cat; echo err >&2; exit 5'), { input: 'text' }),
    { code: 5, signal: null, stdout: 'text\n', stderr: 'err\n' });
});

test('a temporary directory lives as long as its test', async (t) => {
  let dir;
  await t.test('inner', (inner) => {
    dir = tempDir(inner);
    assert.ok(existsSync(dir));
  });
  assert.equal(existsSync(dir), false);
});

test('the last clean-up comes first, and all of them come', async () => {
  const order = [];
  let end;
  const t = { after: (fn) => (end = fn) };
  defer(t, () => order.push('first'));
  defer(t, async () => {
    order.push('second');
    throw new Error('of the second');
  });
  defer(t, () => order.push('third'));
  await assert.rejects(end(), /of the second/);
  assert.deepEqual(order, ['third', 'second', 'first']);
});
