/**
 * This node's part in the cluster: follows the network config, holds the node's subnet lease, knows the peers.
 *
 * The last good view stays, whatever the store does or says. An outage, a bad config or a lost lease never takes anything
 * from the data path by itself.
 */

import type { BackendFormats } from '../../cluster/backend-format.ts';
import { excerpt } from '../../cluster/excerpt.ts';
import { formatSubnets, type Lease, type LeaseValue, type OwnLease } from '../../cluster/lease.ts';
import { LeaseSet } from '../../cluster/lease-set.ts';
import type { PerFamily } from '../../cluster/network-config.ts';
import type { ClusterStore, ConfigSource, Known, LeaseList, LeaseMemory, MalformedEntry } from '../../cluster/store.ts';
import type { Prefix } from '../../net/prefix.ts';
import type { NodeState } from '../host/files.ts';
import type { FormerSubnets } from '../host/former-subnets.ts';
import type { RememberedState } from '../host/remembered-state.ts';
import type { Logger } from '../report/log.ts';
import type { Metrics } from '../report/metrics.ts';
import type { Problems } from '../report/problems.ts';
import { ConfigFollower, type GoodConfig } from './config-follower.ts';
import { Disputes } from './disputes.ts';
import { FormerLeases } from './former-leases.ts';
import type { IdentityKeeper } from './identity.ts';
import { LostLeases, type PeersBefore } from './lost-leases.ts';
import { type MembershipMemory, MemoryKeeper } from './memory.ts';
import { type Held, NoLeaseError, OwnLeaseHolder, type OwnValue } from './own-lease.ts';
import type { RenewalClock } from './renewal-time.ts';
import { SharedAddress } from './shared-address.ts';
import { holderOf } from './taken-subnet.ts';
import { type ClusterView, formatHolder, type Identity, isOfHost } from './view.ts';

export interface MembershipOptions extends RenewalClock {
  readonly config: ConfigSource;
  readonly store: ClusterStore;
  /** Those that weftd runs. */
  readonly backends: BackendFormats;
  readonly logger: Logger;
  readonly problems: Problems;
  readonly metrics: Pick<Metrics, 'leaseClaimed' | 'leaseRenewed' | 'leaseLost'>;
  readonly node: string;
  readonly version: string;
  /** The subnets that this node had last, as far as its files tell. */
  readonly previous: PerFamily<Prefix> | undefined;
  /** All subnets that this node has leases of, the current ones first: from its memory, and to be remembered. */
  readonly remembered: Pick<RememberedState, 'current' | 'setSubnets'>;
  /** The part of its knowledge of the cluster that outlives weftd. */
  readonly memory?: MembershipMemory;
  /** Takes this node's subnets back from the plugins. */
  readonly withdraw: () => void;
  /** The subnets of the past on this host. */
  readonly formerSubnets: FormerSubnets;
  /** How often they are looked at. */
  readonly lookEveryMs?: number | undefined;
  /** The networks that this host is connected to, without those of the cluster's tunnels. */
  readonly hostNetworks: () => readonly Prefix[];
  readonly identity: Pick<IdentityKeeper, 'propose' | 'adopt'>;
}

export class Membership {
  readonly #options: Pick<
    MembershipOptions,
    'store' | 'problems' | 'withdraw' | 'node' | 'version' | 'identity' | 'remembered' | 'now' | 'monotonic'
  >;
  readonly #config: ConfigFollower;
  readonly #holder: OwnLeaseHolder;
  readonly #former: FormerLeases;
  readonly #lost: LostLeases;
  readonly #shared: SharedAddress;
  readonly #memory: MemoryKeeper | undefined;
  #view: ClusterView | undefined;
  /** The list that the view is made from. */
  #listed: Pick<LeaseList, 'leases' | 'malformed'> | undefined;
  /** The unreadable entries that were reported last. */
  #reported: readonly MalformedEntry[] = [];
  /** That of the list that the view is made from. */
  #mark: unknown;
  /** The last weftd's knowledge, until the first view. */
  #remembered: LeaseMemory | undefined;

