// A TCP proxy that is a bad network: it refuses, resets, truncates, half-closes, stalls and delays
// connections at any byte, and sends whole HTTP requests a second time, at once or seconds later, whose
// answers nobody sees. Which of it happens where is drawn from a seed.
//
//   const proxy = await FaultProxy.start(t, { name: 'jobs', seed, upstream: () => port });
//   proxy.url                       // what the client of this hop is told
//   proxy.calm()                    // from now on a good network; what was held back goes on
//   proxy.counts                    // what was done, by kind
//
// Each connection gets a fate, which strikes after a number of bytes in one direction. If it lives on, it
// gets the next one; else the peers come back with a new connection. `strength` divides that number.
import { createServer, connect } from 'node:net';
import { once } from 'node:events';
import { defer } from '../process/lib/process.mjs';
import { interruption, pause, Random } from './random.mjs';

// Node 18 and 20 can spin for minutes while they tear down what is left of sockets that were reset in the
// middle of a write. There is nothing left to do by then: leave at once, with the verdict's code.
process.on('exit', (code) => process.exit(code));

export const FATES = ['refuse', 'reset', 'truncate', 'half-close', 'stall', 'delay'];
const BYTES_MAX = 64 * 1024;      // after which a fate strikes, at most
const STALL_MS = [100, 5000];     // also longer than a lease, and than the time-out of a call
const DELAY_MS = [1, 400];        // of each piece
const REPLAY_MS = [1, 4000];      // after the first time; also beyond a lease
const REPLAY_WAIT_MS = 1000;      // the second answer is waited for, and thrown away
const REQUEST_MAX = 2 * 1024 * 1024;

/** Cuts what a client sends into HTTP requests; gives up for good on what is not a plain one. */
export class RequestRecorder {
  constructor(onRequest) {
    Object.assign(this, { onRequest, bytes: Buffer.alloc(0) });
  }
  add(chunk) {
    if (!this.bytes) return;
    this.bytes = Buffer.concat([this.bytes, chunk]);
    for (;;) {
      const head = this.bytes.indexOf('\r\n\r\n');
      if (head < 0) break;
      const text = this.bytes.subarray(0, head + 2).toString('latin1');
      if (/^(upgrade|transfer-encoding):/im.test(text)) return void (this.bytes = null);
      const end = head + 4 + Number(/^content-length: *(\d+)/im.exec(text)?.[1] ?? 0);
      if (this.bytes.length < end) break;
      this.onRequest(Buffer.from(this.bytes.subarray(0, end)));
      this.bytes = this.bytes.subarray(end);
    }
    if (this.bytes.length > REQUEST_MAX) this.bytes = null;
  }
}

/** One connection of a client and its connection to the server. */
class Link {
  constructor(proxy, client, fate) {
    Object.assign(this, { proxy, client, fate, passed: { up: 0, down: 0 }, held: Promise.resolve(), delayMs: null });
    this.server = connect({ port: proxy.upstream() ?? 1, host: '127.0.0.1', allowHalfOpen: true });
    this.tails = { up: Promise.resolve(), down: Promise.resolve() };
    const recorder = new RequestRecorder((request) => proxy.maybeReplay(request));
    this.#forward('up', client, this.server, (chunk) => recorder.add(chunk));
    this.#forward('down', this.server, client, () => {});
  }
  reset() {
    for (const tcp of [this.client, this.server]) tcp.resetAndDestroy();
    this.proxy.links.delete(this);
  }

