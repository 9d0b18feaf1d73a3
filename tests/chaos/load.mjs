// Work of every kind, at a rate, for a few sessions; and the oracle that knows what may become of it. It
// asks the target how often each request was made, and the sessions what they were told: never the
// processes under test.
import assert from 'node:assert/strict';
import { http } from '../process/lib/system.mjs';
import { SessionClient } from '../process/lib/session_client.mjs';
import { pause, Random } from './random.mjs';

export const ATTEMPTS = 4;
const SESSIONS = 3;
const PATIENCE_MS = 1500;
const TICK_MS = 20;
const DEADLINE_MS = 300;
const ACK_EVERY = 200; // events

/** Ends that a fault between the processes explains; of a target that fails, and of what the client asked for. */
const BY_FAULT = ['executor_lost', 'poison', 'queue_timeout'];
const KINDS = [
  { share: 30, path: () => '/uuid?' },
  { share: 10, path: (dice) => `/delay/${dice.whole(1, 800)}?` },
  { share: 8, path: (dice) => `/drip?bytes=${dice.whole(1, 60)}&ms=5&`, more: { include: ['body', 'headers'] } },
  { share: 8, path: () => '/flaky/1?', more: { retry: { attempts: ATTEMPTS, statuses: ['5xx'] } }, ends: ['status_named'] },
  { share: 6, path: () => '/flaky/1?fail=reset&', ends: ['reset'] },
  { share: 4, path: () => '/uuid?', more: { method: 'PUT', body: 'put' } },
  { share: 15, post: true, path: () => '/uuid?' },
  { share: 8, post: true, path: (dice) => `/delay/${dice.whole(1, 800)}?` },
  { share: 3, post: true, path: () => '/drip?bytes=30&ms=5&' },
  { share: 2, post: true, path: () => '/flaky/1?fail=reset&', ends: ['reset'] },
  { share: 3, path: () => `/delay/${DEADLINE_MS * 3}?`, more: { deadlineMs: DEADLINE_MS }, ends: ['deadline'] },
  { share: 3, post: true, path: () => '/delay/600?', cancel: true, ends: ['canceled'] },
];
const SHARES = KINDS.reduce((sum, kind) => sum + kind.share, 0);

function draw(dice) {
  let at = dice.between(0, SHARES);
  return KINDS.find((kind) => (at -= kind.share) < 0) ?? KINDS[0];
}

export class Load {
  constructor({ seed, target, rate }) {
    Object.assign(this, { target, rate, dice: new Random(seed, 'load'), jobs: new Map(), shops: new Set() });
  }
  async open(t, url) {
    const connect = (actor) => SessionClient.open(t, () => url() + actor, { patience: PATIENCE_MS });
    this.clients = await Promise.all(
      Array.from({ length: SESSIONS }, (_, i) => connect(`actors/proxy/chaos${i}`)));
    this.shop = await connect('actors/checkout/chaos');
  }

  /** Submits until the signal says stop. */
  async run(signal) {
    const start = Date.now();
    let shopped = 0;
    while (!signal.aborted) {
      const due = ((Date.now() - start) * this.rate) / 1000;
      while (this.jobs.size < due) this.#submit(`j${this.jobs.size}`);
      if (this.shop.ready && shopped < (Date.now() - start) / 1000) {
        const clientId = `shop${shopped++}`;
        this.shops.add(clientId);
        this.shop.send({ type: 'checkout', clientId, base: this.target, items: 3 });
      }
      for (const client of this.clients) this.#look(client);
      await pause(TICK_MS, signal);
    }
  }
  #submit(key) {
    const kind = draw(this.dice);
    const client = this.clients[this.jobs.size % this.clients.length];
    this.jobs.set(key, { kind, client });
    const method = kind.post ? { method: 'POST', body: 'x' } : {};
    client.submit(key, { url: `${this.target}${kind.path(this.dice)}key=${key}`, ...method, ...kind.more });
  }
  /** Cancels what is to be canceled once its id is known, and acknowledges from time to time. */
  #look(client) {
    if (!client.ready) return;
    for (const [key, job] of this.jobs) {
      if (!job.kind.cancel || job.client !== client || job.canceled || !client.enqueued.has(key)) continue;
      job.canceled = true;
      client.ws.send({ type: 'cancel', reqId: client.enqueued.get(key).reqId });
    }
    if (client.offset - (client.acked ?? 0) > ACK_EVERY) {
      client.acked = client.offset;
      client.ack();
    }
  }

  /** Until every job, acknowledged or not, has its result. */
  async settled(ms) {
    await Promise.all(this.clients.map((client) => client.settled(ms)));
  }

  /** Nothing lost, nothing twice. Returns the figures. `lives` is how many queues there have been. */
  async judge({ lives = 1, ends = [] } = {}) {
    const figures = { jobs: this.jobs.size, enqueued: 0, ok: 0, ends: {}, breaks: 0, late: 0, requests: 0 };
    for (const client of [...this.clients, this.shop]) {
      client.assertDense();
      figures.breaks += client.breaks;
    }
    for (const client of this.clients) {
      // A cancel may come too late. So may a submit that was repeated because no `enqueued` had come: its result has
      // been heard and acknowledged, and so it is kept no longer.
      const heard = new Set([...client.events.values()].filter((m) => m.type === 'result').map((m) => m.clientId));
      const late = (m) => m.code === 'not_pending' || (m.code === 'result_expired' && heard.has(m.clientId));
      const wrong = client.errors.filter((m) => !late(m));
      assert.deepEqual(wrong, [], 'no refusal');
      figures.enqueued += client.enqueued.size;
      for (const m of client.events.values()) if (m.type === 'late-result') figures.late++;
    }
    const results = new Map();
    for (const client of this.clients)
      for (const m of client.events.values()) {
        if (m.type !== 'result') continue;
        assert.ok(!results.has(m.clientId), `${m.clientId} has two results`);
        results.set(m.clientId, m);
      }
    const keys = [...this.jobs.keys()];
    for (let i = 0; i < keys.length; i += 50)
      await Promise.all(keys.slice(i, i + 50).map(async (key) => {
        const { body } = await http(`${this.target}/hits/${key}`);
        this.#judgeJob(key, results.get(key), body.hits, { lives, ends }, figures);
      }));
    this.#judgeShop(figures);
    return figures;
  }
  #judgeJob(key, result, hits, { lives, ends }, figures) {
    const { kind, client } = this.jobs.get(key);
    const words = `${key}: ${hits} requests, ${JSON.stringify(client.submitted.get(key))}, ${JSON.stringify(result)}`;
    assert.ok(result, `lost: ${words}`);
    assert.ok(hits <= (kind.post ? 1 : ATTEMPTS * lives), words);
    figures.requests += hits;
    if (result.success) {
      assert.ok(hits >= 1, words);
      figures.ok++;
    } else {
      assert.ok([...BY_FAULT, ...ends, ...(kind.ends ?? [])].includes(result.code), words);
      if (result.certainty === 'not_sent') assert.equal(hits, 0, words);
      figures.ends[result.code] = (figures.ends[result.code] ?? 0) + 1;
    }
  }
  /** A chain that was begun ends once; one whose first message was lost never began. */
  #judgeShop(figures) {
    const ended = [...this.shop.events.values()].map((m) => m.clientId);
    assert.equal(new Set(ended).size, ended.length, `a chain ends once: ${ended}`);
    for (const clientId of ended) assert.ok(this.shops.has(clientId), clientId);
    assert.ok(ended.length > 0, 'no chain came to its end');
    figures.chains = ended.length;
  }
}
