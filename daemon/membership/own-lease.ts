/** Holds this node's lease: acquires it, renews it in time, and writes it when this node has changed. */

import {
  formatSubnets,
  type Lease,
  type LeaseValue,
  type OwnLease,
  sameLeaseValue,
  samePublicAddress,
  sameSubnets,
} from '../../cluster/lease.ts';
import type { LeaseSet } from '../../cluster/lease-set.ts';
import { isCompatible, type PerFamily, valuesOf } from '../../cluster/network-config.ts';
import type { ClusterStore, LeaseList, LeaseRequest, Lost } from '../../cluster/store.ts';
import { StoreError } from '../../cluster/store-errors.ts';
import { supersededLeases } from '../../cluster/subnet-choice.ts';
import { formatPrefix, type Prefix, prefixesOverlap } from '../../net/prefix.ts';
import { spreadMs } from '../pace/spread.ts';
import type { Logger } from '../report/log.ts';
import type { Metrics } from '../report/metrics.ts';
import type { Problems } from '../report/problems.ts';
import type { GoodConfig } from './config-follower.ts';
import { type RenewalClock, renewalTime } from './renewal-time.ts';
import { Rivalry, writesBack } from './rivalry.ts';
import { formatAddresses, formatHolder } from './view.ts';

export interface OwnLeaseOptions {
  readonly store: Pick<ClusterStore, 'kind' | 'acquire' | 'holds' | 'update' | 'keepAlive' | 'liveness' | 'allows'>;
  readonly logger: Logger;
  readonly problems: Pick<Problems, 'report'>;
  readonly metrics: Pick<Metrics, 'leaseClaimed' | 'leaseRenewed' | 'leaseLost'>;
  /** The last subnets of this node, if its files contain them. */
  readonly previous: PerFamily<Prefix> | undefined;
  /** The subnets of its older leases, as far as it remembers them. */
  readonly former: () => readonly PerFamily<Prefix>[];
  /** The networks that this host is connected to now. */
  readonly hostNetworks: () => readonly Prefix[];
  readonly clock: RenewalClock;
  /** Called when the store has said that the lease is another's, before another one is acquired. */
  readonly onTaken: (holder: Lease) => void;
}

/** The store has no lease for this node, now or at all. */
export class NoLeaseError extends Error {
  override readonly name = 'NoLeaseError';
  readonly code: 'waiting' | 'none';

  constructor(code: NoLeaseError['code'], message: string) {
    super(message);
    this.code = code;
  }
}

export interface Held {
  readonly own: OwnLease;
  /** Older leases of this host that the config no longer allows; absent if nobody looked for them. */
  readonly superseded?: readonly Lease[];
}

export type OwnValue = LeaseValue & { readonly node: string };

/** Somebody deletes our lease. Without it peers lose the way to us, so that it is claimed at once more often. */
const claimsAgain = { burst: 10, pauseMs: 1000, longestPauseMs: 60_000 };

/** Longer than weftd's pauses between two looks at the store. */
const lookedAtMostMs = 90_000;
/** Two nodes that adopt one lease at once have told each other by then. */
const settledMs = 60_000;

const leaseFields = (own: OwnLease) => ({
  subnet: formatSubnets(own.subnets),
  ...(own.reservation ? { reservation: true } : {}),
  ...(own.expiresAtMs === undefined ? {} : { expires: new Date(own.expiresAtMs).toISOString() }),
});

