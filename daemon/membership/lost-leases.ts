/**
 * Leases that are gone from the store, but still in use.
 *
 * One that the store has lost stays for as long as its holder was promised it, or until the subnet is somebody else's.
 * Every weftd claims its own again at once, but some may be stopped, and their containers are not. One that somebody has
 * deleted or changed stays for a moment, too (see disputes.ts): a lease that nobody stands for must end when it is deleted,
 * even if all are deleted at once.
 */

import type { Lease, OwnLease } from '../../cluster/lease.ts';
import { type NetworkConfig, type PerFamily, valuesOf } from '../../cluster/network-config.ts';
import type { LeaseList } from '../../cluster/store.ts';
import { heldSubnets } from '../../cluster/subnet-choice.ts';
import { overlapIndex } from '../../cluster/subnet-index.ts';
import type { Prefix } from '../../net/prefix.ts';
import type { Problems } from '../report/problems.ts';
import { Disputes } from './disputes.ts';
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

/** So many of a long list are named; the rest is a number. */
const namedAtMost = 5;

const ownerOf = ({ ownerId }: { readonly ownerId: string }): string => ownerId;
const none: ReadonlySet<string> = new Set();

const namesNobody = ({ node, publicAddresses }: Lease): boolean =>
  node === undefined && valuesOf(publicAddresses).length === 0;

export class LostLeases {
  readonly #options: LostLeasesOptions;
  /** Those that the store has lost, by owner. */
  readonly #lost = new Map<string, Kept>();
  readonly #disputes: Disputes;

  constructor(options: LostLeasesOptions) {
    this.#options = options;
    this.#disputes = new Disputes(options.monotonic);
  }

  get isEmpty(): boolean {
    return this.#lost.size === 0 && this.#disputes.isEmpty;
  }

  /** When a disputed lease is given up; infinite if there is none. */
  get dueMs(): number {
    return this.#disputes.dueMs;
  }

  /** Until when a lost lease was promised to its holder, on the clock that does not go back. */
  promisedUntilMs(ownerId: string): number | undefined {
    return this.#lost.get(ownerId)?.untilMs;
  }

  /**
   * The leases of the list, and the lost ones still in use. A lease that became unreadable, or names nobody any more, keeps its
   * last value.
   */
  complete(config: NetworkConfig, list: LeaseList, own: OwnLease, before: PeersBefore): Lease[] {
    const { all } = list.leases;
    const had = list.malformed.length > 0 || all.some(namesNobody) ? new Set(before.leases.map(ownerOf)) : none;
    const leases = had.size > 0 ? all.filter((lease) => !namesNobody(lease) || !had.has(lease.ownerId)) : all;
    if (list.continuity === 'lost') this.#noteLost(before);
    const notLost = before.promises ? [] : before.leases.filter(({ ownerId }) => !this.#lost.has(ownerId));
    this.#dropLost(
      () => overlapIndex([own, ...heldSubnets(config, leases)].map(({ subnets }) => subnets)),
      () => new Set([...all, ...list.malformed].map(ownerOf)),
    );
    this.#report();
    const lost = [...this.#lost.values()].map(({ lease }) => lease);
    const unread = had.size > 0 ? this.#unread(list, new Set(leases.map(ownerOf)), before) : [];
    return [...this.#disputes.settle(notLost, [...leases, ...unread, ...lost], own)];
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

  /** The leases that are in the list, but cannot be read there, as they were before. */
  #unread({ leases, malformed }: LeaseList, read: ReadonlySet<string>, before: PeersBefore): Lease[] {
    const isThere = new Set([...leases.all, ...malformed].map(ownerOf));
    return before.leases.filter(({ ownerId }) => isThere.has(ownerId) && !read.has(ownerId));
  }
}