  constructor(options: MembershipOptions) {
    const { config, store, logger, problems, metrics, previous, remembered, memory, formerSubnets, hostNetworks } =
      options;
    const { backends, renewMarginMs, now, monotonic, random } = options;
    const clock = { renewMarginMs, now, monotonic, random };
    this.#options = options;
    this.#config = new ConfigFollower({ source: config, backends, logger, problems, monotonic, random });
    const former = (): NodeState['subnets'] => remembered.current.subnets;
    const onTaken = (takenBy: Lease): void => this.#withdraw(takenBy);
    const holderOptions = { store, logger, problems, metrics, previous, former, hostNetworks, clock, onTaken };
    this.#holder = new OwnLeaseHolder(holderOptions);
    this.#former = new FormerLeases({ store, logger, host: formerSubnets, lookEveryMs: options.lookEveryMs, clock });
    this.#lost = new LostLeases({ kind: store.kind, problems, now, monotonic });
    this.#shared = new SharedAddress({ node: options.node, liveness: store.liveness, problems, monotonic });
    this.#memory = memory && new MemoryKeeper({ memory, now, monotonic });
    this.#remembered = memory?.read();
  }

  /** The last good view; undefined before the first. */
  get view(): ClusterView | undefined {
    return this.#view;
  }

  /** The time until the memory must be written; infinite if nothing has changed. */
  get memoryDelayMs(): number {
    return this.#delayMs(this.#memory?.dueMs ?? Number.POSITIVE_INFINITY);
  }

