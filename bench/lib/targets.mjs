// What the measurements are held against: three levels for each quantity, as data. A level of a row
// holds if all of its parts that have a limit at that level keep it; a part without any is only shown.
import { median, show, table } from './figures.mjs';

export const levels = ['target', 'acceptable', 'minimum'];

const sum = (cpu) => Object.values(cpu).reduce((a, b) => a + b, 0);
const p50 = (r) => r.p50, p99 = (r) => r.p99, ops = (r) => r.ops, fact = (name) => (r) => r.facts?.[name];

/** At least, or at most; limits: one for each level, null or missing where there is none. */
const atLeast = (name, unit, limits, from, read) => ({ name, unit, limits, from: [from].flat(), read, more: true });
const below = (name, unit, limits, from, read) => ({ name, unit, limits, from: [from].flat(), read, more: false });

/** The largest of several scenarios. */
const largest = (read) => (...records) => Math.max(...records.map(read));

/** The highest rate that was kept up: errors below 0.01 %, and nothing waiting a second after the end. */
const kept = (...records) => Math.max(0, ...records.filter((r) => r.facts.errorPercent < 0.01 && r.facts.keptUp).map((r) => r.facts.offered));

const logShare = (lines) => below(`${lines} lines`, '% of a job', [1, 10], ['log-off', `log-${lines}`, 'concurrency-50'],
  (off, on, job) => (100 * Math.max(0, on.p50 - off.p50)) / sum(job.cpuUs));

const small = ['payload-100', 'payload-1k', 'payload-10k', 'payload-array-100', 'payload-array-1000'];
const rates = [1000, 7000, 10_000, 20_000].map((n) => `rate-${n}`);

export const rows = [
  { quantity: 'GET /health', parts: [atLeast('', '/s', [30_000, 10_000, 5000], 'health', ops)] },
  { quantity: 'jobs per node, sustained, errors < 0.01 %', parts: [atLeast('', '/s', [20_000, 10_000, 7000], rates, kept)] },
  { quantity: 'latency added by the coordinator at half load, sync normal', parts: [
    below('p50', 'ms', [1, 2, 5], 'half-load', fact('p50')), below('p99', 'ms', [3, 10, 50], 'half-load', fact('p99')),
    below('p99.9', 'ms', [10, 50, 100], 'half-load', fact('p99_9'))] },
  { quantity: 'message path, no fetch', parts: [atLeast('', '/s', [250_000, 100_000, 50_000], 'message-path', ops),
    below('p50 at 100,000/s', 'ms', [null, 1], 'message-path', fact('pacedP50')), below('p99 at 100,000/s', 'ms', [null, 10], 'message-path', fact('pacedP99'))] },
  { quantity: 'message that writes durable state', parts: [atLeast('', '/s', [50_000, 20_000, 10_000], 'message-write', ops)] },
  { quantity: 'chained continuations (checkout, 25 at a time)', parts: [atLeast('', '/s', [2000, 500, 200], 'checkout', ops)] },
  { quantity: 'continuation dispatch alone', parts: [below('p50', 'us', [1, 10, 1000], 'continuation-dispatch', p50)] },
  { quantity: 'authorization check alone, each tier', missing: true, parts: [atLeast('', '/s', [10_000_000, 2_000_000], [], ops)] },
  { quantity: 'authorization, share of the whole path, each tier', missing: true, parts: [below('', '%', [1, 5, 10], [], ops)] },
  { quantity: 'rate limiting, on against off', missing: true, parts: [below('', '%', [], [], ops)] },
  { quantity: 'log capture', parts: [0, 1, 5, 10].map(logShare) },
  { quantity: 'responses of 100 B to 10 KB and arrays, one at a time', parts: [below('largest p50', 'ms', [2], small, largest(fact('aloneP50')))] },
  { quantity: 'request and response of 1 MB', parts: [
    below('request against 100 x 10 KB', 'times', [1], ['payload-1m-request', 'payload-10k'], (m, k) => m.p50 / (100 * k.facts.aloneP50)),
    below('response against 100 x 10 KB', 'times', [1], ['payload-1m-response', 'payload-10k'], (m, k) => m.p50 / (100 * k.facts.aloneP50)),
    below('memory grew', 'MiB', [1], ['payload-1m-request', 'payload-1m-response'], largest(fact('grownMiB')))] },
  { quantity: 'cold start of a process, first job, warm', parts: [below('start', 'ms', [20, 100, 500], 'cold', fact('startMs')),
    below('first', 'ms', [5, 20, 50], 'cold', fact('firstMs')), below('warm', 'ms', [1, 5, 20], 'cold', fact('warmMs'))] },
  { quantity: 'actor created; woken with 1 KB, 64 KB, 1 MB of state', parts: [
    below('created p50', 'us', [100, 1000, 100_000], 'create-1k', p50),
    below('woken p50, largest', 'us', [1000, 5000, 100_000], ['wake-1k', 'wake-64k', 'wake-1m'], largest(p50))] },
  { quantity: 'resident-actor table', parts: ['hit', 'miss', 'insert', 'evict'].map((what, i) =>
    below(what, 'ns', [i < 2 ? 200 : 500], `table-${what}`, (r) => r.p50 * 1000)) },
  { quantity: 'executor slot acquisition', parts: [below('decision p50', 'us', [1000, 3000], 'slot-acquire', p50),
    below('in the queue, whole path, p50', 'ms', [1, 3], 'phases-1', fact('queueP50'))] },
  { quantity: 'recovery with 100,000 queued jobs', parts: [below('first dispatch', 's', [1], 'recovery', fact('firstSeconds')),
    below('all', 's', [30, 120, 300], 'recovery', fact('allSeconds'))] },
  { quantity: 'burst 1,000 → 50,000/s for 10 s', parts: [below('lost', 'fetches', [0, 0], 'burst', fact('lost')),
    below('p99 is back after', 's', [5, 30], 'burst', fact('recoverySeconds'))] },
  { quantity: 'peak: 1,000 actors, 100,000 messages/s of 1,024 B', parts: [atLeast('ok', '%', [99.9, 99], 'message-peak', fact('okPercent')),
    below('p99', 'ms', [10, 100], 'message-peak', p99)] },
  { quantity: 'sustained: 100 actors, 10,000 messages/s of 512 B', parts: [below('grew', 'KiB', [1024], 'message-sustained', fact('grownKiB')),
    below('slower', '%', [1, 5], 'message-sustained', fact('slowerPercent'))] },
  { quantity: '10,000 actors', parts: [below('awake', 'bytes', [4096, 65_536, 10 << 20], 'many-actors-10000', fact('awakeBytes')),
    below('hibernated', 'bytes', [1024], 'many-actors-10000', fact('asleepBytes')),
    below('creation p50 against 100 actors', 'times', [2], ['many-actors-10000', 'many-actors-100'], (a, b) => a.facts.createdP50 / b.facts.createdP50),
    below('CPU when idle', '%', [], 'many-actors-10000', fact('idlePercent'))] },
  { quantity: 'idle WebSocket client', parts: [below('', 'bytes', [8192, 16_384], 'idle-clients', fact('bytes'))] },
  { quantity: 'cost of a job, 100,000 queued against 1,000', parts: [below('queue alone', 'times', [], 'queue', fact('ratio')),
    below('whole path', 'times', [1.2], 'flat-cost', fact('ratio'))] },
];

