// Real processes in tests: start a program of the build, wait until it listens, watch its lines,
// stop it by pid, and fail the test if anything of it is left behind.
//
//   import { test } from 'node:test';
//   import { run, start, tempDir, until } from './lib/process.mjs';
//
//   test('origin', async (t) => {
//     const target = await start(t, 'proxyfetch-test-endpoints', ['--listen', 'localhost:0']);
//     const origin = await start(t, 'proxyfetch-origin', ['--listen', 'localhost:0', '--data', tempDir(t)]);
//     await t.test('answers', async () => { await fetch(`${origin.url}/health`); });
//     await origin.kill();                                   // kill -9; a later start() is the restart
//     await origin.waitFor(/event=job_requeued/);            // a line on stdout or stderr
//     const { code, stderr } = await run(t, 'proxyfetch', ['fetch', target.url + '/uuid']);
//   });
//
// start(t, …) belongs to the test context t (anything with after(fn) will do): when t ends, the
// process gets SIGTERM and must exit with 0 within STOP_MS, the last one started first. What
// outlives that, or any child in its process group, is killed and fails the test. Hang sub-tests
// below t with t.test() to share one.
//
// Programs come from PF_BIN (ctest sets it), else from build-dev/bin of this tree. Node 18 or
// later, built-in modules only.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));

/** The source tree, and the folder with the programs under test. */
export const sourceDir = resolve(here, '../../..');
export const binDir = process.env.PF_BIN ?? join(sourceDir, 'build-dev/bin');

/** How long a process may take until it listens, to stop after SIGTERM, to print an awaited line. */
export const START_MS = 30_000;
export const STOP_MS = 30_000;
export const WAIT_MS = 30_000;

/** Also if the test program itself breaks off, nothing stays. */
const started = new Set();
process.on('exit', () => started.forEach((proc) => proc.killGroup()));
// A signal alone would end this process without that, and leave them running.
for (const [signal, code] of [['SIGHUP', 129], ['SIGINT', 130], ['SIGTERM', 143]]) process.on(signal, () => process.exit(code));

const KEPT_LINES = 20_000; // of output, per process

/** An absolute path to a program of the build. */
export function program(name) {
  return name.includes('/') ? name : join(binDir, name);
}

const cleanUps = new WeakMap();

/** Calls fn when t ends, the last one first: what was made last may need what was made before. All
 *  are called; the first that throws fails t. */
export function defer(t, fn) {
  let stack = cleanUps.get(t);
  if (!stack) {
    cleanUps.set(t, (stack = []));
    t.after(async () => {
      const failures = [];
      while (stack.length > 0) {
        try {
          await stack.pop()();
        } catch (why) {
          failures.push(why);
        }
      }
      if (failures.length > 0) throw failures[0];
    });
  }
  stack.push(fn);
}

