// The list of jobs: one row for each fetch, with its phases as a bar that grows while it runs.
import { waterfall } from './charts.js';
import { announce, byId, bytes, el, ms } from './dom.js';

const ROWS_MAX = 50;
const BODY_SHOWN = 4096;

const CERTAINTY = {
  not_sent: 'The request never left: the target cannot have seen it.',
  sent_unknown: 'The request may have reached the target; whether it took effect is unknown.',
  answered_partial: 'The target answered, but not completely.',
  answered: 'The target answered.',
};
const OWNER = {
  policy: 'the egress policy refused it', dns: 'the name service', target: 'the target', executor: 'the executor',
  orchestrator: 'the queue', origin: 'the origin', client: 'this client',
};

/** One job. States: sending → enqueued → done | failed. Times are in ms since it was sent. */
class Job {
  constructor(list, { method, url, age = 0, reqId = null, clientId = null }) {
    Object.assign(this, { list, method, url, reqId, clientId, began: performance.now() - age, state: 'sending',
      enqueue: null, total: null, waiting: null, stop: null });
    this.badge = el('span', { class: 'badge' });
    this.bar = { enqueue: el('i', { class: 'enqueue' }), execution: el('i', { class: 'execution' }) };
    this.time = el('span', { class: 'time number' });
    this.more = el('div', { class: 'more' });
    const { pathname, search, host } = URL.canParse?.(url) ? new URL(url) : { pathname: '', search: '', host: url };
    const name = el('span', { class: 'name', title: url }, el('b', {}, method), ' ', el('span', { class: 'quiet' }, host), pathname + search);
    this.node = el('li', {}, el('details', {},
      el('summary', {}, this.badge, name, el('span', { class: 'track', 'aria-hidden': 'true' }, this.bar.enqueue, this.bar.execution), this.time),
      this.more));
    this.show();
  }

  get running() {
    return this.state === 'sending' || this.state === 'enqueued';
  }
  elapsed() {
    return this.total ?? performance.now() - this.began;
  }

  onEnqueued({ reqId, clientId, enqueue, enqueueTime }) {
    Object.assign(this, { state: 'enqueued', reqId, clientId, enqueue, enqueueTime });
    announce(`Enqueued after ${ms(enqueue)}`);
    this.list.changed();
    this.show();
  }
  onWaiting({ reason }) {
    this.waiting = reason;
    this.show();
  }
  /** message is the result frame; total is unknown if an earlier life of the page sent it. */
  onResult(message, times = {}) {
    const total = times.total ?? message.duration ?? this.elapsed();
    Object.assign(this, { total, enqueue: times.enqueue ?? this.enqueue, result: message, state: message.success ? 'done' : 'failed' });
    announce(message.success ? `Result: status ${message.status} after ${ms(total)}` : `Failed: ${message.error}`);
    this.list.changed();
    this.show();
  }
  /** No result will come: it was refused, or the connection or session is gone. */
  onLost({ message, code, certainty, owner, attempts, reqId }) {
    this.onResult({ success: false, error: message, code, certainty, owner, attempts, reqId: reqId ?? this.reqId },
      { total: this.elapsed() });
  }

