/**
 * The cluster's nodes for people, from wherever the API server can be reached: one list of whole Nodes. Whether a node is
 * alive is kubelet's word, the condition Ready; whether its network is well, weftd's own in its annotations.
 */

import { describeNodes } from '../administration.ts';
import type { BackendFormats } from '../backend-format.ts';
import { excerpt } from '../excerpt.ts';
import type { ClusterNodes } from '../status.ts';
import { StoreError, StoreUnavailableError } from '../store-errors.ts';
import { annotationKeys } from './annotations.ts';
import type { KubeClient } from './client.ts';
import type { Operation } from './errors.ts';
import { conditionOf, type NodeMeta, reduceWhole } from './node-object.ts';
import { listInPages } from './node-pages.ts';
import { NodeTable } from './node-table.ts';

const operation: Operation = {
  word: 'list_nodes',
  op: 'list the Nodes',
  subject: 'nodes',
  right: { resource: 'nodes', verb: 'list' },
};

/** @throws StoreError */
export async function listKubernetesNodes(
  client: Pick<KubeClient, 'ask'>,
  annotationPrefix: string,
  backends: BackendFormats,
): Promise<ClusterNodes> {
  const keys = annotationKeys(annotationPrefix);
  const table = new NodeTable(backends);
  const found: NodeMeta[] = [];
  /** By name; none for a Node without the condition. */
  const ready = new Map<string, boolean>();
  try {
    await listInPages(client, { operation, form: 'whole' }, (object) => {
      const node = reduceWhole(object, keys);
      if (!node) return;
      if (node.podCidrs) table.learn(node, node.podCidrs);
      const { podCidrs: _, networkUnavailable: __, ...meta } = node;
      found.push(meta);
      const condition = conditionOf(object, 'Ready');
      if (condition !== undefined) ready.set(node.name, condition === 'True');
    });
  } catch (error) {
    if (error instanceof StoreError) throw error;
    // Something that is no API server, such as a proxy, may answer.
    const { op, subject } = operation;
    const message = `Cannot ${op}: the answer cannot be read: ${excerpt((error as Error).message)}`;
    throw new StoreUnavailableError({ code: 'unavailable', op, subject, message, cause: error });
  }
  table.replace(found);
  const { nodes, malformed } = describeNodes({ leases: table.leases, malformed: table.malformed }, undefined);
  return {
    nodes: nodes.map((node) => {
      const alive = node.node === undefined ? undefined : ready.get(node.node);
      return alive === undefined ? node : { ...node, alive };
    }),
    malformed,
  };
}
