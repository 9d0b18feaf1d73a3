// What scenarios share. Each is measured by run(stage) and gives a record: ops (per second), the
// distribution of one operation (unit), samples, margin, and what else belongs to it (extra; facts:
// numbers that lib/targets.mjs reads).
//
//   micro  in one process, without sockets and disks (turn_bench, core_bench, queue_bench)
//   path   through real processes: client, origin, orchestrator, executor, target
//   slot   the feature is not there yet
import { startSystem } from '../../tests/process/lib/system.mjs';
import { bench, json } from '../lib/tools.mjs';

const quiet = Object.fromEntries(['origin', 'orchestrator', 'executor', 'test-endpoints'].map((role) => [role, ['--log-level', 'warn']]));

/** A system of its own; args by role come on top. */
export function startQuiet(t, { args = {}, ...options } = {}) {
  const all = Object.fromEntries(Object.entries(quiet).map(([role, list]) => [role, [...list, ...(args[role] ?? [])]]));
  return startSystem(t, { ...options, args: all });
}
/** The same with class `note`, whose messages write (bench/origin_classes.c). */
export const startNotes = (t, options = {}) => startQuiet(t, { ...options, programs: { origin: 'bench_origin' } });
export const notes = ['--path', '/actors/note/bench-'];

/** What scenarios share during a run of the suite: one system, started when it is first needed. */
export class Stage {
  constructor(t, { short = false, long = 0 } = {}) {
    Object.assign(this, { t, short, long, system: null });
  }
  async started() {
    this.system ??= await startQuiet(this.t);
    return this.system;
  }
  /** Seconds to measure and warm-up, for `proxyfetch bench`. */
  get timing() {
    return this.short ? ['-d', 1, '-w', 0] : ['-d', 5, '-w', 1];
  }
  /** The same in milliseconds, for message_bench. */
  get messageTiming() {
    return this.short ? ['--duration-ms', 200] : ['--duration-ms', 5000, '--warmup-ms', 1000];
  }
  /** Seconds of something that has a long form of `most`: at most what --long allows. */
  seconds(usual, most = usual) {
    return this.short ? Math.min(0.3, usual) : Math.max(usual, Math.min(this.long, most));
  }
  pick(full, short) {
    return this.short ? short : full;
  }
}

export const residentMiB = (system) => Object.fromEntries(['origin', 'orchestrator', 'executor'].map((role) =>
  [`${role} MiB`, Math.round(system.procs[role].residentKiB() / 1024)]));

export const pidsOf = (system, roles = Object.keys(system.procs)) => roles.map((role) => `${role}=${system.procs[role].pid}`).join(',');

export const path = (name, help, run) => ({ name, kind: 'path', help, run });
export const slot = (name, help) => ({ name, kind: 'slot', help });
export const micro = (name, help, program = 'turn_bench', full = 5000) => ({ name, kind: 'micro', help, async run(stage) {
  const [r] = await json(stage.t, program, ['--json', name, `${stage.short ? 100 : full}`]);
  return { ...r, ops: r.opsPerSecond };
} });

/** A closed loop of fetches through the origin of a system. */
export const loadOf = (t, system, timing, concurrency, target = '/uuid', more = []) =>
  bench(t, ['--ws', '--server', system.wsUrl, '--pids', pidsOf(system), '-u', system.target + target, '-c', concurrency, ...timing, ...more]);
export const load = async (stage, ...how) => loadOf(stage.t, await stage.started(), stage.timing, ...how);

/** message_bench: all it says. Throws if a message got no answer. */
export async function messages(t, system, args, ms = 300_000) {
  const [r] = await json(t, 'message_bench', ['--server', system.wsUrl, ...args.map(String)], ms);
  if (r.lost) throw new Error(`${r.lost} of ${r.sent} messages got no answer`);
  return r;
}
export const fetches = (t, system, args, ms) =>
  messages(t, system, ['--kind', 'fetch', '--url', `${system.target}/uuid`, ...args], ms);

function marginPercent(windows) {
  const n = windows.length, mean = windows.reduce((a, b) => a + b, 0) / n;
  const squares = windows.reduce((a, b) => a + (b - mean) ** 2, 0);
  return n > 1 && mean ? (196 * Math.sqrt(squares / (n - 1) / n)) / mean : undefined;
}

/** Its record. Refusals are counted only where they are expected. */
export function ofMessages(r, { refusals = false } = {}) {
  if (r.refused && !refusals) throw new Error(`${r.refused} of ${r.sent} refused: ${r.problem}`);
  return { unit: 'ms', ops: r.answered / r.seconds, ...r.ms, marginPercent: marginPercent(r.windows), windows: r.windows,
    timeline: r.timeline, cpuUs: r.cpuUs };
}

/** A metric of the origin. */
export async function metric(system, name) {
  const text = await (await fetch(`${system.httpUrl}/metrics`)).text();
  return Number(new RegExp(`^${name} (.*)$`, 'm').exec(text)?.[1]);
}
