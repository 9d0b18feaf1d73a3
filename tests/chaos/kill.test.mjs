// kill -9 and SIGSTOP of every role, at random, under load, with a bad network on every hop.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chaos } from './chaos.mjs';

test('every role is killed and frozen again and again', { timeout: 240_000 }, async (t) => {
  const report = await chaos(t, { kills: 30, strength: 2 });
  assert.ok(report.kills >= 30 && report.ok > 0 && report.breaks > 0, 'it was chaos');
});
