/**
 * Subnets that this node had before: of leases that the config no longer allows, and of leases that it has lost. They end with
 * their last container. Until then a lease is kept alive, so that the peers route it; then the bridge loses the old gateway,
 * and the lease is given back.
 */

import { formatSubnets, type Lease, type LeaseValue, sameLeaseValue, sameSubnets } from '../../cluster/lease.ts';
import type { LeaseSet } from '../../cluster/lease-set.ts';
import { families, type PerFamily, valuesOf } from '../../cluster/network-config.ts';
import type { ClusterStore } from '../../cluster/store.ts';
import { formatPrefix, type Prefix, prefixesOverlap } from '../../net/prefix.ts';
import type { FormerSubnets, SubnetUse } from '../host/former-subnets.ts';
import type { Logger } from '../report/log.ts';
import { type RenewalClock, renewalTime } from './renewal-time.ts';
import { Rivalry, writesBack } from './rivalry.ts';

export interface FormerLeasesOptions {
  /** Without `release` there is nothing to give back: a former subnet has no lease then. */
  readonly store: Pick<ClusterStore, 'release' | 'update' | 'keepAlive'>;
  readonly logger: Logger;
  readonly clock: RenewalClock;
  /** Their use on this host. */
  readonly host: FormerSubnets;
  /** How often the host is looked at while something uses a former subnet. */
  readonly lookEveryMs?: number | undefined;
}

interface Former {
  readonly subnets: PerFamily<Prefix>;
  /** Undefined if the lease is lost. */
  readonly lease: Lease | undefined;
  /** When to renew the lease; negative infinity if it was not checked yet. */
  readonly renewAtMs: number;
  /** What was told last of its use. */
  readonly told: string;
}

const usualLookEveryMs = 10_000;
/** A container that is being started may still put the gateway back. */
const afterRemovalMs = 1000;
/** A config that changes without end must not fill the memory. */
const lostAtMost = 16;

const overlaps = (a: Prefix | undefined, b: Prefix | undefined): boolean =>
  a !== undefined && b !== undefined && prefixesOverlap(a, b);

export class FormerLeases {
  readonly #options: FormerLeasesOptions;
  /** By their subnets. */
  #all: ReadonlyMap<string, Former> = new Map();
  #lookAtMs = Number.POSITIVE_INFINITY;
  /** Of leases that somebody else writes, too. */
  readonly #writes: Rivalry;

  constructor(options: FormerLeasesOptions) {
    this.#options = options;
    this.#writes = new Rivalry({ ...writesBack, monotonic: options.clock.monotonic });
  }

  /** How many leases there are. */
  get size(): number {
    return this.#leased.length;
  }

  get #leased(): Former[] {
    return [...this.#all.values()].filter(({ lease }) => lease);
  }

