// What scenarios use: scopes that clean up, the two load commands, and the machine.
import { execFileSync } from 'node:child_process';
import { cpus, release, totalmem } from 'node:os';
import { run, sourceDir } from '../../tests/process/lib/process.mjs';

/** Calls fn with something that processes can be hung on (as a test context); all of it is gone when
 *  fn has ended. */
export async function scope(fn) {
  const ends = [];
  try {
    return await fn({ after: (end) => ends.push(end) });
  } finally {
    while (ends.length) await ends.pop()();
  }
}

/** Runs a program of the build that prints JSON. */
export async function json(t, name, args, ms = 300_000) {
  const { code, stdout, stderr } = await run(t, name, args, { ms });
  if (code !== 0) throw new Error(`${name} ${args.join(' ')}: exit code ${code}\n${stderr}${stdout.slice(-2000)}`);
  return stdout.trim().split('\n').map((line) => JSON.parse(line));
}

/** `proxyfetch bench --json`, as the record of a scenario. */
export async function bench(t, args) {
  const [r] = await json(t, 'proxyfetch', ['bench', '--json', ...args.map(String)]);
  if (r.failed) throw new Error(`${r.failed} fetches failed: ${r.problem}`);
  const f = r.figures;
  return { unit: 'ms', ops: f.fetches_per_s, samples: f.samples, marginPercent: f.margin_percent, min: f.min_ms,
    mean: f.mean_ms, p50: f.p50_ms, p75: f.p75_ms, p90: f.p90_ms, p95: f.p95_ms, p99: f.p99_ms, p99_5: f.p99_5_ms,
    p99_9: f.p99_9_ms, max: f.max_ms, cpuUs: r.cpuUsPerFetch, warnings: r.warnings, windows: r.windows, histogram: r.histogram };
}

/** `proxyfetch measure --json`: all it says. */
export async function measure(t, args) {
  return (await json(t, 'proxyfetch', ['measure', '--json', ...args.map(String)]))[0];
}

/** The figures of one run of measure. */
export function ofRun(run, what = 'wholeMs') {
  const s = run[what];
  return { unit: 'ms', ops: run.perSecond, samples: s.samples, min: s.min, mean: s.mean, p50: s.p50, p75: s.p75, p90: s.p90,
    p95: s.p95, p99: s.p99, p99_5: s.p995, p99_9: s.p999, max: s.max, cpuUs: run.cpuUsPerFetch };
}

export function machine() {
  let commit = 'unknown';
  try {
    commit = execFileSync('git', ['-C', sourceDir, 'describe', '--always', '--dirty=+'], { encoding: 'utf8' }).trim();
  } catch { /* not a checkout */ }
  return { date: new Date().toISOString(), commit, cpus: cpus().length, cpu: cpus()[0]?.model ?? 'unknown',
    memoryMiB: Math.round(totalmem() / 1048576), kernel: release(), node: process.version };
}