export class OwnLeaseHolder {
  readonly #options: OwnLeaseOptions;
  /** Of our lease with those who write it, too, and with those who delete it. */
  readonly #writes: Rivalry;
  readonly #deletions: Rivalry;
  #own: OwnLease | undefined;
  /** How the lease was lost, until another is acquired. */
  #lost: Lost | undefined;
  /** The config's text when the lease was acquired: another one may not allow the lease. */
  #acquiredUnder: string | undefined;
  #renewAtMs = Number.POSITIVE_INFINITY;
  /** Until when the store has promised the lease to us. */
  #promisedUntilMs = Number.POSITIVE_INFINITY;
  /** When a lease that was lost together with many others is acquired again. */
  #acquireAtMs = Number.POSITIVE_INFINITY;
  /** When a lease that somebody else keeps changing is written or claimed again. */
  #retryAtMs = Number.POSITIVE_INFINITY;
  /** Since when it is ours, if this node did not make it, and when this node looked at it last. Times of day. */
  #heldSinceMs = Number.POSITIVE_INFINITY;
  #lookedMs = Number.NEGATIVE_INFINITY;

  constructor(options: OwnLeaseOptions) {
    this.#options = options;
    const { monotonic } = options.clock;
    this.#writes = new Rivalry({ ...writesBack, monotonic });
    this.#deletions = new Rivalry({ ...claimsAgain, monotonic });
  }

  get own(): OwnLease | undefined {
    return this.#own;
  }

