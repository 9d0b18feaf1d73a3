// A client of proxyfetch for browsers and Node, in one file and without dependencies.
//
//   const client = await connect('ws://localhost:8787/', { session: true, WebSocket });
//   const result = await client.fetch('https://example.org/', { include: ['body'] });
//   const { successCount } = await client.batch('https://example.org/', 1000);
//
// Without a session it sends nothing that only sessions know, and what was under way when
// the connection drops is rejected with a ConnectionError. With a session the origin keeps what this
// client missed: it reconnects, resumes at its offset, and sends again, under the same submitKey,
// what was not confirmed. Nothing is lost and nothing is done twice.
//
// A unit of work is in one of these states, and only a result or an error ends it:
//
//   new ──sent──► sent ──enqueued / batch-started──► confirmed ──result / batch-complete──► settled
//    ▲              │ dropped: plain rejects,            │ gap, or a session that knows less: the
//    └──────────────┘ a session sends it again           └── job or its result may be lost; sent again

/** The largest text frame that an origin takes, in bytes. */
export const FRAME_BYTES_MAX = 1 << 20;
/** Acknowledged at the latest after so many events, or so many milliseconds. */
const ACK_EVENTS = 64;
const ACK_MS = 50;
/** A connection that lasted this long was a good one: the next failure starts with a short pause. */
const STABLE_MS = 5000;

const CLOSE_HOLE = 4000; // ours: events are missing, replay them
const CLOSE_LATER = 1013; // try again later
const CLOSE_TAKEN_OVER = 4001; // the origin's: another connection resumed this session
/** Refusals of a resume that say nothing about the session: asked again later. */
const RESUME_LATER = new Set(['busy', 'sessions_full']);
/** Closes that blame what we sent; sending it again would only repeat them. */
const CLOSE_BLAMES_US = new Set([1002, 1003, 1007, 1008, 1009]);

const FETCH_OPTIONS = new Set(['method', 'headers', 'body', 'timeoutMs', 'deadlineMs', 'retry', 'submitKey',
  'idempotencyKey', 'redirect', 'include', 'continuation', 'context']);
const LOCAL_OPTIONS = new Set(['signal', 'onEnqueued', 'onWaiting', 'onStarted']);
const EVENTS = new Set(['state', 'message', 'enqueued', 'result', 'late-result', 'waiting', 'error', 'gap',
  'batch-started', 'batch-complete']);

// ---- errors ----

/** What all errors of this client have in common. Unknown fields are null. */
export class ProxyFetchError extends Error {
  constructor(message, fields = {}) {
    super(message);
    this.name = new.target.name;
    Object.assign(this, { code: null, certainty: null, owner: null, attempts: null, duration: null,
      reqId: null, clientId: null, batchId: null }, fields);
  }
}
/** The job ended with a failure: there will be no other result. */
export class JobError extends ProxyFetchError {}
/** The origin, or this client, did not take the message. */
export class RefusedError extends ProxyFetchError {}
/** The connection or the session ended before the answer came. */
export class ConnectionError extends ProxyFetchError {}

// ---- the client ----

/** Opens a connection; rejects if an attempt fails, whatever `reconnect` says. An origin that has no
 *  room for the session now is asked again, unless `reconnect` is false. */
export async function connect(url, options) {
  const client = new ProxyFetchClient(url, options);
  const off = client.on('state', (state, why) => {
    if (state === 'waiting' && !RESUME_LATER.has(why.code)) client.close(why);
  });
  try {
    await client.ready();
  } finally {
    off();
  }
  return client;
}

export class ProxyFetchClient {
  #url;
  #options;
  #WebSocket;
  #state = 'connecting';
  #socket = null;
  #timers = { reconnect: null, watch: null, ack: null };
  #failures = 0; // connections in a row that did not last
  #openedAt = 0;
  #seenAt = 0; // the last frame
  #listeners = new Map();
  #waiters = []; // of ready()
  #work = new Map(); // clientId or batchId → work, in order of submission
  #byReqId = new Map(); // reqId → work
  #pings = new Map();
  #session = null; // {id, offset, acked}
  #holeAt = -1;
  #prefix = randomHex(8);
  #count = 0;

