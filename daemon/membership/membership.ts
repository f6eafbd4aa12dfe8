/**
 * This node's part in the cluster: follows the network config, holds the node's subnet lease, knows the peers.
 *
 * Whatever etcd does or says, what was good last stays: an outage, a bad config or a lost lease never takes anything
 * from the data path by itself.
 */

import { formatSubnets, type Lease, type LeaseValue, type OwnLease, sameLeaseValue } from '../../cluster/lease.ts';
import {
  backendName,
  ConfigError,
  families,
  isCompatible,
  type NetworkConfig,
  type PerFamily,
  parseNetworkConfig,
  valuesOf,
} from '../../cluster/network-config.ts';
import { type ClusterStore, type Known, type LeaseList, type LeaseMemory, patchList } from '../../cluster/store.ts';
import { ownLeases } from '../../cluster/subnet-choice.ts';
import { overlapIndex } from '../../cluster/subnet-index.ts';
import type { Family } from '../../net/address.ts';
import type { Mac } from '../../net/mac.ts';
import { formatPrefix, type Prefix } from '../../net/prefix.ts';
import type { OwnBackend } from '../backends/map.ts';
import { spreadMs } from '../pace/spread.ts';
import type { Logger } from '../report/log.ts';
import type { Metrics } from '../report/metrics.ts';
import type { Problems } from '../report/problems.ts';
import { type ClusterView, familiesInUse, formatAddresses, type Identity, isOfHost } from './view.ts';

/** Neither of them throws. */
export interface MembershipMemory {
  readonly read: () => LeaseMemory | undefined;
  readonly write: (memory: LeaseMemory) => void;
}

export interface MembershipOptions {
  readonly store: ClusterStore;
  readonly logger: Logger;
  readonly problems: Problems;
  readonly metrics: Pick<Metrics, 'leaseClaimed' | 'leaseRenewed' | 'leaseLost'>;
  readonly node: string;
  readonly version: string;
  /** How long before its expiry the lease is renewed. */
  readonly renewMarginMs: number;
  /** The subnets that this node had last, as far as its files tell. */
  readonly previous: PerFamily<Prefix> | undefined;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Milliseconds on a clock that does not go back: renewals must not wait for a clock that was set back to catch up. */
  readonly monotonic: () => number;
  /** From 0 to below 1. */
  readonly random: () => number;
  /** What outlives weftd of its knowledge of the cluster; rarely written. */
  readonly memory?: MembershipMemory;
  /** Whether an interface of this host, other than the tunnel's, has an address in the subnet. */
  readonly isInUse: (subnet: Prefix) => boolean;
  /** Who this node is under such a config. `leases` are those in etcd now. May throw an InterfaceError. */
  readonly identify: (config: NetworkConfig, leases: readonly Lease[]) => Identity;
}

/** The least time between two renewals. */
const renewalFloorMs = 1000;

/** So long for each peer is waited at least between two writings of the memory, and so long at most without one. */
const memoryPerPeerMs = 20;
const memoryAgeMs = 3_600_000;

/** For how long a lease was promised to its holder, at the most: flannel's 24 h. */
const leaseLifeMs = 24 * 3_600_000;

/** For how long the way to a node whose lease is gone stays: a weftd that lives claims it again within that. */
const claimGraceMs = 1000;

/** So many of a long list are named; the rest is a number. */
const namedAtMost = 5;

