/** A point in an etcd's history: shows whether a later point belongs to the same etcd, without lost data. */

export class EtcdMark {
  /** etcd's cluster id. A new etcd has another one; one restored from a backup may have the same. */
  readonly clusterId: string;
  /** How often this process found another etcd under the same number. */
  readonly history: number;
  readonly revision: string;
  /** The watch's memory that the point belongs to: a new one after each list. */
  readonly #followed: object | undefined;

  constructor(clusterId: string, history: number, revision: string, followed?: object) {
    this.clusterId = clusterId;
    this.history = history;
    this.revision = revision;
    this.#followed = followed;
  }

  /** Whether a watch has followed every change from this point to the other: what is missing there was deleted. */
  isFollowedTo(later: EtcdMark): boolean {
    return this.#followed !== undefined && this.#followed === later.#followed && this.leadsTo(later);
  }

  isOfSameEtcd({ clusterId, history }: EtcdMark): boolean {
    return clusterId === this.clusterId && history === this.history;
  }

  /** Whether no data was lost from this point to the other. */
  leadsTo(later: EtcdMark): boolean {
    return this.isOfSameEtcd(later) && BigInt(later.revision) >= BigInt(this.revision);
  }
}