  /** The subnets that this node remembers, and may have a lease of. */
  get remembered(): Pick<LeaseRequest, 'previous' | 'previousAge' | 'former'> {
    const previous = this.#own?.subnets ?? this.#options.previous;
    const age = this.#own && { previousAge: this.#own.seniority };
    return { ...(previous ? { previous } : {}), ...age, former: this.#options.former() };
  }

  /** How the lease was lost; undefined while it is held, and before the first. */
  get lost(): Lost | undefined {
    return this.#lost;
  }

  /** Whether the store has promised that the lease is there now. */
  get isPromised(): boolean {
    return this.#own !== undefined && !this.#lost && this.#options.clock.monotonic() < this.#promisedUntilMs;
  }

  /** The time of the next renewal or claim; infinite if none is due. */
  get dueMs(): number {
    if (this.#retryAtMs < Number.POSITIVE_INFINITY) return this.#retryAtMs;
    return Math.min(this.#renewAtMs, this.#acquireAtMs);
  }

  /**
   * Ensures that the node has a lease with `value`.
   * @param before the peers as they were known before
   * @throws StoreError, NoLeaseError
   */
  async hold(config: GoodConfig, list: LeaseList, value: OwnValue, before: LeaseSet | undefined): Promise<Held> {
    const own = this.#own;
    const isAnother = this.#acquiredUnder !== config.text;
    this.#retryAtMs = Number.POSITIVE_INFINITY;
    const insists = this.#insists;
    this.#lookedMs = this.#options.clock.now();
    if (own && !this.#lost && (!isAnother || this.#isGoodUnder(own, config, list.leases))) {
      const held = await this.#keep(own, list, value, before, insists);
      if (held && !isAnother) return { own: held };
      if (held) {
        this.#acquiredUnder = config.text;
        return { own: held, superseded: this.#superseded(config, list.leases, value) };
      }
      this.#options.metrics.leaseLost();
    }
    const lost = this.#lost;
    const rivalry = lost?.how === 'gone' ? this.#deletions : this.#writes;
    if (own && lost && rivalry.mustPause) {
      this.#retryAtMs = rivalry.nextMs;
      // The subnet is nobody else's.
      if (lost.how === 'gone') return { own };
      throw new NoLeaseError(
        'waiting',
        `Somebody else takes the subnets of this node again and again, ${formatSubnets(own.subnets)} last; claiming another in a while`,
      );
    }
    this.#acquireAtMs = Number.POSITIVE_INFINITY;
    const acquired = await this.#acquire(config, value, insists);
    if (lost) rivalry.noteWrite();
    this.#options.problems.report('contested lease', undefined);
    return acquired;
  }

  /**
   * Whether the lease is ours, whatever it says now: this node made it, or has had it for a while, and has looked at it all the
   * time. Nobody can have claimed it meanwhile, so that somebody has written over it. A node that was suspended or had no
   * contact with the store must not insist: its lease may have been given to another one.
   */
  get #insists(): boolean {
    const nowMs = this.#options.clock.now();
    const { expiresAtMs = Number.POSITIVE_INFINITY } = this.#own ?? {};
    return nowMs - this.#lookedMs < lookedAtMostMs && nowMs - this.#heldSinceMs >= settledMs && nowMs < expiresAtMs;
  }

  /** @returns the lease if it is held, or will be; undefined if it is lost */
  async #keep(
    own: OwnLease,
    { leases, malformed }: LeaseList,
    value: OwnValue,
    before: LeaseSet | undefined,
    insists: boolean,
  ): Promise<OwnLease | undefined> {
    const { store, logger, metrics, clock } = this.#options;
    const listed = leases.byOwner(own.ownerId);
    const isDue = clock.monotonic() >= this.#renewAtMs;
    const isHeld = listed !== undefined && store.holds(own, listed);
    const isContested = !(isHeld && sameLeaseValue(listed, own));
    if (!isContested && !this.#writes.isOpen) this.#options.problems.report('contested lease', undefined);
    if (isHeld && !isDue && sameLeaseValue(listed, value)) {
      this.#acquireAtMs = Number.POSITIVE_INFINITY;
      return own;
    }
    if (!listed && !malformed.some(({ ownerId }) => ownerId === own.ownerId)) {
      if (this.#mustWait(leases, before)) return own;
      return this.#noteLost(own, { state: 'lost', how: 'gone' });
    }
    this.#acquireAtMs = Number.POSITIVE_INFINITY;
    if (isContested) {
      if (this.#writes.mustPause) {
        this.#reportContest(own, listed);
        this.#retryAtMs = this.#writes.nextMs;
        // Nobody can take a lease that the store gives to one node.
        const isAnothers =
          !store.allows && listed && !samePublicAddress(listed, own) && !samePublicAddress(listed, value);
        return isAnothers && !insists ? this.#noteLost(own, { state: 'lost', how: 'taken', holder: listed }) : own;
      }
      if (listed?.node !== undefined && listed.node !== value.node) await this.#announce(value);
    }
    const updated = await (isDue && store.keepAlive
      ? store.keepAlive(own, value, insists)
      : store.update(own, value, insists));
    if (updated.state === 'lost') return this.#noteLost(own, updated);
    if (isContested) {
      this.#writes.noteWrite();
      this.#reportContest(own, listed);
    }
    this.#take(updated.own, true);
    metrics.leaseRenewed();
    logger.info('lease renewed', leaseFields(updated.own));
    return updated.own;
  }

  /**
   * Tells that this node lives, before it writes its lease over another node's: the other one then takes a subnet of its own.
   * The lease is written even if nothing can be told.
   */
  async #announce(value: OwnValue): Promise<void> {
    const { store, clock } = this.#options;
    const { node, version = '', publicAddresses, backendType } = value;
    try {
      const record = { node, version, publicAddresses, backendType, startedAtMs: clock.now(), health: 'ok' };
      await store.liveness?.publish(record);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
    }
  }

  /** @param listed the lease as somebody else has written it; undefined where it cannot be read */
  #reportContest(own: OwnLease, listed: Lease | undefined): void {
    if (!this.#writes.isOpen) return;
    const said = listed ? `it names ${formatHolder(listed)}` : 'it cannot be read';
    this.#options.problems.report(
      'contested lease',
      `Somebody else keeps writing the lease "${own.ownerId}" of this node, ${formatHolder(own)}: ${said}; give each host its own address with --public-ip or --iface, and its own name with --node; weftd writes the lease more and more seldom`,
      'debug',
    );
  }

  /** If many nodes have lost their leases at once, each acquires one again at a different time. */
  #mustWait(leases: LeaseSet, before: LeaseSet | undefined): boolean {
    const { clock } = this.#options;
    const nowMs = clock.monotonic();
    if (this.#acquireAtMs === Number.POSITIVE_INFINITY) {
      const there = new Set(leases.all.map(({ ownerId }) => ownerId));
      const missing = [...(before ?? [])].filter(({ ownerId }) => !there.has(ownerId)).length;
      this.#acquireAtMs = nowMs + spreadMs(missing, clock.random);
    }
    return nowMs < this.#acquireAtMs;
  }

  #noteLost(own: OwnLease, lost: Lost): undefined {
    const { store, logger } = this.#options;
    this.#lost = lost;
    if (lost.how === 'taken') this.#options.onTaken(lost.holder);
    const how =
      lost.how === 'taken'
        ? `it is taken by "${lost.holder.node ?? formatAddresses(lost.holder.publicAddresses)}"`
        : lost.how === 'replaced'
          ? `its owner was made anew in ${store.kind}`
          : `its key is no longer in ${store.kind}`;
    logger.warn(`lease lost: ${how}; claiming again`, { key: own.ownerId });
  }

