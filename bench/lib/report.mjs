// The report of a comparison as one HTML file, with plots in SVG and nothing to load.
import { quantiles, show } from './figures.mjs';

const WIDTH = 640, HEIGHT = 260, LEFT = 62, BOTTOM = 34, TOP = 12, RIGHT = 12;
const colours = ['#8a94a6', '#1f6feb'];
const escape = (text) => String(text).replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]);

/** Lines, or bars: series = [{name, points: [[x, y], …]}]. Axes are linear, or logarithmic in x. */
export function plot(title, series, { x, y, log = false, bars = false }) {
  const points = series.flatMap((s) => s.points);
  if (!points.length) return '';
  const at = (v) => (log ? Math.log10(v) : v);
  const xs = points.map((p) => at(p[0])), low = Math.min(...xs), high = Math.max(...xs, low + 1e-9);
  const top = Math.max(...points.map((p) => p[1])) || 1;
  const px = (v) => LEFT + ((at(v) - low) / (high - low)) * (WIDTH - LEFT - RIGHT);
  const py = (v) => HEIGHT - BOTTOM - (v / top) * (HEIGHT - BOTTOM - TOP);
  const text = (cx, cy, words, anchor = 'middle') => `<text x="${cx}" y="${cy}" text-anchor="${anchor}">${escape(words)}</text>`;
  const parts = [];
  for (let i = 0; i <= 4; i++) {
    const v = (top * i) / 4;
    parts.push(`<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${py(v)}" y2="${py(v)}" class="grid"/>`, text(LEFT - 6, py(v) + 4, show(v), 'end'));
  }
  const ticks = [...new Set(points.map((p) => p[0]))].sort((a, b) => a - b), step = Math.ceil(ticks.length / 10);
  ticks.forEach((v, i) => i % step || parts.push(text(px(v), HEIGHT - BOTTOM + 15, show(v).replace(/\.?0+$/, ''))));
  parts.push(text((LEFT + WIDTH) / 2, HEIGHT - 3, x));
  series.forEach((s, i) => {
    const colour = colours[i % colours.length];
    if (bars) s.points.forEach((p) => parts.push(`<rect x="${px(p[0]) - 8 + 8 * i}" width="7" y="${py(p[1])}" height="${HEIGHT - BOTTOM - py(p[1])}" fill="${colour}"/>`));
    else parts.push(`<polyline fill="none" stroke="${colour}" stroke-width="2" points="${s.points.map((p) => `${px(p[0]).toFixed(1)},${py(p[1]).toFixed(1)}`).join(' ')}"/>`);
    parts.push(`<rect x="${LEFT + 8 + 90 * i}" y="${TOP - 8}" width="9" height="9" fill="${colour}"/>`, text(LEFT + 21 + 90 * i, TOP, s.name, 'start'));
  });
  return `<figure><figcaption>${escape(title)} (${escape(y)})</figcaption><svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img">${parts.join('')}</svg></figure>`;
}

const first = (run, name) => run.records.find((r) => r.name === name && r.status === 'ok');

function plots(before, after) {
  const both = (name, points) => [before, after].map((run, i) => ({ name: i ? 'new' : 'old', points: points(first(run, name) ?? {}) ?? [] }));
  const curve = (key) => both('knee', (r) => r.curve?.map((c) => [c.c, c[key]]));
  const seconds = (column) => both('burst', (r) => r.timeline?.map((second, i) => [i + 1, second[column]]));
  return [
    plot('Throughput against fetches in flight', curve('ops'), { x: 'in flight', y: 'fetches/s', log: true }),
    plot('Latency against fetches in flight: p50', curve('p50'), { x: 'in flight', y: 'ms', log: true }),
    plot('Latency against fetches in flight: p99', curve('p99'), { x: 'in flight', y: 'ms', log: true }),
    plot('Latency with 50 in flight: histogram', both('concurrency-50', (r) => r.histogram), { x: 'up to ms', y: 'fetches', log: true, bars: true }),
    plot('Latency with 50 in flight: quantiles', both('concurrency-50', (r) => r.p50 && Object.entries(quantiles).map(([n, q]) => [1 / (1 - q), r[n]])),
      { x: 'one of so many is slower', y: 'ms', log: true }),
    plot('Throughput over time with 50 in flight', both('concurrency-50', (r) => r.windows?.map((n, i) => [(i + 1) / 10, n * 10])), { x: 's', y: 'fetches/s' }),
    plot('A burst, second by second: answers', seconds(1), { x: 's', y: 'fetches/s' }),
    plot('A burst, second by second: p99', seconds(3), { x: 's', y: 'ms' }),
  ].join('\n');
}

export function html(before, after, rows, threshold) {
  const side = (name, run) => `<tr><th>${name}</th><td>${escape(run.date)}</td><td>${escape(run.commit)}</td><td>${run.cpus} × ${escape(run.cpu)}, ${run.memoryMiB} MiB, Linux ${escape(run.kernel)}</td></tr>`;
  const count = (v) => rows.filter((r) => r.verdict === v).length;
  const row = (r) => `<tr class="${escape(r.verdict.split(/[ ?]/)[0])}"><td>${escape(r.name)}</td><td>${escape(r.metric)} (${escape(r.unit)})</td><td>${show(r.old)}</td>` +
    `<td>${show(r.new)}</td><td>${(100 * r.change).toFixed(1)} %</td><td>${r.p === null ? '–' : r.p.toFixed(3)}</td><td>${escape(r.verdict)}</td></tr>`;
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>proxyfetch benchmarks</title>
<style>body{font:15px/1.45 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;color:#1c2128}
table{border-collapse:collapse;margin:1em 0}td,th{padding:.25em .7em;border-bottom:1px solid #d8dee4;text-align:left}
tr.worse{background:#ffebe9}tr.better{background:#dafbe1}figure{margin:1.5em 0}figcaption{font-weight:600}
svg{max-width:640px;font:11px system-ui,sans-serif}.grid{stroke:#e3e7ec}</style>
<h1>Benchmarks</h1><table><tr><th></th><th>date</th><th>commit</th><th>machine</th></tr>${side('old', before)}${side('new', after)}</table>
<p><b>${count('worse')} worse, ${count('better')} better</b>, ${rows.length - count('worse') - count('better')} without a certain difference
(threshold ${(threshold * 100).toFixed(0)} %).</p>
<table><tr><th>scenario</th><th>figure</th><th>old</th><th>new</th><th>Δ</th><th>p</th><th>verdict</th></tr>${rows.map(row).join('\n')}</table>
${plots(before, after)}</html>
`;
}
