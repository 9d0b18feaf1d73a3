// Storage that fails under real processes: a write that the system refuses, a disk that gets full. What was
// acknowledged must be there afterwards, and what cannot be promised must not be acknowledged.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { appendFileSync, rmSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { reasonsOf } from './lib/metrics.mjs';
import { program, start, until } from './lib/process.mjs';
import { http, startSystem } from './lib/system.mjs';

const EXIT_STORAGE = 70;

/** POSTs a fetch; undefined if there was no answer. */
async function submit(system, request) {
  return http(`${system.httpUrl}/v1/actors/proxy/default/fetch`, { method: 'POST',
    headers: { 'content-type': 'application/json' }, body: JSON.stringify(request) }).catch(() => undefined);
}
const state = async (system, id) => (await http(`${system.httpUrl}/v1/jobs/${id}`)).body.state;
const hits = async (system, key) => (await http(`${system.target}/hits/${key}`)).body.hits;

/** Jobs that wait in the queue, for want of an executor. */
async function waiting(system, count) {
  await system.crash('executor');
  const ids = [];
  for (let i = 0; i < count; i++) {
    const { status, body } = await submit(system, { url: `${system.target}/uuid?key=job${i}` });
    assert.equal(status, 202);
    ids.push(body.reqId);
  }
  for (const id of ids) await until(async () => (await state(system, id)) === 'enqueued', `${id} is enqueued`);
  return ids;
}

async function allEnd(system, ids) {
  for (const id of ids) await until(async () => (await state(system, id)) === 'done', `${id} is done`);
  for (let i = 0; i < ids.length; i++) assert.equal(await hits(system, `job${i}`), 1, `job${i} was fetched once`);
}

/** From now on no file of this process can be written to. */
const refuseWrites = (proc) => execFileSync('prlimit', ['--pid', `${proc.pid}`, '--fsize=1']);

for (const [role, event] of [['origin', 'storage_failed'], ['orchestrator', 'store_broken']])
  test(`${role}: a commit that fails ends the process with ${EXIT_STORAGE}, and loses nothing`, async (t) => {
    const system = await startSystem(t);
    const ids = await waiting(system, 5);
    const broken = system.procs[role];
    refuseWrites(broken);
    const late = submit(system, { url: `${system.target}/uuid?key=late` });
    await broken.ends({ code: EXIT_STORAGE });
    assert.match(broken.stderr, new RegExp(`level=error .*event=${event} reason="[^"]{10,}`));
    const answer = role === 'origin' ? await late : (await late).body.reqId;
    if (role === 'origin') assert.equal(answer, undefined, 'what is not on disk is not acknowledged');
    else ids.push(answer); // acknowledged by the origin, which announces it again

    await system.restart(role);
    await system.restart('executor');
    for (const id of ids) await until(async () => (await state(system, id)) === 'done', `${id} is done`);
    await allEnd(system, ids.slice(0, 5));
    if (role === 'orchestrator') assert.equal(await hits(system, 'late'), 1);
  });

// ---- a file system that gets full: a tmpfs in a mount namespace of its own ----

