/** The sources of weftctl's answers: weftd's socket, or the cluster's store itself. */

import { closeSync, openSync } from 'node:fs';
import { request } from 'node:http';
import type { Clock } from '../cluster/clock.ts';
import type { EtcdEndpoints } from '../cluster/etcd/options.ts';
import type {
  ApiError,
  ClusterNodes,
  ConfigDocument,
  ConfigUpdate,
  NodeStatus,
  PathSurvey,
  RecentLog,
} from '../cluster/status.ts';
import { openStore } from '../cluster/stores/open-store.ts';
import { socketReason } from '../command/socket-reason.ts';
import { backends } from '../daemon/backends/map.ts';
import { CliError, type CliHost } from './host.ts';

export interface Source {
  /** For messages: the socket's path, or the endpoints. */
  readonly name: string;
  /** The store that it asks, in words; absent: etcd. */
  readonly storeName?: string;
  /** Only weftd knows this node's status: every source asks the socket. */
  status(): Promise<NodeStatus>;
  nodes(): Promise<ClusterNodes>;
  /** The lines after this number, from weftd. */
  logs(after: number): Promise<RecentLog>;
  /** undefined: there is no config. */
  config(): Promise<ConfigDocument | undefined>;
  /** @throws CliError if it is refused */
  updateConfig(update: ConfigUpdate): Promise<ConfigDocument>;
  /** Asks the peers now, by weftd. */
  survey(): Promise<PathSurvey>;
  close(): void;
}

interface Reply {
  readonly status: number;
  readonly body: unknown;
}

const replyTimeoutMs = 15_000;

/** Bun does not tell this cause: its error is that of a socket where nobody listens. */
function isOutOfDescriptors(): boolean {
  try {
    closeSync(openSync('/', 'r'));
    return false;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code === 'EMFILE' || code === 'ENFILE';
  }
}

/** The error for a failed connection to the socket. */
function socketError(path: string, error: unknown): CliError {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  const failed = `Cannot ask weftd on "${path}"`;
  if (code === 'EACCES' || code === 'EPERM')
    return new CliError(`${failed}: permission denied; run it as root`, [], error);
  if (isOutOfDescriptors()) {
    return new CliError(`${failed}: this process may open no more files; raise its limit (ulimit -n)`, [], error);
  }
  if (code === 'ENOENT' || code === 'ECONNREFUSED' || code === 'FailedToOpenSocket') {
    return new CliError(`${failed}: it is not running; start it, or ask etcd about the cluster with --etcd-endpoints`);
  }
  return new CliError(`${failed}: ${socketReason(error)}`, [], error);
}

function ask(path: string, method: string, url: string, body?: unknown): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const payload = body === undefined ? undefined : JSON.stringify(body);
    const asking = request(
      {
        socketPath: path,
        method,
        path: url,
        headers: {
          host: 'weftd',
          ...(payload === undefined
            ? {}
            : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) }),
        },
        timeout: replyTimeoutMs,
      },
      (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (part: string) => {
          text += part;
        });
        response.on('error', (error) => reject(socketError(path, error)));
        response.on('end', () => {
          try {
            resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) });
          } catch {
            reject(new CliError(`Cannot ask weftd on "${path}": its answer is not JSON`));
          }
        });
      },
    );
    asking.on('timeout', () => asking.destroy(new CliError(`no answer within ${replyTimeoutMs / 1000} s`)));
    asking.on('error', (error) => reject(socketError(path, error)));
    asking.end(payload);
  });
}

/** @param key what the answer has at least */
function bodyOf<T>(reply: Reply, key: string): T {
  const isObject = typeof reply.body === 'object' && reply.body !== null;
  if (reply.status < 400 && isObject && key in (reply.body as object)) return reply.body as T;
  if (reply.status < 400 || !isObject)
    throw new CliError("weftd's answer is not understood: is it of another version?");
  const { error, details } = reply.body as ApiError;
  throw new CliError(error, details ?? []);
}

/** weftd's answers, from its socket. */
export class SocketSource implements Source {
  readonly name: string;

  constructor(path: string) {
    this.name = path;
  }

  async status(): Promise<NodeStatus> {
    return bodyOf(await ask(this.name, 'GET', '/status'), 'peers');
  }

  async survey(): Promise<PathSurvey> {
    return bodyOf(await ask(this.name, 'PUT', '/paths'), 'peers');
  }

  async nodes(): Promise<ClusterNodes> {
    return bodyOf(await ask(this.name, 'GET', '/nodes'), 'nodes');
  }

  async logs(after: number): Promise<RecentLog> {
    return bodyOf(await ask(this.name, 'GET', `/logs?after=${after}`), 'entries');
  }

  async config(): Promise<ConfigDocument | undefined> {
    const reply = await ask(this.name, 'GET', '/config');
    return reply.status === 404 ? undefined : bodyOf(reply, 'text');
  }

  async updateConfig(update: ConfigUpdate): Promise<ConfigDocument> {
    return bodyOf(await ask(this.name, 'PUT', '/config', update), 'text');
  }

  close(): void {}
}

/** The clock that the cluster's stores want. */
export const clockOf = (host: Pick<CliHost, 'nowMs'>): Clock => ({
  nowMs: host.nowMs,
  setTimer(callback, delayMs) {
    const timer = setTimeout(callback, delayMs);
    return { cancel: () => clearTimeout(timer) };
  },
});

type Opened = Awaited<ReturnType<typeof open>>;

async function open(etcd: EtcdEndpoints, host: CliHost) {
  const [stores, administration] = await Promise.all([
    openStore({ etcd, backends, clock: clockOf(host), random: host.random }),
    import('../cluster/administration.ts'),
  ]);
  return { stores, administration };
}

/** etcd's answers, without weftd. The first question opens the connection. */
export class EtcdSource implements Source {
  readonly name: string;
  readonly #etcd: EtcdEndpoints;
  readonly #host: CliHost;
  readonly #socket: SocketSource;
  #opened: Promise<Opened> | undefined;

  constructor(etcd: EtcdEndpoints, host: CliHost, socket: SocketSource) {
    this.name = etcd.endpoints.join(',');
    this.#etcd = etcd;
    this.#host = host;
    this.#socket = socket;
  }

  /** @throws CliError if it is refused, StoreError where the store does not answer */
  async #ask<T>(work: (opened: Opened) => Promise<T>): Promise<T> {
    this.#opened ??= open(this.#etcd, this.#host);
    const opened = await this.#opened;
    try {
      return await work(opened);
    } catch (error) {
      if (error instanceof opened.administration.RefusedError) throw new CliError(error.message, error.details, error);
      throw error;
    }
  }

  status(): Promise<NodeStatus> {
    return this.#socket.status();
  }

  logs(after: number): Promise<RecentLog> {
    return this.#socket.logs(after);
  }

  survey(): Promise<PathSurvey> {
    return this.#socket.survey();
  }

  nodes(): Promise<ClusterNodes> {
    return this.#ask(({ stores, administration }) => administration.listClusterNodes(stores.leases));
  }

  config(): Promise<ConfigDocument | undefined> {
    return this.#ask(async ({ stores, administration }) => {
      const stored = await stores.config.read();
      return stored && administration.toDocument(stored);
    });
  }

  updateConfig(update: ConfigUpdate): Promise<ConfigDocument> {
    return this.#ask(({ stores, administration }) => administration.updateConfig(stores, update, backends));
  }

  close(): void {
    void this.#opened?.then(({ stores }) => stores.leases.close());
  }
}