  constructor(url, options = {}) {
    this.#options = {
      session: false, // true, or {id, offset} to return to one
      autoAck: true, // false: the application calls ack()
      reconnect: true,
      backoff: { minMs: 200, maxMs: 10_000 },
      connectMs: 10_000,
      heartbeatMs: 15_000, // sessions only; 0 switches it off
      ...options,
    };
    this.#WebSocket = options.WebSocket ?? globalThis.WebSocket;
    if (!this.#WebSocket) throw new TypeError('no WebSocket here: pass a class as options.WebSocket');
    this.#url = String(url).replace(/^http/, 'ws');
    const { session } = this.#options;
    if (session) {
      const { id = null, offset = 0 } = session === true ? {} : session;
      this.#session = { id, offset, acked: offset };
    }
    this.#open();
  }

  /** 'connecting' | 'resuming' | 'open' | 'waiting' (until the next attempt) | 'closed' */
  get state() {
    return this.#state;
  }
  /** {id, offset} to keep and pass as options.session later, or null. */
  get session() {
    return this.#session?.id ? { id: this.#session.id, offset: this.#session.offset } : null;
  }
  /** Fetches and batches that have not ended. */
  get pending() {
    return this.#work.size;
  }

  /** Calls listener on each event of that type. Returns a function that takes it off again. */
  on(type, listener) {
    if (!EVENTS.has(type)) throw new TypeError(`no event is called '${type}'`);
    if (!this.#listeners.has(type)) this.#listeners.set(type, new Set());
    this.#listeners.get(type).add(listener);
    return () => this.#listeners.get(type).delete(listener);
  }

  /** Resolves when the connection is open, and its session resumed; rejects if it never will be. */
  ready() {
    if (this.#state === 'open') return Promise.resolve();
    if (this.#state === 'closed') return Promise.reject(closedError());
    return new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }));
  }

  /** One fetch. Resolves with the result message, whatever its status; rejects with a JobError, a
   *  RefusedError or a ConnectionError. While one with the same submitKey is pending here, this is
   *  that one. */
  async fetch(url, options = {}) {
    const id = options.submitKey ?? this.#nextId('f');
    return this.#submit(id, { type: 'start-fetch', clientId: id, url: String(url), ...requestFields(options) }, options);
  }

  /** `count` fetches of one URL, counted by the origin. Resolves with `batch-complete`. */
  async batch(url, count, options = {}) {
    const id = this.#nextId('b');
    return this.#submit(id, { type: 'start-batch-fetch', batchId: id, count, url: String(url), ...requestFields(options) }, options);
  }

