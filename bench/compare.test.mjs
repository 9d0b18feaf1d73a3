// The judgement of `bench compare`: real changes are seen, noise is not.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { run as runProgram, tempDir } from '../tests/process/lib/process.mjs';
import { compareRuns, markdown } from './compare.mjs';
import { figuresOf, mannWhitney, median } from './lib/figures.mjs';
import { html } from './lib/report.mjs';

const run = (commit, ops, p99 = ops.map(() => 5)) => ({ commit, date: 'd', cpus: 2, cpu: 'c', memoryMiB: 1, kernel: 'k',
  records: ops.map((o, round) => ({ name: 's', status: 'ok', unit: 'ms', round, ops: o, p99: p99[round] })) });
const verdicts = (a, b) => Object.fromEntries(compareRuns(a, b, 0.1).map((r) => [r.metric, r.verdict]));

test('figures of samples', () => {
  const f = figuresOf([4, 1, 3, 2]);
  assert.deepEqual([f.samples, f.min, f.mean, f.max, f.p50, f.p99], [4, 1, 2.5, 4, 2, 4]);
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 3, 2]), 2.5);
});

test('Mann-Whitney: known values', () => {
  assert.equal(mannWhitney([1, 2, 3], [4, 5, 6]).toFixed(4), '0.1000'); // 2 of 20 orders
  assert.equal(mannWhitney([1, 2, 3, 4], [5, 6, 7, 8]).toFixed(4), '0.0286'); // 2 of 70
  assert.equal(mannWhitney([1, 4, 5, 8], [2, 3, 6, 7]), 1);
  assert.equal(mannWhitney([5, 5, 5], [5, 5, 5]), 1);
  const many = Array.from({ length: 50 }, (_, i) => i);
  assert.ok(mannWhitney(many, many.map((v) => v + 0.5)) > 0.8);
  assert.ok(mannWhitney(many, many.map((v) => v + 25)) < 1e-4);
});

test('a fall in throughput and a rise of p99 are worse, the opposite is better', () => {
  const slow = run('b', [800, 810, 790, 805], [9, 9.1, 9.2, 8.9]), fast = run('a', [1000, 1010, 990, 1005], [5, 5.1, 5.2, 4.9]);
  assert.deepEqual(verdicts(fast, slow), { throughput: 'worse', p99: 'worse' });
  assert.deepEqual(verdicts(slow, fast), { throughput: 'better', p99: 'better' });
});

test('small differences, wide scatter and single runs are no regression', () => {
  assert.equal(verdicts(run('a', [1000, 1010, 990, 1005]), run('b', [950, 960, 940, 955])).throughput, 'same');
  assert.equal(verdicts(run('a', [1000, 400, 1300, 900]), run('b', [1100, 300, 700, 800])).throughput, 'noise');
  assert.equal(verdicts(run('a', [1000]), run('b', [500])).throughput, 'worse? (too few repeats)');
});

test('files that are no runs, and scenarios that are none, are refused in a line', async (t) => {
  const other = join(tempDir(t), 'other.json');
  writeFileSync(other, '{"name":"other"}');
  for (const [words, ...args] of [[/nothing\.json: ENOENT/, 'compare', 'nothing.json', other], [/other\.json: not written by `bench suite --out`/, 'targets', other],
    [/compare\.test\.mjs: .*JSON/, 'targets', fileURLToPath(import.meta.url)], [/no scenario 'nope'; --list shows them/, 'suite', '--scenario', 'nope']]) {
    const { code, stderr } = await runProgram(t, 'proxyfetch', ['bench', ...args]);
    assert.equal(code, 2, stderr);
    assert.match(stderr, words);
    assert.match(stderr, /^proxyfetch bench \w+: .*\n$/);
  }
});

test('the reports name what they compare, and escape it', () => {
  const a = run('<a>', [1000, 1010, 990, 1005]), b = run('b', [800, 810, 790, 805]);
  b.records[0].histogram = [[1, 5], [2, 7]];
  const rows = compareRuns(a, b, 0.1);
  assert.match(markdown(a, b, rows, 0.1), /1 worse, 0 better/);
  const page = html(a, b, rows, 0.1);
  assert.match(page, /&lt;a&gt;/);
  assert.doesNotMatch(page, /<a>/);
});

test('plots: against concurrency, as a histogram, second by second', () => {
  const a = run('a', [1000]);
  a.records.push({ name: 'knee', status: 'ok', unit: 'ms', ops: 1, curve: [{ c: 1, ops: 10, p50: 1, p99: 2 }, { c: 10, ops: 50, p50: 2, p99: 4 }] },
    { name: 'concurrency-50', status: 'ok', unit: 'ms', ops: 1, ...figuresOf([1, 2, 3]), histogram: [[1, 5], [2, 7]], windows: [3, 4] },
    { name: 'burst', status: 'ok', unit: 'ms', ops: 1, timeline: [[10, 10, 1, 2], [500, 90, 40, 80], [10, 400, 30, 90]] });
  const page = html(a, a, compareRuns(a, a, 0.1), 0.1);
  for (const title of ['Throughput against', 'p50', 'p99', 'histogram', 'Throughput over time', 'second by second: answers', 'second by second: p99'])
    assert.match(page, new RegExp(`<figcaption>[^<]*${title}[^<]*</figcaption><svg[^]*?(polyline|rect)`), title);
  assert.doesNotMatch(page, /NaN|undefined|Infinity/);
  assert.doesNotMatch(html(run('a', [1]), run('b', [1]), [], 0.1), /<svg/);
});
