// Dice with a seed, so that a schedule can be played again: PF_SEED=… repeats it.
import { setMaxListeners } from 'node:events';
import { setTimeout as later } from 'node:timers/promises';

/** A stream of numbers in [0, 1) that depends on the seed and the name only. */
export class Random {
  constructor(seed, name = '') {
    this.state = Number(BigInt(seed) & 0xffffffffn);
    for (const c of name) this.state = (Math.imul(this.state ^ c.charCodeAt(0), 0x9e3779b1) + 0x7f4a7c15) >>> 0;
  }
  next() {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let x = this.state;
    x = Math.imul(x ^ (x >>> 15), x | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  }
  chance(p) {
    return this.next() < p;
  }
  between(low, high) {
    return low + this.next() * (high - low);
  }
  whole(low, high) {
    return Math.floor(this.between(low, high + 1));
  }
  /** Small values as often as large ones. */
  logBetween(low, high) {
    return Math.exp(this.between(Math.log(low), Math.log(high)));
  }
  pick(list) {
    return list[Math.floor(this.next() * list.length)];
  }
}

export const pickSeed = () => Number(process.env.PF_SEED ?? Date.now() % 1_000_000_007);

/** The pauses of a schedule; an aborted one ends early. */
export function interruption() {
  const controller = new AbortController();
  setMaxListeners(0, controller.signal); // each pause listens
  return controller;
}
export const pause = (ms, signal) => later(ms, undefined, { signal }).catch(() => {});