const canMount = (() => {
  try {
    execFileSync('unshare', ['-m', 'sh', '-c', 'mount -t tmpfs -o size=1m none /mnt'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
})();
const needsMount = { skip: canMount ? false : 'needs root, unshare(1) and mount(8)' };

/** A system whose `role` keeps its data on a tmpfs; disk.fill(n) leaves n bytes free, disk.free() undoes it. */
async function onSmallDisk(t, role, { size, reserve }) {
  const system = await startSystem(t);
  await system.procs[role].stop();
  const data = `${system.dir}/${role}`;
  const holder = await start(t, '/usr/bin/unshare', ['-m', 'sh', '-c',
    `mount -t tmpfs -o size=${size} none ${data} && echo holder listening on ${data} && exec sleep 600`],
  { ready: /^holder listening/ });
  holder.ended = true; // killed with the test
  const enter = async () => {
    const args = ['-t', `${holder.pid}`, '-m', program(`proxyfetch-${role}`), '--listen', `127.0.0.1:${system.ports[role]}`,
      '--data', data, '--disk-reserve', `${reserve}`,
      ...(role === 'origin' ? ['--internal-listen', '127.0.0.1:0', '--orchestrator', `http://127.0.0.1:${system.ports.orchestrator}`] : [])];
    system.procs[role] = await start(t, '/usr/bin/nsenter', args, { ready: new RegExp(`^proxyfetch-${role} listening on `) });
  };
  await enter();
  const filler = `/proc/${holder.pid}/root${data}/filler`;
  const available = () => Number(execFileSync('nsenter', ['-t', `${holder.pid}`, '-m', 'df', '--output=avail', '-B1', data])
    .toString().split('\n')[1]);
  const disk = {
    fill(left) {
      writeFileSync(filler, '');
      for (let room = available() - left; room > 0; room -= 65536) appendFileSync(filler, Buffer.alloc(Math.min(room, 65536)));
    },
    free: () => rmSync(filler),
  };
  const health = async () => (await http(`http://127.0.0.1:${system.ports[role]}/health/detailed`)).body;
  const low = (yes) => until(async () => (await health()).store.spaceLow === yes, `space is ${yes ? 'low' : 'enough'}`);
  return { system, disk, enter, low, health };
}

const MIB = 1 << 20;

test('origin: a nearly full disk refuses new work and goes on with what it has', needsMount, async (t) => {
  const { system, disk, low, health } = await onSmallDisk(t, 'origin', { size: '16m', reserve: 4 * MIB });
  const ids = await waiting(system, 3);
  disk.fill(2 * MIB);
  await low(true);
  assert.deepEqual(reasonsOf(await health()), ['disk_full']);
  const refused = await submit(system, { url: `${system.target}/uuid?key=refused` });
  assert.equal(refused.status, 503);
  assert.equal(refused.body.error.code, 'disk_full');
  assert.equal((await http(`${system.httpUrl}/v1/jobs`)).body.total, 3); // reading works
  await system.restart('executor');
  await allEnd(system, ids); // and so does the end of what was accepted
  assert.equal((await http(`${system.httpUrl}/v1/jobs/${ids[0]}`)).body.result.status, 200);
  assert.equal(await hits(system, 'refused'), 0);
  disk.free();
  await low(false);
  const { status, body } = await submit(system, { url: `${system.target}/uuid` });
  assert.equal(status, 202);
  await until(async () => (await state(system, body.reqId)) === 'done', 'new work is taken again');
});

test('orchestrator: a nearly full disk puts new jobs off, and ends what it has', needsMount, async (t) => {
  const { system, disk, low } = await onSmallDisk(t, 'orchestrator', { size: '16m', reserve: 4 * MIB });
  const ids = await waiting(system, 3);
  disk.fill(2 * MIB);
  await low(true);
  const { status, body } = await submit(system, { url: `${system.target}/uuid?key=job3` });
  assert.equal(status, 202); // the origin has room for it
  await system.restart('executor');
  await allEnd(system, ids);
  const text = await (await fetch(`http://127.0.0.1:${system.ports.orchestrator}/metrics`)).text();
  assert.match(text, /^pf_announcements_total\{answer="full"\} [1-9]/m);
  assert.equal(await state(system, body.reqId), 'pending');
  disk.free();
  await low(false);
  await allEnd(system, [...ids, body.reqId]);
});

test('origin: a really full disk ends the process, and what it had promised is kept', needsMount, async (t) => {
  const { system, disk, enter } = await onSmallDisk(t, 'origin', { size: '16m', reserve: 0 });
  await system.crash('executor');
  const full = system.procs.origin;
  const promised = [];
  disk.fill(MIB);
  for (;;) { // without a reserve it takes work until a write fails
    const answer = await submit(system, { url: `${system.target}/uuid?key=n${promised.length}`, context: 'x'.repeat(60000) });
    if (!answer) break;
    assert.equal(answer.status, 202);
    promised.push(answer.body.reqId);
  }
  await full.ends({ code: EXIT_STORAGE });
  assert.match(full.stderr, /event=storage_failed reason="[^"]*disk is full; free some space and start again/);
  assert.ok(promised.length > 0 && promised.length < 100, `${promised.length} were promised`);
  disk.free();
  await enter();
  await system.restart('executor');
  for (const id of promised) await until(async () => (await state(system, id)) === 'done', `${id} is done`);
  for (let i = 0; i < promised.length; i++) assert.equal(await hits(system, `n${i}`), 1);
});
