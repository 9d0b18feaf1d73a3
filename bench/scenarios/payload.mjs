// Bodies: small ones by the hundred and one at a time, and a megabyte each way.
import { scope } from '../lib/tools.mjs';
import { load, messages, ofMessages, path, residentMiB, startQuiet } from './stage.mjs';

const alone = (t, system, target, count, more = []) => messages(t, system,
  ['--kind', 'fetch', '--url', system.target + target, '--include-body', '--count', count, ...more]);

const payload = (name, target, help) => path(`payload-${name}`, help, async (stage) => {
  const record = await load(stage, 25, target, ['--include', 'body']), system = stage.system;
  const one = ofMessages(await alone(stage.t, system, target, stage.pick(1000, 20)));
  return { ...record, facts: { aloneP50: one.p50 }, extra: { 'alone p50/p99': `${one.p50.toFixed(2)} / ${one.p99.toFixed(2)}`, ...residentMiB(system) } };
});

const MEGABYTE = 1_000_000; // a frame of a MiB holds it and what is around it

/** A megabyte, one after the other: time, and whether memory stays where it is. */
const large = (name, help, target, more) => path(`payload-1m-${name}`, help, (stage) => scope(async (t) => {
  const system = await startQuiet(t), count = stage.pick(200, 5);
  const kiB = () => Object.values(system.procs).reduce((sum, proc) => sum + proc.residentKiB(), 0);
  await alone(t, system, target, count, more);
  const before = kiB(), parts = residentMiB(system);
  const r = ofMessages(await alone(t, system, target, count, more));
  const grownMiB = (kiB() - before) / 1024;
  return { ...r, facts: { aloneP50: r.p50, grownMiB }, extra: { ...parts, 'grew by MiB in the second half': grownMiB.toFixed(1) } };
}));

export const payloadScenarios = [
  payload('100', '/bytes/100', '100 bytes'),
  payload('1k', '/bytes/1024', '1 KB'),
  payload('10k', '/bytes/10240', '10 KB'),
  payload('array-100', '/array/100', 'an array of 100 objects'),
  payload('array-1000', '/array/1000', 'an array of 1,000 objects'),
];
export const largeScenarios = [
  large('request', 'a request of a megabyte', '/uuid', ['--method', 'POST', '--bytes', MEGABYTE]),
  large('response', 'a response of a megabyte', `/bytes/${MEGABYTE}`, []),
];