  /** Asks the origin to end a fetch. Its promise rejects with code 'canceled' if that came in time. */
  cancel(reqId) {
    const work = this.#byReqId.get(reqId);
    if (work) work.cancel = true; // repeated if the connection drops
    if (this.#state === 'open') this.#send({ type: 'cancel', reqId });
  }

  /** The round trip to the origin, in ms. */
  ping() {
    if (this.#state !== 'open') return Promise.reject(new ConnectionError('not connected', { code: 'not_connected' }));
    const id = ++this.#count;
    return new Promise((resolve, reject) => {
      this.#pings.set(id, { resolve, reject, sentAt: now() });
      this.#send({ type: 'ping', id });
    });
  }

  /** With autoAck: false, says that everything up to offset has been dealt with. */
  ack(offset) {
    const session = this.#session;
    if (!session || offset <= session.acked) return;
    if (offset > session.offset) throw new RangeError(`offset ${offset} has not been received`);
    session.acked = offset;
    if (this.#state === 'open') this.#send({ type: 'ack', offset });
  }

  /** The body of a result as bytes, wherever it is; null if it was not included. */
  async body(result) {
    if (typeof result.body === 'string') return new TextEncoder().encode(result.body);
    if (typeof result.bodyBase64 === 'string') return bytesOfBase64(result.bodyBase64);
    if (!result.bodyUrl) return null;
    const response = await fetch(new URL(result.bodyUrl, this.#url.replace(/^ws/, 'http')));
    if (!response.ok)
      throw new RefusedError(`the body is not there: HTTP ${response.status}`, { code: 'no_body', reqId: result.reqId });
    return new Uint8Array(await response.arrayBuffer());
  }

  /** In state 'waiting': tries now. */
  reconnect() {
    if (this.#state !== 'waiting') return;
    clearTimeout(this.#timers.reconnect);
    this.#open();
  }

  /** Ends the connection. What is pending here is rejected; jobs at the origin run on. */
  close(why = closedError()) {
    this.#end(why);
  }

  // ---- connection ----

  #open() {
    this.#setState('connecting');
    const socket = new this.#WebSocket(this.#url);
    this.#socket = socket;
    this.#openedAt = this.#seenAt = now();
    const current = (handler) => (event) => socket === this.#socket && handler(event);
    socket.onopen = current(() => this.#onOpen());
    socket.onmessage = current((event) => this.#onFrame(event.data));
    socket.onclose = current((event) => this.#onLost(event.code, event.reason));
    socket.onerror = () => {}; // 'close' follows, and says more
    this.#watch();
  }

  #onOpen() {
    this.#seenAt = now();
    if (!this.#session) return this.#onReady();
    this.#setState('resuming');
    const { id, offset, acked } = this.#session;
    const from = this.#options.autoAck ? offset : acked;
    this.#session.acked = from; // resume acknowledges
    this.#send(id ? { type: 'resume', session: id, offset: from } : { type: 'resume' });
  }

  #onReady() {
    this.#setState('open');
    for (const work of this.#work.values()) {
      if (work.state === 'new') this.#sendWork(work); // its cancel follows `enqueued`
      else if (work.cancel && work.reqId) this.#send({ type: 'cancel', reqId: work.reqId });
    }
    for (const waiter of this.#waiters.splice(0)) waiter.resolve();
  }

  #onLost(code, reason, why = this.#lostError(code, reason)) {
    const lasted = now() - this.#openedAt;
    this.#detach();
    this.#failures = lasted >= STABLE_MS ? 0 : this.#failures;
    for (const ping of this.#pings.values()) ping.reject(this.#lostError(code, reason));
    this.#pings.clear();
    if (code === CLOSE_TAKEN_OVER)
      return this.#end(new ConnectionError('another connection has taken this session over', { code: 'taken_over' }));
    if (!this.#options.reconnect) return this.#end(why);
    for (const work of this.#work.values()) {
      if (work.state === 'new' || (this.#session && work.state === 'confirmed')) continue;
      if (this.#session && !CLOSE_BLAMES_US.has(code)) work.state = 'new';
      else this.#reject(work, why);
    }
    const { minMs, maxMs } = this.#options.backoff;
    const pause = Math.min(maxMs, minMs * 2 ** Math.min(this.#failures++, 30)) * (0.5 + Math.random() / 2);
    this.#timers.reconnect = setTimeout(() => this.#open(), pause);
    this.#setState('waiting', why);
  }

  #lostError(code, reason) {
    const what = this.#state === 'connecting' ? `cannot connect to ${this.#url}` : 'the connection was lost';
    return new ConnectionError(`${what} (${code}${reason ? `, ${reason}` : ''})`, { code: 'connection_lost', closeCode: code });
  }

  /** Lets go of the socket without waiting for it: the other end may be gone without a word. */
  #drop(code, reason, why) {
    const socket = this.#socket;
    this.#onLost(code, reason, why);
    if (socket.readyState < 2) socket.close(CLOSE_HOLE, reason);
  }

  #detach() {
    this.#socket = null;
    clearInterval(this.#timers.watch);
    clearTimeout(this.#timers.ack);
    this.#timers.ack = null;
  }

  #end(why) {
    if (this.#state === 'closed') return;
    const socket = this.#socket;
    const acks = this.#state === 'open' && this.#timers.ack !== null;
    if (acks) this.#sendAck();
    this.#detach();
    clearTimeout(this.#timers.reconnect);
    this.#setState('closed', why);
    if (socket?.readyState < 2) socket.close(1000);
    for (const work of [...this.#work.values()]) this.#reject(work, why);
    for (const ping of this.#pings.values()) ping.reject(why);
    this.#pings.clear();
    for (const waiter of this.#waiters.splice(0)) waiter.reject(why);
  }

  /** A connection that is not there after connectMs, or silent for two heartbeats, is given up. */
  #watch() {
    const { connectMs, heartbeatMs } = this.#options;
    const beat = this.#session && heartbeatMs ? Math.min(heartbeatMs, connectMs) : connectMs;
    this.#timers.watch = setInterval(() => {
      const silent = now() - this.#seenAt;
      if (this.#state !== 'open') {
        if (silent >= connectMs) this.#drop(1006, `no connection within ${connectMs} ms`);
      } else if (this.#session && heartbeatMs) {
        if (silent >= 2 * heartbeatMs) this.#drop(1006, `silent for ${Math.round(silent)} ms`);
        else if (silent >= heartbeatMs) this.#send({ type: 'ping', id: 'heartbeat' });
      }
    }, Math.max(1, beat / 2));
  }

  #send(message) {
    this.#socket.send(typeof message === 'string' ? message : JSON.stringify(message));
  }

  #setState(state, why) {
    this.#state = state;
    this.#emit('state', state, why);
  }

  #emit(type, ...args) {
    for (const listener of [...(this.#listeners.get(type) ?? [])]) call(listener, ...args);
  }

  // ---- work ----

  #nextId(kind) {
    return `${kind}-${this.#prefix}-${++this.#count}`;
  }

  #submit(id, message, options) {
    if (this.#state === 'closed') throw closedError();
    checkOptions(options);
    if (this.#session && message.type === 'start-fetch') message.submitKey ??= id;
    const frame = JSON.stringify(message);
    const bytes = utf8Length(frame);
    if (bytes > FRAME_BYTES_MAX)
      throw new RefusedError(`the message has ${bytes} bytes, and ${FRAME_BYTES_MAX} are allowed`,
        { code: 'limit', certainty: 'not_sent', owner: 'client' });
    if (options.signal?.aborted) throw canceledError(id);
    const pending = this.#work.get(id);
    if (pending && pending.frame !== frame)
      throw new RefusedError('this submitKey is in use with another request',
        { code: 'submit_key_conflict', certainty: 'not_sent', owner: 'client', clientId: id });
    return (pending ?? this.#start({ id, batch: message.type === 'start-batch-fetch', frame, options })).promise;
  }

  #start(what) {
    const work = { ...what, state: 'new', everSent: false, cancel: false, reqId: null, enqueueTime: null,
      sentAt: null, enqueuedAt: null };
    work.promise = new Promise((resolve, reject) => Object.assign(work, { resolve, reject }));
    work.onAbort = () => this.#abort(work);
    work.options.signal?.addEventListener('abort', work.onAbort);
    this.#work.set(work.id, work);
    if (this.#state === 'open') this.#sendWork(work);
    return work;
  }

  #sendWork(work) {
    work.state = 'sent';
    work.everSent = true;
    work.sentAt ??= now();
    this.#send(work.frame);
  }

  /** The origin decides whether a fetch that it has can still be canceled. */
  #abort(work) {
    work.cancel = true;
    if (!work.everSent) this.#settle(work).reject(canceledError(work.id));
    else if (work.reqId && this.#state === 'open') this.#send({ type: 'cancel', reqId: work.reqId });
  }

  /** Takes it off all tables; the caller resolves or rejects. */
  #settle(work) {
    this.#work.delete(work.id);
    this.#byReqId.delete(work.reqId);
    work.options.signal?.removeEventListener('abort', work.onAbort);
    return work;
  }

  #reject(work, why) {
    const error = new why.constructor(why.message, { ...why, reqId: work.reqId,
      [work.batch ? 'batchId' : 'clientId']: work.id,
      certainty: work.everSent ? 'sent_unknown' : 'not_sent' });
    this.#settle(work).reject(error);
  }

  /** The results of confirmed work may be among events that are lost: the origin is asked again. By
   *  their submitKey they are the same jobs. */
  #askAgain() {
    for (const work of this.#work.values()) if (work.state === 'confirmed') work.state = 'new';
    if (this.#state !== 'open') return; // onReady sends it
    for (const work of this.#work.values()) if (work.state === 'new') this.#sendWork(work);
  }

  // ---- frames ----

  #onFrame(data) {
    this.#seenAt = now();
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return this.#drop(1003, 'the server sent something that is not JSON');
    }
    if (this.#state === 'open') this.#failures = 0; // a greeting alone, or a refusal of it, proves little
    const news = this.#followOffset(message);
    if (news === 'hole') return;
    this.#emit('message', message);
    switch (message.type) {
      case 'enqueued':
        return this.#onEnqueued(message);
      case 'result':
        this.#onResult(message, news);
        break;
      case 'late-result':
        if (news) this.#emit('late-result', message);
        break;
      case 'batch-started':
        return this.#onBatchStarted(message);
      case 'batch-complete':
        this.#onBatchComplete(message, news);
        break;
      case 'session':
        return this.#onSession(message);
      case 'gap':
        this.#onGap(message);
        break;
      case 'error':
        return this.#onError(message);
      case 'waiting':
        call(this.#byReqId.get(message.reqId)?.options.onWaiting, message);
        return this.#emit('waiting', message);
      case 'pong':
        this.#pings.get(message.id)?.resolve(now() - this.#pings.get(message.id).sentAt);
        this.#pings.delete(message.id);
        return;
      default:
        return; // later versions may say more
    }
    this.#ackSoon();
  }

  /** Whether this is news. In a session only what has the next offset is: a result without one
   *  answers a repeated submit and comes, or came, as an event too. 'hole' if some are missing. */
  #followOffset({ offset, type }) {
    const session = this.#session;
    if (!session || type === 'session') return true;
    if (typeof offset !== 'number') return false;
    if (offset <= session.offset) return false;
    if (offset > session.offset + 1) {
      if (this.#holeAt !== session.offset) {
        this.#holeAt = session.offset; // once it is asked for them again
        this.#drop(CLOSE_HOLE, 'events are missing');
        return 'hole';
      }
      this.#onGap({ type: 'gap', from: session.offset + 1, to: offset - 1 });
    }
    session.offset = offset;
    return true;
  }

  #onEnqueued(message) {
    const work = this.#work.get(message.clientId);
    if (work) {
      work.state = 'confirmed';
      work.enqueuedAt ??= now();
      work.enqueueTime ??= message.enqueueTime;
      const first = !work.reqId;
      this.#byReqId.delete(work.reqId); // an origin that lost the job (power cut) has made it anew
      work.reqId = message.reqId;
      this.#byReqId.set(work.reqId, work);
      if (work.cancel) this.#send({ type: 'cancel', reqId: work.reqId }); // from now on cancel() sends it
      if (first) call(work.options.onEnqueued, { ...message, enqueue: work.enqueuedAt - work.sentAt });
    }
    this.#emit('enqueued', message);
  }

  #onResult(message, news) {
    const work = this.#byReqId.get(message.reqId) ?? this.#work.get(message.clientId);
    if (work) {
      this.#settle(work);
      if (message.success) work.resolve(this.#withTimes(message, work));
      else work.reject(jobError(message, work.id));
    }
    if (news) this.#emit('result', message);
  }

  /** Phases by this client's clock, in ms; null where this client did not see their ends. */
  #withTimes(message, { sentAt, enqueuedAt, enqueueTime }) {
    const at = now();
    const times = { enqueue: enqueuedAt && enqueuedAt - sentAt, execution: enqueuedAt && at - enqueuedAt, total: at - sentAt };
    return { ...message, enqueueTime, times };
  }

  #onBatchStarted(message) {
    const work = this.#work.get(message.batchId);
    if (work) {
      work.state = 'confirmed';
      work.enqueuedAt ??= now();
      call(work.options.onStarted, message);
    }
    this.#emit('batch-started', message);
  }

  #onBatchComplete(message, news) {
    const work = this.#work.get(message.batchId);
    if (work) this.#settle(work).resolve(this.#withTimes(message, work));
    if (news) this.#emit('batch-complete', message);
  }

  #onError(message) {
    if (this.#state === 'resuming') return this.#onResumeRefused(message);
    const id = message.clientId ?? message.batchId;
    const work = this.#work.get(id);
    const fields = { code: message.code ?? null, clientId: message.clientId ?? null, batchId: message.batchId ?? null };
    if (work) {
      // The one refusal of something that was done: its answer is no longer there.
      const certainty = message.code === 'result_expired' ? null : 'not_sent';
      this.#settle(work).reject(new RefusedError(message.error, { ...fields, reqId: work.reqId, certainty, owner: 'client' }));
    }
    this.#emit('error', message);
  }

  // ---- sessions ----

  #onSession({ session: id, offset, pending = Infinity }) {
    const session = this.#session;
    if (!session) return;
    if (session.id === null) {
      Object.assign(session, { id, offset, acked: offset });
    } else if (offset < session.offset) {
      // The origin lost its last moments (a power cut, sync normal): offsets start again from there.
      Object.assign(session, { offset, acked: Math.min(session.acked, offset) });
      this.#askAgain();
    } else if (pending + offset - session.offset < this.#confirmed) {
      this.#askAgain(); // each is a job that is pending there, or an event that is to come: some are neither
    }
    this.#onReady();
  }

  get #confirmed() {
    let count = 0;
    for (const work of this.#work.values()) count += work.state === 'confirmed';
    return count;
  }

  /** Later, on another connection, after a pause that grows; nothing was sent on this one. Otherwise
   *  our session has expired: its results are gone, and a new one would not know its submitKeys. */
  #onResumeRefused(message) {
    if (RESUME_LATER.has(message.code)) {
      this.#emit('error', message);
      if (this.#state !== 'resuming') return; // a listener has closed
      return this.#drop(CLOSE_LATER, message.code, new ConnectionError(message.error, { code: message.code }));
    }
    if (this.#session.id === null)
      return this.#end(new ConnectionError(`this server has no sessions: ${message.error}`, { code: 'no_session' }));
    const why = new ConnectionError(message.error, { code: 'session_lost' });
    for (const work of [...this.#work.values()]) if (work.everSent) this.#reject(work, why);
    this.#emit('error', { ...message, code: 'session_lost' });
    Object.assign(this.#session, { id: null, offset: 0, acked: 0 });
    this.#send({ type: 'resume' });
  }

  #onGap(message) {
    const session = this.#session;
    if (!session || message.to <= session.offset) return;
    session.offset = message.to;
    this.#emit('gap', message);
    this.#askAgain();
  }

  #ackSoon() {
    const session = this.#session;
    if (!session || !this.#options.autoAck || this.#state !== 'open' || session.offset === session.acked) return;
    if (session.offset - session.acked >= ACK_EVENTS) this.#sendAck();
    else this.#timers.ack ??= setTimeout(() => this.#sendAck(), ACK_MS);
  }

  #sendAck() {
    clearTimeout(this.#timers.ack);
    this.#timers.ack = null;
    this.#session.acked = this.#session.offset;
    this.#send({ type: 'ack', offset: this.#session.acked });
  }
}

// ---- helpers ----

const now = () => performance.now();

/** The fault of a callback is not the connection's: it is reported where uncaught errors go. */
function call(callback, ...args) {
  try {
    callback?.(...args);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}

function closedError() {
  return new ConnectionError('the client has been closed', { code: 'closed' });
}
function canceledError(id) {
  return new JobError('canceled before it was sent', { code: 'canceled', certainty: 'not_sent', owner: 'client', clientId: id });
}
function jobError(message, clientId) {
  const { code = null, certainty = null, owner = null, attempts = null, duration = null, reqId } = message;
  return new JobError(message.error ?? 'the fetch failed',
    { code, certainty, owner, attempts, duration, reqId, clientId, result: message });
}

function checkOptions(options) {
  for (const name of Object.keys(options))
    if (!FETCH_OPTIONS.has(name) && !LOCAL_OPTIONS.has(name)) throw new TypeError(`unknown option '${name}'`);
}

/** The members of `start-fetch` from options that look like those of fetch(). */
function requestFields({ headers, body, ...options }) {
  const fields = {};
  for (const [name, value] of Object.entries(options))
    if (FETCH_OPTIONS.has(name) && value !== undefined) fields[name] = value;
  if (headers) fields.headers = typeof headers[Symbol.iterator] === 'function' ? [...headers] : headers;
  if (typeof body === 'string' && !body.includes('\0')) fields.body = body;
  else if (body != null) fields.bodyBase64 = base64(bytesOf(body));
  return fields;
}

function bytesOf(body) {
  if (typeof body === 'string') return new TextEncoder().encode(body);
  if (body instanceof ArrayBuffer) return new Uint8Array(body);
  if (ArrayBuffer.isView(body)) return new Uint8Array(body.buffer, body.byteOffset, body.byteLength);
  throw new TypeError('a body is a string, an ArrayBuffer or a view of one');
}

function base64(bytes) {
  let text = '';
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(text);
}
function bytesOfBase64(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

/** Bytes of text in UTF-8, without making them where length alone decides. */
function utf8Length(text) {
  return text.length * 3 <= FRAME_BYTES_MAX ? text.length : new TextEncoder().encode(text).length;
}

/** Only has to be unlike others, not secret; Node 18 has no global crypto. */
function randomHex(bytes) {
  const random = new Uint8Array(bytes);
  if (globalThis.crypto?.getRandomValues) crypto.getRandomValues(random);
  else for (let i = 0; i < bytes; i++) random[i] = Math.random() * 256;
  return Array.from(random, (b) => b.toString(16).padStart(2, '0')).join('');
}
