/**
 * A node's memory of the cluster across a restart (`cluster.json` in its state folder). It has two uses: the podCIDRs of the
 * Nodes, which never change during a Node's life, are not asked for again; and if the API server comes back with an older
 * state of its store, the ways to the peers that it has lost stay.
 */

import { formatPrefix } from '../../net/prefix.ts';
import type { BackendFormats } from '../backend-format.ts';
import { compareSeniority, isObject, type Lease } from '../lease.ts';
import { valuesOf } from '../network-config.ts';
import type { LeaseMemory, RememberedLease } from '../store.ts';
import { formatAnnotations, parseAnnotations } from './annotations.ts';
import { type NodeMeta, type PodCidrs, parsePodCidrs } from './node-object.ts';
import { handleOf, NodeHandle, ownerIdOf } from './node-table.ts';

/** A point in the API server's history. */
export class KubeMark {
  readonly resourceVersion: string;

  constructor(resourceVersion: string) {
    this.resourceVersion = resourceVersion;
  }
}

/** Less than may be read again, and enough for 30,000 peers. */
const longestBytes = 12 * 1024 * 1024;

/** If there is no room for all peers, the youngest are left out. */
export function formatMemory(
  memory: LeaseMemory,
  prefix: string,
  backends: BackendFormats,
): { readonly text: string; readonly leftOut: number } {
  if (!(memory.mark instanceof KubeMark)) throw new TypeError('The memory does not belong to this store');
  const { resourceVersion } = memory.mark;
  const own = { own: memory.own, ownUntil: memory.ownUntilMs };
  const head = JSON.stringify({ version: 1, store: 'kubernetes', prefix, resourceVersion, ...own }).slice(0, -1);
  const nodes: string[] = [];
  let left = longestBytes - head.length;
  for (const remembered of [...memory.peers].sort((a, b) => compareSeniority(a.lease, b.lease))) {
    const node = formatNode(remembered, backends);
    left -= Buffer.byteLength(node) + 1;
    if (left < 0) break;
    nodes.push(node);
  }
  return { text: `${head},"nodes":[${nodes.join()}]}\n`, leftOut: memory.peers.length - nodes.length };
}

function formatNode({ lease, untilMs }: RememberedLease, backends: BackendFormats): string {
  const { name, uid } = handleOf(lease);
  const written = Object.entries(formatAnnotations(lease, backends)).filter(([, text]) => text !== null);
  // Only a Weft's has a version.
  const annotations = Object.fromEntries(written.filter(([key]) => key !== 'weft' || lease.version !== undefined));
  const cidrs = valuesOf(lease.subnets).map(formatPrefix);
  return JSON.stringify({ name, uid, created: lease.seniority, cidrs, annotations, until: untilMs });
}

/** A Node as it is written; undefined if something is missing. */
function readNode(value: unknown): { meta: NodeMeta; subnets: PodCidrs; untilMs: number } | undefined {
  if (!isObject(value)) return undefined;
  const { name, uid, created, cidrs, annotations, until } = value;
  const isWhole =
    typeof name === 'string' && typeof uid === 'string' && typeof created === 'string' && typeof until === 'number';
  const subnets = Array.isArray(cidrs) ? parsePodCidrs(cidrs) : undefined;
  if (!isWhole || !subnets || !isObject(annotations)) return undefined;
  const texts = annotations as Record<string, string>;
  return {
    meta: { name, uid, resourceVersion: '0', createdMs: Number(created) || 0, annotations: texts },
    subnets,
    untilMs: until,
  };
}

/** Never throws: what cannot be read is left out. */
function parsePeer(
  { meta, subnets, untilMs }: NonNullable<ReturnType<typeof readNode>>,
  backends: BackendFormats,
): RememberedLease | undefined {
  try {
    const read = parseAnnotations(meta, backends);
    const lease: Lease = {
      ...read,
      ownerId: ownerIdOf(meta),
      subnets,
      reservation: false,
      ofFlannel: read.version === undefined,
      seniority: String(meta.createdMs),
      handle: new NodeHandle(meta),
    };
    return { lease, untilMs };
  } catch {
    return undefined;
  }
}

/**
 * @param learn takes the podCIDRs of each Node in it
 * @returns undefined if it is malformed, another store's or another network's; unreadable Nodes are left out
 */
export function parseMemory(
  text: string,
  prefix: string,
  backends: BackendFormats,
  learn: (node: Pick<NodeMeta, 'name' | 'uid'>, cidrs: PodCidrs) => void,
): LeaseMemory | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isObject(value)) return undefined;
  const { version, store, resourceVersion, own, ownUntil, nodes } = value;
  const isWhole =
    version === 1 &&
    store === 'kubernetes' &&
    value['prefix'] === prefix &&
    typeof resourceVersion === 'string' &&
    typeof own === 'string' &&
    typeof ownUntil === 'number' &&
    Array.isArray(nodes);
  if (!isWhole) return undefined;
  const read = (nodes as unknown[]).flatMap((node) => readNode(node) ?? []);
  for (const { meta, subnets } of read) learn(meta, subnets);
  let peers: readonly RememberedLease[] | undefined;
  return {
    mark: new KubeMark(resourceVersion),
    own,
    ownUntilMs: ownUntil,
    // Few starts need the peers.
    get peers() {
      peers ??= read.flatMap((node) => parsePeer(node, backends) ?? []);
      return peers;
    },
  };
}
