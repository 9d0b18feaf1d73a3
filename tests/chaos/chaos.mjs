// The whole system in a bad world: real processes that are killed and frozen at random, behind networks
// that lose, delay and repeat, under load. Afterwards the oracle of load.mjs must find nothing wrong.
//
//   await chaos(t, { seconds: 20, kills: 30, strength: 1 });
//
// From outside: PF_SEED plays a schedule again (the schedule, not how the machine interleaves it),
// PF_CHAOS_KILLS, PF_CHAOS_RATE (jobs/s) and PF_CHAOS_LOGS (a directory that gets all output on failure).
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { WAIT_MS, until } from '../process/lib/process.mjs';
import { http, System } from '../process/lib/system.mjs';
import { FaultProxy } from './fault_proxy.mjs';
import { Load } from './load.mjs';
import { interruption, pause, pickSeed, Random } from './random.mjs';

const LEASE_MS = 1000;
const QUIET_MS = 2 * LEASE_MS + 10_000; // after the last fault, as long as a pause may be until everything has ended
const VICTIMS = ['origin', 'orchestrator', 'executor-1', 'executor-2'];
const UP_MS = [1000, 3000];
const DOWN_MS = [0, 2000];
const FROZEN_MS = [100, 3 * LEASE_MS]; // within a lease, and beyond it
const FREEZE_CHANCE = 0.2;
const QUICK = {
  orchestrator: ['--lease-ms', `${LEASE_MS}`, '--grace-ms', '500', '--retry-base-ms', '20'],
  executor: ['--lease-ms', `${LEASE_MS}`, '--heartbeat-ms', '200', '--slots', '200'],
};

class World {
  constructor(t, { seed, strength }) {
    Object.assign(this, { t, seed, strength, kills: 0, freezes: 0, amnesias: 0, all: [] });
    this.system = new System(t, { args: QUICK, moving: true });
  }

  /** A proxy on every hop, then the processes, which know each other by the proxies only. */
  async start() {
    const { system } = this;
    const way = async (name, upstream) => (this.proxies[name] = await FaultProxy.start(this.t, {
      name, seed: this.seed, strength: this.strength, upstream, replayChance: Math.min(0.1, this.strength / 10),
    }));
    this.proxies = {};
    const queue = () => system.ports.orchestrator, executors = VICTIMS.filter((role) => role.startsWith('executor'));
    await way('client to origin', () => system.ports.origin);
    await way('result to origin', () => system.ports.internal);
    await way('origin to orchestrator', queue);
    await way('executor to orchestrator', queue);
    for (const role of executors) await way(`orchestrator to ${role}`, () => system.ports[role]);

    const url = (name) => this.proxies[name].url;
    system.via.origin = { orchestrator: url('origin to orchestrator'), advertise: url('result to origin') };
    for (const role of executors)
      system.via[role] = {
        orchestrator: url('executor to orchestrator'), advertise: url(`orchestrator to ${role}`),
      };
    for (const role of ['test-endpoints', ...VICTIMS]) await this.restart(role);
  }
  async restart(role) {
    this.all.push(await this.system.restart(role));
  }
  get clientUrl() {
    return this.proxies['client to origin'].url.replace('http', 'ws') + '/';
  }

  /** Kills and freezes one role until the signal says stop. Its own dice: roles do not wait for each other. */
  async torment(role, signal, onDown) {
    const dice = new Random(this.seed, role);
    for (;;) {
      await pause(dice.between(...UP_MS), signal);
      if (signal.aborted) return;
      const proc = this.system.procs[role];
      assert.ok(proc.running, `${role} died by itself: ${JSON.stringify(proc.status)}\n${proc.stderr.slice(-4000)}`);
      if (dice.chance(FREEZE_CHANCE)) {
        this.freezes++;
        proc.signal('SIGSTOP');
        await pause(dice.between(...FROZEN_MS), signal);
        proc.signal('SIGCONT');
        continue;
      }
      await this.assertInvariants(role);
      await this.system.crash(role);
      this.kills++;
      onDown(role);
      await pause(dice.between(...DOWN_MS), signal);
      await this.restart(role);
    }
  }

