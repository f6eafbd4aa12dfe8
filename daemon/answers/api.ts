/**
 * weftd's socket: HTTP on a unix socket that root alone may use. What is asked and answered is in cluster/status.ts.
 */

import { chmodSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { RefusedError, readConfigDocument, updateConfig } from '../../cluster/administration.ts';
import type { ApiError, ClusterNodes, ConfigUpdate, NodeStatus } from '../../cluster/status.ts';
import type { ClusterStore } from '../../cluster/store.ts';
import { StoreError } from '../../cluster/store-errors.ts';
import { answerProbe, type ProbeSources } from './probes.ts';

/** A request that is not understood, with the HTTP status that says so. */
class RequestError extends Error {
  override readonly name = 'RequestError';
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

const refusalStatus = { missing: 404, invalid: 400, conflict: 409 } as const;

const bodyLimitBytes = 1024 * 1024;

async function readBody(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    length += part.length;
    if (length > bodyLimitBytes) throw new RequestError(413, `The request is longer than ${bodyLimitBytes} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

function parseUpdate(body: string): ConfigUpdate {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    throw new RequestError(400, 'The request is not JSON');
  }
  const { text, expected, force } = (value ?? {}) as Record<string, unknown>;
  if (typeof text !== 'string') throw new RequestError(400, 'The request has no "text"');
  if (expected !== undefined && typeof expected !== 'string') throw new RequestError(400, '"expected" is no text');
  return { text, ...(expected === undefined ? {} : { expected }), force: force === true };
}

export interface ApiOptions {
  readonly path: string;
  readonly store: ClusterStore;
  readonly status: () => Promise<NodeStatus>;
  readonly nodes: () => Promise<ClusterNodes>;
  readonly probes: ProbeSources;
  readonly onError: (error: Error) => void;
}

async function answer(request: IncomingMessage, options: ApiOptions): Promise<unknown> {
  const { method = 'GET', url = '/' } = request;
  const { store } = options;
  switch (`${method} ${url.replace(/\?.*$/, '')}`) {
    case 'GET /status':
      return options.status();
    case 'GET /nodes':
      return options.nodes();
    case 'GET /config':
      return readConfigDocument(store);
    case 'PUT /config':
      return updateConfig(store, parseUpdate(await readBody(request)));
    default:
      throw new RequestError(404, `There is no "${method} ${url}" here`);
  }
}

function toApiError(error: unknown, onError: (error: Error) => void): { status: number; body: ApiError } {
  if (error instanceof RequestError) return { status: error.status, body: { error: error.message } };
  if (error instanceof RefusedError) {
    return { status: refusalStatus[error.reason], body: { error: error.message, details: error.details } };
  }
  if (error instanceof StoreError) return { status: 503, body: { error: error.message } };
  onError(error as Error);
  return { status: 500, body: { error: (error as Error).message } };
}

async function respond(request: IncomingMessage, response: ServerResponse, options: ApiOptions): Promise<void> {
  let status = 200;
  let body: unknown;
  try {
    const probe =
      request.method === 'GET' && (await answerProbe((request.url ?? '').replace(/\?.*$/, ''), options.probes));
    if (probe) {
      response.writeHead(probe.status, { 'content-type': probe.type, connection: 'close' });
      response.end(probe.body);
      return;
    }
    body = await answer(request, options);
  } catch (error) {
    ({ status, body } = toApiError(error, options.onError));
  }
  response.writeHead(status, { 'content-type': 'application/json', connection: 'close' });
  response.end(`${JSON.stringify(body)}\n`);
}

/**
 * Serves the socket until `close` is called, which removes it. What is left of an earlier one is removed: the lock on
 * the run folder says that nobody uses it.
 */
export function openApi(options: ApiOptions): Promise<{ close(): void }> {
  const { path } = options;
  rmSync(path, { force: true });
  const server: Server = createServer((request, response) => void respond(request, response, options));
  return new Promise((resolve, reject) => {
    server.once('error', (error) =>
      reject(new Error(`Cannot listen on "${path}": ${error.message}`, { cause: error })),
    );
    // The socket must not be another's to use for an instant: it is born with the rights that it has.
    const umask = process.umask(0o177);
    server.listen(path, () => {
      process.umask(umask);
      chmodSync(path, 0o600);
      resolve({
        close() {
          server.close();
          server.closeAllConnections();
          rmSync(path, { force: true });
        },
      });
    });
  });
}