  /** Whether the lease is good under another config as well. Then the store need not be asked. */
  #isGoodUnder(own: OwnLease, config: GoodConfig, leases: LeaseSet): boolean {
    const { store } = this.#options;
    const isAllowed = store.allows ? store.allows(config.value, own) : isCompatible(config.value, own.subnets);
    return isAllowed && leases.all.some((listed) => store.holds(own, listed));
  }

  /** Older leases of this host, as if the store had been asked for one under the config. */
  #superseded({ value: config }: GoodConfig, leases: LeaseSet, value: OwnValue): readonly Lease[] {
    // A store that gives a node its subnets has no older ones.
    return this.#options.store.allows ? [] : supersededLeases(leases.all, { config, value, ...this.remembered });
  }

  async #acquire(config: GoodConfig, value: OwnValue, insists: boolean): Promise<Held> {
    const { store, logger, metrics } = this.#options;
    const before = this.#own;
    const { previous } = this.remembered;
    const hostNetworks = this.#options.hostNetworks();
    const lost = before && insists && this.#lost?.how === 'gone' ? { lost: before } : {};
    const acquired = await store.acquire({ config: config.value, value, hostNetworks, ...this.remembered, ...lost });
    if (acquired.state !== 'have') throw new NoLeaseError(acquired.state, acquired.why);
    const { own, how, lostRaces, superseded } = acquired;
    this.#acquiredUnder = config.text;
    metrics.leaseClaimed(how);
    const isRemembered = previous !== undefined && sameSubnets(previous, own.subnets);
    this.#heldSinceMs = how !== 'kept' || isRemembered ? Number.NEGATIVE_INFINITY : this.#options.clock.now();
    this.#take(own, how !== 'kept');
    const avoided = hostNetworks.filter((network) =>
      valuesOf(config.value.networks).some((cluster) => prefixesOverlap(cluster.network, network)),
    );
    // A store that gives a node its subnets avoids nothing.
    if (how === 'new' && avoided.length > 0 && !store.allows) {
      logger.info("this host's own networks overlap the cluster's; the new subnet avoids them", {
        networks: avoided.map(formatPrefix).join(', '),
      });
    }
    if (how !== 'kept' || before?.ownerId !== own.ownerId) {
      logger.info(`lease ${how === 'previous' ? 'claimed again' : how}`, {
        ...leaseFields(own),
        ...(lostRaces > 0 ? { lostRaces } : {}),
      });
    }
    return { own, superseded };
  }

  #take(own: OwnLease, fresh: boolean): void {
    const { store, clock } = this.#options;
    this.#own = own;
    this.#lost = undefined;
    this.#renewAtMs = store.keepAlive ? renewalTime(own, fresh, clock) : Number.POSITIVE_INFINITY;
    this.#promisedUntilMs =
      own.expiresAtMs === undefined ? Number.POSITIVE_INFINITY : clock.monotonic() + own.expiresAtMs - clock.now();
  }
}