  #forward(way, from, to, look) {
    from.setNoDelay(true);
    from.on('data', (chunk) => {
      look(chunk);
      this.#inOrder(way, () => this.#pass(way, to, chunk));
    });
    from.on('end', () => this.#inOrder(way, () => to.end()));
    from.on('error', () => this.reset());
    from.on('close', () => {
      if (to.destroyed) this.proxy.links.delete(this);
    });
  }
  #inOrder(way, action) {
    this.tails[way] = this.tails[way].then(async () => {
      if (this.delayMs) await this.proxy.wait(this.delayMs());
      await this.held;
      if (!this.client.destroyed && !this.server.destroyed) action();
    });
  }
  #pass(way, to, chunk) {
    const { fate } = this;
    const before = this.passed[way];
    this.passed[way] += chunk.length; // since the last fate
    if (fate && this.proxy.faulty && way === fate.way && this.passed[way] >= fate.at) {
      this.fate = null;
      const kept = Math.max(0, fate.at - before);
      if (kept > 0) to.write(chunk.subarray(0, kept));
      this.#strike(fate, to, chunk.subarray(kept));
    } else if (!this.muted || this.muted !== way) {
      to.write(chunk);
    }
  }
  #strike({ kind, way, again }, to, rest) {
    this.proxy.count(kind);
    if (kind === 'stall' || kind === 'delay') {
      this.fate = this.proxy.draw(kind);
      this.passed[way] = 0;
    }
    if (kind === 'reset') return this.reset();
    if (kind === 'truncate') {
      this.client.end();
      this.server.end();
      this.muted = way;
    } else if (kind === 'half-close') {
      to.end();
      this.muted = way; // the other direction lives on, until a peer has enough of it
    } else if (kind === 'stall') {
      this.held = this.proxy.wait(again.between(...STALL_MS)).then(() => {
        if (this.proxy.faulty && again.chance(0.5)) this.reset();
        else if (!to.destroyed) to.write(rest);
      });
    } else {
      this.delayMs = () => (this.proxy.faulty ? again.logBetween(...DELAY_MS) : 0); // for as long as it lives
      to.write(rest);
    }
  }
}

export class FaultProxy {
  static async start(t, options) {
    const proxy = new FaultProxy(options);
    proxy.tcp.listen(0, '127.0.0.1');
    await once(proxy.tcp, 'listening');
    proxy.port = proxy.tcp.address().port;
    proxy.url = `http://127.0.0.1:${proxy.port}`;
    defer(t, () => proxy.close());
    return proxy;
  }
  constructor({ name, seed, upstream, strength = 1, fates = FATES, replayChance = 0.05 }) {
    Object.assign(this, { name, upstream, strength, fates, replayChance, faulty: true });
    this.random = new Random(seed, name);
    this.counts = { connections: 0, requests: 0, replay: 0, ...Object.fromEntries(fates.map((fate) => [fate, 0])) };
    this.links = new Set();
    this.replays = new Set();
    this.good = interruption();
    this.tcp = createServer({ allowHalfOpen: true }, (client) => this.#accept(client));
  }
  count(kind) {
    this.counts[kind]++;
  }
  wait(ms) {
    return pause(ms, this.good.signal);
  }
  calm() {
    this.faulty = false;
    this.good.abort();
  }
  async close() {
    this.calm();
    for (const link of [...this.links]) link.reset();
    for (const tcp of this.replays) tcp.destroy();
    await new Promise((done) => this.tcp.close(done));
  }

  #accept(client) {
    this.count('connections');
    const fate = this.faulty ? this.draw() : null;
    if (fate?.kind === 'refuse') {
      this.count('refuse');
      client.on('error', () => {});
      return client.resetAndDestroy();
    }
    this.links.add(new Link(this, client, fate));
  }
  draw(before) {
    if (this.strength === 0) return null;
    return {
      kind: this.random.pick(this.fates.filter((kind) => !before || (kind !== 'refuse' && kind !== before))),
      way: this.random.pick(['up', 'down']),
      at: Math.ceil(this.random.logBetween(1, BYTES_MAX / this.strength)),
      again: new Random(this.random.whole(0, 2 ** 32 - 1)),
    };
  }

  /** The server gets some requests twice: the second time on a connection of its own. */
  async maybeReplay(request) {
    this.count('requests');
    if (!this.faulty || !this.random.chance(this.replayChance)) return;
    const later = this.random.chance(0.5) ? 0 : this.random.logBetween(...REPLAY_MS);
    if (later > 0) await this.wait(later);
    const port = this.upstream();
    if (!this.faulty || !port) return;
    this.count('replay');
    const tcp = connect(port, '127.0.0.1');
    this.replays.add(tcp);
    tcp.on('error', () => {}); // it may be down
    tcp.on('close', () => this.replays.delete(tcp));
    tcp.setTimeout(REPLAY_WAIT_MS, () => tcp.destroy());
    tcp.resume();
    tcp.write(request);
  }
}
