// `proxyfetch bench sides`: this system beside others, same protocol, same target, one run; and beside its goals.
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { parseArgs } from 'node:util';
import { sourceDir, start, tempDir } from '../tests/process/lib/process.mjs';
import { startSystem } from '../tests/process/lib/system.mjs';
import { show, table } from './lib/figures.mjs';
import { json, machine, measure, scope } from './lib/tools.mjs';

const baselines = join(sourceDir, 'bench/baselines');

const wsOf = (proc) => proc.url.replace('http:', 'ws:') + '/';

/** All levels of one server that speaks the protocol: {1: {perSecond, p50, p99, cpuUs}, …}. */
async function levelsOf(t, url, target, levels, short, more = []) {
  const found = {};
  for (const w of levels) {
    const m = await measure(t, ['--url', url, '--target', target, '--concurrency', w, ...(short ? ['--iterations', Math.max(100, w)] : []), ...more]);
    const run = m.runs.find((r) => r.kind === 'sustained');
    found[w] = { perSecond: run.perSecond, p50: run.wholeMs.p50, p99: run.wholeMs.p99, cpuUs: run.cpuUsPerFetch };
  }
  return found;
}

const ours = (sync) => async (t, { target, server }, levels, short) => {
  const system = await startSystem(t, { sync, args: { executor: ['--allow-target', `127.0.0.1/32:${server.port}`] } });
  const { origin, orchestrator, executor } = system.procs; // its own endpoints have nothing to do
  const pids = Object.entries({ origin, orchestrator, executor, target: server }).map(([role, proc]) => `${role}=${proc.pid}`);
  return levelsOf(t, system.wsUrl, target, levels, short, ['--pids', pids.join(',')]);
};

async function nodeAwait(t, { target }, levels, short) {
  const server = await start(t, process.execPath, [join(baselines, 'node_await.mjs')], { ready: /listening on/ });
  return levelsOf(t, wsOf(server), target, levels, short, ['--pids', `server=${server.pid}`]);
}

/** What the distribution has, as root; a service that comes with it is not left running. */
function installRedis() {
  const root = process.getuid() === 0 ? [] : ['sudo', ...(process.stdin.isTTY ? [] : ['-n'])];
  const asRoot = (...args) => {
    const [program, ...rest] = [...root, 'env', 'DEBIAN_FRONTEND=noninteractive', ...args];
    execFileSync(program, rest, { stdio: ['inherit', 'ignore', 'inherit'] });
  };
  asRoot('apt-get', '-q', 'update');
  asRoot('apt-get', '-q', 'install', '-y', '--no-install-recommends', 'redis-server');
  if (existsSync('/run/systemd/system')) asRoot('systemctl', 'disable', '--now', 'redis-server');
}

/** The packages of a baseline, exactly as locked; `npm ci` writes its list last, so half of them do not count. */
const npmReady = (home) => existsSync(join(home, 'node_modules/.package-lock.json'));
const npmInstall = (home) => execFileSync('npm', ['ci', '--no-audit', '--no-fund', '--ignore-scripts'], { cwd: home, stdio: ['inherit', 'ignore', 'inherit'] });

const inPath = (name) => (process.env.PATH ?? '').split(delimiter).map((dir) => join(dir, name)).find(existsSync);

async function bullmq(t, { target }, levels, short, install) {
  const home = join(baselines, 'bullmq');
  if (install && !npmReady(home)) npmInstall(home);
  if (install && !inPath('redis-server')) installRedis();
  if (!inPath('redis-server') || !npmReady(home)) return 'not installed: --install';
  const dir = tempDir(t), socket = join(dir, 'redis.sock');
  const redis = await start(t, inPath('redis-server'), ['--port', '0', '--unixsocket', socket, '--dir', dir, '--appendonly', 'yes',
    '--appendfsync', 'always', '--save', ''], { ready: /Ready to accept connections|The server is now ready/ });
  const server = await start(t, process.execPath, [join(home, 'server.mjs'), socket], { ready: /listening on/ });
  return levelsOf(t, wsOf(server), target, levels, short, ['--pids', `server=${server.pid},redis=${redis.pid}`]);
}

async function curlFloor(t, { target }, levels, short) {
  const found = {};
  for (const w of levels) [found[w]] = await json(t, 'curl_floor', [target, `${w}`, `${short ? Math.max(100, w) : Math.max(3000, 20 * w)}`]);
  return found;
}

