// A client that loses nothing: it keeps a session, returns to it after every break, and submits again,
// under the same submitKey, what it never heard of. It is also an oracle: it remembers all events by
// offset, and says what is wrong with them.
//
//   const client = await SessionClient.open(t, () => system.wsUrl);
//   client.submit('a', { url });                  // start-fetch with submitKey and clientId "a"
//   client.send({ type: 'checkout', … });         // sent once, and again after a break if `again`
//   const event = await client.event((m) => m.clientId === 'a');
//   client.assertDense();
//
// With { patience: ms } it also pings, and takes a connection that is silent for so long for a broken one.
import assert from 'node:assert/strict';
import { connectWs } from './ws_client.mjs';
import { defer, within } from './process.mjs';

export class SessionClient {
  static async open(t, url, options) {
    const client = new SessionClient(t, url, options);
    defer(t, () => client.close());
    await within(client.#connect(), 60_000, 'session');
    return client;
  }
  constructor(t, url, { patience } = {}) {
    Object.assign(this, { t, url, patience, submitted: new Map(), enqueued: new Map(), events: new Map() });
    Object.assign(this, { offset: 0, breaks: 0, gaps: [], errors: [], looking: new Set() });
  }
  close() {
    this.closing = true;
    this.ws?.destroy();
  }

  /** Sends a fetch that is submitted again until it is known to be enqueued. */
  submit(id, message) {
    const full = { type: 'start-fetch', clientId: id, submitKey: id, ...message };
    this.submitted.set(id, full);
    if (this.ready) this.ws.send(full);
  }
  send(message) {
    this.ws.send(message);
  }
  ack() {
    this.ws.send({ type: 'ack', offset: this.offset });
  }

  /** The event (result, late-result, batch-complete, …), old or new, that fits. */
  event(fits, ms = 30_000) {
    const found = new Promise((done) => {
      const look = () => {
        const event = [...this.events.values()].find(fits);
        if (event) this.looking.delete(look), done(event);
      };
      this.looking.add(look);
      look();
    });
    return within(found, ms, `event ${fits}`);
  }
  /** Until every submitted fetch has its result. Gives up when nothing has come for `ms`: slow is not lost. */
  async settled(ms = 60_000) {
    const open = () => {
      const ended = new Set([...this.events.values()].filter((m) => m.type === 'result').map((m) => m.clientId));
      return [...this.submitted.keys()].filter((id) => !ended.has(id));
    };
    const done = new Promise((resolve) => {
      const look = () => open().length === 0 && (this.looking.delete(look), resolve());
      this.looking.add(look);
      look();
    });
    const more = async () => {
      const had = this.events.size;
      await within(done, ms, 'all results').catch((why) => this.events.size > had ? more() : Promise.reject(why));
    };
    await more().catch((why) => {
      const some = open().slice(0, 5).map((id) => `${id} ${this.enqueued.get(id)?.reqId ?? 'not enqueued'}`);
      why.message += `\nwithout a result: ${some} (of ${open().length}); errors: ${JSON.stringify(this.errors.slice(-3))}`
        + `\nready: ${this.ready}, breaks: ${this.breaks}, offset ${this.offset} of ${Math.max(0, ...this.events.keys())}, session ${this.session}`;
      throw why;
    });
  }

  /** Offsets without holes, one result per fetch, none before it was enqueued in this session's view. */
  assertDense() {
    const offsets = [...this.events.keys()].sort((a, b) => a - b);
    assert.deepEqual(offsets, offsets.map((_, i) => i + 1), 'offsets are dense');
    const seen = new Map();
    for (const m of this.events.values()) {
      if (m.type !== 'result') continue;
      assert.ok(!seen.has(m.reqId), `${m.clientId} (${m.reqId}) has two results`);
      seen.set(m.reqId, m);
      const enqueued = this.enqueued.get(m.clientId);
      if (enqueued) assert.equal(m.reqId, enqueued.reqId, `${m.clientId} is one job`);
    }
    assert.deepEqual(this.gaps, []);
  }

  async #connect() {
    while (!this.closing) {
      try {
        this.ws = await connectWs(this.t, this.url(), { ms: this.patience });
        break;
      } catch {
        await new Promise((done) => setTimeout(done, 20)); // it is being restarted: nobody tells us when
      }
    }
    if (this.closing) return;
    const ws = this.ws;
    const watch = this.patience && setInterval(() => this.#watch(ws), this.patience / 2);
    ws.closed.then(() => {
      clearInterval(watch);
      this.ready = false;
      this.breaks++;
      if (!this.closing) this.opened = this.#connect();
    });
    ws.send(this.session ? { type: 'resume', session: this.session, offset: this.offset } : { type: 'resume' });
    ws.looking.add(() => this.#take(ws));
    const hello = await ws.next((m) => m.type === 'session' || m.type === 'error').catch(() => null);
    if (!hello || hello.code === 'busy') { // it broke again, or no memory: the next connection goes on from here
      ws.destroy();
      await ws.closed; // then `opened` is the next one, and no longer this
      return this.closing ? undefined : this.opened;
    }
    assert.equal(hello.type, 'session', JSON.stringify(hello));
    this.session = hello.session;
    this.ready = true;
    this.#take(ws);
    for (const [id, message] of this.submitted) if (!this.enqueued.has(id)) ws.send(message);
  }

  /** Nothing since the ping before: it is broken, and nobody told us. */
  #watch(ws) {
    if (ws.pinged && ws.pinged.had === ws.messages.length) {
      if (++ws.pinged.times > 2) ws.destroy();
    } else {
      ws.pinged = { had: ws.messages.length, times: 1 };
    }
    ws.send({ type: 'ping', id: 1 });
  }

  #take(ws) {
    ws.taken ??= 0;
    for (; ws.taken < ws.messages.length; ws.taken++) {
      const m = ws.messages[ws.taken];
      if (m.type === 'enqueued') {
        const known = this.enqueued.get(m.clientId);
        if (known && this.submitted.has(m.clientId)) assert.equal(m.reqId, known.reqId, `${m.clientId} is one job`);
        this.enqueued.set(m.clientId, m);
      }
      if (m.type === 'gap') this.gaps.push(m);
      else if (m.type === 'error') this.errors.push(m);
      if (m.offset === undefined || m.type === 'session') continue;
      const before = this.events.get(m.offset);
      if (before) assert.deepEqual(m, before, `offset ${m.offset} says the same each time`);
      this.events.set(m.offset, m);
      if (m.offset === this.offset + 1) this.offset = m.offset;
    }
    for (const look of [...this.looking]) look();
  }
}