export class Membership {
  private readonly options: MembershipOptions;
  private current: ClusterView | undefined;
  private configText: string | undefined;
  /** The last good config, and the text that it was read from. */
  private config: { readonly text: string; readonly value: NetworkConfig; readonly backend: OwnBackend } | undefined;
  /** This host's leases that the config no longer allows, by key, and when each is to be renewed. */
  private readonly superseded = new Map<string, { readonly lease: Lease; renewAtMs: number }>();
  /** Peers' leases that etcd has lost, by key. */
  private readonly lost = new Map<string, { readonly lease: Lease; readonly untilMs: number }>();
  /** Leases that are gone, of nodes of Weft's, by key: those of the last moment. */
  private readonly vanished = new Map<string, { readonly lease: Lease; readonly untilMs: number }>();
  /** The leases that the current view is made from; undefined where they are not all of it. */
  private listed: readonly Lease[] | undefined;
  /** That of the last list. */
  private mark: unknown;
  /** What the last weftd knew; until the first view. */
  private remembered: LeaseMemory | undefined;
  /** When, and of what, the memory was written last. */
  private written: { readonly atMs: number; readonly of: readonly Lease[]; readonly key: string } | undefined;
  /** When it is to be written, where something has changed since. */
  private memoryDueMs = Number.POSITIVE_INFINITY;
  /** The config's text when the lease was claimed last: another one may not allow the lease. */
  private claimedConfig: string | undefined;
  private renewAtMs = Number.POSITIVE_INFINITY;
  /** A new config that is not taken up yet, and when it is. */
  private awaited: { readonly text: string; readonly atMs: number } | undefined;
  /** When a lease that was lost together with many others is claimed again. */
  private claimAtMs = Number.POSITIVE_INFINITY;
  /** Until when etcd has promised our lease to us. */
  private promisedUntilMs = Number.POSITIVE_INFINITY;

  constructor(options: MembershipOptions) {
    this.options = options;
    this.remembered = options.memory?.read();
  }

  /** What was good last; undefined before the first time. */
  get view(): ClusterView | undefined {
    return this.current;
  }

  /** Until the memory has to be written; infinite where nothing has changed. */
  get memoryDelayMs(): number {
    return Math.max(0, this.memoryDueMs - this.options.monotonic());
  }

  /** Until a lease has to be renewed, or a way is to go; infinite where none need be. */
  get renewalDelayMs(): number {
    const awaitedMs = this.awaited?.atMs ?? Number.POSITIVE_INFINITY;
    const dueMs = Math.min(
      this.renewAtMs,
      this.claimAtMs,
      awaitedMs,
      ...[...this.superseded.values()].map(({ renewAtMs }) => renewAtMs),
      ...[...this.vanished.values()].map(({ untilMs }) => untilMs),
    );
    return Math.max(0, dueMs - this.options.monotonic());
  }

  /**
   * Brings this node's view of the cluster up to date, and the cluster's of this node: lists, claims or renews.
   * @returns the view, the one before where nothing better can be had, or undefined where there never was one
   * @throws StoreError, NoFreeSubnetError, InterfaceError: try again later
   */
  async sync(): Promise<ClusterView | undefined> {
    const { store } = this.options;
    // One after the other, so that of what ails both always the same is told.
    const list = await store.listLeases(this.known());
    const stored = await store.readConfig();
    if (!this.mustAwait(stored?.text, list.leases.length)) this.readConfig(stored?.text);
    this.options.problems.reportAll(
      'lease',
      new Map(
        list.malformed.map(({ ownerId, reason }) => [
          ownerId,
          `Cannot read lease "${ownerId}", which is skipped: ${reason}`,
        ]),
      ),
    );
    if (!this.config) return this.current;
    const { value: config, backend, text } = this.config;
    const identity = this.options.identify(config, list.leases);
    const hasLostEntries = list.continuity === 'lost';
    this.mark = list.mark;
    const value = this.leaseValue(config, backend, identity);
    const before = this.current;
    const own = await this.holdLease(config, text, list, value);
    const followed = hasLostEntries ? undefined : this.followChanges(list, before, own);
    this.listed = list.malformed.length === 0 ? list.leases : undefined;
    if (followed && before) {
      this.current = { ...before, config, backend, ...followed };
      this.remember();
      return this.current;
    }
    // Other leases of this host are of its own past.
    const isOwn = (lease: Lease): boolean =>
      lease.ownerId === own.ownerId ||
      this.superseded.has(lease.ownerId) ||
      (lease.node === this.options.node && isOfHost(lease, own.publicAddresses));
    const known = this.keepWhatEtcdLost(list, hasLostEntries, own);
    const peers = known.filter((lease) => !isOwn(lease));
    const formerSubnets = [...this.superseded.values()].map(({ lease }) => lease.subnets);
    this.current = { config, backend, own, peers, formerSubnets };
    this.remembered = undefined;
    this.remember();
    await this.keepSuperseded(list.leases, value);
    return this.current;
  }