  /** When to look at them again; infinite if there are none. */
  get dueMs(): number {
    return Math.min(this.#lookAtMs, ...this.#leased.map(({ renewAtMs }) => renewAtMs));
  }

  /** Of the leases. */
  get subnets(): PerFamily<Prefix>[] {
    return this.#leased.map(({ subnets }) => subnets);
  }

  /** To be remembered: those of leases first. */
  get remembered(): PerFamily<Prefix>[] {
    return [...this.subnets, ...[...this.#all.values()].flatMap(({ lease, subnets }) => (lease ? [] : subnets))];
  }

  has(ownerId: string): boolean {
    return this.#leased.some(({ lease }) => lease?.ownerId === ownerId);
  }

  /**
   * These, and no others.
   * @param remembered all subnets that this node has had and remembers
   * @param own its current ones
   */
  set(leases: readonly Lease[], remembered: readonly PerFamily<Prefix>[], own: PerFamily<Prefix>): void {
    const before = this.#all;
    const all = new Map<string, Former>();
    const add = (subnets: PerFamily<Prefix>, lease: Lease | undefined): void => {
      const key = formatSubnets(subnets);
      if (all.has(key) || sameSubnets(subnets, own)) return;
      // Our current containers have the addresses of such a one.
      if (!lease && families.some((family) => overlaps(subnets[family], own[family]))) return;
      const { renewAtMs = Number.NEGATIVE_INFINITY, told = '' } = before.get(key) ?? {};
      all.set(key, { subnets, lease, renewAtMs, told });
    };
    if (this.#options.store.release) for (const lease of leases) add(lease.subnets, lease);
    for (const subnets of remembered.slice(0, leases.length + lostAtMost)) add(subnets, undefined);
    this.#all = all;
    this.#lookAtMs = all.size > 0 ? this.#options.clock.monotonic() : Number.POSITIVE_INFINITY;
  }

  /** Renews each, or gives it back. @throws StoreError */
  async keep(listed: LeaseSet, value: LeaseValue): Promise<void> {
    const { clock, lookEveryMs = usualLookEveryMs } = this.#options;
    const nowMs = clock.monotonic();
    const mustLook = nowMs >= this.#lookAtMs;
    if (mustLook) this.#lookAtMs = Number.POSITIVE_INFINITY;
    for (const [key, former] of [...this.#all]) {
      const kept = await this.#keepOne(former, mustLook, listed, value);
      const all = new Map(this.#all);
      if (kept) all.set(key, kept);
      else all.delete(key);
      this.#all = all;
    }
    if (this.#all.size > 0) this.#lookAtMs = Math.min(this.#lookAtMs, nowMs + lookEveryMs);
  }

  /** @returns undefined if it has ended */
  async #keepOne(former: Former, mustLook: boolean, listed: LeaseSet, value: LeaseValue): Promise<Former | undefined> {
    const { store, logger, clock } = this.#options;
    const { subnets, lease: known } = former;
    const subnet = formatSubnets(subnets);
    const lease = known && (listed.all.find(({ ownerId }) => ownerId === known.ownerId) ?? known);
    let { told } = former;
    const use = mustLook ? this.#look(subnets) : undefined;
    if (use?.by === 'nobody' && use.gateways.length === 0) {
      if (lease && (await store.release?.(lease))) {
        logger.info('an older lease that no longer fits the network config is given back', { subnet });
      }
      return undefined;
    }
    if (use) {
      const text = use.by === 'nobody' ? this.#removeGateways(use) : textOf(use, lease !== undefined);
      if (text !== undefined && text !== told) logger.warn(text, { subnet });
      told = text ?? told;
    }
    if (!lease) return { ...former, told };
    const { renewAtMs } = former;
    const isDue = clock.monotonic() >= renewAtMs;
    if (!isDue && (sameLeaseValue(lease, value) || this.#writes.mustPause)) return { ...former, told };
    const own = { ...lease, expiresAtMs: undefined };
    const updated = await (store.keepAlive ? store.keepAlive(own, value) : store.update(own, value));
    if (!isDue) this.#writes.noteWrite();
    // A lost lease's containers are still there.
    if (updated.state === 'lost') return { ...former, told, lease: undefined };
    return { ...former, told, renewAtMs: renewalTime(updated.own, true, clock) };
  }

  /** @returns undefined where the host cannot be looked at now */
  #look(subnets: PerFamily<Prefix>): SubnetUse | undefined {
    const { host, logger } = this.#options;
    try {
      return host.use(valuesOf(subnets));
    } catch (error) {
      logger.debug('Cannot look for containers of an older subnet', { stack: (error as Error).stack });
      return undefined;
    }
  }

  /** The lease is given back the next time, if no container has come until then. @returns what cannot be done */
  #removeGateways({ gateways }: Extract<SubnetUse, { by: 'nobody' }>): string | undefined {
    const { logger, host, clock } = this.#options;
    this.#lookAtMs = clock.monotonic() + afterRemovalMs;
    let problem: string | undefined;
    for (const gateway of gateways) {
      const fields = { address: formatPrefix(gateway.prefix), device: gateway.device };
      try {
        host.remove(gateway);
        logger.info('the gateway of an older subnet is removed: its last container here has ended', fields);
      } catch (error) {
        problem = `${(error as Error).message}; trying again`;
      }
    }
    return problem;
  }
}

/** What keeps an older subnet, and what to do. */
function textOf(use: Exclude<SubnetUse, { by: 'nobody' }>, isLeased: boolean): string {
  const why = isLeased
    ? 'an older subnet of this node no longer fits the network config'
    : 'this node no longer has the lease of an older subnet';
  if (use.by === 'containers') {
    return isLeased
      ? `${why}; it is given back when its last container here ends`
      : `${why}, but containers here have its addresses, and other hosts do not reach them; restart them`;
  }
  const { device, prefix } = use.held;
  const address = formatPrefix(prefix);
  const what = `${why}, but "${device}" has the address ${address} of it`;
  const until = isLeased ? 'it is given back' : 'its next owner is reached from here';
  const remedy = use.isDockers ? 'restart Docker with the new subnet' : `ip addr del ${address} dev ${device}`;
  return `${what}; ${until} when that is over: ${remedy}`;
}
