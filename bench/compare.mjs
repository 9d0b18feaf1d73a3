// `proxyfetch bench compare`: did anything get slower between two runs of the suite, beyond noise?
//
// For each scenario the medians of throughput and p99 are compared. A difference counts if it is
// larger than the threshold and a Mann-Whitney test of the repeats says that chance alone would
// bring it in fewer than 5 of 100 cases. With fewer than four repeats a side, the throughput of the
// single 100 ms windows takes their place, where there is one; else nothing is said to be certain.
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { mannWhitney, median, show, table } from './lib/figures.mjs';
import { html } from './lib/report.mjs';

/** What an operator gave us, and cannot be worked with: said without a stack. */
export class Refusal extends Error {}

/** A file of `bench suite --out`. */
export function readRun(file) {
  let run;
  try {
    run = JSON.parse(readFileSync(file, 'utf8'));
  } catch (why) {
    throw new Refusal(`${file}: ${why.message}`);
  }
  if (!Array.isArray(run?.records)) throw new Refusal(`${file}: not written by \`bench suite --out\``);
  return run;
}

const REPEATS_MIN = 4, SIGNIFICANT = 0.05;
const metrics = [
  { name: 'throughput', key: 'ops', unit: '/s', better: 1 },
  { name: 'p99', key: 'p99', better: -1 },
];

function grouped(run) {
  const by = new Map();
  for (const r of run.records) if (r.status === 'ok') by.set(r.name, [...(by.get(r.name) ?? []), r]);
  return by;
}

function judge(metric, before, after, threshold) {
  const values = (records) => records.map((r) => r[metric.key]).filter((v) => v > 0);
  const a = values(before), b = values(after);
  if (!a.length || !b.length) return null;
  const change = median(b) / median(a) - 1;
  let p = null;
  if (Math.min(a.length, b.length) >= REPEATS_MIN) p = mannWhitney(a, b);
  else if (metric.key === 'ops' && before[0].windows?.length && after[0].windows?.length)
    p = mannWhitney(before.flatMap((r) => r.windows), after.flatMap((r) => r.windows));
  const large = Math.abs(change) > threshold, sure = p !== null && p < SIGNIFICANT;
  const direction = change * metric.better > 0 ? 'better' : 'worse';
  return { metric: metric.name, unit: metric.unit ?? before[0].unit, old: median(a), new: median(b), change, p, repeats: [a.length, b.length],
    verdict: !large ? 'same' : sure ? direction : p === null ? `${direction}? (too few repeats)` : 'noise' };
}

/** [{name, metric, old, new, change, p, verdict}], one for each scenario and metric in both runs. */
export function compareRuns(before, after, threshold) {
  const old = grouped(before), rows = [];
  for (const [name, records] of grouped(after)) {
    if (!old.has(name)) continue;
    for (const metric of metrics) {
      const row = judge(metric, old.get(name), records, threshold);
      if (row) rows.push({ name, ...row });
    }
  }
  return rows;
}

const percent = (x) => `${x >= 0 ? '+' : ''}${(100 * x).toFixed(1)} %`;
const where = (run) => `${run.date}, commit ${run.commit}, ${run.cpus} × ${run.cpu}, ${run.memoryMiB} MiB, Linux ${run.kernel}`;

export function markdown(before, after, rows, threshold) {
  const count = (v) => rows.filter((r) => r.verdict === v).length;
  const differs = before.cpu !== after.cpu || before.cpus !== after.cpus || before.short || after.short;
  return [`# Benchmarks: ${before.commit} → ${after.commit}`, '', `* old: ${where(before)}`, `* new: ${where(after)}`,
    `* threshold ${percent(threshold)}, significance ${SIGNIFICANT}`, '',
    ...(differs ? ['**Not the same kind of machine, or a short run: not a basis for a judgement.**', ''] : []),
    `**${count('worse')} worse, ${count('better')} better**, ${rows.length - count('worse') - count('better')} without a certain difference.`, '',
    table(['scenario', 'figure', 'old', 'new', 'Δ', 'p', 'verdict'],
      rows.map((r) => [r.name, `${r.metric} (${r.unit})`, show(r.old), show(r.new), percent(r.change), r.p === null ? '–' : r.p.toFixed(3),
        r.verdict === 'worse' || r.verdict === 'better' ? `**${r.verdict}**` : r.verdict])), ''].join('\n');
}

export async function compareCommand(args, { save }) {
  const { values, positionals } = parseArgs({ args, allowPositionals: true, options: { threshold: { type: 'string', default: '0.10' },
    markdown: { type: 'string' }, html: { type: 'string' } } });
  const threshold = Number(values.threshold);
  if (positionals.length !== 2 || !(threshold >= 0)) {
    console.error('usage: proxyfetch bench compare OLD.json NEW.json [--threshold 0.10] [--markdown FILE] [--html FILE]');
    return 2;
  }
  const [before, after] = positionals.map(readRun);
  const rows = compareRuns(before, after, threshold), text = markdown(before, after, rows, threshold);
  console.log(text);
  if (values.markdown) save(values.markdown, text);
  if (values.html) save(values.html, html(before, after, rows, threshold));
  return rows.some((r) => r.verdict === 'worse') ? 1 : 0;
}
