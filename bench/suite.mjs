// `proxyfetch bench suite|targets|sides|compare`: everything of the benchmark suite that is not a load itself.
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { compareCommand, readRun, Refusal } from './compare.mjs';
import { show, table } from './lib/figures.mjs';
import { judgeTargets, scenariosOfTargets, targetTable } from './lib/targets.mjs';
import { machine, scope } from './lib/tools.mjs';
import { named, scenarios, Stage } from './scenarios/index.mjs';
import { sidesCommand } from './sides.mjs';

const usage = `Usage:
  proxyfetch bench suite [--scenario NAME,…|all] [--short] [--long SECONDS] [--repeat N] [--out FILE.json] [--list]
  proxyfetch bench targets [FILE.json | options of suite]
  proxyfetch bench sides [--short] [--install] [--only NAME,…] [--out FILE.json]
  proxyfetch bench compare OLD.json NEW.json [--threshold 0.10] [--markdown FILE] [--html FILE]`;

export function save(file, content) {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, content);
}

const cpuText = (cpu) => Object.entries(cpu).map(([role, us]) => `${role} ${us.toFixed(1)}`).join(' + ') +
  ` = ${Object.values(cpu).reduce((a, b) => a + b, 0).toFixed(1)} us`;

const figureNames = ['mean', 'min', 'max', 'p50', 'p75', 'p90', 'p95', 'p99', 'p99_5', 'p99_9'];

/** What a record lacks: a rate, and if it is one of the 35, any of the figures. */
function lacking(record) {
  if (!(record.ops > 0)) return 'ops';
  const all = named.some((s) => s.name === record.name) ? [...figureNames, 'marginPercent', 'samples'] : [];
  return all.find((name) => typeof record[name] !== 'number');
}

function print(record) {
  const r = record;
  if (r.status !== 'ok') return console.log(`${r.name.padEnd(24)} ${r.status}`);
  const margin = r.marginPercent === undefined ? '' : ` ±${r.marginPercent.toFixed(1)} %`;
  console.log(`${r.name.padEnd(24)} ${show(r.ops)}/s${margin}  ${r.help}`);
  console.log(`    ${figureNames.filter((n) => r[n] !== undefined).map((n) => `${n.replace('_', '.')} ${show(r[n])}`).join('  ')} ${r.unit}` +
    `  (${r.samples.toLocaleString('en-US')} samples; took ${r.tookSeconds.toFixed(1)} s)`);
  if (r.cpuUs && Object.keys(r.cpuUs).length > 1) console.log(`    CPU per job: ${cpuText(r.cpuUs)}`);
  if (r.extra) console.log(`    ${Object.entries(r.extra).map(([k, v]) => `${k} ${v}`).join('; ')}`);
}

/** "N times as fast as" within each family: what is before the last dash. By the median where it is of one
 *  operation at a time, because a machine that is used by others spoils the mean. What was offered at a fixed
 *  rate is not compared. */
function printRatios(records) {
  const speed = (r) => (r.kind === 'micro' && r.p50 ? 1e6 / r.p50 : r.ops), families = new Map();
  for (const r of records.filter((r) => !r.paced)) {
    const family = `${r.kind} ${r.name.replace(/-[^-]*$/, '')}`;
    families.set(family, [...(families.get(family) ?? []), r]);
  }
  for (const members of families.values()) {
    const [best, ...others] = members.sort((x, y) => speed(y) - speed(x));
    for (const r of others) console.log(`${best.name} is ${(speed(best) / speed(r)).toFixed(2)} times as fast as ${r.name}`);
  }
}

function printTargets(judged, short) {
  if (!judged.length) return;
  const count = (status) => judged.filter((row) => row.status === status).length;
  console.log(`\n${targetTable(judged)}\n`);
  console.log(`${count('target')} at the target, ${count('acceptable')} acceptable, ${count('minimum')} at the minimum, ${count('missed')} missed, ` +
    `${count('not measured')} not measured, ${count('not there yet')} not there yet${short ? '. A short run: its figures say nothing' : ''}\n`);
}

/** The table of a run that was kept, or of one that is made for it. */
async function targetsCommand(args) {
  if (args.length === 1 && !args[0].startsWith('-')) {
    const run = readRun(args[0]);
    console.log(`${run.date}, commit ${run.commit}, ${run.cpus} × ${run.cpu}, ${run.memoryMiB} MiB, Linux ${run.kernel}`);
    return printTargets(judgeTargets(run.records), run.short), 0;
  }
  return suiteCommand([...args, '--scenario', scenariosOfTargets.join(',')]);
}

async function suiteCommand(args) {
  const { values } = parseArgs({ args, options: { scenario: { type: 'string', default: 'all' }, short: { type: 'boolean' },
    repeat: { type: 'string', default: '1' }, long: { type: 'string', default: '0' }, out: { type: 'string' }, list: { type: 'boolean' } } });
  if (values.list) return console.log(scenarios.map((s) => `${s.name.padEnd(24)} ${s.kind.padEnd(6)} ${s.help}`).join('\n')), 0;
  const wanted = values.scenario.split(',');
  const chosen = scenarios.filter((s) => values.scenario === 'all' || wanted.includes(s.name));
  const unknown = wanted.filter((n) => n !== 'all' && !scenarios.some((s) => s.name === n));
  if (unknown.length) throw new Refusal(`no scenario ${unknown.map((n) => `'${n}'`).join(', ')}; --list shows them`);
  if (!(Number(values.repeat) >= 1) || !(Number(values.long) >= 0)) return console.error(usage), 2;
  const records = [];
  await scope(async (t) => {
    const stage = new Stage(t, { short: values.short, long: Number(values.long) });
    for (let round = 0; round < Number(values.repeat); round++)
      for (const s of chosen) {
        const record = { name: s.name, kind: s.kind, help: s.help, round }, began = performance.now();
        try {
          Object.assign(record, s.kind === 'slot' ? { status: 'not there yet' } : { status: 'ok', ...(await s.run(stage)), name: s.name, help: s.help });
        } catch (why) {
          record.status = `FAILED: ${why.message}`;
        }
        if (record.status === 'ok' && lacking(record)) record.status = `FAILED: no ${lacking(record)}`;
        record.tookSeconds = (performance.now() - began) / 1000;
        records.push(record);
        print(record);
      }
  });
  printRatios(records.filter((r) => r.status === 'ok' && r.round === 0));
  const targets = judgeTargets(records);
  printTargets(targets.filter((row) => row.status !== 'not measured'), values.short);
  if (values.out) save(values.out, JSON.stringify({ ...machine(), short: Boolean(values.short), records, targets }, null, 1));
  const failed = records.filter((r) => r.status.startsWith('FAILED'));
  console.log(`${records.filter((r) => r.status === 'ok').length} measured, ${failed.length} failed, ` +
    `${records.filter((r) => r.status === 'not there yet').length} not there yet`);
  return failed.length ? 1 : 0;
}

const commands = { suite: suiteCommand, targets: targetsCommand, sides: sidesCommand, compare: compareCommand };
const args = process.argv.slice(2);
const command = args[0]?.startsWith('-') ? 'suite' : args.shift();
if (!commands[command] || args.includes('--help')) {
  console.log(usage);
  process.exitCode = args.includes('--help') ? 0 : 2;
} else {
  try {
    process.exitCode = await commands[command](args, { save, table });
  } catch (why) {
    const misused = why.code?.startsWith?.('ERR_PARSE');
    console.error(`proxyfetch bench ${command}: ${misused ? `${why.message}\n${usage}` : why instanceof Refusal ? why.message : why.stack}`);
    process.exitCode = 2;
  }
}