/** All scenarios that a row looks at. */
export const scenariosOfTargets = [...new Set(rows.flatMap((row) => row.parts.flatMap((part) => part.from)))];

/** The value of a part: with repeats the median; undefined if something it needs was not measured. */
function valueOf(part, byName) {
  const all = part.from.map((name) => byName.get(name) ?? []), rounds = Math.min(...all.map((records) => records.length));
  const values = [];
  for (let i = 0; i < rounds; i++) values.push(part.read(...all.map((records) => records[i])));
  return values.length && values.every((v) => typeof v === 'number' && !Number.isNaN(v)) ? median(values) : undefined;
}

const keeps = (part, value, i) => (part.more ? value >= part.limits[i] : value <= part.limits[i]);
const limited = (part, i) => part.limits[i] !== null && part.limits[i] !== undefined;

/** The best level that all parts keep: one of `levels`, 'missed', 'not measured', 'not there yet'. */
function statusOf(row, values) {
  if (row.missing) return 'not there yet';
  const judged = row.parts.map((part, i) => ({ part, value: values[i] })).filter(({ part }) => levels.some((_, i) => limited(part, i)));
  if (judged.some(({ value }) => value === undefined)) return 'not measured';
  const held = levels.findIndex((_, i) => {
    const here = judged.filter(({ part }) => limited(part, i));
    return here.length && here.every(({ part, value }) => keeps(part, value, i));
  });
  return held < 0 ? 'missed' : levels[held];
}

/** [{quantity, status, scenarios, parts: [{name, unit, value, limits, more}]}] from the records of a run. */
export function judgeTargets(records) {
  const byName = new Map();
  for (const r of records) if (r.status === 'ok') byName.set(r.name, [...(byName.get(r.name) ?? []), r]);
  return rows.map((row) => {
    const values = row.parts.map((part) => (row.missing ? undefined : valueOf(part, byName)));
    const parts = row.parts.map(({ name, unit, limits, more }, i) => ({ name, unit, limits, more, value: values[i] === Infinity ? 'never' : values[i] }));
    return { quantity: row.quantity, status: statusOf(row, values), scenarios: [...new Set(row.parts.flatMap((part) => part.from))], parts };
  });
}

const number = (v) => (v === 'never' ? v : show(v).replace(/(\.\d*?)0+$/, '$1').replace(/\.$/, ''));
const labelled = (part, text) => `${part.name ? `${part.name} ` : ''}${text} ${part.unit}`;

function limitText(row, i) {
  const texts = row.parts.filter((part) => limited(part, i)).map((part) => labelled(part, `${part.more ? '≥' : '≤'} ${number(part.limits[i])}`));
  return texts.length ? texts.join('; ') : '–';
}

/** As a Markdown table. */
export function targetTable(judged) {
  return table(['quantity', 'actual', ...levels, 'status', 'from'], judged.map((row) => [row.quantity,
    row.parts.filter((part) => part.value !== undefined).map((part) => labelled(part, number(part.value))).join('; ') || '–',
    ...levels.map((_, i) => limitText(row, i)), row.status === 'missed' ? '**missed**' : row.status,
    row.scenarios.length > 3 ? `${row.scenarios.slice(0, 2).join(', ')}, …` : row.scenarios.join(', ') || '–']));
}
