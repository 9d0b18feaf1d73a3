// A TCP connection by hand, for what an HTTP client would not send or not show: broken requests,
// pipelining, FIN or RST.
//
//   const c = await RawConnection.open(t, proc.url);
//   c.send('GET /uuid HTTP/1.1\r\nHost: h\r\n\r\n');
//   const [, uuid] = await c.receive(/"uuid":"([^"]*)"/);
//   assert.equal(await c.ended, 'fin');       // or 'reset'

import { connect } from 'node:net';
import { WAIT_MS, defer, within } from './process.mjs';

export class RawConnection {
  /** Connects to the host and port of url; closed when t ends. */
  static async open(t, url) {
    const { hostname, port } = new URL(url);
    const socket = connect({ host: hostname.replace(/[[\]]/g, ''), port, allowHalfOpen: true });
    defer(t, () => socket.destroy());
    const connection = new RawConnection(socket);
    await within(new Promise((done, failed) => {
      socket.once('connect', done);
      socket.once('error', failed);
    }), WAIT_MS, `connection to ${url}`);
    return connection;
  }

  constructor(socket) {
    this.socket = socket;
    /** Everything received, one character per byte. */
    this.text = '';
    this.waiting = new Set();
    /** Resolves to 'fin' or 'reset' when the other side has ended; rejects after WAIT_MS. */
    this.end = new Promise((done) => {
      socket.on('end', () => done('fin'));
      socket.on('error', (why) => done(why.code === 'ECONNRESET' || why.code === 'EPIPE' ? 'reset' : why.code));
      socket.on('close', () => done('closed by us'));
    });
    this.end.then(() => {
      this.over = true;
      this.#wake();
    });
    socket.setEncoding('latin1');
    socket.setNoDelay(true);
    socket.on('data', (text) => {
      this.text += text;
      this.#wake();
    });
  }

  get ended() {
    return within(this.end, WAIT_MS, 'end of the connection');
  }

  /** A string is sent as one byte per character. */
  send(data) {
    this.socket.write(data, 'latin1');
  }

  /** Sends FIN, goes on receiving. */
  finish() {
    this.socket.end();
  }

  /** Resolves to the match of pattern in what has been received, and removes it up to its end. */
  receive(pattern) {
    const found = new Promise((done, failed) => {
      const look = () => {
        const match = pattern.exec(this.text);
        if (match) {
          this.text = this.text.slice(match.index + match[0].length);
          done(match);
        } else if (this.over) {
          failed(new Error(`the connection ended before ${pattern}; received: ${this.text}`));
        } else {
          return;
        }
        this.waiting.delete(look);
      };
      this.waiting.add(look);
      look();
    });
    return within(found, WAIT_MS, `${pattern}`);
  }

  #wake() {
    for (const look of [...this.waiting]) look();
  }
}
