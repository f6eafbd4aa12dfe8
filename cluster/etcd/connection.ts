/**
 * One gRPC client to one endpoint at a time. The only file that loads etcd3, and only when the first call is made:
 * that costs 50–160 ms.
 *
 * etcd3's own fault handling is off, because every part of it delays recovery. Its circuit breaker refuses calls for
 * seconds after etcd is back. It chooses a random host per call, so one frozen member of three affects every third call.
 * Its watch manager ends for good when a restarted etcd no longer knows the token. Instead, any failure that may be the
 * connection's discards the client, and the next call makes a new one, to the next endpoint. A new client has new sockets,
 * a new token and no leftover backoff.
 */

import type { Etcd3, IOptions } from 'etcd3';
import type { Clock, Random } from '../clock.ts';
import type { StoreHealth } from '../store.ts';
import { StoreError, StoreRefusedError, StoreUnavailableError } from '../store-errors.ts';
import type { StoreObserver } from '../store-observer.ts';
import { type Credentials, type Identity, readCredentials } from './credentials.ts';
import {
  callError,
  explain,
  explainDenial,
  type Failure,
  isDenied,
  isStaleToken,
  isWorthAnotherEndpoint,
  toStoreError,
} from './errors.ts';
import type { Right } from './keys.ts';
import { operationOf } from './operations.ts';
import type { EtcdEndpoints } from './options.ts';

export interface ConnectionOptions {
  readonly etcd: EtcdEndpoints;
  readonly clock: Clock;
  readonly random: Random;
  /** The deadline of a call. */
  readonly timeoutMs: number;
  readonly observer?: StoreObserver | undefined;
}

/** A call's arguments: the client, and options for each request. */
export interface Rpc {
  readonly client: Etcd3;
  readonly deadline: { readonly deadline: number };
}

/** One client, until its first failure. */
export interface Session {
  readonly endpoint: string;
  readonly client: Etcd3;
  readonly identity: Identity;
  /** Called once with the reason when the client is discarded. */
  readonly onDrop: Set<(reason: StoreError) => void>;
  /** Why it was discarded; undefined while it is in use. */
  dropped: StoreError | undefined;
}

/** Calls directly: no retry, no circuit breaker. etcd3 needs a promise even if the work throws at once. */
const passThrough = { execute: async (work: (context: object) => unknown) => work({}) };

/** The parts of gRPC's interceptor interface that are used here. */
interface Listener {
  onReceiveMetadata(metadata: unknown): void;
  onReceiveMessage(message: unknown): void;
  onReceiveStatus(status: { details: string }): void;
}
interface InterceptedCall {
  start(metadata: { set(key: string, value: string): void }, listener: Listener): void;
}

/** A client's token; adds it to each request. */
class TokenHolder {
  token: string | undefined;

  /**
   * Adds the token, and asks a member without a leader to report that at once (Go's `WithRequireLeader`). So watches there
   * end instead of falling silent, and calls do not wait for their deadline.
   */
  readonly interceptor = (options: unknown, nextCall: (options: unknown) => InterceptedCall): InterceptedCall => {
    const call = nextCall(options);
    const start = call.start.bind(call);
    call.start = (metadata, listener) => {
      metadata.set('hasleader', 'true');
      if (this.token !== undefined) metadata.set('token', this.token);
      start(metadata, {
        onReceiveMetadata: (received) => listener.onReceiveMetadata(received),
        onReceiveMessage: (message) => listener.onReceiveMessage(message),
        onReceiveStatus: (status) =>
          // etcd3 repeats a call that ends with "invalid auth token" forever, without a pause.
          listener.onReceiveStatus({ ...status, details: status.details.replace('invalid auth token', expiredToken) }),
      });
    };
    return call;
  };
}

/** Enough for the leases of ten thousand nodes; gRPC's default of 4 MB is not. */
const maxMessageBytes = 64 * 1024 * 1024;

const closedError = (): StoreError =>
  new StoreRefusedError({
    code: 'refused',
    op: 'connect',
    subject: '',
    message: 'Cannot use the connection to etcd: it is closed',
  });

/** Ends the calls of a connection that is dropped on purpose. */
export class ReconnectError extends StoreUnavailableError {
  constructor(endpoint: string) {
    super({
      code: 'unavailable',
      op: 'reconnect',
      subject: '',
      message: `Cannot use the connection to etcd at ${endpoint} any more: it is given up`,
    });
  }
}

const expiredToken = 'the auth token has expired';

/** Per process: it separates the sockets of different clients. */
let sessionsMade = 0;

/**
 * Does the work, but only while the session is in use: if the client closes while a stream opens, the stream may stay
 * silent until its deadline.
 */
