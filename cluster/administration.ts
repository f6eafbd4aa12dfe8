/**
 * Answers people's questions about the cluster: by weftd's socket, and for weftctl straight from the store. The shapes are
 * in status.ts.
 */

import { formatAddress } from '../net/address.ts';
import { formatPrefix } from '../net/prefix.ts';
import type { BackendFormats } from './backend-format.ts';
import { ConfigError } from './config-section.ts';
import { compareLeases, formatSubnets, type Lease, type LeaseValue } from './lease.ts';
import { findUnusableNetwork } from './network-advice.ts';
import {
  backendName,
  isCompatible,
  isOtherBackend,
  type NetworkConfig,
  parseNetworkConfig,
  valuesOf,
} from './network-config.ts';
import type { ClusterNodes, ConfigDocument, ConfigUpdate, NodeSummary } from './status.ts';
import type { ClusterStore, ConfigSource, LeaseList, NodeList, NodeRecord, StoredConfig } from './store.ts';

/** The reason why a request is refused although the store works. */
export class RefusedError extends Error {
  override readonly name = 'RefusedError';
  /** missing: it does not exist. invalid: it breaks a rule. conflict: it would do harm, or somebody was faster. */
  readonly reason: 'missing' | 'invalid' | 'conflict';
  /** Further lines, such as the leases that a change would strand. */
  readonly details: readonly string[];

  constructor(reason: RefusedError['reason'], message: string, details: readonly string[] = []) {
    super(message);
    this.reason = reason;
    this.details = details;
  }
}

const publicTexts = ({ publicAddresses }: Pick<LeaseValue, 'publicAddresses'>): string[] =>
  valuesOf(publicAddresses).map(formatAddress);

/** Whether a node lives. Empty for a node that writes no record, such as flannel's. */
export type Liveness = Pick<NodeSummary, 'alive' | 'health'>;

/** The record of the lease's node, if there is one. */
export type RecordFinder = (lease: Lease) => NodeRecord | undefined;

/** A lease names its node; one of flannel's is found by its public address. */
export function recordFinder(records: readonly NodeRecord[]): RecordFinder {
  const byName = new Map(records.map((record) => [record.node, record]));
  const byAddress = new Map(records.flatMap((record) => publicTexts(record).map((text) => [text, record])));
  return (lease) =>
    lease.node === undefined
      ? publicTexts(lease).flatMap((text) => byAddress.get(text) ?? [])[0]
      : byName.get(lease.node);
}

/** @param record the one that `recordFinder` finds for the lease */
export function livenessOf(lease: Lease, record: NodeRecord | undefined): Liveness {
  if (record) return { alive: true, health: record.health };
  return lease.node === undefined ? {} : { alive: false };
}

const recordFields = (record: NodeRecord) => ({
  startedAt: new Date(record.startedAtMs).toISOString(),
  ...(record.containers === undefined ? {} : { containers: record.containers }),
});

/**
 * Every lease with its node's record, by subnet; then nodes that are alive and have no lease.
 * @param records undefined where the store keeps none
 */
export function describeNodes(
  { leases, malformed }: Pick<LeaseList, 'leases' | 'malformed'>,
  records: NodeList | undefined,
): ClusterNodes {
  const known = records?.nodes ?? [];
  const find = recordFinder(known);
  const unseen = new Map(known.map((record) => [record.node, record]));
  const nodes = [...leases].sort(compareLeases).map((lease): NodeSummary => {
    const record = find(lease);
    if (record) unseen.delete(record.node);
    return {
      ...(lease.node === undefined ? {} : { node: lease.node }),
      ...(lease.health === undefined ? {} : { health: lease.health }),
      ...(records ? livenessOf(lease, record) : {}),
      ...(lease.version === undefined ? {} : { version: lease.version }),
      subnets: valuesOf(lease.subnets).map(formatPrefix),
      publicAddresses: publicTexts(lease),
      backend: lease.backendType,
      reservation: lease.reservation,
      ...(record ? recordFields(record) : {}),
    };
  });
  for (const record of unseen.values()) {
    nodes.push({
      node: record.node,
      version: record.version,
      subnets: [],
      publicAddresses: publicTexts(record),
      backend: record.backendType,
      reservation: false,
      alive: true,
      health: record.health,
      ...recordFields(record),
    });
  }
  return {
    nodes,
    malformed: [...malformed, ...(records?.malformed ?? [])].map(({ ownerId, reason }) => `${ownerId}: ${reason}`),
  };
}

