/**
 * Other living nodes with this node's public address, such as virtual machines behind one translation: packets of other hosts
 * reach only one of them. Each keeps its own subnet, and each reports the other.
 *
 * The store tells of a lease at once, but of a node's life only when it is asked. So a suspected node is asked about soon
 * after its lease is seen, and then more and more seldom.
 */

import { excerpt } from '../../cluster/excerpt.ts';
import type { Lease, OwnLease } from '../../cluster/lease.ts';
import type { LeaseSet } from '../../cluster/lease-set.ts';
import type { ClusterStore } from '../../cluster/store.ts';
import { StoreError } from '../../cluster/store-errors.ts';
import type { Problems } from '../report/problems.ts';
import { formatAddresses, isOfHost } from './view.ts';

export interface SharedAddressOptions {
  readonly node: string;
  readonly liveness: ClusterStore['liveness'];
  readonly problems: Pick<Problems, 'report'>;
  /** Milliseconds on a clock that does not go back. */
  readonly monotonic: () => number;
}

const soonestMs = 1000;
const latestMs = 60_000;

/** So many are named; the rest is a number. */
const namedAtMost = 5;

export class SharedAddress {
  readonly #options: SharedAddressOptions;
  /** The leases that the suspects are taken from, and our own lease then. */
  #of: { readonly leases: LeaseSet; readonly own: OwnLease } | undefined;
  /** Leases of nodes with other names that have our address. */
  #suspects: ReadonlySet<Lease> = new Set();
  #askedMs = Number.NEGATIVE_INFINITY;
  #askAtMs = Number.POSITIVE_INFINITY;
  #pauseMs = soonestMs;

  constructor(options: SharedAddressOptions) {
    this.#options = options;
  }

  /** When to ask about the suspects; infinite if there are none. */
  get dueMs(): number {
    return this.#askAtMs;
  }

  /** Looks for suspects among the leases that have changed, and asks about them if it is time. */
  async look(leases: LeaseSet, own: OwnLease): Promise<void> {
    if (this.#findSuspects(leases, own)) {
      this.#pauseMs = soonestMs;
      // However often somebody changes them.
      this.#askAtMs = this.#suspects.size > 0 ? this.#askedMs + soonestMs : Number.POSITIVE_INFINITY;
      if (this.#suspects.size === 0) this.#report(new Set(), own);
    }
    if (this.#options.monotonic() < this.#askAtMs) return;
    const { liveness, monotonic } = this.#options;
    this.#askedMs = monotonic();
    try {
      const names = [...this.#suspects].flatMap(({ node }) => node ?? []);
      this.#report((await liveness?.living(names)) ?? new Set(), own);
    } catch (error) {
      // The lists of leases report a store that does not answer.
      if (!(error instanceof StoreError)) throw error;
    }
    this.#askAtMs = this.#askedMs + this.#pauseMs;
    this.#pauseMs = Math.min(this.#pauseMs * 2, latestMs);
  }

  /** @returns whether they have changed */
  #findSuspects(leases: LeaseSet, own: OwnLease): boolean {
    const { node } = this.#options;
    const before = this.#of;
    if (before?.leases === leases && before.own === own) return false;
    const isSuspect = (lease: Lease): boolean =>
      (lease.node ?? node) !== node && lease.ownerId !== own.ownerId && isOfHost(lease, own.publicAddresses);
    const known = this.#suspects;
    this.#of = { leases, own };
    if (before?.own !== own) {
      this.#suspects = new Set(leases.all.filter(isSuspect));
      return this.#suspects.size + known.size > 0;
    }
    const { removed, added } = leases.differenceTo(before.leases);
    const [gone, come] = [removed.filter((lease) => known.has(lease)), added.filter(isSuspect)];
    if (gone.length + come.length === 0) return false;
    const left = new Set(gone);
    this.#suspects = new Set([...[...known].filter((lease) => !left.has(lease)), ...come]);
    return true;
  }

  #report(living: ReadonlySet<string>, { publicAddresses }: OwnLease): void {
    const names = [...new Set([...this.#suspects].flatMap(({ node }) => (node && living.has(node) ? node : [])))];
    const further = names.length > namedAtMost ? ` and ${names.length - namedAtMost} more` : '';
    const named = names.slice(0, namedAtMost).map((name) => `"${excerpt(name)}"`);
    this.#options.problems.report(
      'shared address',
      names.length === 0
        ? undefined
        : `This node's public address ${formatAddresses(publicAddresses)} is also that of ${named.join(', ')}${further}: packets of other hosts reach only one of them; give each node an address of its own with --public-ip or --iface`,
      'debug',
    );
  }
}
