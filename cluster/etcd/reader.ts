/**
 * Reads config and leases: from the watch's memory while somebody watches, else from etcd; never older than what this
 * store wrote itself. One watch serves all who follow.
 */

import type { ITxnResponse } from 'etcd3';
import type { Closable } from '../store.ts';
import type { StoreError } from '../store-errors.ts';
import { hasWritten, type Transaction } from './calls.ts';
import type { EtcdConnection } from './connection.ts';
import type { Keys } from './keys.ts';
import { EtcdMark } from './mark.ts';
import { entryOf } from './requests.ts';
import { readSnapshot, type Snapshot } from './snapshot.ts';
import { EtcdWatch, type Wake, type WatchOptions } from './watch.ts';

export interface Follower {
  readonly of: keyof Wake;
  readonly onWake: () => void;
  readonly onProblem?: (error: StoreError) => void;
}

export interface ReaderOptions {
  readonly connection: EtcdConnection;
  readonly keys: Keys;
  readonly watch: Omit<WatchOptions, 'connection' | 'keys' | 'onWake' | 'onProblem'>;
}

/** How long to wait until the watch reports changes that etcd has confirmed to us already. */
const heardOfMs = 1000;

export const markOf = ({ clusterId, history, revision, changes }: Snapshot): EtcdMark =>
  new EtcdMark(clusterId, history, revision, changes);

export class EtcdReader {
  readonly #options: ReaderOptions;
  readonly #followers = new Set<Follower>();
  #watch: EtcdWatch | undefined;
  /** The newest revisions that we made or saw. An older memory is not used. */
  #newest = { leases: 0n, config: 0n };
  /** The etcd that they are revisions of, and the origin of the memory that was read last. */
  #clusterId: string | undefined;
  #origin: EtcdMark | undefined;

  constructor(options: ReaderOptions) {
    this.#options = options;
  }

  get isFollowed(): boolean {
    return this.#followers.size > 0;
  }

  follow(follower: Follower): Closable {
    this.#followers.add(follower);
    if (!this.#watch) this.#watch = this.#openWatch();
    // The start of a watch that stands already is over.
    else if (this.#watch.current()) queueMicrotask(() => this.#followers.has(follower) && follower.onWake());
    return {
      close: () => {
        this.#followers.delete(follower);
        if (this.#followers.size === 0) this.close();
      },
    };
  }

  #openWatch(): EtcdWatch {
    const { connection, keys, watch } = this.#options;
    return new EtcdWatch({
      ...watch,
      connection,
      keys,
      onWake: (what) => {
        for (const { of, onWake } of [...this.#followers]) if (what[of]) onWake();
      },
      onProblem: (error) => {
        for (const { onProblem } of [...this.#followers]) onProblem?.(error);
      },
    });
  }

  /**
   * The watch's memory. The watch is given a moment to hear of our own writes. Without a watch, or if it does not hear of
   * them, etcd is asked.
   * @throws StoreError
   */
  async snapshot(): Promise<Snapshot> {
    const watch = this.#watch;
    if (watch) {
      const origin = markOf(await watch.fresh());
      // An etcd restored from a backup continues at the backup's revision.
      if (!this.#origin?.isOfSameEtcd(origin)) this.#newest = { leases: 0n, config: 0n };
      this.#origin = origin;
      const isThere = ({ revision, configRevision }: Snapshot): boolean =>
        BigInt(revision) >= this.#newest.leases && BigInt(configRevision) >= this.#newest.config;
      const known = await watch.until(isThere, heardOfMs);
      if (known) return known;
    }
    const snapshot = await readSnapshot(this.#options.connection, this.#options.keys);
    this.#note('leases', snapshot.revision, snapshot.clusterId);
    return snapshot;
  }

  /** Must be called for every transaction of leases or config, so that nothing older is read afterwards. */
  noteTransaction(of: keyof Wake, transaction: Transaction, response: ITxnResponse): void {
    const { revision, cluster_id } = response.header;
    if (hasWritten(transaction, response)) this.#note(of, revision, cluster_id);
    else if (!response.succeeded) {
      // Somebody was faster: the next attempt must know it.
      const found = entryOf(response);
      if (found) this.#note(of, found.modRevision, cluster_id);
    }
  }

  #note(of: keyof Wake, revision: string, clusterId: string): void {
    if (clusterId !== this.#clusterId) this.#newest = { leases: 0n, config: 0n };
    this.#clusterId = clusterId;
    if (BigInt(revision) > this.#newest[of]) this.#newest[of] = BigInt(revision);
  }

  close(): void {
    this.#followers.clear();
    this.#watch?.close();
    this.#watch = undefined;
  }
}
