// Many sockets on which nothing happens: what each costs, that new work is served beside them, that one
// more than the limit is refused, and that a low limit of open files leaves a process those it needs itself.
// PF_IDLE_SOCKETS=10000 makes it many more.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { test } from 'node:test';
import { WAIT_MS, binDir, program, until, within } from './lib/process.mjs';
import { metrics } from './lib/metrics.mjs';
import { internalUrl, startSystem } from './lib/system.mjs';
import { connectWs } from './lib/ws_client.mjs';

const WANTED = Number(process.env.PF_IDLE_SOCKETS ?? 2000);
const BYTES_MAX = 16 << 10; // of memory for an idle WebSocket client: docs/performance.md
const SPARE = 4; // further clients that the origin takes
const WAVE = 200; // connections being made at one time
const ROUNDS = 4; // of clients that come and go
const FILES = 300; // of our own, besides
const KEPT = 4; // connections between the processes and of this test, that come and go

/** As many as this process can have: Node has raised its limit to the hard one. */
const files = Number(/^Max open files +\d+ +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))[1]);
const COUNT = Math.min(WANTED, files - FILES);

/** Opens `count` by `open`, some at a time. */
async function openMany(count, open) {
  const all = [];
  while (all.length < count)
    all.push(...await Promise.all(Array.from({ length: Math.min(WAVE, count - all.length) }, open)));
  return all;
}

/** `count` fetches at once, each of which must succeed. */
async function work(ws, url, count) {
  const after = ws.messages.length;
  for (let i = 0; i < count; i++) ws.send({ type: 'start-fetch', url, clientId: `${i}` });
  await ws.count((m) => ws.messages.indexOf(m) >= after && m.type === 'result', count);
  for (const m of ws.messages.slice(after)) assert.ok(m.type !== 'result' || m.success, JSON.stringify(m));
}

test(`${COUNT} idle clients`, async (t) => {
  assert.ok(COUNT >= 500, `${files} open files are too few for this test`);
  const max = COUNT + 1 + SPARE;
  const system = await startSystem(t, { args: { origin: ['--connections-max', String(max)] } });
  const origin = system.procs.origin;
  const internal = await internalUrl(origin); // its connections do not count as clients'
  const url = `${system.target}/uuid`;
  const worker = await connectWs(t, system.wsUrl);
  await work(worker, url, 20);
  const before = { ...await metrics(internal), files: origin.openFiles(), rss: origin.residentKiB() };
  assert.equal(before.pf_web_sockets, 1);

  const idle = await openMany(COUNT, () => connectWs(t, system.wsUrl));
  const full = await metrics(internal);
  assert.equal(full.pf_web_sockets, COUNT + 1);
  const taken = origin.openFiles() - before.files;
  assert.ok(Math.abs(taken - COUNT) <= KEPT, `${taken} more files for ${COUNT} clients`);
  const bytesEach = () => Math.round((origin.residentKiB() - before.rss) * 1024 / COUNT);
  const each = bytesEach();
  t.diagnostic(`${each} bytes each`);
  if (!binDir.includes('san')) assert.ok(each < BYTES_MAX, `${each} bytes for an idle client`);

  await t.test('work is done beside them', async () => {
    await work(worker, url, 20);
    await work(idle[COUNT >> 1], url, 20);
  });

  await t.test('one more than --connections-max is refused, and takes nothing from the others', async (t) => {
    const last = await openMany(SPARE, () => connectWs(t, system.wsUrl));
    assert.equal((await metrics(internal)).pf_web_refused_total, full.pf_web_refused_total);
    await assert.rejects(connectWs(t, system.wsUrl), /closed during the handshake|ECONNRESET/);
    assert.equal((await metrics(internal)).pf_web_refused_total, full.pf_web_refused_total + 1);
    await work(last[0], url, 1);
    await last[0].destroy();
    await until(async () => (await metrics(internal)).pf_web_sockets === max - 1, 'one less');
    const again = await connectWs(t, system.wsUrl);
    await work(again, url, 1);
    await Promise.all([...last.slice(1), again].map((ws) => ws.destroy()));
  });

  await t.test('when they have left, nothing is left of them', async (t) => {
    await Promise.all(idle.map((ws) => ws.destroy()));
    await until(async () => (await metrics(internal)).pf_web_sockets === 1, 'the worker alone');
    const grown = (await metrics(internal)).pf_web_connections - before.pf_web_connections;
    assert.ok(Math.abs(grown) <= KEPT, `${grown} connections more than before`);
    assert.ok(Math.abs(origin.openFiles() - before.files) <= KEPT, `${before.files} files before, ${origin.openFiles()} now`);
  });

  await t.test('those that come later cost no more', async (t) => {
    for (let round = 0; round < ROUNDS; round++) {
      const more = await openMany(COUNT, () => connectWs(t, system.wsUrl));
      const now = bytesEach();
      t.diagnostic(`${now} bytes each`);
      if (!binDir.includes('san')) assert.ok(now < BYTES_MAX, `${now} bytes for an idle client`);
      await Promise.all(more.map((ws) => ws.destroy()));
    }
    await work(worker, url, 1);
  });
});

test('few open files: idle connections leave a process those it needs itself', async (t) => {
  const FEW = 256, STRANGERS = 300, NEEDED = 32;
  const command = ['/bin/sh', '-c', `ulimit -n ${FEW} && exec "$0" "$@"`];
  const patient = { PF_LIMIT: 'web.header_s:60' }; // no stranger leaves by itself
  const system = await startSystem(t, {
    wrap: (name, args) => [command[0], [...command.slice(1), program(name), ...args]],
    env: { origin: patient, orchestrator: patient, executor: patient },
  });
  const { origin, orchestrator, executor } = system.procs;
  const worker = await connectWs(t, system.wsUrl);
  const url = `${system.target}/uuid?close=1`; // each fetch takes a fresh descriptor
  await work(worker, url, 1);
  const internal = await internalUrl(origin);
  const stranger = async (address) => {
    const socket = connect(Number(new URL(address).port), '127.0.0.1');
    socket.on('error', () => {}); // a refusal may be a reset
    t.after(() => socket.destroy());
    await new Promise((done) => socket.once('connect', done).once('close', done));
    return socket;
  };
  for (const [proc, address] of [[origin, origin.url], [origin, internal], [orchestrator, orchestrator.url],
    [executor, executor.url]]) {
    const sockets = await openMany(STRANGERS, () => stranger(address));
    const refused = sockets.map((s) => s.closed || new Promise((done) => s.once('close', done)));
    await within(Promise.race(refused), WAIT_MS, `${proc.name} ${address}: refusal of one too many`);
    assert.ok(proc.openFiles() <= FEW - NEEDED, `${proc.name} ${address}: ${proc.openFiles()} of ${FEW} are taken`);
  }
  await work(worker, url, 20);
});
