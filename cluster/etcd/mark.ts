/** A point in an etcd's history: tells whether what comes later belongs to the same etcd, and has lost nothing. */

export class EtcdMark {
  /** etcd's number for itself; a new one has another. One restored from a backup may have the same. */
  readonly clusterId: string;
  /** How often etcd has turned out to be another one under the same number, as far as this process knows. */
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

  /** Whether nothing was lost from here to there. */
  leadsTo(later: EtcdMark): boolean {
    return this.isOfSameEtcd(later) && BigInt(later.revision) >= BigInt(this.revision);
  }
}
