// The work that a system does while one of its parts fails, and what must be true when it is done.
import assert from 'node:assert/strict';
import { until } from '../process/lib/process.mjs';
import { http } from '../process/lib/system.mjs';

const ATTEMPTS = 4;

/** Short and long answers, requests that may be repeated and that may not (those with a body of bodyLength(i)),
 *  and a target that fails at first and is retried. */
export function submitAll(client, target, prefix, count, bodyLength) {
  const paths = ['/uuid', '/drip?bytes=40&ms=2', '/delay/30', '/flaky/1'];
  for (let i = 0; i < count; i++) {
    const key = `${prefix}${i}`;
    const path = paths[i % paths.length];
    const post = i % 3 === 0;
    client.submit(key, {
      url: `${target}${path}${path.includes('?') ? '&' : '?'}key=${key}`,
      ...(post ? { method: 'POST', body: 'x'.repeat(bodyLength(i)) } : {}),
      ...(path.startsWith('/flaky') && !post ? { retry: { attempts: ATTEMPTS, statuses: ['5xx'] } } : {}),
    });
  }
}

/** Each target was asked as often as its result says; a request that must not be repeated may have failed with
 *  one of these certainties. words: what is being done. */
export async function assertHits(system, client, certainties, words) {
  for (const m of client.events.values()) {
    if (m.type !== 'result') continue;
    const { hits } = (await http(`${system.target}/hits/${m.clientId}`)).body;
    const what = `${words}: ${m.clientId}: ${hits} requests, ${JSON.stringify(m)}`;
    if (client.submitted.get(m.clientId).method === 'POST') {
      assert.ok(hits <= 1, what);
      if (m.success) assert.equal(hits, 1, what);
      else assert.ok(certainties.includes(m.certainty), what);
      if (m.certainty === 'not_sent') assert.equal(hits, 0, what);
    } else {
      assert.ok(m.success, what);
      assert.ok(hits >= 1 && hits <= ATTEMPTS, what);
    }
  }
}

export async function assertQuiet(system) {
  await until(async () => (await http(`${system.httpUrl}/v1/jobs`)).body.total === 0, 'no job is left at the origin');
  const metrics = await (await fetch(`${system.httpUrl}/metrics`)).text();
  assert.equal(/^pf_invariant_failures_total (\d+)$/m.exec(metrics)[1], '0',
    `broken invariants:\n${system.procs.origin.stderr.slice(-4000)}`);
}
