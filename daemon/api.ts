/**
 * weftd's socket: HTTP on a unix socket that root alone may use. What is asked and answered is in cluster/status.ts.
 */

import { chmodSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { formatSubnets, type Lease } from '../cluster/lease.ts';
import { ConfigError, families, type NetworkConfig, parseNetworkConfig } from '../cluster/network-config.ts';
import type {
  ApiError,
  ClusterNodes,
  ConfigDocument,
  ConfigUpdate,
  NodeStatus,
  NodeSummary,
} from '../cluster/status.ts';
import { type ClusterStore, EtcdError } from '../cluster/store.ts';
import { formatAddress } from '../net/address.ts';
import { formatPrefix, prefixContains } from '../net/prefix.ts';

/** A request that cannot be met, with the HTTP status that says so. */
class RequestError extends Error {
  override readonly name = 'RequestError';
  readonly status: number;
  readonly details: readonly string[] | undefined;

  constructor(status: number, message: string, details?: readonly string[]) {
    super(message);
    this.status = status;
    this.details = details;
  }
}

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

/** Every lease with what its node says of itself. */
async function listNodes(store: ClusterStore): Promise<ClusterNodes> {
  const [leases, records] = await Promise.all([store.listLeases(), store.listNodes()]);
  const recordOf = new Map(records.nodes.map((record) => [record.node, record]));
  const nodes = leases.leases.map((lease): NodeSummary => {
    const record = lease.node === undefined ? undefined : recordOf.get(lease.node);
    return {
      ...(lease.node === undefined ? {} : { node: lease.node, alive: record !== undefined }),
      ...(lease.version === undefined ? {} : { version: lease.version }),
      subnets: families.flatMap((family) => lease.subnets[family] ?? []).map(formatPrefix),
      publicAddresses: families.flatMap((family) => lease.publicAddresses[family] ?? []).map(formatAddress),
      backend: lease.backendType,
      reservation: lease.reservation,
      ...(record ? { startedAt: new Date(record.startedAtMs).toISOString(), health: record.health } : {}),
      ...(record?.containers === undefined ? {} : { containers: record.containers }),
    };
  });
  const malformed = [...leases.malformed, ...records.malformed].map(({ key, reason }) => `${key}: ${reason}`);
  return { nodes, malformed };
}

async function readConfig(store: ClusterStore): Promise<ConfigDocument> {
  const stored = await store.readConfig();
  if (!stored) throw new RequestError(404, `There is no network config at "${store.prefix}/config"`);
  return stored;
}

/** Leases with a subnet outside the config's networks. */
const strandedLeases = (config: NetworkConfig, leases: readonly Lease[]): Lease[] =>
  leases.filter((lease) =>
    families.some((family) => {
      const subnet = lease.subnets[family];
      const network = config.networks[family]?.network;
      return subnet && !(network && network.length <= subnet.length && prefixContains(network, subnet.address));
    }),
  );

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

async function writeConfig(store: ClusterStore, update: ConfigUpdate): Promise<ConfigDocument> {
  let config: NetworkConfig;
  try {
    config = parseNetworkConfig(update.text);
  } catch (error) {
    if (error instanceof ConfigError) throw new RequestError(400, error.message);
    throw error;
  }
  if (!update.force) {
    const stranded = strandedLeases(config, (await store.listLeases()).leases);
    if (stranded.length > 0) {
      throw new RequestError(
        409,
        `Cannot write the network config: ${stranded.length} leases lie outside of it`,
        stranded.map((lease) => `${formatSubnets(lease.subnets)} ${lease.node ?? ''}`.trim()),
      );
    }
  }
  if (!(await store.writeConfig(update.text, update.expected))) {
    throw new RequestError(409, 'Cannot write the network config: somebody changed it meanwhile; read it again');
  }
  return readConfig(store);
}

export interface ApiOptions {
  readonly path: string;
  readonly store: ClusterStore;
  readonly status: () => NodeStatus;
  readonly onError: (error: Error) => void;
}

async function answer(request: IncomingMessage, options: ApiOptions): Promise<unknown> {
  const { method = 'GET', url = '/' } = request;
  const { store } = options;
  switch (`${method} ${url.replace(/\?.*$/, '')}`) {
    case 'GET /status':
      return options.status();
    case 'GET /nodes':
      return listNodes(store);
    case 'GET /config':
      return readConfig(store);
    case 'PUT /config':
      return writeConfig(store, parseUpdate(await readBody(request)));
    default:
      throw new RequestError(404, `There is no "${method} ${url}" here`);
  }
}

function toApiError(error: unknown, onError: (error: Error) => void): { status: number; body: ApiError } {
  if (error instanceof RequestError) {
    return {
      status: error.status,
      body: { error: error.message, ...(error.details ? { details: error.details } : {}) },
    };
  }
  if (error instanceof EtcdError) return { status: 503, body: { error: error.message } };
  onError(error as Error);
  return { status: 500, body: { error: (error as Error).message } };
}

async function respond(request: IncomingMessage, response: ServerResponse, options: ApiOptions): Promise<void> {
  let status = 200;
  let body: unknown;
  try {
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