const systems = {
  'proxyfetch-full': ['proxyfetch, sync full', ours('full')],
  'proxyfetch-normal': ['proxyfetch, sync normal', ours('normal')],
  'node-await': ['Node server that awaits the fetch (nothing durable)', nodeAwait],
  bullmq: ['Redis + BullMQ, fsync always', bullmq],
  curl: ['libcurl alone, one thread (the floor)', curlFloor],
};

/** What targets there are for a level: at least fetches/s, at most p50 and p99 in ms. */
const goals = { 1: [null, 1.1, 4], 10: [6000, 1.6, 4], 100: [15_000, 7, 15], 1000: [22_000, 45, 80], 10000: [12_000, null, null] };

function sideTable(found, levels) {
  const cell = (l) => (l ? `${show(l.perSecond)}, ${show(l.p50)} / ${show(l.p99)}` : '–');
  return table(['system', ...levels.map((w) => `W=${w}: fetch/s, p50 / p99 ms`)],
    Object.entries(found).map(([name, levelsFound]) => [systems[name][0],
      ...levels.map((w, i) => (typeof levelsFound === 'string' ? (i ? '' : levelsFound) : cell(levelsFound[w])))]));
}

function ratioTable(found, levels) {
  const base = found['proxyfetch-full'];
  return table(['proxyfetch, sync full, against', ...levels.map((w) => `W=${w}`)],
    Object.entries(found).filter(([name, f]) => name !== 'proxyfetch-full' && typeof f !== 'string').map(([name, f]) => [systems[name][0],
      ...levels.map((w) => `${(base[w].perSecond / f[w].perSecond).toFixed(2)} ×`)]));
}

function goalTable(levelsFound) {
  const check = (value, goal, atLeast) => goal === null ? show(value)
    : `${show(value)} (${atLeast ? '≥' : '≤'} ${goal.toLocaleString('en-US')}: ${(atLeast ? value >= goal : value <= goal) ? 'met' : '**missed**'})`;
  return table(['in flight', 'fetch/s', 'p50 ms', 'p99 ms', 'CPU per job, us'], Object.entries(levelsFound).map(([w, l]) => {
    const [rate, p50, p99] = goals[w] ?? [null, null, null];
    const cpu = Object.entries(l.cpuUs).map(([role, us]) => `${role} ${us.toFixed(0)}`).join(' + ');
    return [w, check(l.perSecond, rate, true), check(l.p50, p50), check(l.p99, p99),
      `${cpu} = ${Object.values(l.cpuUs).reduce((a, b) => a + b, 0).toFixed(0)}`];
  }));
}

export async function sidesCommand(args, { save }) {
  const { values } = parseArgs({ args, options: { short: { type: 'boolean' }, install: { type: 'boolean' }, only: { type: 'string' },
    out: { type: 'string' } } });
  const levels = values.short ? [1, 10, 100] : [1, 10, 100, 1000];
  const wanted = values.only?.split(',') ?? Object.keys(systems);
  if (wanted.some((name) => !systems[name])) {
    console.error(`--only takes ${Object.keys(systems).join(', ')}`);
    return 2;
  }
  const found = {};
  await scope(async (t) => {
    const server = await start(t, 'proxyfetch-test-endpoints', ['--listen', '127.0.0.1:0']);
    const fetched = { server, target: `${server.url}/uuid` };
    for (const name of wanted)
      await scope(async (inner) => {
        const more = name === 'proxyfetch-full' && !values.short ? [10_000] : [];
        found[name] = await systems[name][1](inner, fetched, [...levels, ...more], values.short, values.install);
        console.error(`${systems[name][0]}: done`);
      });
  });
  const m = machine();
  console.log(`${m.date}, commit ${m.commit}, ${m.cpus} × ${m.cpu}, ${m.memoryMiB} MiB, Linux ${m.kernel}, Node ${m.node}\n`);
  console.log(`${sideTable(found, levels)}\n`);
  if (found['proxyfetch-full']) {
    console.log(`${ratioTable(found, levels)}\n\nproxyfetch, sync full, beside its goals:\n`);
    console.log(goalTable(found['proxyfetch-full']));
  }
  if (values.out) save(values.out, JSON.stringify({ ...m, found }, null, 1));
  const empty = Object.values(found).some((f) => typeof f !== 'string' && levels.some((w) => !(f[w].perSecond > 0)));
  return empty ? 1 : 0;
}
