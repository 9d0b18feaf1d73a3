// The page: one client with a session, a form for one fetch and one for many.
import { byId, el, ms } from './dom.js';
import { JobList } from './jobs.js';
import { Load } from './load.js';
import { ProxyFetchClient } from './proxyfetch.mjs';

const SESSION_KEY = 'proxyfetch.session', JOBS_KEY = 'proxyfetch.jobs', TARGET_KEY = 'proxyfetch.target';
const PING_MS = 5000;
const parameters = new URLSearchParams(location.search);

// ---- what outlives a reload ----

const stored = (key) => {
  try {
    return JSON.parse(sessionStorage.getItem(key));
  } catch {
    return null;
  }
};
const store = (key, value) => {
  if (value == null) sessionStorage.removeItem(key);
  else sessionStorage.setItem(key, JSON.stringify(value));
};
/** The session and what runs in it, so that a reload returns to both. */
function remember() {
  store(SESSION_KEY, client.session);
  store(JOBS_KEY, jobs.running().map(({ reqId, clientId, method, url, began }) =>
    ({ reqId, clientId, method, url, sentAt: Date.now() - (performance.now() - began) })));
}

// ---- the connection ----

const STATES = { connecting: 'Connecting', resuming: 'Connecting', open: 'Connected', waiting: 'Disconnected', closed: 'Disconnected' };
let client;

function connectPage(session) {
  client = new ProxyFetchClient(location.origin, { session });
  client.on('state', (state, why) => showConnection(state, why));
  client.on('result', (message) => adoptResult(message));
  client.on('late-result', (message) => adoptResult(message));
  client.on('error', (message) => message.code === 'session_lost' && jobs.running().forEach(ask));
  client.on('gap', () => jobs.running().forEach(ask));
}

function showConnection(state, why) {
  const box = byId('connection'), button = byId('connection-button');
  box.dataset.state = state;
  byId('connection-text').textContent = why?.code === 'taken_over' ? 'Open in another tab' : STATES[state];
  byId('connection-detail').textContent = state === 'waiting' ? 'trying again; jobs run on'
    : why?.code === 'taken_over' ? 'which has this session now' : state === 'closed' ? (why?.message ?? '') : '';
  button.hidden = state !== 'waiting' && state !== 'closed';
  button.textContent = state === 'waiting' ? 'Try now' : 'Take it back';
  button.onclick = () => (state === 'waiting' ? client.reconnect() : connectPage(stored(SESSION_KEY) ?? true));
  if (state === 'open') {
    remember();
    measureRoundTrip();
  }
  if (why?.code === 'no_session') connectPage(false); // an older server: plain messages will do
}

async function measureRoundTrip() {
  if (client.state !== 'open' || document.hidden) return;
  const took = await client.ping().catch(() => null);
  const id = client.session?.id;
  if (took != null) byId('connection-detail').textContent = `${id ? `session ${id.slice(0, 6)} · ` : ''}${ms(took)} round trip`;
}

// ---- jobs of an earlier life of this page ----

const orphans = new Map(); // reqId → job, until its result comes

function adoptResult(message) {
  const job = orphans.get(message.reqId);
  if (!job) return;
  orphans.delete(message.reqId);
  job.onResult(message);
}

/** Its event may be lost: the origin still knows how it ended. */
async function ask(job) {
  if (!orphans.has(job.reqId)) return; // the client looks after its own
  const response = await fetch(`/v1/jobs/${job.reqId}?wait=60`).catch(() => null);
  const answer = await response?.json().catch(() => null);
  if (answer?.result) adoptResult({ ...answer.result, reqId: job.reqId });
}

// ---- one fetch ----

const EXAMPLES = [
  ['uuid', '/uuid', 'GET'], ['half a second', '/delay/500', 'GET'], ['three redirects', '/redirect/3', 'GET'],
  ['fails twice, then works', '/flaky/2?fail=reset', 'GET'], ['status 503', '/status/503', 'GET'],
  ['POST to a server that hangs up', '/reset', 'POST'],
];

function headersOf(text) {
  return text.split('\n').map((line) => line.trim()).filter(Boolean).map((line) => {
    const colon = line.indexOf(':');
    if (colon < 1) throw new TypeError(`'${line}' is not of the form Name: value`);
    return [line.slice(0, colon).trim(), line.slice(colon + 1).trim()];
  });
}

/** The form as the arguments of client.fetch(). Throws a TypeError if a header makes no sense. */
function request() {
  const value = (id) => byId(id).value;
  const number = (id) => (value(id) ? byId(id).valueAsNumber : undefined);
  const headers = headersOf(value('headers'));
  const statuses = byId('retry-statuses').checked ? ['5xx', 429] : undefined;
  const attempts = number('attempts');
  return {
    url: value('url'),
    options: {
      method: value('method'),
      ...(headers.length && { headers }),
      ...(value('body') && { body: value('body') }),
      ...((attempts || statuses) && { retry: { attempts, statuses } }),
      timeoutMs: number('timeout'),
      deadlineMs: number('deadline'),
      include: ['headers', 'body', 'timings'],
    },
  };
}

async function startFetch({ url, options }) {
  const job = jobs.add({ method: options.method, url });
  const stop = new AbortController();
  job.stop = () => stop.abort();
  try {
    const { times, ...result } = await client.fetch(url, { ...options, signal: stop.signal,
      onEnqueued: (message) => job.onEnqueued(message), onWaiting: (message) => job.onWaiting(message) });
    job.onResult(result, times);
  } catch (why) {
    job.onLost(why);
  }
}

function setUpForm() {
  const base = parameters.get('target') ?? localStorage.getItem(TARGET_KEY) ?? 'http://127.0.0.1:8790';
  const input = byId('url');
  input.value = /^https?:\/\/[^/]+\/?$/.test(base) ? `${base.replace(/\/$/, '')}/uuid` : base;
  byId('examples').append(...EXAMPLES.map(([name, path, method]) => el('button', { type: 'button', class: 'chip', onclick: () => {
    const root = URL.canParse?.(input.value) ? new URL(input.value).origin : 'http://127.0.0.1:8790';
    input.value = root + path + (path.startsWith('/flaky') ? `&key=${Math.random().toString(36).slice(2)}` : '');
    byId('method').value = method;
    input.focus();
  } }, name)));
  byId('headers').addEventListener('input', () => byId('headers').setCustomValidity(''));
  byId('fetch-form').addEventListener('submit', (event) => {
    event.preventDefault();
    let wanted;
    try {
      wanted = request();
    } catch (why) {
      byId('headers').closest('details').open = true;
      byId('headers').setCustomValidity(why.message);
      byId('headers').reportValidity();
      return;
    }
    localStorage.setItem(TARGET_KEY, wanted.url);
    startFetch(wanted);
  });
}

// ---- start ----

const jobs = new JobList();
for (const { sentAt, ...about } of (stored(JOBS_KEY) ?? []).reverse()) {
  const job = jobs.add({ ...about, age: Date.now() - sentAt });
  job.state = 'enqueued';
  job.stop = () => client.cancel(job.reqId);
  job.show();
  orphans.set(job.reqId, job);
}
setUpForm();
new Load(() => client, request);
connectPage(stored(SESSION_KEY) ?? true);
jobs.onChange = () => {
  if (client.session) remember();
};
addEventListener('pagehide', remember);
setInterval(measureRoundTrip, PING_MS);
document.addEventListener('visibilitychange', measureRoundTrip);
