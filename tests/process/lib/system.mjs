// The four processes of the system, each to be killed and started again on its port.
//
//   const system = await startSystem(t);                      // or { executors: 2, sync: 'normal' }
//   system.wsUrl, system.httpUrl, system.target               // origin twice, test endpoints
//   await system.crash('executor');                           // kill -9, and wait until it is gone
//   await system.restart('executor');                         // on the same port and data
//
// A role may have a number, as in 'executor-2': another process of that program. `via` lays a detour on the
// way between them: via.origin = {orchestrator: URL, advertise: URL}, the same for executors. Whoever
// reaches everybody by detours lets the ports change at each start (`moving: true`). `programs` names others
// that take a role: {origin: 'bench_origin'}. `wrap(name, args)` names the command that runs a program.
import { once } from 'node:events';
import { createServer } from 'node:net';
import { defer, start, tempDir } from './process.mjs';

export const roles = ['test-endpoints', 'orchestrator', 'executor', 'origin'];

/** A port that is free now; for listeners that do not say which one they got. Below those that the kernel gives
 *  to connections: one of these could take it before the listener does. */
async function freePort() {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 20_000);
    const server = createServer().listen(port, '127.0.0.1');
    const free = await new Promise((done) => server.on('listening', () => done(true)).on('error', () => done(false)));
    if (!free) continue;
    server.close();
    await once(server, 'close');
    return port;
  }
}

const programOf = (role) => role.replace(/-\d+$/, '');

export class System {
  constructor(t, { sync = 'full', args = {}, env = {}, via = {}, programs = {}, moving = false, wrap } = {}) {
    Object.assign(this, { t, sync, extra: args, env, via, programs, moving, wrap, dir: tempDir(t), procs: {}, ports: {} });
  }
  get wsUrl() {
    return `ws://127.0.0.1:${this.ports.origin}/`;
  }
  get httpUrl() {
    return `http://127.0.0.1:${this.ports.origin}`;
  }
  get target() {
    return `http://127.0.0.1:${this.ports['test-endpoints']}`;
  }

  #arguments(role) {
    const { orchestrator: url = `http://127.0.0.1:${this.ports.orchestrator}`, advertise } = this.via[role] ?? {};
    const orchestrator = ['--orchestrator', url, ...(advertise ? ['--advertise', advertise] : [])];
    switch (programOf(role)) {
      case 'orchestrator':
        return ['--data', `${this.dir}/orchestrator`, '--sync', this.sync];
      case 'executor':
        return [...orchestrator, '--allow-target', `127.0.0.1/32:${this.ports['test-endpoints']}`];
      case 'origin':
        return [...orchestrator, '--data', `${this.dir}/origin`, '--sync', this.sync,
          '--internal-listen', `127.0.0.1:${this.ports.internal ?? 0}`];
      default:
        return [];
    }
  }

  /** Starts a role: the first time on a free port, later on the same one (unless it is moving). */
  async restart(role) {
    const proc = await this.#start(role);
    this.ports[role] = proc.port;
    return proc;
  }
  /** Starts a role again on its port without waiting for it to listen: it may not come so far. */
  launch(role) {
    return this.#start(role, { ready: null });
  }
  async #start(role, options) {
    const listen = ['--listen', `127.0.0.1:${this.moving ? 0 : this.ports[role] ?? 0}`];
    const program = programOf(role);
    if (program === 'origin' && this.moving) this.ports.internal = await freePort(); // nobody prints it
    const name = this.programs[program] ?? `proxyfetch-${program}`;
    const args = [...listen, ...this.#arguments(role), ...(this.extra[program] ?? [])];
    const proc = await start(this.t, ...(this.wrap?.(name, args) ?? [name, args]),
      { env: this.env[role], ready: new RegExp(`^proxyfetch-${program} listening on `), ...options });
    this.procs[role] = proc;
    defer(this.t, () => this.stop()); // before its own end, which knows no order
    return proc;
  }
  /** Executors first, while there is somebody to hand their results to. Idempotent. */
  async stop() {
    const running = Object.keys(this.procs).filter((role) => !this.procs[role].ended);
    for (const program of ['executor', 'origin', 'orchestrator', 'test-endpoints'])
      for (const role of running.filter((role) => programOf(role) === program)) await this.procs[role].stop();
  }
  async crash(role) {
    await this.procs[role].kill();
  }
}

export async function startSystem(t, options) {
  const system = new System(t, options);
  for (const role of roles) await system.restart(role);
  return system;
}

/** Where an origin listens to processes and operators. */
export async function internalUrl(origin) {
  const [, url] = await origin.waitFor(/internal=(\S+)/);
  return url;
}

/** The listeners of a system that take bodies: who, where, what is posted there and, unless it is a batch, as what. */
export async function listenersOf({ origin, orchestrator, executor }) {
  return [
    { proc: origin, url: origin.url, path: '/v1/actors/proxy/default/fetch', type: 'application/json' },
    { proc: origin, url: await internalUrl(origin), path: '/__receiveResult' },
    { proc: orchestrator, url: orchestrator.url, path: '/v1/jobs' },
    { proc: executor, url: executor.url, path: '/v1/execute' },
  ];
}

/** GET or DELETE of JSON: {status, body}. */
export async function http(url, options) {
  const response = await fetch(url, options);
  const text = await response.text();
  return { status: response.status, body: text && JSON.parse(text), headers: response.headers };
}
