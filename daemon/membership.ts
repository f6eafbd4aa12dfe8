/**
 * This node's part in the cluster: follows the network config, holds the node's subnet lease, knows the peers.
 *
 * Whatever etcd does or says, what was good last stays: an outage, a bad config or a lost lease never takes anything
 * from the data path by itself.
 */

import { formatSubnets, type Lease, type LeaseValue, type OwnLease, sameLeaseValue } from '../cluster/lease.ts';
import {
  backendName,
  ConfigError,
  families,
  type NetworkConfig,
  type PerFamily,
  parseNetworkConfig,
} from '../cluster/network-config.ts';
import type { ClusterStore, EtcdError, NoFreeSubnetError } from '../cluster/store.ts';
import { type Address, type Family, formatAddress, sameAddress } from '../net/address.ts';
import type { Mac } from '../net/mac.ts';
import { formatPrefix, type Prefix } from '../net/prefix.ts';
import type { OwnBackend } from './desired.ts';
import type { Logger } from './log.ts';
import type { Problems } from './problems.ts';

/** What the cluster agreed on, as far as this node is concerned. */
export interface ClusterView {
  readonly config: NetworkConfig;
  readonly backend: OwnBackend;
  readonly own: OwnLease;
  /** Everybody else's leases. */
  readonly peers: readonly Lease[];
}

/** What the lease says of this node. */
export interface Identity {
  readonly publicAddresses: PerFamily<Address>;
  /** MACs of the tunnel devices, for the families in use. */
  readonly macs: PerFamily<Mac>;
}

export interface MembershipOptions {
  readonly store: ClusterStore;
  readonly logger: Logger;
  readonly problems: Problems;
  readonly node: string;
  readonly version: string;
  /** How long before its expiry the lease is renewed. */
  readonly renewMarginMs: number;
  /** The subnets that this node had last, as far as its files tell. */
  readonly previous: PerFamily<Prefix> | undefined;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Whether an interface of this host, other than the tunnel's, has an address in the subnet. */
  readonly isInUse: (subnet: Prefix) => boolean;
  /** Who this node is under such a config. `leases` are those in etcd now. May throw an InterfaceError. */
  readonly identify: (config: NetworkConfig, leases: readonly Lease[]) => Identity;
}

/** The least time between two renewals. */
const renewalFloorMs = 1000;

export const formatAddresses = (addresses: PerFamily<Address>): string =>
  families
    .flatMap((family) => addresses[family] ?? [])
    .map(formatAddress)
    .join(' ');

/** Whether the lease is of the host with these public addresses: by the IPv4 one where both have it, as flannel does. */
export function isOfHost(lease: Lease, publicAddresses: PerFamily<Address>): boolean {
  for (const family of families) {
    const a = lease.publicAddresses[family];
    const b = publicAddresses[family];
    if (a && b) return sameAddress(a, b);
  }
  return false;
}

export const familiesInUse = (config: NetworkConfig): Family[] =>
  families.filter((family) => config.networks[family] !== undefined);

export class Membership {
  private readonly options: MembershipOptions;
  private current: ClusterView | undefined;
  private configText: string | undefined;
  /** The last good config, and the text that it was read from. */
  private config: { readonly text: string; readonly value: NetworkConfig; readonly backend: OwnBackend } | undefined;
  /** Keys of this host's leases that the config no longer allows. */
  private superseded: ReadonlySet<string> = new Set();
  /** The config's text when the lease was claimed last: another one may not allow the lease. */
  private claimedConfig: string | undefined;
  private renewAtMs = Number.POSITIVE_INFINITY;

  constructor(options: MembershipOptions) {
    this.options = options;
  }

  /** What was good last; undefined before the first time. */
  get view(): ClusterView | undefined {
    return this.current;
  }

  /** Until the lease has to be renewed; infinite where it need not be. */
  get renewalDelayMs(): number {
    return Math.max(0, this.renewAtMs - this.options.now());
  }

  /**
   * Brings this node's view of the cluster up to date, and the cluster's of this node: lists, claims or renews.
   * @returns the view, the one before where nothing better can be had, or undefined where there never was one
   * @throws EtcdError, NoFreeSubnetError, InterfaceError: try again later
   */
  async sync(): Promise<ClusterView | undefined> {
    const { store } = this.options;
    const [stored, list] = await Promise.all([store.readConfig(), store.listLeases()]);
    this.readConfig(stored?.text);
    this.options.problems.reportAll(
      'lease',
      new Map(
        list.malformed.map(({ key, reason }) => [key, `Cannot read lease "${key}", which is skipped: ${reason}`]),
      ),
    );
    if (!this.config) return this.current;
    const { value: config, backend, text } = this.config;
    const identity = this.options.identify(config, list.leases);
    const own = await this.holdLease(config, text, list.leases, this.leaseValue(config, backend, identity));
    // Other leases of this host are of its own past.
    const isOwn = (lease: Lease): boolean =>
      lease.key === own.key ||
      this.superseded.has(lease.key) ||
      (lease.node === this.options.node && isOfHost(lease, own.publicAddresses));
    const peers = list.leases.filter((lease) => !isOwn(lease));
    this.current = { config, backend, own, peers };
    return this.current;
  }