  #label() {
    if (this.state === 'sending') return 'sent';
    if (this.state === 'enqueued') return this.waiting ? 'waiting' : 'enqueued';
    return this.state === 'done' ? String(this.result.status) : 'failed';
  }
  #tone() {
    if (this.running) return this.waiting ? 'warn' : 'run';
    if (this.state === 'failed') return 'bad';
    return this.result.status < 400 ? 'good' : 'warn';
  }

  show() {
    this.badge.textContent = this.#label();
    this.badge.className = `badge ${this.#tone()}`;
    this.node.classList.toggle('running', this.running);
    this.draw();
    this.more.replaceChildren(...this.#details().filter(Boolean));
  }
  draw() {
    const elapsed = this.elapsed(), scale = this.list.scale;
    const percent = (value) => `${Math.max(0, Math.min(100, (value / scale) * 100))}%`;
    const enqueue = Math.min(this.enqueue ?? elapsed, elapsed);
    this.bar.enqueue.style.width = percent(enqueue);
    this.bar.execution.style.width = percent(elapsed - enqueue);
    this.time.textContent = ms(elapsed);
  }

  // ---- what a row shows when it is open ----

  #details() {
    const result = this.result;
    return [
      result && !result.success && this.#problem(result),
      this.waiting && this.running && el('p', { class: 'notice' }, this.waiting === 'no-executor'
        ? 'Safe in the queue, but no executor is there to take it. It starts when one registers.' : `Waiting: ${this.waiting}`),
      this.#facts(),
      result?.timings && waterfall(result.timings),
      result?.success && this.#response(result),
      this.running && this.stop && el('p', {}, el('button', { type: 'button', class: 'small', onclick: () => this.stop() }, 'Cancel')),
    ];
  }

  #facts() {
    const execution = this.total != null && this.enqueue != null ? this.total - this.enqueue : null;
    const fact = (name, ...value) => el('div', {}, el('dt', {}, name), el('dd', {}, ...value));
    return el('dl', { class: 'facts' },
      fact('enqueue', ms(this.enqueue), this.enqueueTime != null && el('span', { class: 'quiet' }, ` (${ms(this.enqueueTime)} at the origin)`)),
      fact('execution', ms(execution)),
      this.result?.success && fact('length', bytes(this.result.responseLength)),
      this.reqId && fact('reqId', el('a', { class: 'mono', href: `/v1/jobs/${this.reqId}`, target: '_blank', rel: 'noopener' }, this.reqId)));
  }

  #problem({ error, code, owner, certainty, attempts }) {
    const pair = (name, value) => value != null && el('span', { class: 'tag' }, `${name} `, el('b', {}, String(value)));
    return el('div', { class: 'problem' },
      el('p', {}, el('strong', {}, error)),
      el('p', { class: 'tags' }, pair('code', code), pair('owner', owner), pair('certainty', certainty), pair('attempts', attempts)),
      (owner || certainty) && el('p', { class: 'quiet' }, owner && `Responsible: ${OWNER[owner] ?? owner}. `, certainty && CERTAINTY[certainty]));
  }

  #response(result) {
    const parts = [];
    if (result.headers?.length)
      parts.push(el('details', {}, el('summary', {}, `${result.headers.length} response headers`),
        el('pre', { tabindex: '0' }, result.headers.map(([name, value]) => `${name}: ${value}`).join('\n'))));
    if (typeof result.body === 'string' && result.body)
      parts.push(el('pre', { class: 'body', tabindex: '0', 'aria-label': 'Response body' }, result.body.slice(0, BODY_SHOWN) + (result.body.length > BODY_SHOWN ? '\n…' : '')));
    else if (result.bodyBase64 || result.bodyUrl)
      parts.push(el('p', { class: 'quiet' }, result.bodyUrl ? 'The body is too large for a message: ' : 'The body is binary: ',
        el('a', { href: `/v1/jobs/${result.reqId}/body` }, 'download')));
    return parts.length ? el('div', { class: 'response' }, parts) : null;
  }
}

export class JobList {
  #jobs = [];
  #frame = 0;
  scale = 1;

  constructor({ onChange = () => {} } = {}) {
    this.onChange = onChange;
    byId('clear').addEventListener('click', () => this.#keep((job) => job.running));
  }

  add(about) {
    const job = new Job(this, about);
    this.#jobs.unshift(job);
    byId('jobs').prepend(job.node);
    while (this.#jobs.length > ROWS_MAX) this.#jobs.pop().node.remove();
    this.changed();
    return job;
  }
  find(reqId) {
    return this.#jobs.find((job) => job.reqId === reqId);
  }
  /** Those that run and have a name to find them by, for the next life of the page. */
  running() {
    return this.#jobs.filter((job) => job.running && job.reqId);
  }

  /** A job came, went, or went on. */
  changed() {
    byId('no-jobs').hidden = this.#jobs.length > 0;
    byId('clear').hidden = !this.#jobs.some((job) => !job.running);
    this.#draw();
    this.onChange();
  }
  /** Bars share one scale, which the longest job sets; they move only while something runs. */
  #draw() {
    this.scale = Math.max(1, ...this.#jobs.map((job) => job.elapsed()));
    byId('scale').textContent = this.#jobs.length ? `full width ${ms(this.scale)}` : '';
    for (const job of this.#jobs) job.draw();
    if (this.#frame || !this.#jobs.some((job) => job.running)) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }
  #keep(wanted) {
    for (const job of this.#jobs) if (!wanted(job)) job.node.remove();
    this.#jobs = this.#jobs.filter(wanted);
    this.changed();
  }
}
