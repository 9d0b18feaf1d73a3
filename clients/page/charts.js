// Figures of many fetches, and their pictures.
import { digits, el, ms, svg } from './dom.js';

/** Value at a quantile of sorted numbers, by nearest rank. */
export const quantile = (sorted, q) => sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)];

const MARKS = [[0.5, 'p50'], [0.9, 'p90'], [0.99, 'p99']];
const HEIGHT = 220, TOP = 46, BOTTOM = 26, BINS = 40;

/** 1, 2 or 5 times a power of ten, at least `value`. */
function niceStep(value) {
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((m) => m * unit >= value) * unit;
}

/** {step, first, counts}: bins of a readable width that cover all values. */
export function bins(sorted, wanted = BINS) {
  const min = sorted[0], max = sorted.at(-1);
  const step = niceStep(Math.max((max - min) / wanted, max / 1000, 0.01));
  const first = Math.floor(min / step);
  const counts = new Array(Math.floor(max / step) - first + 1).fill(0);
  for (const value of sorted) counts[Math.floor(value / step) - first]++;
  return { step, first, counts };
}

/** The distribution of values (ms) as an SVG of that width. */
export function histogram(values, width, kind) {
  const sorted = Float64Array.from(values).sort();
  const { step, first, counts } = bins(sorted);
  const highest = Math.max(...counts), lowest = first * step, span = counts.length * step;
  const x = (value) => ((value - lowest) / span) * width;
  const plot = HEIGHT - TOP - BOTTOM, base = HEIGHT - BOTTOM;
  const bar = width / counts.length;
  const bars = counts.map((count, i) => {
    const height = count ? Math.max(1.5, (count / highest) * plot) : 0;
    const from = ((first + i) * step).toPrecision(3), to = ((first + i + 1) * step).toPrecision(3);
    return svg('rect', { x: i * bar + 0.5, y: base - height, width: Math.max(1, bar - 1), height, class: `fill-${kind}` },
      svg('title', {}, `${count} between ${Number(from)} and ${Number(to)} ms`));
  });
  const tick = niceStep(span / Math.max(2, Math.floor(width / 90)));
  const ticks = [];
  for (let at = Math.ceil(lowest / tick) * tick; at <= lowest + span; at += tick) {
    const place = x(at);
    const anchor = place < 14 ? 'start' : place > width - 24 ? 'end' : 'middle';
    ticks.push(svg('text', { x: place, y: HEIGHT - 8, 'text-anchor': anchor, class: 'tick' }, `${Number(at.toPrecision(6))}`));
  }
  const marks = MARKS.map(([q, name]) => ({ name, value: quantile(sorted, q) }));
  const labels = marks.flatMap(({ name, value }, line) => { // a line each, so that none overlaps another
    const place = x(value), end = place > width - 90;
    return [svg('line', { x1: place, x2: place, y1: 4 + line * 13, y2: base, class: 'mark' }),
      svg('text', { x: place + (end ? -4 : 4), y: 12 + line * 13, 'text-anchor': end ? 'end' : 'start', class: 'mark-text' }, `${name} ${ms(value)}`)];
  });
  const summary = `Distribution of ${values.length} ${kind} times: ${marks.map((m) => `${m.name} ${ms(m.value)}`).join(', ')}`;
  return svg('svg', { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: 'img', 'aria-label': summary },
    bars, svg('line', { x1: 0, x2: width, y1: base + 0.5, y2: base + 0.5, class: 'axis' }), ticks, labels);
}

/** min to max of each phase, as rows of a table. */
export function spreadTable(phases) {
  const columns = [['min', 0], ['p50', 0.5], ['p90', 0.9], ['p99', 0.99], ['max', 1]];
  return [el('caption', { class: 'hidden' }, 'Latency by phase, in milliseconds'),
    el('thead', {}, el('tr', {}, el('td', {}, 'ms'), columns.map(([name]) => el('th', { scope: 'col' }, name)))),
    el('tbody', {}, Object.entries(phases).map(([name, values]) => {
      const sorted = Float64Array.from(values).sort();
      return el('tr', {}, el('th', { scope: 'row' }, name), columns.map(([, q]) => el('td', {}, digits(quantile(sorted, q)))));
    }))];
}

const TIMINGS = [
  ['commit', 'commit at the origin'], ['enqueue', 'accepted by the queue'], ['queue', 'waiting in the queue'],
  ['dispatch', 'on its way to an executor'], ['dns', 'name look-up'], ['connect', 'connecting'], ['tls', 'TLS handshake'],
  ['ttfb', 'waiting for the first byte'], ['transfer', 'receiving'], ['callback', 'result on its way back'],
  ['continuation', 'continuation and its commit'],
];

/** The origin's twelve timings, one under the other where they happened. */
export function waterfall(timings) {
  const total = timings.total || 1;
  let at = 0;
  const rows = TIMINGS.filter(([name]) => typeof timings[name] === 'number').map(([name, text]) => {
    const value = timings[name], left = (at / total) * 100;
    at += value;
    const bar = el('i', { class: 'fall-bar' });
    bar.style.left = `${Math.min(left, 99.5)}%`;
    bar.style.width = `${Math.max(0.5, Math.min((value / total) * 100, 100 - left))}%`;
    return el('tr', { class: value < 0.005 && 'nothing' }, el('th', { scope: 'row', title: text }, name), el('td', { class: 'fall' }, bar), el('td', { class: 'number' }, ms(value)));
  });
  return el('table', { class: 'waterfall' }, el('caption', {}, 'Inside, by the clocks of the processes'), el('tbody', {}, rows),
    el('tfoot', {}, el('tr', {}, el('th', { scope: 'row' }, 'total'), el('td'), el('td', { class: 'number' }, ms(timings.total)))));
}
