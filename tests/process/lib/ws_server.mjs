// A WebSocket server for tests of clients: text messages in, text messages (or raw bytes) out. It
// answers as scripted, also wrongly. Node 18, built-in modules only.
//
//   const server = await wsServer(t, (socket, message) => socket.send({ type: 'pong' }));
//   server.url                       // "ws://127.0.0.1:PORT/"
//   socket.send(object) .raw(bytes) .close(code, reason) .destroy()
//
// `onMessage(socket, object)` is called for each text message; `onRequest(req, res)` answers plain HTTP.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

/** One frame from server to client (unmasked). */
export function frame(opcode, payload, { final = true } = {}) {
  const body = Buffer.from(payload);
  const head = body.length < 126 ? Buffer.alloc(2) : Buffer.alloc(body.length < 65536 ? 4 : 10);
  head[0] = (final ? 0x80 : 0) | opcode;
  if (body.length < 126) head[1] = body.length;
  else if (body.length < 65536) (head[1] = 126), head.writeUInt16BE(body.length, 2);
  else (head[1] = 127), head.writeBigUInt64BE(BigInt(body.length), 2);
  return Buffer.concat([head, body]);
}

class ServerSocket {
  constructor(tcp, path, onMessage) {
    Object.assign(this, { tcp, path, onMessage, rest: Buffer.alloc(0), pings: 0 });
    tcp.on('data', (chunk) => this.#read(chunk));
    tcp.on('error', () => {}); // the client may go at any time
  }
  send(message) {
    this.raw(frame(1, typeof message === 'string' ? message : JSON.stringify(message)));
  }
  raw(bytes) {
    this.tcp.write(bytes);
  }
  close(code, reason = '') {
    const payload = Buffer.alloc(2 + reason.length);
    payload.writeUInt16BE(code);
    payload.write(reason, 2);
    this.tcp.end(frame(8, payload));
  }
  destroy() {
    this.tcp.destroy();
  }
  #read(chunk) {
    this.rest = Buffer.concat([this.rest, chunk]);
    for (;;) {
      const b = this.rest;
      if (b.length < 2) return;
      let len = b[1] & 127, at = 2;
      if (len === 126) (len = b.length < 4 ? Infinity : b.readUInt16BE(2)), (at = 4);
      else if (len === 127) (len = b.length < 10 ? Infinity : Number(b.readBigUInt64BE(2))), (at = 10);
      if (b.length < at + 4 + len) return;
      assert.ok(b[1] & 0x80, 'a client must mask its frames');
      const mask = b.subarray(at, at + 4), payload = Buffer.from(b.subarray(at + 4, at + 4 + len));
      for (let i = 0; i < len; i++) payload[i] ^= mask[i & 3];
      this.rest = b.subarray(at + 4 + len);
      const opcode = b[0] & 15;
      if (opcode === 1) this.onMessage(this, JSON.parse(payload.toString('utf8')));
      else if (opcode === 8) this.tcp.end(frame(8, payload.subarray(0, 2)));
      else if (opcode === 9) this.pings++, this.raw(frame(10, payload));
    }
  }
}

export async function wsServer(t, onMessage, { onRequest, onUpgrade } = {}) {
  const sockets = new Set();
  const server = createServer((req, res) => (onRequest ? onRequest(req, res) : res.writeHead(404).end()));
  server.on('upgrade', (req, tcp) => {
    sockets.add(tcp);
    tcp.on('close', () => sockets.delete(tcp));
    if (onUpgrade) return onUpgrade(req, tcp);
    const accept = createHash('sha1').update(req.headers['sec-websocket-key'] + GUID).digest('base64');
    tcp.setNoDelay(true);
    tcp.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
      `Sec-WebSocket-Accept: ${accept}\r\n\r\n`);
    new ServerSocket(tcp, req.url, onMessage);
  });
  server.listen(0, '127.0.0.1');
  await new Promise((done) => server.on('listening', done));
  t.after(() => {
    sockets.forEach((s) => s.destroy());
    server.closeAllConnections();
    return new Promise((done) => server.close(done));
  });
  const { port } = server.address();
  return { port, url: `ws://127.0.0.1:${port}/`, httpUrl: `http://127.0.0.1:${port}` };
}
