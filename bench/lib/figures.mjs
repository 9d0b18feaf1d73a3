// Figures of samples, and whether two sets of them differ.

/** Nearest rank: the smallest sample that at least q of them do not exceed. */
export function quantile(sorted, q) {
  return sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)] ?? 0;
}

export const quantiles = { p50: 0.5, p75: 0.75, p90: 0.9, p95: 0.95, p99: 0.99, p99_5: 0.995, p99_9: 0.999 };

/** {samples, min, mean, p50 … p99_9, max, marginPercent}: the margin is that of the mean, at 95 %. */
export function figuresOf(samples) {
  const sorted = Float64Array.from(samples).sort();
  const mean = sorted.reduce((a, b) => a + b, 0) / (sorted.length || 1);
  const squares = sorted.reduce((a, b) => a + (b - mean) ** 2, 0);
  const error = sorted.length > 1 ? Math.sqrt(squares / (sorted.length - 1) / sorted.length) : 0;
  const figures = { samples: sorted.length, min: sorted[0] ?? 0, mean, max: sorted.at(-1) ?? 0 };
  for (const [name, q] of Object.entries(quantiles)) figures[name] = quantile(sorted, q);
  return { ...figures, marginPercent: mean ? (196 * error) / mean : 0 };
}

export function median(values) {
  const s = [...values].sort((a, b) => a - b), half = s.length >> 1;
  return s.length % 2 ? s[half] : (s[half - 1] + s[half]) / 2;
}

/** Mann-Whitney: the probability (two-sided) that two such different sets come from the same
 *  distribution. Exact for small sets without ties, else by the normal approximation. */
export function mannWhitney(a, b) {
  const all = [...a.map((v) => [v, 0]), ...b.map((v) => [v, 1])].sort((x, y) => x[0] - y[0]);
  let rankSum = 0, tieTerm = 0;
  for (let i = 0; i < all.length;) {
    let end = i;
    while (end < all.length && all[end][0] === all[i][0]) end++;
    for (let k = i; k < end; k++) if (all[k][1] === 0) rankSum += (i + end + 1) / 2;
    tieTerm += (end - i) ** 3 - (end - i);
    i = end;
  }
  const n = a.length, m = b.length, total = n + m;
  const u = rankSum - (n * (n + 1)) / 2, low = Math.min(u, n * m - u);
  if (n === 0 || m === 0) return 1;
  if (tieTerm === 0 && total <= 20) return exactP(n, m, low);
  const variance = ((n * m) / 12) * (total + 1 - tieTerm / (total * (total - 1)));
  if (variance === 0) return 1;
  return Math.min(1, 2 * normalTail((n * m) / 2 - low - 0.5, Math.sqrt(variance)));
}

/** In how many of all orders U is at most low, both sides. */
function exactP(n, m, low) {
  const memo = new Map();
  const count = (i, j, u) => {
    if (u < 0) return 0;
    if (i === 0 || j === 0) return u === 0 ? 1 : 0;
    const key = `${i},${j},${u}`;
    if (!memo.has(key)) memo.set(key, count(i - 1, j, u - j) + count(i, j - 1, u));
    return memo.get(key);
  };
  let below = 0, orders = 0;
  for (let u = 0; u <= n * m; u++) {
    const c = count(n, m, u);
    orders += c;
    if (u <= low) below += c;
  }
  return Math.min(1, (2 * below) / orders);
}

/** P(Z > x / sd), Abramowitz and Stegun 26.2.17. */
function normalTail(x, sd) {
  const z = Math.max(0, x / sd), t = 1 / (1 + 0.2316419 * z);
  const poly = t * (0.31938153 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))));
  return (Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI)) * poly;
}

/** 12345.678 → "12,346"; 0.1234 → "0.123". */
export function show(value) {
  if (value === undefined || value === null || Number.isNaN(value)) return '–';
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString('en-US');
  return Math.abs(value) >= 100 ? value.toFixed(0) : Math.abs(value) >= 10 ? value.toFixed(1) : value.toFixed(3);
}

/** A Markdown table. */
export function table(head, rows) {
  const line = (cells) => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}
