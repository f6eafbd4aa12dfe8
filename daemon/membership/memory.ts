/** The part of its knowledge of the cluster that outlives weftd. It is read once, and rarely written. */

import type { OwnLease } from '../../cluster/lease.ts';
import { LeaseSet } from '../../cluster/lease-set.ts';
import type { LeaseMemory } from '../../cluster/store.ts';
import { leaseLifeMs } from './lost-leases.ts';

/** Neither of them throws. */
export interface MembershipMemory {
  readonly read: () => LeaseMemory | undefined;
  readonly write: (memory: LeaseMemory) => void;
}

export interface MemoryKeeperOptions {
  readonly memory: MembershipMemory;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Milliseconds on a clock that does not go back. */
  readonly monotonic: () => number;
}

/** The current knowledge. */
export interface Knowledge {
  readonly mark: unknown;
  readonly own: OwnLease;
  readonly peers: LeaseSet;
  /** Until when a lease was promised that the store has lost, on the clock that does not go back. */
  readonly promisedUntilMs: (ownerId: string) => number | undefined;
}

/** So long for each peer is waited at least between two writings, and so long at most without one. */
const perPeerMs = 20;
const ageMs = 3_600_000;

export class MemoryKeeper {
  readonly #options: MemoryKeeperOptions;
  /** When, and of what, the memory was written last. */
  #written: { readonly atMs: number; readonly peers: LeaseSet; readonly own: string } | undefined;
  /** When to write it, if something has changed since. */
  #dueMs = Number.POSITIVE_INFINITY;

  constructor(options: MemoryKeeperOptions) {
    this.#options = options;
  }

  /** Infinite where nothing has changed. */
  get dueMs(): number {
    return this.#dueMs;
  }

  /**
   * Writes down whom we know, for a weftd that finds the store empty; seldom, and at most a while late.
   * @param now though it was written just before
   */
  keep({ mark, own, peers, promisedUntilMs }: Knowledge, now: boolean): void {
    const { memory, monotonic } = this.#options;
    const atMs = monotonic();
    // The first time there is more urgent work: the kernel's.
    this.#written ??= { atMs, peers: LeaseSet.of([]), own: '' };
    const isSame = this.#written.peers === peers && this.#written.own === own.ownerId;
    const dueMs = this.#written.atMs + (isSame ? ageMs : now ? 0 : peers.size * perPeerMs);
    this.#dueMs = Number.POSITIVE_INFINITY;
    if (atMs < dueMs) {
      if (!isSame) this.#dueMs = dueMs;
      return;
    }
    this.#written = { atMs, peers, own: own.ownerId };
    const nowMs = this.#options.now();
    const wholeMs = nowMs + leaseLifeMs;
    memory.write({
      mark,
      own: own.ownerId,
      ownUntilMs: own.expiresAtMs ?? wholeMs,
      peers: peers.all.map((lease) => {
        const lostUntilMs = promisedUntilMs(lease.ownerId);
        return { lease, untilMs: lostUntilMs === undefined ? wholeMs : nowMs + lostUntilMs - atMs };
      }),
    });
  }
}