  private readConfig(text: string | undefined): void {
    const { problems, store, logger } = this.options;
    const kept = this.config ? '; the last good one stays in force' : '; waiting for a better one';
    if (text === undefined) {
      this.configText = undefined;
      const document = '{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}';
      problems.report(
        'network config',
        `No network config in etcd at "${store.prefix}/config"${this.config ? kept : `; write one: weftctl config set '${document}'`}`,
      );
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
    leases: readonly Lease[],
    value: LeaseValue & { node: string },
  ): Promise<OwnLease> {
    const { store, logger } = this.options;
    const own = this.current?.own;
    if (own && this.claimedConfig === configText) {
      const listed = leases.find(({ key }) => key === own.key);
      const due = this.options.now() >= this.renewAtMs;
      if (listed && !due && sameLeaseValue(listed, value)) return own;
      if (listed) {
        const result = await store.renewLease(own, value);
        if (result.outcome === 'renewed') {
          this.scheduleRenewal(result.own, true);
          logger.info('lease renewed', leaseFields(result.own));
          return result.own;
        }
        const holder = result.holder
          ? ` by "${result.holder.node ?? formatAddresses(result.holder.publicAddresses)}"`
          : '';
        logger.warn(`lease lost: it is ${result.reason}${holder}; claiming again`, { key: own.key });
      } else {
        logger.warn('lease lost: its key is no longer in etcd; claiming again', { key: own.key });
      }
    }
    const previous = own?.subnets ?? this.options.previous;
    const claim = await store.claimSubnet({ config, value, ...(previous ? { previous } : {}) });
    this.claimedConfig = configText;
    this.scheduleRenewal(claim.own, claim.how !== 'kept');
    if (claim.how !== 'kept' || own?.key !== claim.own.key) {
      logger.info(`lease ${claim.how === 'previous' ? 'claimed again' : claim.how}`, {
        ...leaseFields(claim.own),
        ...(claim.lostRaces > 0 ? { lostRaces: claim.lostRaces } : {}),
      });
    }
    this.superseded = new Set(claim.superseded.map(({ key }) => key));
    for (const lease of claim.superseded) await this.dropSuperseded(lease);
    return claim.own;
  }

  /** A lease of ours that the config no longer allows: kept, and routed by the peers, while something has its addresses. */
  private async dropSuperseded(lease: Lease): Promise<void> {
    const { store, logger } = this.options;
    const subnet = formatSubnets(lease.subnets);
    if (families.some((family) => lease.subnets[family] && this.options.isInUse(lease.subnets[family]))) {
      logger.warn('an older subnet of this node no longer fits the network config, but is in use', { subnet });
    } else if (await store.releaseLease(lease)) {
      logger.info('an older lease that no longer fits the network config is given back', { subnet });
    }
  }

  /** @param fresh it has just got its whole life; renewing it at once would gain nothing */
  private scheduleRenewal(own: OwnLease, fresh: boolean): void {
    const now = this.options.now();
    if (own.expiresAtMs === undefined) {
      this.renewAtMs = Number.POSITIVE_INFINITY;
      return;
    }
    const lifeMs = own.expiresAtMs - now;
    const marginMs = fresh ? Math.min(this.options.renewMarginMs, lifeMs / 2) : this.options.renewMarginMs;
    this.renewAtMs = Math.max(own.expiresAtMs - marginMs, fresh ? now + renewalFloorMs : now);
  }
}

const leaseFields = (own: OwnLease) => ({
  subnet: formatSubnets(own.subnets),
  ...(own.expiresAtMs === undefined ? { reservation: true } : { expires: new Date(own.expiresAtMs).toISOString() }),
});

/** Whether the error is of the kind that passes, or that somebody has to mend: both are tried again. */
export const isExpected = (error: unknown): error is EtcdError | NoFreeSubnetError =>
  error instanceof Error && ['EtcdError', 'NoFreeSubnetError', 'InterfaceError'].includes(error.name);