/** A fresh directory that is removed when t ends. */
export function tempDir(t) {
  const dir = mkdtempSync(join(tmpdir(), 'pf-test-'));
  defer(t, () => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** Resolves like promise, or rejects with `what` after ms. */
export function within(promise, ms, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${ms} ms`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Asks check() again until it returns something truthy, which is the result. For states that
 *  nobody announces; where there is a line or a message to wait for, wait for that. */
export async function until(check, what, ms = WAIT_MS) {
  const end = Date.now() + ms;
  for (;;) {
    const value = await check();
    if (value) return value;
    if (Date.now() > end) throw new Error(`${what}: not within ${ms} ms`);
    await new Promise((done) => setTimeout(done, 10));
  }
}

/** One process. Made by start() and run(). */
export class Process {
  constructor(name, args, { env = {}, cwd, input } = {}) {
    this.name = name;
    this.args = args;
    /** All lines so far, as {stream: 'stdout' | 'stderr', text}. */
    this.lines = [];
    /** The line that said that it listens, and the addresses in it. */
    this.readyLine = null;
    this.urls = [];
    this.waiting = new Set();
    this.child = spawn(program(name), args, {
      cwd,
      env: { ...process.env, ...env },
      stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
      detached: true, // a process group of its own, so that its children can be found
    });
    this.pid = this.child.pid;
    started.add(this);
    /** Resolves to {code, signal} when the process is gone and its output has been read. */
    this.exited = new Promise((done, failed) => {
      this.child.on('error', (why) => {
        this.status = { code: null, signal: null, error: why.message }; // it never ran
        failed(why);
        this.#wake();
      });
      this.child.on('close', (code, signal) => {
        this.status = { code, signal };
        done(this.status);
        this.#wake();
      });
    });
    this.exited.catch(() => {}); // start() and run() report it
    this.#read('stdout');
    this.#read('stderr');
    if (input !== undefined) {
      this.child.stdin.on('error', () => {}); // it may exit without reading all of it
      this.child.stdin.end(input);
    }
  }

  /** First address, e.g. "http://127.0.0.1:41235", and its port. */
  get url() {
    return this.urls[0];
  }
  get port() {
    return Number(new URL(this.url).port);
  }
  get running() {
    return this.status === undefined;
  }
  get stdout() {
    return this.#text('stdout');
  }
  get stderr() {
    return this.#text('stderr');
  }

  /** Resolves to the match of the first line (of either stream, old or new) that fits pattern and
   *  comes after `after` lines; rejects if the process ends or ms pass without one. */
  waitFor(pattern, { ms = WAIT_MS, after = 0 } = {}) {
    let seen = after;
    const found = new Promise((done, failed) => {
      const look = () => {
        for (; seen < this.lines.length; seen++) {
          const match = pattern.exec(this.lines[seen].text);
          if (match) return this.waiting.delete(look), done(match);
        }
        if (!this.running) {
          this.waiting.delete(look);
          failed(new Error(`${this.name} ended before ${pattern}: ${JSON.stringify(this.status)}`));
        }
      };
      this.waiting.add(look);
      look();
    });
    return within(found, ms, `${this.name}: line ${pattern}`).catch((why) => {
      why.message += `\n--- output of ${this.name}\n${this.stdout}${this.stderr}`;
      throw why;
    });
  }

  /** Sends a signal and returns at once. */
  signal(name) {
    if (this.running) process.kill(this.pid, name);
  }

  /** SIGTERM, then waits; the exit code must be `code`. Harmless if it has ended like that before. */
  async stop(expected) {
    this.signal('SIGTERM');
    await this.ends(expected);
  }

  /** Waits until it ends by itself, or by a signal sent before; the exit code must be `code`. */
  async ends({ code = 0, ms = STOP_MS } = {}) {
    const status = await within(this.exited, ms, `${this.name}: exit`);
    assert.deepEqual(
      status, { code, signal: null }, `${this.name} ended unexpectedly:\n${this.stderr}`);
    this.#assertAlone();
    this.ended = true;
  }

  /** kill -9, as a crash: waits until it is gone. */
  async kill(signal = 'SIGKILL') {
    this.ended = true; // on purpose: the status is not looked at again
    this.signal(signal);
    return within(this.exited, STOP_MS, `${this.name}: exit after ${signal}`);
  }

  /** What /proc says about it. */
  stopped() {
    return /^State:\s+T/m.test(readFileSync(`/proc/${this.pid}/status`, 'utf8'));
  }
  openFiles() {
    return readdirSync(`/proc/${this.pid}/fd`).length;
  }
  /** The most since the process began, or since /proc/PID/clear_refs was told to begin anew. */
  peakKiB() {
    return Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${this.pid}/status`, 'utf8'))[1]);
  }
  residentKiB() {
    return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${this.pid}/status`, 'utf8'))[1]);
  }
  cpuMs() {
    const fields = readFileSync(`/proc/${this.pid}/stat`, 'utf8').split(') ')[1].split(' ');
    return (Number(fields[11]) + Number(fields[12])) * 10; // utime + stime in ticks of 10 ms
  }

  /** Ends it whatever it takes, and throws if it did not end as it should. start() and run() do this. */
  async cleanUp() {
    try {
      if (!this.ended) await this.stop();
    } finally {
      this.killGroup();
      started.delete(this);
    }
  }

  /** Kills it and its children at once. False if nobody was left. */
  killGroup() {
    if (this.pid === undefined) return false; // it never ran
    try {
      process.kill(-this.pid, 'SIGKILL');
      return true;
    } catch {
      return false; // ESRCH
    }
  }

  #read(stream) {
    let rest = '';
    this.child[stream].setEncoding('utf8');
    this.child[stream].on('data', (text) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop();
      for (const line of lines) this.#add(stream, line);
    });
    this.child[stream].on('end', () => {
      if (rest) this.#add(stream, rest);
    });
  }

  #add(stream, text) {
    assert.ok(this.lines.length < KEPT_LINES, `${this.name} prints more than ${KEPT_LINES} lines`);
    this.lines.push({ stream, text });
    this.#wake();
  }

  #wake() {
    for (const look of [...this.waiting]) look();
  }

  #text(stream) {
    return this.lines.filter((l) => l.stream === stream).map((l) => `${l.text}\n`).join('');
  }

  #assertAlone() {
    assert.ok(!this.killGroup(), `${this.name} left child processes behind; they were killed`);
  }
}

/** Starts a program and waits for its line `NAME listening on URL…` (or the one that fits `ready`;
 *  `ready: null` does not wait). Options: env, cwd, input, ready. See the top for what happens at
 *  the end of t. */
export async function start(t, name, args = [], options = {}) {
  const { ready = new RegExp(`^${name.split('/').pop()} listening on `), ...rest } = options;
  const proc = new Process(name, args, rest);
  defer(t, () => proc.cleanUp());
  if (ready === null) return proc;
  try {
    proc.readyLine = (await proc.waitFor(ready, { ms: START_MS })).input;
  } catch (why) {
    proc.ended = true; // one complaint is enough
    throw why;
  }
  proc.urls = proc.readyLine.match(/\bhttps?:\/\/[^\s,]+/g) ?? [];
  return proc;
}

/** Runs a program to its end: {code, signal, stdout, stderr}. Options: env, cwd, input, ms. */
export async function run(t, name, args = [], { ms = 120_000, ...options } = {}) {
  const proc = new Process(name, args, options);
  proc.ended = true; // its status is the result
  defer(t, () => proc.cleanUp());
  const status = await within(proc.exited, ms, `${name} ${args.join(' ')}`);
  return { ...status, stdout: proc.stdout, stderr: proc.stderr };
}
