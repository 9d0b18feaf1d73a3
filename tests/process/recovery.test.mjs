// A restart with many jobs pending: they are read page by page, and new work goes on meanwhile.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { until } from './lib/process.mjs';
import { http, startSystem } from './lib/system.mjs';
import { connectWs } from './lib/ws_client.mjs';

const BATCH = 10_000, BATCHES = 2;
const metric = async (system, name) => {
  const text = await (await fetch(`${system.httpUrl}/metrics`)).text();
  return Number(new RegExp(`^${name} (.*)$`, 'm').exec(text)[1]);
};

test('20,000 pending jobs survive a kill of origin and queue, and a new fetch is served', { timeout: 200_000 }, async (t) => {
  const system = await startSystem(t);
  await system.crash('executor');
  const ws = await connectWs(t, system.wsUrl);
  for (let i = 0; i < BATCHES; i++)
    ws.send({ type: 'start-batch-fetch', batchId: `b${i}`, count: BATCH, url: `${system.target}/uuid?key=old` });
  await until(async () => (await metric(system, 'pf_enqueued_total')) === BATCH * BATCHES, 'all are enqueued', 60_000);
  await system.crash('origin');
  await system.crash('orchestrator');

  for (const role of ['orchestrator', 'executor', 'origin']) await system.restart(role);
  const again = await connectWs(t, system.wsUrl);
  again.send({ type: 'start-fetch', url: `${system.target}/uuid`, clientId: 'new' });
  const result = await again.next((m) => m.type === 'result', { ms: 60_000 });
  assert.equal(result.clientId, 'new');
  assert.equal(result.success, true);

  const hits = async () => (await http(`${system.target}/hits/old`)).body.hits;
  await until(async () => (await hits()) >= BATCH * BATCHES, 'none is lost', 60_000);
  await until(async () => (await http(`${system.httpUrl}/v1/jobs?limit=1`)).body.total === 0, 'all have ended', 60_000);
  assert.equal(await hits(), BATCH * BATCHES, 'none was sent twice: none had been leased before');
  assert.equal(await metric(system, 'pf_invariant_failures_total'), 0);
});
