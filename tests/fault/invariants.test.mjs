// A rule that must always hold is broken on purpose in each role (PF_BREAK, base/fault.h): the process has to
// notice it by itself, while nobody asks, to count it, and to say so.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { start, tempDir } from '../process/lib/process.mjs';
import { startSystem } from '../process/lib/system.mjs';
import { FakeExecutor, FakeOrigin } from '../process/lib/hop.mjs';
import { startOrigin, startQueue } from '../process/lib/hops.mjs';
import { connectWs } from '../process/lib/ws_client.mjs';

/** It was found and logged before anybody looked; then all who look see it. */
async function assertNoticed(proc) {
  await proc.waitFor(/event=invariant_broken/);
  const text = await (await fetch(`${proc.url}/metrics`)).text();
  const [, count] = /^pf_invariant_failures_total (\d+)$/m.exec(text);
  assert.ok(Number(count) >= 1, count);
  const health = await (await fetch(`${proc.url}/health/detailed`)).json();
  assert.equal(health.status, 'degraded');
  assert.ok(health.reasons.some(({ code }) => code === 'invariant_broken'), JSON.stringify(health.reasons));
}

test('origin: a pending job that is never announced again', { timeout: 60_000 }, async (t) => {
  const system = await startSystem(t, {
    env: { origin: { PF_BREAK: 'origin.reannounce' } }, args: { executor: ['--drain-ms', '100'] } });
  const ws = await connectWs(t, system.wsUrl);
  ws.send({ type: 'start-fetch', url: `${system.target}/hang`, clientId: 'c' });
  await ws.next((m) => m.type === 'enqueued');
  await assertNoticed(system.procs.origin);
});

test('orchestrator: a job that waits for its retry without a timer', { timeout: 60_000 }, async (t) => {
  const orchestrator = await start(t, 'proxyfetch-orchestrator', ['--listen', 'localhost:0', '--data', tempDir(t)],
    { env: { PF_BREAK: 'orchestrator.retry' } });
  const origin = await FakeOrigin.start(t, orchestrator.url);
  const executor = await FakeExecutor.start(t, orchestrator.url);
  await origin.announce([origin.job(1)]);
  await executor.retry(await executor.next());
  await assertNoticed(orchestrator);
});

test('executor: a job whose report failed and is not repeated', { timeout: 60_000 }, async (t) => {
  const target = await start(t, 'proxyfetch-test-endpoints', ['--listen', 'localhost:0']);
  const queue = await startQueue(t), origin = await startOrigin(t, queue);
  queue.onComplete = () => 503;
  const executor = await start(t, 'proxyfetch-executor', ['--listen', '127.0.0.1:0', '--orchestrator', queue.url,
    '--heartbeat-ms', '100', '--drain-ms', '100', '--allow-target', `127.0.0.1:${target.port}`],
    { env: { PF_BREAK: 'executor.again' } });
  await queue.joined();
  await origin.result(await queue.fetch(origin, { url: `http://127.0.0.1:${target.port}/uuid` }));
  await assertNoticed(executor);
});
