// The queue's database is deleted while its process is down: jobs come again, at most once stays at most once.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chaos } from './chaos.mjs';

test('the queue forgets everything, several times', { timeout: 240_000 }, async (t) => {
  const victims = ['orchestrator', 'executor-1'];
  const report = await chaos(t, { kills: 8, victims, strength: 1, forgets: true, ends: ['queue_lost'] });
  assert.ok(report.amnesias >= 2, 'it forgot');
});