  /**
   * Writes down whom we know, for a weftd that finds etcd empty; seldom, and at most a while late. @param now though it
   * was written just before
   */
  remember(now = false): void {
    const { memory, monotonic } = this.options;
    if (!memory || !this.current) return;
    const { own, peers } = this.current;
    const atMs = monotonic();
    // The first time there is more urgent work: the kernel's.
    this.written ??= { atMs, of: [], key: '' };
    const isSame = this.written.of === peers && this.written.key === own.ownerId;
    const dueMs = this.written.atMs + (isSame ? memoryAgeMs : now ? 0 : peers.length * memoryPerPeerMs);
    this.memoryDueMs = Number.POSITIVE_INFINITY;
    if (atMs < dueMs) {
      if (!isSame) this.memoryDueMs = dueMs;
      return;
    }
    this.written = { atMs, of: peers, key: own.ownerId };
    const nowMs = this.options.now();
    const wholeMs = nowMs + leaseLifeMs;
    memory.write({
      mark: this.mark,
      own: own.ownerId,
      ownUntilMs: own.expiresAtMs ?? wholeMs,
      peers: peers.map((lease) => {
        const lost = this.lost.get(lease.ownerId);
        return { lease, untilMs: lost ? nowMs + lost.untilMs - atMs : wholeMs };
      }),
    });
  }

  /** The peers, by what has changed alone. Undefined where more has to be looked at. */
  private followChanges(
    list: LeaseList,
    before: ClusterView | undefined,
    own: OwnLease,
  ): Required<Pick<ClusterView, 'peers' | 'since'>> | undefined {
    const { leases, malformed, since } = list;
    if (!before || !since || since.leases !== this.listed || own !== before.own || malformed.length > 0)
      return undefined;
    if (this.lost.size + this.vanished.size + this.superseded.size > 0) return undefined;
    const isPlain = (lease: Lease | undefined): boolean =>
      !lease || (lease.node !== this.options.node && lease.ownerId !== own.ownerId);
    // A node of Weft's whose lease has vanished may be about to claim it again.
    const isSimple = since.changes.every(
      ([was, is]) => isPlain(was) && isPlain(is) && (is !== undefined || was === undefined || was.ofFlannel),
    );
    const peers = isSimple && leases.length > 0 ? patchList(before.peers, since.changes) : undefined;
    return peers && { peers, since: { peers: before.peers, changes: since.changes } };
  }

  /** What the store is asked to go on from. */
  private known(): Known {
    const { remembered } = this;
    const own =
      this.current?.own.ownerId ??
      (remembered && this.options.now() < remembered.ownUntilMs ? remembered.own : undefined);
    const isPromised = this.current ? this.options.monotonic() < this.promisedUntilMs : true;
    return { mark: this.mark ?? remembered?.mark, ...(own !== undefined && isPromised ? { promised: own } : {}) };
  }

