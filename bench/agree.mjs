// Do our figures agree with those of other load tools? `proxyfetch bench`, and wrk and hey if they are on PATH (both are
// packages of Debian), each against the same test endpoints with the same load, in turns; the median of the rounds.
// usage: [PF_BIN=build/bin] node bench/agree.mjs [--seconds 5] [--connections 50] [--rounds 3] [--path /uuid] [--short]
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { start } from '../tests/process/lib/process.mjs';
import { median, show, table } from './lib/figures.mjs';
import { bench, machine, scope } from './lib/tools.mjs';

const LIMITS = { seconds: 3600, connections: 10_000, rounds: 99 };

async function output(program, args, ms) {
  const { stdout } = await promisify(execFile)(program, args, { timeout: ms, maxBuffer: 1 << 20 });
  return stdout;
}

/** The number that the pattern's first group finds. */
function number(text, pattern) {
  const value = Number(pattern.exec(text)?.[1] ?? NaN);
  if (!Number.isFinite(value)) throw new Error(`no ${pattern} in:\n${text}`);
  return value;
}

/** What wrk --latency says: {ops, p50, p99} in ms. */
export function ofWrk(text) {
  const perMs = { us: 1e3, ms: 1, s: 1e-3, m: 1 / 6e4 };
  const latency = (percent) => {
    const unit = new RegExp(`^ +${percent}% +[\\d.]+(us|ms|s|m)$`, 'm').exec(text)?.[1];
    return number(text, new RegExp(`^ +${percent}% +([\\d.]+)`, 'm')) / perMs[unit];
  };
  if (/^ *(Socket errors|Non-2xx)/m.test(text)) throw new Error(`wrk saw errors:\n${text}`);
  return { ops: number(text, /^Requests\/sec: +([\d.]+)/m), p50: latency(50), p99: latency(99) };
}

/** What hey says. Its latencies are in tenths of a millisecond. */
export function ofHey(text) {
  const latency = (percent) => number(text, new RegExp(`^ +${percent}%%? in ([\\d.]+) secs`, 'm')) * 1e3;
  if (/^Error distribution/m.test(text) || !/\[200\]/.test(text)) throw new Error(`hey saw errors:\n${text}`);
  return { ops: number(text, /Requests\/sec:\s+([\d.]+)/), p50: latency(50), p99: latency(99) };
}

const tools = (t, url, { seconds, connections }) => ({
  'proxyfetch bench': () => bench(t, ['-u', url, '-c', connections, '-d', seconds, '-w', 0]),
  wrk: async () => ofWrk(await output('wrk', ['-t1', `-c${connections}`, `-d${seconds}s`, '--latency', url], (seconds + 30) * 1e3)),
  hey: async () => ofHey(await output('hey', ['-z', `${seconds}s`, '-c', String(connections), url], (seconds + 30) * 1e3)),
});

function line(name, rounds, ours) {
  const figure = (member) => median(rounds.map((r) => r[member]));
  const ops = figure('ops'), difference = (ours / ops - 1) * 100;
  return [name, `${show(ops)}/s`, show(figure('p50')), show(figure('p99')), name === 'proxyfetch bench' ? '' : `${difference.toFixed(1)} %`];
}

async function agree(settings) {
  const found = new Map(), absent = new Set();
  await scope(async (t) => {
    const target = await start(t, 'proxyfetch-test-endpoints', ['--listen', '127.0.0.1:0', '--log-level', 'error']);
    const all = Object.entries(tools(t, target.urls[0] + settings.path, settings));
    for (let round = 0; round < settings.rounds; round++)
      for (const [name, once] of all.filter(([name]) => !absent.has(name)))
        try {
          found.set(name, [...(found.get(name) ?? []), await once()]);
        } catch (why) {
          if (why.code !== 'ENOENT' || name === 'proxyfetch bench') throw why;
          absent.add(name);
        }
  });
  const m = machine(), ours = median(found.get('proxyfetch bench').map((r) => r.ops));
  console.log(`${m.date}  commit ${m.commit}  ${m.cpus} x ${m.cpu}  Linux ${m.kernel}`);
  console.log(`${settings.path}, ${settings.connections} connections, ${settings.seconds} s, median of ${settings.rounds} rounds in turns\n`);
  console.log(table(['tool', 'requests', 'p50 ms', 'p99 ms', 'proxyfetch bench against it'], [...found].map(([name, rounds]) => line(name, rounds, ours))));
  for (const name of absent) console.log(`${name} is not installed`);
}

export function settingsOf(args) {
  const string = { type: 'string' };
  const { values } = parseArgs({ args, options: { seconds: string, connections: string, rounds: string, path: { ...string, default: '/uuid' }, short: { type: 'boolean' } } });
  const settings = values.short ? { seconds: 1, connections: 4, rounds: 1 } : { seconds: 5, connections: 50, rounds: 3 };
  for (const [name, most] of Object.entries(LIMITS)) {
    if (values[name] !== undefined) settings[name] = Number(values[name]);
    if (!Number.isInteger(settings[name]) || settings[name] < 1 || settings[name] > most) throw new Error(`--${name} is from 1 to ${most}`);
  }
  return { ...settings, path: values.path };
}

/** The exit code: 0, 1 if a tool failed, 2 for a bad option. */
export async function agreeCommand(args) {
  let settings;
  try {
    settings = settingsOf(args);
  } catch (why) {
    console.error(`agree: ${why.message}`);
    return 2;
  }
  try {
    await agree(settings);
    return 0;
  } catch (why) {
    console.error(`agree: ${why.message}`);
    return 1;
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = await agreeCommand(process.argv.slice(2));
