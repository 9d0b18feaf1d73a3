// A WebSocket client for tests, where Node has none of its own (before 22). Keeps every message.
//
//   const ws = await connectWs(t, origin.url);            // http://… or ws://…, with a path if need be
//   ws.send({ type: 'start-fetch', url, clientId: '1' });  // or text, sent as it is
//   const result = await ws.next((m) => m.type === 'result' && m.clientId === '1');
//   ws.messages                                            // all so far, parsed
//   ws.raw(bytes); ws.close(); await ws.closed             // {code, reason}
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { within } from './process.mjs';

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
export const MESSAGE_MS = 30_000; // how long next() waits

/** One frame from client to server (masked). `length` announces another length than the payload's. */
export function maskedFrame(opcode, payload, { final = true, length } = {}) {
  const body = Buffer.from(payload), len = length ?? body.length;
  const extra = len < 126 ? 0 : len < 65536 ? 2 : 8;
  const head = Buffer.alloc(2 + extra + 4);
  head[0] = (final ? 0x80 : 0) | opcode;
  head[1] = 0x80 | (extra === 0 ? len : extra === 2 ? 126 : 127);
  if (extra === 2) head.writeUInt16BE(len, 2);
  if (extra === 8) head.writeBigUInt64BE(BigInt(len), 2);
  const mask = randomBytes(4);
  mask.copy(head, 2 + extra);
  for (let i = 0; i < body.length; i++) body[i] ^= mask[i & 3];
  return Buffer.concat([head, body]);
}

export class WsClient {
  constructor(tcp) {
    Object.assign(this, { tcp, messages: [], rest: Buffer.alloc(0), parts: [], looking: new Set() });
    this.closed = new Promise((done) => {
      tcp.on('close', () => {
        this.status ??= { code: 1006, reason: '' };
        done(this.status);
        this.#wake();
      });
    });
    tcp.on('error', () => {}); // 'close' follows
    tcp.on('data', (chunk) => this.#read(chunk));
  }

  send(message) {
    this.raw(maskedFrame(1, typeof message === 'string' ? message : JSON.stringify(message)));
  }
  raw(bytes) {
    this.tcp.write(bytes);
  }
  close(code = 1000) {
    this.raw(maskedFrame(8, Buffer.from([code >> 8, code & 255])));
    return this.closed;
  }
  destroy() {
    this.tcp.destroy();
    return this.closed;
  }

  /** The first message, old or new, that fits and comes at or after index `after`. */
  next(fits = () => true, { after = 0, ms = MESSAGE_MS, what = fits } = {}) {
    let seen = after;
    const found = new Promise((done, failed) => {
      const look = () => {
        for (; seen < this.messages.length; seen++)
          if (fits(this.messages[seen])) return this.looking.delete(look), done(this.messages[seen]);
        if (this.status)
          this.looking.delete(look), failed(new Error(`closed (${JSON.stringify(this.status)}) before ${what}`));
      };
      this.looking.add(look);
      look();
    });
    return within(found, ms, `message ${what}`).catch((why) => {
      why.message += `\nlast messages: ${JSON.stringify(this.messages.slice(-5))}`;
      throw why;
    });
  }
  /** Resolves when `count` messages fit. */
  async count(fits, count, ms = MESSAGE_MS) {
    let have = 0;
    await this.next((m) => fits(m) && ++have === count, { ms, what: `${count} messages ${fits}` });
  }

  #read(chunk) {
    this.rest = this.rest.length ? Buffer.concat([this.rest, chunk]) : chunk;
    for (;;) {
      const b = this.rest;
      if (b.length < 2) return;
      let len = b[1], at = 2;
      if (len === 126) {
        if (b.length < 4) return;
        (len = b.readUInt16BE(2)), (at = 4);
      } else if (len === 127) {
        if (b.length < 10) return;
        (len = Number(b.readBigUInt64BE(2))), (at = 10);
      }
      if (b.length < at + len) return;
      const payload = b.subarray(at, at + len);
      this.rest = b.subarray(at + len);
      this.#frame(b[0] & 15, b[0] & 0x80, payload);
    }
  }
  #frame(opcode, final, payload) {
    if (opcode === 8) {
      this.status ??= { code: payload.length < 2 ? 1005 : payload.readUInt16BE(0), reason: payload.subarray(2).toString() };
      this.tcp.end(maskedFrame(8, payload.subarray(0, 2)));
    } else if (opcode === 9) {
      this.raw(maskedFrame(10, payload));
    } else if (opcode < 2) {
      this.parts.push(payload);
      if (!final) return;
      this.messages.push(JSON.parse(Buffer.concat(this.parts).toString('utf8')));
      this.parts = [];
      this.#wake();
    }
  }
  #wake() {
    for (const look of [...this.looking]) look();
  }
}

/** Opens a connection; rejects with the status if the server refuses the upgrade. */
export async function connectWs(t, url, { headers = {}, ms = MESSAGE_MS } = {}) {
  const { hostname, port, pathname, search } = new URL(url.replace(/^ws:/, 'http:'));
  const tcp = connect(Number(port), hostname.replace(/[[\]]/g, ''));
  t.after(() => tcp.destroy());
  tcp.setNoDelay(true);
  const key = randomBytes(16).toString('base64');
  const all = { Host: `${hostname}:${port}`, Upgrade: 'websocket', Connection: 'Upgrade', 'Sec-WebSocket-Key': key,
    'Sec-WebSocket-Version': 13, ...headers };
  tcp.write(`GET ${pathname}${search} HTTP/1.1\r\n${Object.entries(all).map(([k, v]) => `${k}: ${v}\r\n`).join('')}\r\n`);
  let head = Buffer.alloc(0);
  const answer = new Promise((done, failed) => {
    tcp.on('error', failed);
    tcp.on('close', () => failed(new Error(`closed during the handshake: ${head}`)));
    tcp.on('end', () => failed(new Error(`closed during the handshake: ${head}`)));
    tcp.on('data', function read(chunk) {
      head = Buffer.concat([head, chunk]);
      const end = head.indexOf('\r\n\r\n');
      if (end < 0) return;
      tcp.removeAllListeners();
      tcp.pause();
      tcp.unshift(head.subarray(end + 4));
      done(head.subarray(0, end).toString());
    });
  });
  const text = await within(answer, ms, 'answer to the upgrade').catch((why) => {
    tcp.destroy();
    throw why;
  });
  const status = Number(/^HTTP\/1\.[01] (\d+)/.exec(text)?.[1]);
  if (status !== 101) {
    tcp.destroy();
    throw Object.assign(new Error(`refused with ${status}`), { status, head: text });
  }
  const accept = createHash('sha1').update(key + GUID).digest('base64');
  assert.equal(/^sec-websocket-accept: *(.*)$/im.exec(text)?.[1], accept);
  const client = new WsClient(tcp);
  tcp.resume();
  return client;
}
