// Nobody is killed, but no hop can be relied on.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chaos } from './chaos.mjs';
import { FATES } from './fault_proxy.mjs';

test('every hop loses, delays, truncates and repeats', { timeout: 240_000 }, async (t) => {
  const { faults } = await chaos(t, { seconds: 15, strength: 16 });
  for (const kind of [...FATES, 'replay']) assert.ok(faults[kind] > 0, `${kind} never happened`);
});