/** The nodes as the store knows them now. */
export async function listClusterNodes(store: Pick<ClusterStore, 'list' | 'liveness'>): Promise<ClusterNodes> {
  return describeNodes(...(await Promise.all([store.list(), store.liveness?.list()])));
}

export const toDocument = ({ text, version }: StoredConfig): ConfigDocument => ({ text, modRevision: version });

/** @throws RefusedError if there is none */
export async function readConfigDocument(config: Pick<ConfigSource, 'read' | 'path'>): Promise<ConfigDocument> {
  const stored = await config.read();
  if (!stored) {
    throw new RefusedError('missing', `There is no network config at "${config.path}": write one`);
  }
  return toDocument(stored);
}

/** Leases whose subnet the config does not allow: their nodes must move, and their containers lose their addresses. */
export const strandedLeases = (config: NetworkConfig, leases: readonly Lease[]): Lease[] =>
  leases.filter((lease) => !isCompatible(config, lease.subnets)).sort(compareLeases);

/** The parts of the store that a change of the config uses. */
export interface ConfigPorts {
  readonly config: Pick<ConfigSource, 'read' | 'write' | 'path' | 'place'>;
  readonly leases: Pick<ClusterStore, 'list'>;
}

/** Refuses a network config that is wrong, or would do harm. @throws RefusedError, StoreError */
export async function checkConfigUpdate(
  { config: source, leases }: ConfigPorts,
  update: Pick<ConfigUpdate, 'text' | 'force'>,
  backends: BackendFormats,
): Promise<void> {
  if (!source.write) {
    throw new RefusedError(
      'conflict',
      `Cannot write the network config: Weft only reads it; change it at its source, ${source.place}`,
    );
  }
  const config = validConfig(update.text, backends);
  if (!update.force) {
    const { backend } = config;
    if (isOtherBackend(backend)) {
      throw new RefusedError(
        'conflict',
        `Cannot write the network config: its backend is "${backendName(backend)}", which Weft does not run; ` +
          `it runs ${[...backends.keys()].join(', ')} (--force writes it anyway)`,
      );
    }
    const stranded = strandedLeases(config, (await leases.list()).leases.all);
    if (stranded.length > 0) {
      const leases = stranded.length === 1 ? 'a lease' : `${stranded.length} leases`;
      throw new RefusedError(
        'conflict',
        `Cannot write the network config: it leaves no place for ${leases}, whose containers would lose their ` +
          'addresses (--force writes it anyway)',
        stranded.map(
          (lease) => `${formatSubnets(lease.subnets)} of ${lease.node ?? publicTexts(lease)[0] ?? 'nobody'}`,
        ),
      );
    }
  }
}

/** Writes the network config, unless it is wrong or would do harm. @throws RefusedError, StoreError */
export async function updateConfig(
  ports: ConfigPorts,
  update: ConfigUpdate,
  backends: BackendFormats,
): Promise<ConfigDocument> {
  await checkConfigUpdate(ports, update, backends);
  const { config: source } = ports;
  if (!(await source.write!(update.text, update.expected))) {
    throw new RefusedError(
      'conflict',
      'Cannot write the network config: somebody else has changed it meanwhile; read it again',
    );
  }
  return readConfigDocument(source);
}

function validConfig(text: string, backends: BackendFormats): NetworkConfig {
  try {
    const config = parseNetworkConfig(text, backends);
    const unusable = findUnusableNetwork(config);
    if (unusable !== undefined) throw new RefusedError('invalid', unusable);
    return config;
  } catch (error) {
    if (error instanceof ConfigError) throw new RefusedError('invalid', error.message);
    throw error;
  }
}