export async function untilDropped<T>(session: Session, work: () => Promise<T>): Promise<T> {
  let dropped: (reason: StoreError) => void = () => {};
  const drop = new Promise<never>((_resolve, reject) => {
    dropped = reject;
    if (session.dropped) reject(session.dropped);
    else session.onDrop.add(reject);
  });
  try {
    // If the work throws at once, the other promise must still be handled.
    return await Promise.race([drop, (async () => work())()]);
  } finally {
    session.onDrop.delete(dropped);
  }
}

export class EtcdConnection {
  readonly #options: ConnectionOptions;
  readonly #endpoints: readonly string[];
  #position: number;
  #session: Promise<Session> | undefined;
  #current: Session | undefined;
  /** Our identity in the latest attempt to connect. */
  #identity: Identity = {};
  /**
   * etcd's token for user and password, valid at every member. It is kept across connections: each password check costs
   * etcd a tenth of a second of CPU time, and when a member ends, all its clients go to the others at once.
   */
  #token: string | undefined;
  /** etcd has reported that it needs no authentication: from then on, no password is sent. */
  #authenticationOff = false;
  #closed = false;
  #connected = false;
  #lastContactMs: number | undefined;
  #error: string | undefined;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.#endpoints = options.etcd.endpoints;
    // A random first endpoint spreads the nodes over the members.
    this.#position = Math.floor(options.random() * this.#endpoints.length);
  }

  #endpoint(): string {
    return this.#endpoints[this.#position % this.#endpoints.length]!;
  }

  get endpointCount(): number {
    return this.#endpoints.length;
  }

  health(): StoreHealth {
    return {
      endpoints: this.#endpoints,
      connected: this.#connected,
      lastContactMs: this.#lastContactMs,
      error: this.#error,
    };
  }

  /** The current client; made on demand. */
  session(): Promise<Session> {
    if (this.#closed) {
      return Promise.reject(closedError());
    }
    if (!this.#session) {
      const session = this.#open();
      this.#session = session;
      session.then(
        (made) => {
          if (this.#session === session) {
            this.#current = made;
            this.#options.observer?.storeConnection();
          } else made.client.close();
        },
        () => {
          // Forget a client that could not be made.
          if (this.#session === session) this.#session = undefined;
        },
      );
    }
    return this.#session;
  }

  async #open(): Promise<Session> {
    const { etcd, clock, timeoutMs } = this.#options;
    const endpoint = this.#endpoint();
    const number = ++sessionsMade;
    const secure = endpoint.startsWith('https:');
    const tokens = new TokenHolder();
    const plain: Credentials = { identity: etcd.username === undefined ? {} : { username: etcd.username } };
    const [{ Etcd3 }, { identity, ca, certificate, key }] = await Promise.all([
      import('etcd3'),
      secure ? readCredentials(etcd, clock.nowMs()) : plain,
    ]);
    this.#identity = identity;
    const options: IOptions = {
      hosts: endpoint,
      faultHandling: {
        host: () => passThrough as never,
        global: passThrough as never,
      },
      // A frozen server blocks nothing, even if a call forgets its own deadline.
      defaultCallOptions: (context) => (context.isStream ? {} : { deadline: clock.nowMs() + timeoutMs }),
      grpcOptions: {
        interceptors: [tokens.interceptor],
        'grpc.max_receive_message_length': maxMessageBytes,
        'grpc.max_reconnect_backoff_ms': 2000,
        // http_proxy in the environment is meant for other programs.
        'grpc.enable_http_proxy': 0,
        // gRPC pools sockets by address and options. The number keeps a new client off the old one's, while its own
        // services still share one.
        'weft.session': number,
      },
    };
    if (secure && ca) {
      options.credentials = {
        rootCertificate: ca,
        ...(key && certificate ? { privateKey: key, certChain: certificate } : {}),
      };
    } else if (secure && key && certificate) {
      // Without a root, gRPC uses the system's roots; only etcd3's types require one.
      options.credentials = { privateKey: key, certChain: certificate } as never;
    }
    const client = new Etcd3(options);
    if (etcd.username !== undefined && !this.#authenticationOff) {
      // Not by etcd3's `auth` option: it keeps sockets of its own, with up to two minutes of backoff.
      try {
        const request = { name: etcd.username, password: etcd.password ?? '' };
        this.#token ??= (await client.auth.authenticate(request)).token;
        tokens.token = this.#token;
      } catch (error) {
        client.close();
        // Seen with etcd 3.4; etcd's own clients go on without, too.
        if (!(error instanceof Error && error.message.includes('authentication is not enabled'))) {
          this.#position++;
          throw error;
        }
        this.#authenticationOff = true;
        return this.#open();
      }
    }
    return { endpoint, client, identity, onDrop: new Set(), dropped: undefined };
  }

  /** Discards the session if it is the current one, and moves on to the next endpoint. */
  drop(session: Session, reason: StoreError): void {
    if (this.#current !== session) return;
    this.#current = undefined;
    this.#session = undefined;
    if (isStaleToken(reason.cause)) this.#token = undefined;
    // The same endpoint may give a new token.
    else this.#position++;
    this.#end(session, reason);
  }

  /** Drops the current connection on purpose: the next call makes a new one. */
  reconnect(): void {
    if (!this.#current) return;
    this.drop(this.#current, new ReconnectError(this.#current.endpoint));
  }

  #end(session: Session, reason: StoreError): void {
    session.dropped = reason;
    for (const callback of session.onDrop) callback(reason);
    session.onDrop.clear();
    session.client.close();
  }

  succeeded(): void {
    this.#connected = true;
    this.#lastContactMs = this.#options.clock.nowMs();
    this.#error = undefined;
  }

  failed(error: StoreError): void {
    this.#connected = false;
    this.#error = error.message;
  }

  /**
   * Makes a call. If the connection may be at fault, it repeats the call once at the next endpoint, within the same
   * deadline. (With one endpoint, at the same one: a restarted etcd refuses the old connection and accepts a new one.) So
   * `run` may happen twice although the first took effect: guard writes by a comparison.
   * @param right the right that the call needs; an error names it
   * @throws StoreError
   */
  async call<T>(op: string, key: string, run: (rpc: Rpc) => Promise<T>, right?: Right): Promise<T> {
    const { clock, timeoutMs, observer } = this.#options;
    const startMs = clock.nowMs();
    const end = startMs + timeoutMs;
    const attempts = Math.max(2, this.#endpoints.length);
    let failure: StoreError | undefined;
    const failures = new Map<string, Failure>();
    for (let attempt = 0, tries = 0; attempt < attempts && tries < 2 * attempts; tries++) {
      // gRPC's deadlines are times of day, and the clock may be set meanwhile.
      const leftMs = Math.min(end - clock.nowMs(), timeoutMs);
      if (leftMs <= 0) break;
      // Several endpoints share the time, so that a frozen one leaves time for the others.
      const shareMs = this.#endpoints.length === 1 ? leftMs : leftMs / (attempts - attempt);
      const endpoint = this.#endpoint();
      let session: Session | undefined;
      try {
        session = await this.session();
        const { client } = session;
        const result = await untilDropped(session, () =>
          run({ client, deadline: { deadline: clock.nowMs() + shareMs } }),
        );
        this.succeeded();
        observer?.storeRequest(operationOf(op), Math.max(0, clock.nowMs() - startMs) / 1000, 'ok');
        return result;
      } catch (error) {
        // A call beside this one may have thrown the client away: that one's reason is the reason, and this call has
        // not had its chance.
        const cutOff = session?.dropped;
        if (!cutOff) attempt++;
        const cause = cutOff?.cause ?? error;
        const goesOn = isWorthAnotherEndpoint(cause);
        // etcd's own refusal is the answer, whatever the others did.
        if (!goesOn) failures.clear();
        failures.set(session?.endpoint ?? endpoint, explain(cause, session?.identity ?? this.#identity));
        failure = cause instanceof StoreError ? cause : callError({ op, key }, failures, cause);
        if (!goesOn) {
          if (right && session && isDenied(failure)) failure = await this.#denial({ op, key }, session, right, failure);
          break;
        }
        if (session) this.drop(session, failure);
        else if (isStaleToken(cause)) this.#token = undefined;
      }
    }
    failure ??= toStoreError({ op, key, endpoint: this.#endpoint() }, new Error('Deadline exceeded'));
    this.failed(failure);
    observer?.storeRequest(operationOf(op), Math.max(0, clock.nowMs() - startMs) / 1000, failure.code);
    throw failure;
  }

  /** Names the missing right, its user, and the command that grants it. Every user may ask etcd about itself. */
  async #denial(
    call: { readonly op: string; readonly key: string },
    { client, identity, endpoint }: Session,
    right: Right,
    { cause }: StoreError,
  ): Promise<StoreError> {
    const name = identity.username ?? identity.commonName;
    let roles: readonly string[] | null | undefined;
    if (name !== undefined) {
      try {
        const deadline = { deadline: this.#options.clock.nowMs() + this.#options.timeoutMs };
        ({ roles } = await client.auth.userGet({ name }, deadline));
      } catch (error) {
        // Without an answer the message names the user alone.
        if (error instanceof Error && error.message.includes('user name not found')) roles = null;
      }
    }
    return callError(call, new Map([[endpoint, explainDenial({ identity, roles }, right)]]), cause);
  }

  close(): void {
    this.#closed = true;
    this.#session = undefined;
    const session = this.#current;
    this.#current = undefined;
    if (session) this.#end(session, closedError());
  }
}