  /**
   * The leases in etcd, and those that are to be gone by: one that cannot be read any more stays what it was; one that
   * etcd has lost stays for as long as its holder was promised it, or until the subnet is somebody else's. Every weftd
   * claims its own again at once, but some may be stopped, and their containers are not.
   */
  private keepWhatEtcdLost(list: LeaseList, hasLostEntries: boolean, own: OwnLease): Lease[] {
    const { problems, monotonic } = this.options;
    const listed = new Set(list.leases.map(({ ownerId }) => ownerId));
    const unreadable = new Set(list.malformed.map(({ ownerId }) => ownerId));
    const nowMs = monotonic();
    const before = this.current?.peers ?? this.remembered?.peers.map(({ lease }) => lease) ?? [];
    if (hasLostEntries) {
      const promised = new Map(this.remembered?.peers.map(({ lease, untilMs }) => [lease.ownerId, untilMs]));
      for (const lease of before) {
        // By a clock that may have been set meanwhile: no longer than a whole life.
        const leftMs = (promised.get(lease.ownerId) ?? Number.POSITIVE_INFINITY) - this.options.now();
        if (this.lost.has(lease.ownerId)) continue;
        this.lost.set(lease.ownerId, { lease, untilMs: nowMs + Math.min(leftMs, leaseLifeMs) });
      }
    }
    const notLost = this.current ? before.filter(({ ownerId }) => !this.lost.has(ownerId)) : [];
    if (this.lost.size > 0) {
      const isTaken = overlapIndex([own, ...list.leases].map(({ subnets }) => subnets));
      for (const [key, { lease, untilMs }] of this.lost) {
        const isOver = listed.has(key) || unreadable.has(key) || nowMs >= untilMs || isTaken(lease.subnets);
        if (isOver) this.lost.delete(key);
      }
    }
    const names = [...this.lost.values()].map(({ lease }) => lease.node ?? formatAddresses(lease.publicAddresses));
    const further = names.length > namedAtMost ? ` and ${names.length - namedAtMost} more` : '';
    problems.report(
      'lost leases',
      names.length === 0
        ? undefined
        : `etcd has lost leases, those of ${names.slice(0, namedAtMost).join(', ')}${further}; the way there is kept for 24 h, or until they claim them again: see that weftd runs there`,
      'debug',
    );
    const lost = [...this.lost.values()].map(({ lease }) => lease);
    const known = [...list.leases, ...before.filter(({ ownerId }) => unreadable.has(ownerId)), ...lost];
    return [...known, ...this.keepVanished(notLost, known, own)];
  }

  /** A lease that somebody has deleted is claimed again by its node at once: nothing is to be lost until then. */
  private keepVanished(before: readonly Lease[], known: readonly Lease[], own: OwnLease): Lease[] {
    const nowMs = this.options.monotonic();
    const keys = new Set(known.map(({ ownerId }) => ownerId));
    for (const lease of before) {
      if (lease.ofFlannel || keys.has(lease.ownerId) || this.vanished.has(lease.ownerId)) continue;
      this.vanished.set(lease.ownerId, { lease, untilMs: nowMs + claimGraceMs });
    }
    if (this.vanished.size === 0) return [];
    const nodes = new Set([own, ...known].map(({ node }) => node));
    const isTaken = overlapIndex([own, ...known].map(({ subnets }) => subnets));
    for (const [key, { lease, untilMs }] of this.vanished) {
      if (nowMs >= untilMs || nodes.has(lease.node) || isTaken(lease.subnets)) this.vanished.delete(key);
    }
    return [...this.vanished.values()].map(({ lease }) => lease);
  }

  /** A new config may be every node's cause to claim, or to write its lease anew. */
  private mustAwait(text: string | undefined, nodes: number): boolean {
    if (text === undefined || text === this.configText || !this.current) {
      this.awaited = undefined;
      return false;
    }
    const nowMs = this.options.monotonic();
    if (this.awaited?.text !== text) this.awaited = { text, atMs: nowMs + spreadMs(nodes, this.options.random) };
    if (nowMs < this.awaited.atMs) return true;
    this.awaited = undefined;
    return false;
  }

