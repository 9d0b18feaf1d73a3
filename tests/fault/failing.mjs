// The other side of failing.c: a file that a process with the preloaded library shares with the test.
//
//   const failing = new Failing(`${dir}/failing`);
//   system.env.origin = failing.env;                  // for the next start
//   failing.arm('alloc', 'ENOMEM', 7);                // the 7th from now; at 0: count only
//   failing.fired, failing.count('alloc'), failing.firedAt, failing.crash
import { closeSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { endianness, constants } from 'node:os';
import { join } from 'node:path';
import { binDir } from '../process/lib/process.mjs';

const HOLD = 9999;
const PAGE = 4096, FIRED_AT = 512, CRASHED_AT = 2048, KIND = 0, ACTION = 1, AT = 2, FIRED = 3, COUNTS = 4;
/** As in failing.c. */
const KINDS = ['alloc', 'open', 'file_read', 'file_write', 'sync', 'truncate', 'socket', 'accept',
  'socket_read', 'socket_write'];
const little = endianness() === 'LE';

export class Failing {
  constructor(path) {
    this.path = path;
    writeFileSync(path, Buffer.alloc(PAGE));
    this.env = { PF_FAILING: path, LD_PRELOAD: join(binDir, 'pf_failing.so') };
  }
  /** Counts from zero, and lets call `at` of this kind fail with the errno of that name, be 'short',
   *  or 'hold': wait until it is disarmed. */
  arm(kind, how, at) {
    const page = Buffer.alloc(PAGE);
    const put = (word, value) =>
      little ? page.writeBigUInt64LE(BigInt(value), word * 8) : page.writeBigUInt64BE(BigInt(value), word * 8);
    put(KIND, KINDS.indexOf(kind));
    put(ACTION, how === 'short' ? 0 : how === 'hold' ? HOLD : constants.errno[how]);
    const fd = openSync(this.path, 'r+'); // never shorter: the page is mapped
    writeSync(fd, page, 0, PAGE, 0);
    put(AT, at); // last: what it goes with is there
    writeSync(fd, page, AT * 8, 8, AT * 8);
    closeSync(fd);
  }
  disarm() {
    this.arm('alloc', 'ENOMEM', 0);
  }
  #word(index) {
    const page = readFileSync(this.path);
    return Number(little ? page.readBigUInt64LE(index * 8) : page.readBigUInt64BE(index * 8));
  }
  #text(offset) {
    const page = readFileSync(this.path);
    return page.toString('latin1', offset, page.indexOf(0, offset)).trim();
  }
  get fired() {
    return this.#word(FIRED) === 1;
  }
  count(kind) {
    return this.#word(COUNTS + KINDS.indexOf(kind));
  }
  /** Who called what failed, innermost first; and where a signal then ended it. */
  get firedAt() {
    return this.#text(FIRED_AT);
  }
  get crash() {
    return this.#text(CRASHED_AT);
  }
  /** The object whose code the signal ended: libc and the library itself only do what they are told. */
  get crashedIn() {
    const frames = this.crash.split(' ').slice(1).map((frame) => frame.split('+')[0]);
    return frames.find((object) => !/^(libc\.so|ld-linux|pf_failing)/.test(object)) ?? 'nobody';
  }
}
