/**
 * Leases of peers that somebody else deletes, or puts another node into. All nodes have the same rights in the store, so that
 * it does not say who has written a lease. What a node does next says it: it claims or writes its lease again. Until then its
 * peers keep the way to it.
 *
 * A node that lives claims a deleted lease within a second, on a busy machine within two. Only if somebody deletes it again and again does it pause between
 * its claims (see own-lease.ts), and the peers wait longer. Another node can claim the lease only after it was deleted, which
 * a node that lives undoes first. So a stranger in it is believed late: later than the longest pause of a node that writes its
 * lease back.
 *
 * A change by the node itself is followed at once: whoever has its name or its address. Nobody can tell that from a forgery.
 * Leases of flannel are followed at once as well, because a flannel node does not write its lease again.
 */

import { type Lease, type OwnLease, samePublicAddress } from '../../cluster/lease.ts';
import { families } from '../../cluster/network-config.ts';
import { prefixesOverlap } from '../../net/prefix.ts';
import { longestWaitMs } from '../pace/spread.ts';

const deletedMs = 2000;
/** A lease is claimed at once so often. After that its node pauses for up to a minute. */
const claimsAtOnce = 10;
const oftenDeletedMs = 90_000;
const strangerMs = 20 * 60_000;
/** After this a lease that was deleted often counts as any other. */
const forgottenMs = 60 * 60_000;
/** Leases whose deletions are counted; the oldest goes first. */
const countedAtMost = 10_000;

/** A lease that is kept although the store no longer has it so. */
interface Dispute {
  readonly lease: Lease;
  untilMs: number;
  /** Whether somebody else has written into it: his next write does not prolong it. A deletion ends his time. */
  hasStranger: boolean;
}

/** Whether both may be one node's. */
const sameNode = (a: Lease, b: Lease): boolean =>
  (a.node !== undefined && a.node === b.node) || samePublicAddress(a, b);

const overlaps = (a: Lease, b: Lease): boolean =>
  families.some((family) => {
    const [x, y] = [a.subnets[family], b.subnets[family]];
    return x !== undefined && y !== undefined && prefixesOverlap(x, y);
  });

export class Disputes {
  /** By owner, as all here. */
  readonly #open = new Map<string, Dispute>();
  /** How often a lease was claimed again, and when last. */
  readonly #claims = new Map<string, { readonly count: number; readonly lastMs: number }>();
  readonly #monotonic: () => number;

  /** @param monotonic milliseconds on a clock that does not go back */
  constructor(monotonic: () => number) {
    this.#monotonic = monotonic;
  }

  get isEmpty(): boolean {
    return this.#open.size === 0;
  }

  /** When the first dispute ends by itself; infinite if there is none. */
  get dueMs(): number {
    return Math.min(Number.POSITIVE_INFINITY, ...[...this.#open.values()].map(({ untilMs }) => untilMs));
  }

  /** Whether a lease that was changed or removed can be followed at once. */
  static mayFollow(was: Lease, is: Lease | undefined): boolean {
    return was.ofFlannel || (is !== undefined && sameNode(was, is));
  }

  /**
   * @param before the peers as they were known before
   * @param known the peers by the store, with those that it has lost
   * @returns the peers, where disputed leases are as they were before
   */
  settle(before: readonly Lease[], known: readonly Lease[], own: OwnLease): readonly Lease[] {
    if (before.length === 0 && this.isEmpty) return known;
    const there = new Map(known.map((lease) => [lease.ownerId, lease]));
    const disputed = before.filter((lease) => {
      const is = there.get(lease.ownerId);
      return is !== lease && !this.#open.has(lease.ownerId) && !Disputes.mayFollow(lease, is);
    });
    // Of many that are deleted at once, each node claims its own at another time.
    const sinceMs = this.#monotonic() + longestWaitMs(disputed.length);
    for (const lease of disputed) {
      this.#open.set(lease.ownerId, { lease, untilMs: sinceMs + this.#deletedMs(lease.ownerId), hasStranger: false });
    }
    if (this.#open.size === 0) return known;
    for (const dispute of this.#open.values()) this.#judge(dispute, there.get(dispute.lease.ownerId), own);
    const kept = [...this.#open.values()].map(({ lease }) => lease);
    return [...known.filter(({ ownerId }) => !this.#open.has(ownerId)), ...kept];
  }

  /** @param is the lease as the store has it */
  #judge(dispute: Dispute, is: Lease | undefined, own: OwnLease): void {
    const { lease, untilMs, hasStranger } = dispute;
    const nowMs = this.#monotonic();
    const isBack = is !== undefined && sameNode(lease, is);
    if (isBack) this.#noteClaim(lease.ownerId);
    if (isBack || nowMs >= untilMs || overlaps(lease, own)) this.#open.delete(lease.ownerId);
    else if ((is !== undefined) !== hasStranger) {
      const graceMs = is ? strangerMs : this.#deletedMs(lease.ownerId);
      Object.assign(dispute, { untilMs: nowMs + graceMs, hasStranger: !hasStranger });
    }
  }

  #deletedMs(ownerId: string): number {
    return this.#claimsOf(ownerId) < claimsAtOnce ? deletedMs : oftenDeletedMs;
  }

  #claimsOf(ownerId: string): number {
    const claims = this.#claims.get(ownerId);
    return claims && this.#monotonic() - claims.lastMs < forgottenMs ? claims.count : 0;
  }

  #noteClaim(ownerId: string): void {
    const count = this.#claimsOf(ownerId) + 1;
    this.#claims.delete(ownerId);
    const oldest = this.#claims.size < countedAtMost ? undefined : this.#claims.keys().next().value;
    if (oldest !== undefined) this.#claims.delete(oldest);
    this.#claims.set(ownerId, { count, lastMs: this.#monotonic() });
  }
}