  private readConfig(text: string | undefined): void {
    const { problems, store, logger } = this.options;
    const kept = this.config ? '; the last good one stays in force' : '; waiting for a better one';
    if (text === undefined) {
      this.configText = undefined;
      const advice = this.config
        ? `${kept}; write it again: weftctl config set '${this.config.text}'`
        : `; write one: weftctl config set '{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}'`;
      problems.report('network config', `No network config in etcd at "${store.prefix}/config"${advice}`);
      return;
    }
    if (text === this.configText) return;
    this.configText = text;
    let config: NetworkConfig;
    try {
      config = parseNetworkConfig(text);
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      problems.report('network config', `${error.message} (etcd key "${store.prefix}/config")${kept}`);
      return;
    }
    const { backend } = config;
    if (backend.type === 'other') {
      problems.report(
        'network config',
        `Network config: backend "${backendName(backend)}" is none that weftd can run; use "vxlan" or "host-gw" (etcd key "${store.prefix}/config")${kept}`,
      );
      return;
    }
    problems.report('network config', undefined);
    if (this.config?.text !== text) {
      const networks = families.flatMap((family) => config.networks[family]?.network ?? []);
      logger.info('network config', { networks: networks.map(formatPrefix).join(', '), backend: backend.type });
    }
    this.config = { text, value: config, backend };
  }

  private leaseValue(config: NetworkConfig, backend: OwnBackend, identity: Identity): LeaseValue & { node: string } {
    const { node, version } = this.options;
    const backendData: { [family in Family]?: { vni: number; vtepMac: Mac } } = {};
    if (backend.type === 'vxlan') {
      for (const family of familiesInUse(config)) {
        backendData[family] = { vni: backend.vni, vtepMac: identity.macs[family]! };
      }
    }
    return { publicAddresses: identity.publicAddresses, backendType: backend.type, backendData, node, version };
  }

  /** Sees to it that the node has a lease that says `value`. */
  private async holdLease(
    config: NetworkConfig,
    configText: string,
    { leases, malformed }: Pick<LeaseList, 'leases' | 'malformed'>,
    value: LeaseValue & { node: string },
  ): Promise<OwnLease> {
    const { store, logger, metrics } = this.options;
    const own = this.current?.own;
    if (own && this.claimedConfig === configText) {
      const listed = leases.find(({ ownerId }) => ownerId === own.ownerId);
      const due = this.options.monotonic() >= this.renewAtMs;
      if (listed && !due && store.holds(own, listed) && sameLeaseValue(listed, value)) return own;
      if (listed || malformed.some(({ ownerId }) => ownerId === own.ownerId)) {
        const result = await store.renewLease(own, value);
        if (result.outcome === 'renewed') {
          this.schedule(result.own, true);
          metrics.leaseRenewed();
          logger.info('lease renewed', leaseFields(result.own));
          return result.own;
        }
        const how =
          result.reason === 'gone'
            ? 'its key is no longer in etcd'
            : `it is taken by "${result.holder.node ?? formatAddresses(result.holder.publicAddresses)}"`;
        logger.warn(`lease lost: ${how}; claiming again`, { key: own.ownerId });
      } else {
        const there = new Set(leases.map(({ ownerId }) => ownerId));
        const missing = (this.current?.peers ?? []).filter(({ ownerId }) => !there.has(ownerId)).length;
        const nowMs = this.options.monotonic();
        if (this.claimAtMs === Number.POSITIVE_INFINITY)
          this.claimAtMs = nowMs + spreadMs(missing, this.options.random);
        if (nowMs < this.claimAtMs) return own;
        logger.warn('lease lost: its key is no longer in etcd; claiming again', { key: own.ownerId });
      }
      metrics.leaseLost();
    }
    this.claimAtMs = Number.POSITIVE_INFINITY;
    if (own && this.claimedConfig !== configText && this.staysWith(own, config, configText, leases, value)) {
      return this.holdLease(config, configText, { leases, malformed }, value);
    }
    const previous = own?.subnets ?? this.options.previous;
    const claim = await store.claimSubnet({ config, value, ...(previous ? { previous } : {}) });
    this.claimedConfig = configText;
    metrics.leaseClaimed(claim.how);
    this.schedule(claim.own, claim.how !== 'kept');
    if (claim.how !== 'kept' || own?.ownerId !== claim.own.ownerId) {
      logger.info(`lease ${claim.how === 'previous' ? 'claimed again' : claim.how}`, {
        ...leaseFields(claim.own),
        ...(claim.lostRaces > 0 ? { lostRaces: claim.lostRaces } : {}),
      });
    }
    this.supersede(claim.superseded);
    return claim.own;
  }

