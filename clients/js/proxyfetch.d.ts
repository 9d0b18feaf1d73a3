// Types of proxyfetch.mjs. The messages are those of docs/protocol.md.

export const FRAME_BYTES_MAX: number;

export type Certainty = 'not_sent' | 'sent_unknown' | 'answered_partial' | 'answered';
export type Owner = 'policy' | 'dns' | 'target' | 'executor' | 'orchestrator' | 'origin' | 'client';
export type State = 'connecting' | 'resuming' | 'open' | 'waiting' | 'closed';
export type Include = 'headers' | 'body' | 'timings' | 'logs';

export interface Session {
  id: string;
  offset: number;
}

export interface ClientOptions {
  /** The class to use where there is no global one (Node before 22), e.g. that of the package `ws`. */
  WebSocket?: new (url: string) => unknown;
  /** true makes a session; {id, offset} returns to one. Default false. */
  session?: boolean | Session;
  /** Acknowledge events once the listeners have returned. Default true. */
  autoAck?: boolean;
  /** Connect again when the connection drops. Default true. */
  reconnect?: boolean;
  /** Pauses double from minMs to maxMs and are shortened at random by up to half. Default 200, 10000. */
  backoff?: { minMs: number; maxMs: number };
  /** Give up an attempt to connect after this. Default 10000. */
  connectMs?: number;
  /** With a session: ping after this much silence, drop the connection after twice as much; 0 = never. Default 15000. */
  heartbeatMs?: number;
}

export interface RequestOptions {
  method?: string;
  headers?: Iterable<[string, string]> | Record<string, string>;
  /** Bytes, and strings with NUL, travel as base64. */
  body?: string | ArrayBuffer | ArrayBufferView;
  /** For one attempt. */
  timeoutMs?: number;
  /** For the whole job, waiting and attempts included. */
  deadlineMs?: number;
  retry?: { attempts?: number; statuses?: (number | string)[] };
  /** Sent to the target with every attempt; makes any method repeatable. */
  idempotencyKey?: string;
  redirect?: 'follow' | 'manual' | 'error';
  include?: Include[];
  continuation?: string;
  context?: unknown;
}

export interface FetchOptions extends RequestOptions {
  /** The same key and request are the same job. In a session each fetch has one, by default its own. */
  submitKey?: string;
  /** Aborting asks the origin to cancel. */
  signal?: AbortSignal;
  /** `enqueue` is the time since sending, in ms by this client's clock. */
  onEnqueued?(message: Enqueued & { enqueue: number }): void;
  onWaiting?(message: Waiting): void;
}

export interface BatchOptions extends RequestOptions {
  onStarted?(message: BatchStarted): void;
}

export interface Enqueued {
  type: 'enqueued';
  reqId: string;
  clientId: string;
  enqueueTime: number;
}

/** Phases in ms by this client's clock; null where it did not see them (after a reconnect). */
export interface Times {
  enqueue: number | null;
  execution: number | null;
  total: number;
}

export type Timings = Partial<
  Record<
    | 'commit' | 'enqueue' | 'queue' | 'dispatch' | 'dns' | 'connect' | 'tls' | 'ttfb'
    | 'transfer' | 'callback' | 'continuation' | 'total',
    number
  >
>;

interface ResultBase {
  type: 'result' | 'late-result';
  reqId: string;
  clientId: string;
  duration: number;
  offset?: number;
  timings?: Timings;
  logs?: unknown[];
}

export interface Success extends ResultBase {
  success: true;
  status: number;
  responseLength: number;
  headers?: [string, string][];
  body?: string;
  bodyBase64?: string;
  bodyUrl?: string;
}

export interface Failure extends ResultBase {
  success: false;
  error: string;
  code?: string;
  certainty?: Certainty;
  owner?: Owner;
  attempts?: number;
}

/** What fetch() resolves with. */
export type FetchResult = Success & { enqueueTime: number | null; times: Times };

export interface BatchStarted {
  type: 'batch-started';
  batchId: string;
  count: number;
}

export interface BatchComplete {
  type: 'batch-complete';
  batchId: string;
  count: number;
  successCount: number;
  offset?: number;
}

export interface Waiting {
  type: 'waiting';
  reqId: string;
  reason: string;
}

export interface ErrorMessage {
  type: 'error';
  error: string;
  code?: string;
  clientId?: string;
  batchId?: string;
}

export interface Gap {
  type: 'gap';
  from: number;
  to: number;
}

export interface Events {
  /** `why` is the error that led to 'waiting' or 'closed'. */
  state: (state: State, why?: ProxyFetchError) => void;
  /** Every message, repeated ones included. */
  message: (message: { type: string }) => void;
  enqueued: (message: Enqueued) => void;
  /** Every result once, also of fetches that another life of this session started. In a session these
   *  are the events with an offset; what is lost in a gap settles its promise, but is no event. */
  result: (message: Success | Failure) => void;
  'late-result': (message: Success | Failure) => void;
  'batch-started': (message: BatchStarted) => void;
  'batch-complete': (message: BatchComplete) => void;
  waiting: (message: Waiting) => void;
  error: (message: ErrorMessage) => void;
  /** These events are no longer there. Pending fetches are asked for again by themselves. */
  gap: (message: Gap) => void;
}

export class ProxyFetchError extends Error {
  code: string | null;
  /** Whether the target can have seen the request. */
  certainty: Certainty | null;
  owner: Owner | null;
  attempts: number | null;
  duration: number | null;
  reqId: string | null;
  clientId: string | null;
  batchId: string | null;
}
/** The job ended with a failure. */
export class JobError extends ProxyFetchError {
  result?: Failure;
}
/** The message was not taken; nothing was started. */
export class RefusedError extends ProxyFetchError {}
/** The connection or the session ended before the answer came. Codes: connection_lost, closed,
 *  taken_over, session_lost, no_session, not_connected; with reconnect: false also busy, sessions_full. */
export class ConnectionError extends ProxyFetchError {
  closeCode?: number;
}

export class ProxyFetchClient {
  /** Begins to connect at once. http(s):// addresses are taken as ws(s)://. */
  constructor(url: string | URL, options?: ClientOptions);
  readonly state: State;
  readonly session: Session | null;
  readonly pending: number;
  on<Type extends keyof Events>(type: Type, listener: Events[Type]): () => void;
  ready(): Promise<void>;
  fetch(url: string | URL, options?: FetchOptions): Promise<FetchResult>;
  batch(url: string | URL, count: number, options?: BatchOptions): Promise<BatchComplete & { times: Times }>;
  cancel(reqId: string): void;
  ping(): Promise<number>;
  ack(offset: number): void;
  body(result: Success): Promise<Uint8Array | null>;
  reconnect(): void;
  close(): void;
}

/** A client that is open; rejects with a ConnectionError if the first attempt fails. */
export function connect(url: string | URL, options?: ClientOptions): Promise<ProxyFetchClient>;
