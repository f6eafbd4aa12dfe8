/** A point in an etcd's history: shows whether a later point belongs to the same etcd, without lost data. */

export class EtcdMark {
  /** etcd's cluster id. A new etcd has another one; one restored from a backup may have the same. */
  readonly clusterId: string;
  /** How often this process found another etcd under the same number. */
  readonly history: number;
  readonly revision: string;

  constructor(clusterId: string, history: number, revision: string) {
    this.clusterId = clusterId;
    this.history = history;
    this.revision = revision;
  }

  isOfSameEtcd({ clusterId, history }: EtcdMark): boolean {
    return clusterId === this.clusterId && history === this.history;
  }

  /** Whether no data was lost from this point to the other. */
  leadsTo(later: EtcdMark): boolean {
    return this.isOfSameEtcd(later) && BigInt(later.revision) >= BigInt(this.revision);
  }
}
