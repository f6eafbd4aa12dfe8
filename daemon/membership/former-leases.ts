/**
 * Leases of this host that the config no longer allows. Each is kept alive, so that the peers route it, while something
 * has its addresses; then it is given back.
 */

import { formatSubnets, type Lease, type LeaseValue, sameLeaseValue } from '../../cluster/lease.ts';
import type { LeaseSet } from '../../cluster/lease-set.ts';
import { type PerFamily, valuesOf } from '../../cluster/network-config.ts';
import type { ClusterStore } from '../../cluster/store.ts';
import type { Prefix } from '../../net/prefix.ts';
import type { Logger } from '../report/log.ts';
import { type RenewalClock, renewalTime } from './renewal-time.ts';

export interface FormerLeasesOptions {
  /** Without `release` there is nothing to give back, so that no former lease is kept. */
  readonly store: Pick<ClusterStore, 'release' | 'update' | 'keepAlive'>;
  readonly logger: Logger;
  readonly clock: RenewalClock;
  /** Whether an interface of this host, other than the tunnel's, has an address in the subnet. */
  readonly isInUse: (subnet: Prefix) => boolean;
}

interface Former {
  readonly lease: Lease;
  /** Negative infinity if it was not checked yet. */
  readonly renewAtMs: number;
}

export class FormerLeases {
  readonly #options: FormerLeasesOptions;
  /** By owner. */
  #leases: ReadonlyMap<string, Former> = new Map();

  constructor(options: FormerLeasesOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#leases.size;
  }

  /** When to renew the next one; infinite if there is none. */
  get dueMs(): number {
    return Math.min(Number.POSITIVE_INFINITY, ...[...this.#leases.values()].map(({ renewAtMs }) => renewAtMs));
  }

  get subnets(): PerFamily<Prefix>[] {
    return [...this.#leases.values()].map(({ lease }) => lease.subnets);
  }

  has(ownerId: string): boolean {
    return this.#leases.has(ownerId);
  }

  /** These, and no others. */
  set(leases: readonly Lease[]): void {
    if (!this.#options.store.release) return;
    this.#leases = new Map(
      leases.map((lease) => {
        const renewAtMs = this.#leases.get(lease.ownerId)?.renewAtMs ?? Number.NEGATIVE_INFINITY;
        return [lease.ownerId, { lease, renewAtMs }];
      }),
    );
  }

  /** Renews each, or gives it back. @throws StoreError */
  async keep(listed: LeaseSet, value: LeaseValue): Promise<void> {
    for (const [ownerId, former] of [...this.#leases]) {
      const lease = listed.all.find((each) => each.ownerId === ownerId) ?? former.lease;
      const renewAtMs = await this.#renewOrRelease({ lease, renewAtMs: former.renewAtMs }, value);
      const leases = new Map(this.#leases);
      if (renewAtMs === undefined) leases.delete(ownerId);
      else leases.set(ownerId, { lease: former.lease, renewAtMs });
      this.#leases = leases;
    }
  }

  /** @returns when to renew it; undefined if it is no longer ours */
  async #renewOrRelease({ lease, renewAtMs }: Former, value: LeaseValue): Promise<number | undefined> {
    const { store, logger, clock, isInUse } = this.#options;
    const subnet = formatSubnets(lease.subnets);
    if (!valuesOf(lease.subnets).some(isInUse)) {
      if (await store.release?.(lease)) {
        logger.info('an older lease that no longer fits the network config is given back', { subnet });
      }
      return undefined;
    }
    if (renewAtMs === Number.NEGATIVE_INFINITY) {
      logger.warn(
        'an older subnet of this node no longer fits the network config, but containers have its addresses; ' +
          'it is given back when they are gone',
        { subnet },
      );
    }
    if (clock.monotonic() < renewAtMs && sameLeaseValue(lease, value)) return renewAtMs;
    const own = { ...lease, expiresAtMs: undefined };
    const updated = await (store.keepAlive ? store.keepAlive(own, value) : store.update(own, value));
    return updated.state === 'held' ? renewalTime(updated.own, true, clock) : undefined;
  }
}
