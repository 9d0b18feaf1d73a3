// The supervisor: `proxyfetch up` beside scripted roles that listen, die and linger on demand.
import assert from 'node:assert/strict';
import { chmodSync, copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { program, run, start, tempDir, until } from './lib/process.mjs';

// Speaks only enough of a role to be supervised: listens where --listen says, logs its arguments.
const role = `#!${process.execPath}
const net = require('net'), path = require('path');
const name = path.basename(process.argv[1]), args = process.argv.slice(2);
const addr = args[args.indexOf('--listen') + 1];
if (process.env.ROLE_FAILS === name) { console.error('cannot listen on ' + addr); process.exit(3); }
const server = net.createServer((s) => s.on('data', (d) => {
  if (String(d).startsWith('long')) process.stderr.write('x'.repeat(10000) + '\\nafter\\n');
  else process.exit(7);
}));
server.listen(Number(addr.split(':').pop()), '127.0.0.1', () => {
  console.error('args ' + JSON.stringify(args));
  console.log(name + ' listening on http://127.0.0.1:' + server.address().port);
});
process.on('SIGTERM', () => {
  console.error('drained');
  if (process.env.ROLE_LINGERS !== name) process.exit(0);
});
`;
const roles = ['test-endpoints', 'orchestrator', 'executor', 'origin'];
const zeroPorts = ['--origin', 'localhost:0', '--origin-internal', 'localhost:0', '--orchestrator',
  '127.0.0.1:0', '--executor', 'localhost:0', '--test-endpoints', 'localhost:0'];

/** A directory with the real proxyfetch and scripted roles; returns the program's path. */
function installScripted(t) {
  const dir = tempDir(t);
  copyFileSync(program('proxyfetch'), join(dir, 'proxyfetch'));
  for (const name of roles) {
    writeFileSync(join(dir, `proxyfetch-${name}`), role);
    chmodSync(join(dir, `proxyfetch-${name}`), 0o755);
  }
  return join(dir, 'proxyfetch');
}

async function startUp(t, args = [], env = {}) {
  const dir = tempDir(t);
  const up = await start(t, installScripted(t), ['up', '--data', join(dir, 'state'), ...zeroPorts, ...args],
    { env, ready: /^proxyfetch listening on / });
  const table = {};
  for (const { stream, text } of up.lines) {
    const row = /^(\S+) +pid (\d+) +http:\/\/127\.0\.0\.1:(\d+)$/.exec(text);
    if (stream === 'stdout' && row) table[row[1]] = { pid: Number(row[2]), port: Number(row[3]) };
  }
  return { up, table };
}

/** The arguments that a role printed at its n-th start: on another stream than that it serves. */
async function argsOf(up, name, n = 0) {
  const lines = () => up.lines.filter((l) => l.text.startsWith(`${name.padEnd(14)} | args `));
  const { text } = await until(() => lines()[n], `arguments of ${name}`);
  return JSON.parse(text.split(' | args ')[1]);
}
const valuesOf = (args, option) => args.filter((_, i) => args[i - 1] === option);
const send = (port, text) => connect(port, '127.0.0.1').on('error', () => {}).end(text);
const alive = (pid) => {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
};

test('starts each role with what it needs and stops executors first', async (t) => {
  const { up, table } = await startUp(t, ['--executors', '2', '--allow-target', '10.0.0.0/8:80', '--sync', 'normal']);
  assert.deepEqual(Object.keys(table), ['test-endpoints', 'orchestrator', 'executor', 'executor-2', 'origin']);
  assert.equal(up.port, table.origin.port);
  const orchestrator = `http://127.0.0.1:${table.orchestrator.port}`;
  for (const name of ['executor', 'executor-2']) {
    const args = await argsOf(up, name);
    assert.deepEqual(valuesOf(args, '--orchestrator'), [orchestrator]);
    // its own test endpoints, what the user allowed, and nothing else
    assert.deepEqual(valuesOf(args, '--allow-target'), [`127.0.0.1/32:${table['test-endpoints'].port}`, '10.0.0.0/8:80']);
  }
  const origin = await argsOf(up, 'origin');
  assert.deepEqual(valuesOf(origin, '--orchestrator'), [orchestrator]);
  assert.deepEqual(valuesOf(origin, '--sync'), ['normal']);
  assert.match(valuesOf(origin, '--data')[0], /\/state\/origin$/);
  await up.stop();
  const drained = up.lines.filter((l) => l.text.endsWith('| drained')).map((l) => l.text.split(' ')[0]);
  assert.deepEqual(drained.slice(0, 2).sort(), ['executor', 'executor-2']);
  assert.deepEqual(drained.slice(2), ['origin', 'orchestrator', 'test-endpoints']);
});

test('restarts what dies on the port that the others know', async (t) => {
  const { up, table } = await startUp(t);
  for (let n = 1; n <= 2; n++) {
    const seen = up.lines.length;
    send(table.orchestrator.port, 'die');
    await up.waitFor(/event=child_died name=orchestrator exit_code=7/, { after: seen });
    await up.waitFor(/event=child_serves_again name=orchestrator/, { after: seen });
    assert.deepEqual(valuesOf(await argsOf(up, 'orchestrator', n), '--listen'), [`127.0.0.1:${table.orchestrator.port}`]);
  }
  assert.deepEqual(up.lines.filter((l) => l.text.includes('child_died')).map((l) => /restart_ms=(\d+)/.exec(l.text)[1]),
    ['0', '100']);
});

test('a long line is forwarded in pieces, and nothing is lost', async (t) => {
  const { up, table } = await startUp(t);
  send(table.executor.port, 'long');
  await up.waitFor(/^executor +\| after$/);
  const x = up.lines.map((l) => /^executor +\| (x+)$/.exec(l.text)?.[1].length ?? 0).reduce((a, b) => a + b);
  assert.equal(x, 10000);
});

test('a role that never serves ends the whole, and its message is shown', async (t) => {
  const { code, stderr } = await run(t, installScripted(t), ['up', '--data', tempDir(t), ...zeroPorts],
    { env: { ROLE_FAILS: 'proxyfetch-executor' } });
  assert.equal(code, 3);
  assert.match(stderr, /executor +\| cannot listen on/);
  assert.match(stderr, /proxyfetch up: executor did not start \(exit code 3\); its last line says why, and `proxyfetch up --help`/);
});

test('a role that does not stop is killed after the grace', async (t) => {
  const { up, table } = await startUp(t, ['--grace-ms', '50'], { ROLE_LINGERS: 'proxyfetch-origin' });
  await up.stop();
  assert.match(up.stderr, /event=child_killed name=origin/);
  assert.ok(!alive(table.origin.pid));
});

test('children die with a supervisor that is killed', async (t) => {
  const { up, table } = await startUp(t);
  await up.kill();
  for (const { pid } of Object.values(table)) await until(() => !alive(pid), `end of ${pid}`);
});

test('a second signal ends everything at once', async (t) => {
  const { up, table } = await startUp(t, ['--grace-ms', '600000'], { ROLE_LINGERS: 'proxyfetch-executor' });
  up.signal('SIGINT');
  await up.waitFor(/^executor +\| drained/);
  up.signal('SIGINT');
  assert.deepEqual(await up.exited, { code: 130, signal: null });
  up.ended = true;
  for (const { pid } of Object.values(table)) await until(() => !alive(pid), `end of ${pid}`);
});

test('a taken port is named', async (t) => {
  const taken = createServer().listen(0, '127.0.0.1');
  await new Promise((done) => taken.on('listening', done));
  t.after(() => taken.close());
  const args = [...zeroPorts];
  args[args.indexOf('--test-endpoints') + 1] = `127.0.0.1:${taken.address().port}`;
  const { code, stderr } = await run(t, installScripted(t), ['up', '--data', tempDir(t), ...args]);
  assert.equal(code, 3);
  assert.match(stderr, /test-endpoints did not start/);
});

test('bad addresses and options are refused by name', async (t) => {
  for (const [args, message] of [
    [['--origin', 'nonsense'], /origin/],
    [['--executors', '0'], /executors/],
    [['--executors', '65'], /executors/],
    [['--frob'], /unknown option '--frob'/],
  ]) {
    const { code, stderr } = await run(t, 'proxyfetch', ['up', ...args]);
    assert.equal(code, 2, stderr);
    assert.match(stderr, message);
  }
});

test('help lists the commands, and an unknown one is refused', async (t) => {
  const options = await run(t, 'proxyfetch', ['up', '--help']);
  assert.match(options.stdout, /^ {2}--log-level error\|warn\|info\|debug\n {35}The least important lines .* \[default: info\]$/m);
  assert.match(options.stdout, /^ {2}--executors N {20}How many executors\. \[default: 1; 1 to 64\]$/m);
  assert.match(options.stdout, /^ {2}--no-test-endpoints {14}Start no test endpoints\.$/m);
  const help = await run(t, 'proxyfetch', ['--help']);
  assert.equal(help.code, 0);
  assert.match(help.stdout, /\n {2}up +start the whole system/);
  const unknown = await run(t, 'proxyfetch', ['frobnicate']);
  assert.equal(unknown.code, 2);
  assert.match(unknown.stderr, /unknown command 'frobnicate'/);
});
