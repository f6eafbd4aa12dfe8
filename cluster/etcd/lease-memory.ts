/**
 * A node's memory of the cluster across a restart (`cluster.json` in its state folder): the leases that it knew,
 * and until when etcd had promised them to their holders. If etcd has lost its data and weftd restarts before the other
 * nodes have claimed their subnets again, the routes to them stay. weftd uses the memory only if etcd is another one, if
 * its revision has gone back, or if the node's own lease is gone before its time.
 */

import type { BackendFormats } from '../backend-format.ts';
import { compareSeniority, type ExtraKeys, formatLeaseValue, parseLeaseValue } from '../lease.ts';
import type { LeaseMemory, RememberedLease } from '../store.ts';
import { EtcdHandle, handleOf } from './handle.ts';
import type { Keys } from './keys.ts';
import { parseLeaseKey } from './lease-key.ts';
import { EtcdMark } from './mark.ts';

/** Less than may be read again, and enough for 30,000 peers. Anybody with a node's rights can write leases of 8 KB. */
export const longestMemoryBytes = 12 * 1024 * 1024;

/**
 * If there is no room for all peers, keys that are neither flannel's nor ours are left out first, then the youngest peers.
 * @param prefix of the keys: the memory of one network is useless for another
 */
export function formatLeaseMemory(
  memory: LeaseMemory,
  prefix: string,
  backends: BackendFormats,
): { readonly text: string; readonly leftOut: number } {
  if (!(memory.mark instanceof EtcdMark)) throw new TypeError('The memory does not belong to this store');
  const { clusterId, revision } = memory.mark;
  const { own, ownUntilMs: ownUntil } = memory;
  const head = JSON.stringify({ version: 1, prefix, clusterId, revision, own, ownUntil }).slice(0, -1);
  const format = ({ lease, untilMs: until }: RememberedLease, extra: ExtraKeys): string =>
    JSON.stringify({ key: lease.ownerId, value: formatLeaseValue(lease, backends, extra), until });
  const whole = (peers: readonly string[]): string => `${head},"peers":[${peers.join()}]}\n`;
  const text = whole(memory.peers.map((peer) => format(peer, handleOf(peer.lease).extra)));
  if (Buffer.byteLength(text) <= longestMemoryBytes) return { text, leftOut: 0 };
  const kept: string[] = [];
  let left = longestMemoryBytes - Buffer.byteLength(whole([]));
  for (const peer of [...memory.peers].sort((a, b) => compareSeniority(a.lease, b.lease))) {
    const line = format(peer, {});
    left -= Buffer.byteLength(line) + 1;
    if (left < 0) break;
    kept.push(line);
  }
  return { text: whole(kept), leftOut: memory.peers.length - kept.length };
}

/** @returns undefined if it is malformed or another network's; unreadable leases are left out */
export function parseLeaseMemory(text: string, keys: Keys, backends: BackendFormats): LeaseMemory | undefined {
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
  let parsed: readonly RememberedLease[] | undefined;
  return {
    // Only the other process knew that etcd had become another one under the same number.
    mark: new EtcdMark(clusterId, 0, revision),
    own,
    ownUntilMs: ownUntil,
    // Few starts need the peers, and thousands take a sixth of a restart to read.
    get peers() {
      parsed ??= (peers as unknown[]).flatMap((peer) => parsePeer(peer, keys, backends) ?? []);
      return parsed;
    },
  };
}

/** Never throws: what cannot be read is left out. */
function parsePeer(peer: unknown, keys: Keys, backends: BackendFormats): RememberedLease | undefined {
  const { key, value, until } = (peer ?? {}) as Record<string, unknown>;
  if (typeof key !== 'string' || typeof value !== 'string' || typeof until !== 'number') return undefined;
  try {
    const subnets = parseLeaseKey(keys, key);
    const { extra, ...lease } = parseLeaseValue(value, backends);
    const ofFlannel = lease.node === undefined;
    const handle = new EtcdHandle('0', '0', extra);
    return {
      lease: { ...lease, ownerId: key, subnets, reservation: false, ofFlannel, seniority: '0', handle },
      untilMs: until,
    };
  } catch {
    return undefined;
  }
}