  /** The time until work on the own lease, the config, former or lost leases is due; infinite if none is. */
  get renewalDelayMs(): number {
    const parts = [this.#holder, this.#config, this.#former, this.#lost, this.#shared];
    return this.#delayMs(Math.min(...parts.map(({ dueMs }) => dueMs)));
  }

  #delayMs(dueMs: number): number {
    return Math.max(0, dueMs - this.#options.monotonic());
  }

  /**
   * Updates this node's view of the cluster, and the cluster's view of this node: lists, claims or renews.
   * @returns the view, the one before where nothing better can be had, or undefined where there never was one
   * @throws StoreError, NoLeaseError, InterfaceError: try again later
   */
  async sync(): Promise<ClusterView | undefined> {
    const { store, identity } = this.#options;
    // One after the other, so that a common failure always gives the same problem.
    const list = await store.list(this.#known());
    const config = await this.#config.follow(list.leases.size, this.#view === undefined);
    this.#reportMalformed(list.malformed);
    if (!config) return this.#view;
    const proposal = identity.propose(config.value, list.leases, {
      ...this.#holder.remembered,
      held: this.#holder.own,
    });
    const value = this.#leaseValue(config, identity.adopt(proposal));
    const { own, superseded } = await this.#hold(config, list, value);
    // Another lease than before may be a new one in the place of one that was lost.
    if (superseded) this.#former.set(superseded, this.#options.remembered.current.subnets, own.subnets);
    this.#rememberSubnets(own);
    this.#makeView(config, list, own);
    await this.#keepFormer(list, own, value);
    await this.#shared.look(list.leases, own);
    return this.#view;
  }

  /** The plugins must not give out addresses of another node's subnet, not even until there is a new one. */
  #withdraw(takenBy: Lease): void {
    if (this.#view) this.#view = { ...this.#view, takenBy };
    this.#options.withdraw();
  }

  async #keepFormer({ leases }: LeaseList, own: OwnLease, value: LeaseValue): Promise<void> {
    const before = this.#former.subnets;
    await this.#former.keep(leases, value);
    this.#rememberSubnets(own);
    const formerSubnets = this.#former.subnets;
    if (this.#view && formerSubnets.length !== before.length) this.#view = { ...this.#view, formerSubnets };
  }

  /** The plugins lose a subnet that the store says is another's. @throws StoreError, NoLeaseError */
  async #hold(config: GoodConfig, list: LeaseList, value: OwnValue): Promise<Held> {
    const { problems } = this.#options;
    try {
      const held = await this.#holder.hold(config, list, value, this.#view?.peers);
      problems.report('lost subnet', undefined);
      return held;
    } catch (error) {
      const { own, lost, remembered } = this.#holder;
      const subnets = remembered.previous;
      if (!subnets || (own && !lost)) throw error;
      const unheld = { subnets, lost, isRefused: error instanceof NoLeaseError, config: config.value, value };
      const takenBy = holderOf(list.leases.all, unheld);
      if (!takenBy) throw error;
      this.#withdraw(takenBy);
      problems.report(
        'lost subnet',
        `This node's subnet ${formatSubnets(subnets)} is now that of ${formatHolder(takenBy)}: other hosts do not reach the containers that have its addresses, and no container starts here before weftd has another subnet`,
      );
      throw error;
    }
  }

  #makeView(config: GoodConfig, list: LeaseList, own: OwnLease): void {
    const { node } = this.#options;
    const followed = this.#followChanges(list, own);
    this.#listed = list;
    this.#mark = list.mark;
    if (followed && this.#view) {
      this.#view = { ...this.#view, config: config.value, backend: config.backend, peers: followed };
      this.remember();
      return;
    }
    // Other leases of this host are of its own past.
    const isOwn = (lease: Lease): boolean =>
      lease.ownerId === own.ownerId ||
      this.#former.has(lease.ownerId) ||
      (lease.node === node && isOfHost(lease, own.publicAddresses));
    const peers = this.#lost.complete(config.value, list, own, this.#before()).filter((lease) => !isOwn(lease));
    const { value: parsed, backend } = config;
    const listed = list.leases.byOwner(own.ownerId);
    // A stranger who has put himself into the key has another age than ours.
    const { ownerId, seniority } = listed?.node === node ? listed : own;
    this.#view = {
      config: parsed,
      backend,
      own,
      age: { ownerId, seniority },
      peers: LeaseSet.of(peers),
      formerSubnets: this.#former.subnets,
    };
    this.#remembered = undefined;
    this.remember();
  }

  /** The next start knows its older leases by this alone. */
  #rememberSubnets(own: OwnLease): void {
    this.#options.remembered.setSubnets([own.subnets, ...this.#former.remembered]);
  }

  /** Writes the memory if it is time. @param now even if it was just written */
  remember(now = false): void {
    if (!this.#view) return;
    const { own, peers } = this.#view;
    const promisedUntilMs = (ownerId: string): number | undefined => this.#lost.promisedUntilMs(ownerId);
    this.#memory?.keep({ mark: this.#mark, own, peers, promisedUntilMs }, now);
  }

  /** The earlier knowledge for the store: ours, or the last weftd's. */
  #known(): Known {
    const remembered = this.#remembered;
    const { own, isPromised } = this.#holder;
    const isRemembered = remembered && this.#options.now() < remembered.ownUntilMs;
    const promised = own ? (isPromised ? own.ownerId : undefined) : isRemembered ? remembered.own : undefined;
    return { mark: this.#mark ?? remembered?.mark, ...(promised === undefined ? {} : { promised }) };
  }

  #before(): PeersBefore {
    if (this.#view) return { leases: this.#view.peers.all };
    const remembered = this.#remembered;
    return {
      // Read on demand: few starts need them.
      get leases() {
        return (remembered?.peers ?? []).map(({ lease }) => lease);
      },
      promises: () => new Map((remembered?.peers ?? []).map(({ lease, untilMs }) => [lease.ownerId, untilMs])),
    };
  }

  #reportMalformed(malformed: readonly MalformedEntry[]): void {
    if (malformed === this.#reported) return;
    this.#reported = malformed;
    const problem = ({ ownerId, reason }: MalformedEntry): string =>
      `Cannot read lease "${excerpt(ownerId)}", which is skipped: ${reason}`;
    this.#options.problems.reportAll('lease', new Map(malformed.map((entry) => [entry.ownerId, problem(entry)])));
  }

  /** The peers, by what has changed alone. Undefined where more has to be looked at. */
  #followChanges({ leases, malformed, continuity }: LeaseList, own: OwnLease): LeaseSet | undefined {
    const before = this.#view;
    const listed = this.#listed;
    if (!before || !listed || own !== before.own || continuity === 'lost') return undefined;
    // Those that cannot be read stay as they were known before, unless one of them has changed.
    const isSame = malformed === listed.malformed || malformed.length + listed.malformed.length === 0;
    if (!isSame || !this.#lost.isEmpty || this.#former.size > 0 || leases.size === 0) return undefined;
    const changes = leases.changesSince(listed.leases);
    const isPlain = (lease: Lease | undefined): boolean =>
      !lease || (lease.node !== this.#options.node && lease.ownerId !== own.ownerId);
    // A node of Weft's whose lease has vanished may be about to claim it again.
    const isSimple = changes?.every(
      ([was, is]) => isPlain(was) && isPlain(is) && (was === undefined || Disputes.mayFollow(was, is)),
    );
    return isSimple ? before.peers.with(changes!) : undefined;
  }

  #leaseValue({ backend }: GoodConfig, identity: Identity): OwnValue {
    const { node, version } = this.#options;
    const { publicAddresses, leaseData } = identity;
    return { publicAddresses, backendType: backend.type, backendData: leaseData, node, version };
  }
}
