// The orchestrator's output gate, with a disk that takes its time: while a sync has not returned, the process goes
// on with everything else, and nobody hears of what that sync is to make durable.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';

import { start, tempDir, until } from '../process/lib/process.mjs';
import { FakeExecutor, FakeOrigin } from '../process/lib/hop.mjs';
import { Failing } from './failing.mjs';

/** A slow commit, so that the next one is the store's thread's: after a quick one the loop commits by itself, and would
 *  be held with the sync. */
async function slowCommit(failing, origin) {
  failing.arm('sync', 'hold', 1);
  const end = origin.announce([origin.job(nextJob++)]);
  await until(() => failing.fired, 'a sync is held');
  failing.disarm();
  assert.equal((await end)[0].answer, 'queued');
}
let nextJob = 1;

/** Does the work while its sync is held; what it comes to is known only after that. */
async function held(failing, executor, work, during = () => {}) {
  failing.arm('sync', 'hold', 1);
  let answer;
  const end = work().then((value) => (answer = value));
  await until(() => failing.fired, 'a sync is held');
  await executor.beat(); // answered: the loop is not held, and has been through its turns
  await executor.beat();
  during();
  const early = answer;
  failing.disarm();
  await end;
  return { early, answer };
}

test('nothing leaves before its commit', async (t) => {
  const failing = new Failing(join(tempDir(t), 'failing'));
  const orchestrator = await start(t, 'proxyfetch-orchestrator',
    ['--listen', 'localhost:0', '--data', tempDir(t)], { env: failing.env });
  const origin = await FakeOrigin.start(t, orchestrator.url);
  const executor = await FakeExecutor.start(t, orchestrator.url);
  let item;

  await t.test('a job is not dispatched', async () => {
    let dispatched;
    await slowCommit(failing, origin);
    await executor.next();
    await held(failing, executor, () => origin.announce([origin.job(nextJob++)]), () => (dispatched = executor.dispatches.size));
    assert.equal(dispatched, 0);
    item = await executor.next();
  });

  await t.test('a job is not acknowledged', async () => {
    executor.slots = 0; // or its answer would wait behind its dispatch
    await executor.beat();
    await slowCommit(failing, origin);
    const { early, answer } = await held(failing, executor, () => origin.announce([origin.job(nextJob++)]));
    assert.equal(early, undefined);
    assert.equal(answer[0].answer, 'queued');
  });

  await t.test('the failure of an attempt is not acknowledged', async () => {
    await slowCommit(failing, origin);
    const { early, answer } = await held(failing, executor, () => executor.retry(item));
    assert.equal(early, undefined);
    assert.equal(answer, 'ok');
  });
});
