/**
 * Leases that are gone from the store, but still in use.
 *
 * One that the store has lost stays for as long as its holder was promised it, or until the subnet is somebody else's.
 * Every weftd claims its own again at once, but some may be stopped, and their containers are not. One that somebody has
 * deleted stays for a moment, within which its node claims it again: a lease that nobody stands for must end when it is
 * deleted, even if all are deleted at once.
 */

import type { Lease, OwnLease } from '../../cluster/lease.ts';
import type { NetworkConfig, PerFamily } from '../../cluster/network-config.ts';
import type { LeaseList } from '../../cluster/store.ts';
import { heldSubnets } from '../../cluster/subnet-choice.ts';
import { overlapIndex } from '../../cluster/subnet-index.ts';
import type { Prefix } from '../../net/prefix.ts';
import { longestWaitMs } from '../pace/spread.ts';
import type { Problems } from '../report/problems.ts';
import { formatAddresses } from './view.ts';

export interface LostLeasesOptions {
  /** The name that people know the store by. */
  readonly kind: string;
  readonly problems: Problems;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Milliseconds on a clock that does not go back. */
  readonly monotonic: () => number;
}

/** The peers as they were known before. */
export interface PeersBefore {
  readonly leases: readonly Lease[];
  /** Set where they are an earlier weftd's knowledge: until when each was promised, by owner, in ms since the epoch. */
  readonly promises?: () => ReadonlyMap<string, number>;
}

interface Kept {
  readonly lease: Lease;
  readonly untilMs: number;
}

/** Whether somebody else has a part of the subnets now. What peers refuse does not count. */
type IsTaken = (subnets: PerFamily<Prefix>) => boolean;

/** For how long a lease was promised to its holder, at the most: flannel's 24 h. */
export const leaseLifeMs = 24 * 3_600_000;

/** For how long the way to a node whose lease is gone stays: a weftd that lives claims it again within that. */
const claimGraceMs = 1000;

/** So many of a long list are named; the rest is a number. */
const namedAtMost = 5;

export class LostLeases {
  readonly #options: LostLeasesOptions;
  /** Those that the store has lost, by owner. */
  readonly #lost = new Map<string, Kept>();
  /** Those of the last moment that are gone, of nodes of Weft's, by owner. */
  readonly #vanished = new Map<string, Kept>();

  constructor(options: LostLeasesOptions) {
    this.#options = options;
  }

  get isEmpty(): boolean {
    return this.#lost.size + this.#vanished.size === 0;
  }

  /** When to give up a vanished lease; infinite if there is none. */
  get dueMs(): number {
    return Math.min(Number.POSITIVE_INFINITY, ...[...this.#vanished.values()].map(({ untilMs }) => untilMs));
  }

  /** Until when a lost lease was promised to its holder, on the clock that does not go back. */
  promisedUntilMs(ownerId: string): number | undefined {
    return this.#lost.get(ownerId)?.untilMs;
  }

  /** The leases of the list, and the lost ones still in use. A lease that became unreadable keeps its last value. */
  complete(config: NetworkConfig, list: LeaseList, own: OwnLease, before: PeersBefore): Lease[] {
    const { all: leases } = list.leases;
    const unreadable = new Set(list.malformed.map(({ ownerId }) => ownerId));
    if (list.continuity === 'lost') this.#noteLost(before);
    const notLost = before.promises ? [] : before.leases.filter(({ ownerId }) => !this.#lost.has(ownerId));
    const takes = (others: readonly Lease[]) =>
      overlapIndex([own, ...heldSubnets(config, others)].map(({ subnets }) => subnets));
    this.#dropLost(
      () => takes(leases),
      () => new Set([...leases, ...list.malformed].map(({ ownerId }) => ownerId)),
    );
    this.#report();
    const lost = [...this.#lost.values()].map(({ lease }) => lease);
    const unread = unreadable.size > 0 ? before.leases.filter(({ ownerId }) => unreadable.has(ownerId)) : [];
    const known = [...leases, ...unread, ...lost];
    return [...known, ...this.#keepVanished(notLost, known, own, takes)];
  }

  #noteLost(before: PeersBefore): void {
    const { now, monotonic } = this.#options;
    const promises = before.promises?.();
    for (const lease of before.leases) {
      if (this.#lost.has(lease.ownerId)) continue;
      // By a clock that may have been set meanwhile: no longer than a whole life.
      const leftMs = (promises?.get(lease.ownerId) ?? Number.POSITIVE_INFINITY) - now();
      this.#lost.set(lease.ownerId, { lease, untilMs: monotonic() + Math.min(leftMs, leaseLifeMs) });
    }
  }

  #dropLost(takes: () => IsTaken, listed: () => ReadonlySet<string>): void {
    if (this.#lost.size === 0) return;
    const nowMs = this.#options.monotonic();
    const there = listed();
    const isTaken = takes();
    for (const [ownerId, { lease, untilMs }] of this.#lost) {
      if (there.has(ownerId) || nowMs >= untilMs || isTaken(lease.subnets)) this.#lost.delete(ownerId);
    }
  }

  #report(): void {
    const { kind, problems } = this.#options;
    const names = [...this.#lost.values()].map(({ lease }) => lease.node ?? formatAddresses(lease.publicAddresses));
    const further = names.length > namedAtMost ? ` and ${names.length - namedAtMost} more` : '';
    problems.report(
      'lost leases',
      names.length === 0
        ? undefined
        : `${kind} has lost leases, those of ${names.slice(0, namedAtMost).join(', ')}${further}; the way there is kept for 24 h, or until they claim them again: see that weftd runs there`,
      'debug',
    );
  }

  /** A node claims a deleted lease again at once: no packet must be lost until then. */
  #keepVanished(
    before: readonly Lease[],
    known: readonly Lease[],
    own: OwnLease,
    takes: (others: readonly Lease[]) => IsTaken,
  ): Lease[] {
    if (before.length + this.#vanished.size === 0) return [];
    const nowMs = this.#options.monotonic();
    const there = new Set(known.map(({ ownerId }) => ownerId));
    const gone = before.filter(
      ({ ofFlannel, ownerId }) => !ofFlannel && !there.has(ownerId) && !this.#vanished.has(ownerId),
    );
    // Of many that vanish at once, each node claims its own at another time.
    const untilMs = nowMs + claimGraceMs + longestWaitMs(gone.length);
    for (const lease of gone) this.#vanished.set(lease.ownerId, { lease, untilMs });
    if (this.#vanished.size === 0) return [];
    const nodes = new Set([own, ...known].map(({ node }) => node));
    const isTaken = takes(known);
    for (const [ownerId, { lease, untilMs }] of this.#vanished) {
      if (nowMs >= untilMs || nodes.has(lease.node) || isTaken(lease.subnets)) this.#vanished.delete(ownerId);
    }
    return [...this.#vanished.values()].map(({ lease }) => lease);
  }
}
