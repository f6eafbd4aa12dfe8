/**
 * A node's memory of the cluster across a restart (`cluster.json` in its state folder). It has two uses: the podCIDRs of the
 * Nodes, which never change during a Node's life, are not asked for again; and if the API server comes back with an older
 * state of its store, the ways to the peers that it has lost stay.
 */

import { formatPrefix } from '../../net/prefix.ts';
import type { BackendFormats } from '../backend-format.ts';
import { isObject, type Lease, LeaseFormatError } from '../lease.ts';
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

export function formatMemory(memory: LeaseMemory, prefix: string, backends: BackendFormats): string {
  if (!(memory.mark instanceof KubeMark)) throw new TypeError('The memory does not belong to this store');
  const nodes = memory.peers.map(({ lease, untilMs }) => {
    const { name, uid } = handleOf(lease);
    const written = Object.entries(formatAnnotations(lease, backends)).filter(([, text]) => text !== null);
    // Only a Weft's has a version.
    const annotations = Object.fromEntries(written.filter(([key]) => key !== 'weft' || lease.version !== undefined));
    return {
      name,
      uid,
      created: lease.seniority,
      cidrs: valuesOf(lease.subnets).map(formatPrefix),
      annotations,
      until: untilMs,
    };
  });
  const { resourceVersion } = memory.mark;
  const own = { own: memory.own, ownUntil: memory.ownUntilMs };
  return `${JSON.stringify({ version: 1, store: 'kubernetes', prefix, resourceVersion, ...own, nodes })}\n`;
}

function parseNode(
  value: unknown,
  backends: BackendFormats,
  learn: (node: Pick<NodeMeta, 'name' | 'uid'>, cidrs: PodCidrs) => void,
): RememberedLease | undefined {
  if (!isObject(value)) return undefined;
  const { name, uid, created, cidrs, annotations, until } = value;
  const isWhole =
    typeof name === 'string' && typeof uid === 'string' && typeof created === 'string' && typeof until === 'number';
  const subnets = Array.isArray(cidrs) ? parsePodCidrs(cidrs) : undefined;
  if (!isWhole || !subnets || !isObject(annotations)) return undefined;
  const meta: NodeMeta = {
    name,
    uid,
    resourceVersion: '0',
    createdMs: Number(created) || 0,
    annotations: annotations as Record<string, string>,
  };
  learn(meta, subnets);
  try {
    const read = parseAnnotations(meta, backends);
    const lease: Lease = {
      ...read,
      ownerId: ownerIdOf(meta),
      subnets,
      reservation: false,
      ofFlannel: read.version === undefined,
      seniority: created,
      handle: new NodeHandle(meta),
    };
    return { lease, untilMs: until };
  } catch (error) {
    if (error instanceof LeaseFormatError) return undefined;
    throw error;
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
  learn: Parameters<typeof parseNode>[2],
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
  const peers = (nodes as unknown[]).flatMap((node) => parseNode(node, backends, learn) ?? []);
  return { mark: new KubeMark(resourceVersion), own, ownUntilMs: ownUntil, peers };
}