  /** What the process itself watches; its counter ends with it, so it is asked before each kill. */
  async assertInvariants(role, must = false) {
    if (role.startsWith('executor')) return;
    const signal = AbortSignal.timeout(must ? WAIT_MS : 1000);
    const answer = await fetch(`http://127.0.0.1:${this.system.ports[role]}/metrics`, { signal })
      .then((response) => response.text()).catch(() => '');
    if (must) assert.match(answer, /^pf_invariant_failures_total 0$/m, role);
    const broken = /^pf_invariant_failures_total (?!0$).*$/m.exec(answer);
    assert.equal(broken, null, `${role}: ${broken}`);
    return answer;
  }

  calm() {
    for (const proxy of Object.values(this.proxies)) proxy.calm();
  }
  /** Nothing is left to be done anywhere. */
  async quiet(ms) {
    const end = Date.now() + ms;
    await until(async () => (await http(`${this.system.httpUrl}/v1/jobs`)).body.total === 0,
      'no job is left at the origin', ms);
    const busy = /^pf_jobs\{state="\w+"\} (?!0$)/m;
    await until(async () => !busy.test(await this.assertInvariants('orchestrator', true)),
      'no job is left in the queue', Math.max(1, end - Date.now()));
    await this.assertInvariants('origin', true);
  }

  /** The queue's database is gone, as if its disk had been. */
  forget() {
    this.amnesias++;
    const dir = join(this.system.dir, 'orchestrator');
    for (const name of readdirSync(dir)) if (name.startsWith('queue.db')) rmSync(join(dir, name));
  }
  keepLogs() {
    const dir = process.env.PF_CHAOS_LOGS;
    if (!dir) return;
    mkdirSync(dir, { recursive: true });
    for (const proc of this.all) writeFileSync(join(dir, `${this.seed}.${proc.name}.${proc.pid}.log`), proc.stdout + proc.stderr);
  }
}

export async function chaos(t, {
  seconds, kills = 0, victims = VICTIMS, strength = 1, rate = 100, forgets = false, ends = [],
}) {
  const seed = pickSeed();
  t.diagnostic(`seed ${seed}; again with PF_SEED=${seed}`);
  const world = new World(t, { seed, strength });
  kills = Number(process.env.PF_CHAOS_KILLS ?? kills);
  rate = Number(process.env.PF_CHAOS_RATE ?? rate);
  try {
    await world.start();
    const load = new Load({ seed, target: world.system.target, rate });
    await load.open(t, () => world.clientUrl);

    const over = interruption();
    const onDown = (role) => {
      if (forgets && role === 'orchestrator') world.forget();
      if (world.kills >= kills) over.abort();
    };
    const work = [load.run(over.signal)];
    if (kills > 0) work.push(...victims.map((role) => world.torment(role, over.signal, onDown)));
    else work.push(pause(seconds * 1000, over.signal).then(() => over.abort()));
    await Promise.all(work).finally(() => over.abort());

    world.calm();
    const last = Date.now();
    await load.settled(QUIET_MS).catch(async (why) => {
      const { body } = await http(`${world.system.httpUrl}/v1/jobs?limit=5`);
      why.message += `\nthe origin: ${JSON.stringify(body)}`;
      throw why;
    });
    await world.quiet(QUIET_MS);
    const quietMs = Date.now() - last;
    const figures = await load.judge({ lives: 1 + world.amnesias, ends });
    const faults = {};
    for (const { counts } of Object.values(world.proxies))
      for (const [kind, count] of Object.entries(counts)) faults[kind] = (faults[kind] ?? 0) + count;
    const { kills: killed, freezes, amnesias } = world;
    const report = { seed, kills: killed, freezes, amnesias, quietMs, ...figures, faults };
    t.diagnostic(`chaos ${JSON.stringify(report)}`);
    return report;
  } catch (why) {
    world.keepLogs();
    why.message = `seed ${seed}, after ${world.kills} kills: ${why.message}`;
    throw why;
  }
}