  /**
   * Whether our lease is good under another config as well. Then nothing need be asked of etcd for it; older leases are
   * looked through as if it had been claimed.
   */
  private staysWith(
    own: OwnLease,
    config: NetworkConfig,
    configText: string,
    leases: readonly Lease[],
    value: LeaseValue & { node: string },
  ): boolean {
    const isThere = leases.some((listed) => this.options.store.holds(own, listed));
    if (!isThere || !isCompatible(config, own.subnets)) return false;
    this.claimedConfig = configText;
    this.supersede(
      ownLeases(leases, { config, value, previous: own.subnets }).filter(
        (lease) => !isCompatible(config, lease.subnets),
      ),
    );
    return true;
  }

  private supersede(leases: readonly Lease[]): void {
    const before = new Map(this.superseded);
    this.superseded.clear();
    for (const lease of leases) {
      const renewAtMs = before.get(lease.ownerId)?.renewAtMs ?? Number.NEGATIVE_INFINITY;
      this.superseded.set(lease.ownerId, { lease, renewAtMs });
    }
  }

  /**
   * Leases of ours that the config no longer allows: each is kept alive, so that the peers route it, while something
   * has its addresses; then it is given back.
   */
  private async keepSuperseded(leases: readonly Lease[], value: LeaseValue): Promise<void> {
    const { store, logger, isInUse, monotonic } = this.options;
    for (const [key, entry] of this.superseded) {
      const lease = leases.find((listed) => listed.ownerId === key) ?? entry.lease;
      const subnet = formatSubnets(lease.subnets);
      if (!valuesOf(lease.subnets).some(isInUse)) {
        const released = await store.releaseLease(lease);
        this.superseded.delete(key);
        if (released) logger.info('an older lease that no longer fits the network config is given back', { subnet });
        continue;
      }
      if (entry.renewAtMs === Number.NEGATIVE_INFINITY) {
        logger.warn(
          'an older subnet of this node no longer fits the network config, but containers have its addresses; ' +
            'it is given back when they are gone',
          { subnet },
        );
      }
      if (monotonic() < entry.renewAtMs && sameLeaseValue(lease, value)) continue;
      const result = await store.renewLease({ ...lease, expiresAtMs: undefined }, value);
      if (result.outcome === 'renewed') entry.renewAtMs = this.renewalTime(result.own, true);
      else this.superseded.delete(key);
    }
  }

  private schedule(own: OwnLease, fresh: boolean): void {
    this.renewAtMs = this.renewalTime(own, fresh);
    const { now, monotonic } = this.options;
    this.promisedUntilMs =
      own.expiresAtMs === undefined ? Number.POSITIVE_INFINITY : monotonic() + own.expiresAtMs - now();
  }

  /**
   * When the lease is to be renewed, on the clock that does not go back.
   * @param fresh it has just got its whole life; renewing it at once would gain nothing
   */
  private renewalTime(own: OwnLease, fresh: boolean): number {
    if (own.expiresAtMs === undefined) return Number.POSITIVE_INFINITY;
    const lifeMs = own.expiresAtMs - this.options.now();
    // Sooner by chance: nodes that were started together must not renew together for ever.
    const wantedMs = this.options.renewMarginMs * (1 + this.options.random() / 2);
    const marginMs = fresh ? Math.min(wantedMs, lifeMs / 2) : wantedMs;
    return this.options.monotonic() + Math.max(lifeMs - marginMs, fresh ? renewalFloorMs : 0);
  }
}

const leaseFields = (own: OwnLease) => ({
  subnet: formatSubnets(own.subnets),
  ...(own.expiresAtMs === undefined ? { reservation: true } : { expires: new Date(own.expiresAtMs).toISOString() }),
});
