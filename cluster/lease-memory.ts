/**
 * What a node remembers of the cluster across a restart (`cluster.json` in its state folder): the leases that it knew,
 * and until when etcd had promised them to their holders. If etcd has lost its data and weftd restarts before the other
 * nodes have claimed their subnets again, the routes to them stay. weftd uses the memory only if etcd is another one, if
 * its revision has gone back, or if the node's own lease is gone before its time.
 */

import type { Keys } from './etcd/keys.ts';
import { formatLeaseValue, type Lease, LeaseFormatError, parseLeaseKey, parseLeaseValue } from './lease.ts';

export interface RememberedLease {
  readonly lease: Lease;
  /** Until when it was promised, in milliseconds since the epoch. */
  readonly untilMs: number;
}

export interface LeaseMemory {
  /** etcd's own number, and its revision: one that goes back has lost something. */
  readonly clusterId: string;
  readonly revision: string;
  /** The key of our own lease. */
  readonly own: string;
  readonly ownUntilMs: number;
  readonly peers: readonly RememberedLease[];
}

/** @param prefix of the keys: what is remembered of one network says nothing of another */
export const formatLeaseMemory = (memory: LeaseMemory, prefix: string): string =>
  `${JSON.stringify({
    version: 1,
    prefix,
    clusterId: memory.clusterId,
    revision: memory.revision,
    own: memory.own,
    ownUntil: memory.ownUntilMs,
    peers: memory.peers.map(({ lease, untilMs }) => ({
      key: lease.key,
      value: formatLeaseValue(lease, lease.extra),
      until: untilMs,
    })),
  })}\n`;

/** @returns undefined where it is none, or of another network; what cannot be read of it is left out */
export function parseLeaseMemory(text: string, keys: Keys): LeaseMemory | undefined {
  let value: Record<string, unknown>;
  try {
    value = JSON.parse(text) ?? {};
  } catch {
    return undefined;
  }
  const { version, prefix, clusterId, revision, own, ownUntil, peers } = value;
  const isWhole =
    version === 1 &&
    prefix === keys.prefix &&
    typeof clusterId === 'string' &&
    typeof revision === 'string' &&
    /^\d+$/.test(revision) &&
    typeof own === 'string' &&
    typeof ownUntil === 'number' &&
    Array.isArray(peers);
  if (!isWhole) return undefined;
  const parsed = (peers as unknown[]).flatMap((peer): RememberedLease[] => {
    const { key, value: written, until } = (peer ?? {}) as Record<string, unknown>;
    if (typeof key !== 'string' || typeof written !== 'string' || typeof until !== 'number') return [];
    try {
      const subnets = parseLeaseKey(keys, key);
      const lease = { ...parseLeaseValue(written), key, subnets, reservation: false, etcdLease: '0', modRevision: '0' };
      return [{ lease, untilMs: until }];
    } catch (error) {
      if (error instanceof LeaseFormatError) return [];
      throw error;
    }
  });
  return { clusterId, revision, own, ownUntilMs: ownUntil, peers: parsed };
}
