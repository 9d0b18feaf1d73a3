// The three levels: which one holds, and that every scenario a row reads is there.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { judgeTargets, rows, scenariosOfTargets, targetTable } from './lib/targets.mjs';
import { named, scenarios } from './scenarios/index.mjs';
import { recoverySeconds } from './scenarios/throughput.mjs';

const ok = (name, more) => ({ name, status: 'ok', ...more });
const rowOf = (records, quantity) => judgeTargets(records).find((row) => row.quantity.startsWith(quantity));
const statusOf = (records, quantity) => rowOf(records, quantity).status;

test('a rate reaches the level whose limit it keeps', () => {
  const at = (ops) => statusOf([ok('health', { ops })], 'GET /health');
  assert.deepEqual([30_000, 29_999, 10_000, 9999, 5000, 4999].map(at),
    ['target', 'acceptable', 'acceptable', 'minimum', 'minimum', 'missed']);
});

test('with several parts the worst decides', () => {
  const at = (p50, p99, p99_9) => statusOf([ok('half-load', { facts: { p50, p99, p99_9 } })], 'latency added');
  assert.equal(at(1, 3, 10), 'target');
  assert.equal(at(0.5, 3.1, 9), 'acceptable');
  assert.equal(at(0.5, 2, 51), 'minimum');
  assert.equal(at(0.5, 2, 101), 'missed');
});

test('a part without a limit at a level does not count there', () => {
  const at = (ops, pacedP50) => statusOf([ok('message-path', { ops, facts: { pacedP50, pacedP99: 1 } })], 'message path');
  assert.equal(at(250_000, 5), 'target');
  assert.equal(at(249_999, 1), 'acceptable');
  assert.equal(at(249_999, 1.1), 'minimum');
});

test('the highest rate that was kept up, with few enough errors', () => {
  const of = (offered, errorPercent, keptUp) => ok(`rate-${offered}`, { facts: { offered, errorPercent, keptUp } });
  const at = (...last) => rowOf([of(1000, 0, true), of(7000, 0, true), of(10_000, 0.0099, true), of(20_000, ...last)], 'jobs per node');
  assert.deepEqual([at(0, true).parts[0].value, at(0, true).status], [20_000, 'target']);
  assert.deepEqual([at(0, false).parts[0].value, at(0, false).status], [10_000, 'acceptable']);
  assert.equal(at(0.01, true).parts[0].value, 10_000);
});

test('what was not measured, failed, or is not there yet is no success', () => {
  assert.equal(statusOf([], 'GET /health'), 'not measured');
  assert.equal(statusOf([{ name: 'health', status: 'FAILED: x', ops: 1e6 }], 'GET /health'), 'not measured');
  assert.equal(statusOf([ok('message-sustained', { facts: { grownKiB: undefined } })], 'sustained'), 'not measured');
  assert.equal(statusOf([], 'authorization check'), 'not there yet');
  assert.equal(statusOf([ok('burst', { facts: { lost: 0, recoverySeconds: Infinity } })], 'burst'), 'missed');
});

test('repeats: their median', () => {
  assert.equal(rowOf([1, 40_000, 50_000].map((value) => ok('health', { ops: value })), 'GET /health').parts[0].value, 40_000);
});

test('scenarios: names are unique, the 35 are there, rows read only what exists', () => {
  const names = scenarios.map((s) => s.name);
  assert.equal(new Set(names).size, names.length);
  assert.equal(named.length, 35);
  assert.deepEqual(scenariosOfTargets.filter((name) => !names.includes(name)), []);
  for (const row of rows) assert.ok(row.missing || row.parts.every((part) => part.from.length), row.quantity);
});

test('the table has a line for each quantity', () => {
  const text = targetTable(judgeTargets([ok('health', { ops: 3000 })]));
  assert.equal(text.split('\n').length, rows.length + 2);
  assert.match(text, /GET \/health \| 3,000 \/s \| ≥ 30,000 \/s \| ≥ 10,000 \/s \| ≥ 5,000 \/s \| \*\*missed\*\* \| health/);
});

test('recovery of a burst: the first second after which p99 stays low', () => {
  const seconds = (...p99) => p99.map((v) => [1, 1, v, v]);
  assert.equal(recoverySeconds(seconds(10, 10, 900, 900, 10, 12), 2, 2), 0);
  assert.equal(recoverySeconds(seconds(10, 10, 900, 900, 500, 12), 2, 2), 1);
  assert.equal(recoverySeconds(seconds(10, 10, 900, 900, 12, 500, 20), 2, 2), 2);
  assert.ok(Number.isNaN(recoverySeconds(seconds(10, 10, 900, 900, 12, 500), 2, 2)));
});
