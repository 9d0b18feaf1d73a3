// The four processes of the system, each to be killed and started again on its port.
//
//   const system = await startSystem(t);                      // or { executors: 2, sync: 'normal' }
//   system.wsUrl, system.httpUrl, system.target               // origin twice, test endpoints
//   await system.crash('executor');                           // kill -9, and wait until it is gone
//   await system.restart('executor');                         // on the same port and data
import { defer, start, tempDir } from './process.mjs';

export const roles = ['test-endpoints', 'orchestrator', 'executor', 'origin'];

export class System {
  constructor(t, { sync = 'full', args = {}, env = {} } = {}) {
    Object.assign(this, { t, sync, extra: args, env, dir: tempDir(t), procs: {}, ports: {} });
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
    const orchestrator = ['--orchestrator', `http://127.0.0.1:${this.ports.orchestrator}`];
    switch (role) {
      case 'orchestrator':
        return ['--data', `${this.dir}/orchestrator`, '--sync', this.sync];
      case 'executor':
        return [...orchestrator, '--allow-target', `127.0.0.1/32:${this.ports['test-endpoints']}`];
      case 'origin':
        return [...orchestrator, '--data', `${this.dir}/origin`, '--sync', this.sync,
          '--internal-listen', '127.0.0.1:0'];
      default:
        return [];
    }
  }

  /** Starts a role: the first time on a free port, later on the same one. */
  async restart(role) {
    const listen = ['--listen', `127.0.0.1:${this.ports[role] ?? 0}`];
    const proc = await start(this.t, `proxyfetch-${role}`,
      [...listen, ...this.#arguments(role), ...(this.extra[role] ?? [])], { env: this.env[role] });
    this.procs[role] = proc;
    this.ports[role] = proc.port;
    defer(this.t, () => this.stop()); // before its own end, which knows no order
    return proc;
  }
  /** Executors first, while there is somebody to hand their results to. Idempotent. */
  async stop() {
    for (const role of ['executor', 'origin', 'orchestrator', 'test-endpoints'])
      if (this.procs[role] && !this.procs[role].ended) await this.procs[role].stop();
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

/** GET or DELETE of JSON: {status, body}. */
export async function http(url, options) {
  const response = await fetch(url, options);
  const text = await response.text();
  return { status: response.status, body: text && JSON.parse(text), headers: response.headers };
}
