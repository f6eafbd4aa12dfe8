/**
 * The nodes of the cluster, for `weftctl nodes` and for the peers of `weftctl status`: one source finds a node's record
 * for both.
 */

import {
  describeNodes,
  type Liveness,
  livenessOf,
  type RecordFinder,
  recordFinder,
} from '../../cluster/administration.ts';
import type { Lease } from '../../cluster/lease.ts';
import type { ClusterNodes } from '../../cluster/status.ts';
import type { ClusterStore, NodeList } from '../../cluster/store.ts';

export class ClusterNodesSource {
  readonly #store: Pick<ClusterStore, 'list' | 'liveness'>;
  /** By the last listed records. Node records are listed only when someone asks for them: all of them for every node are too many. */
  #find: RecordFinder | undefined;

  constructor(store: Pick<ClusterStore, 'list' | 'liveness'>) {
    this.#store = store;
  }

  /** @throws StoreError */
  async list(): Promise<ClusterNodes> {
    const [leases, records] = await Promise.all([this.#store.list(), this.refresh()]);
    return describeNodes(leases, records);
  }

  /** Lists the nodes that are alive; undefined where the store does not tell. @throws StoreError */
  async refresh(): Promise<NodeList | undefined> {
    const records = await this.#store.liveness?.list();
    if (!records) return undefined;
    this.#find = recordFinder(records.nodes);
    return records;
  }

  /** Empty if no records are known, or the lease's node writes none. */
  livenessOf(lease: Lease): Liveness {
    return this.#find ? livenessOf(lease, this.#find(lease)) : {};
  }
}
