/** A membership in a cluster of variables. */

import type { Lease, LeaseValue, OwnLease } from '../../../../cluster/lease.ts';
import { LeaseSet } from '../../../../cluster/lease-set.ts';
import type {
  Acquired,
  ClusterStore,
  ConfigSource,
  Known,
  LeaseMemory,
  LeaseRequest,
  MalformedEntry,
  Updated,
} from '../../../../cluster/store.ts';
import { backends } from '../../../../daemon/backends/map.ts';
import { emptyState, type NodeState } from '../../../../daemon/host/files.ts';
import type { SubnetUse } from '../../../../daemon/host/former-subnets.ts';
import { RememberedState } from '../../../../daemon/host/remembered-state.ts';
import type { Proposal } from '../../../../daemon/membership/identity.ts';
import { Membership } from '../../../../daemon/membership/membership.ts';
import type { ClusterView, Identity } from '../../../../daemon/membership/view.ts';
import { openLogger } from '../../../../daemon/report/log.ts';
import { Metrics } from '../../../../daemon/report/metrics.ts';
import { Problems } from '../../../../daemon/report/problems.ts';
import { formatPrefix, type Prefix } from '../../../../net/prefix.ts';
import { address, mac, peer } from '../overlay/cluster-of.ts';
import { proposalOf } from './proposal.ts';

export const vxlanConfig = '{"Network":"10.1.0.0/16","Backend":{"Type":"vxlan"}}';
export const hourMs = 3_600_000;

const unused = (): never => {
  throw new Error('not asked for here');
};

/** An etcd of variables. What it was asked for is in `calls`. */
export class FakeCluster {
  config: string | undefined = vxlanConfig;
  leases: Lease[] = [peer(2)];
  malformed: MalformedEntry[] = [];
  calls: string[] = [];
  mark = '1';
  nowMs = 0;
  clockStepMs = 0;
  chance = 0;
  remembered: LeaseMemory | undefined;
  readonly written: LeaseMemory[] = [];
  lifeMs = 24 * hourMs;
  renew: Updated | undefined;
  superseded: Lease[] = [];
  identity: Identity = { publicAddresses: { 4: address('192.0.2.1') }, leaseData: { 4: { vni: 1, vtepMac: mac(1) } } };
  identityError: Error | undefined;
  use: SubnetUse = { by: 'nobody', gateways: [] };
  hostNetworks: Prefix[] = [];
  /** The nodes that live, and how often somebody asked. */
  living = new Set<string>();
  asked = 0;
  withdrawn = 0;
  /** What the store answers to who wants a lease, instead of one. */
  refusal: Exclude<Acquired, { state: 'have' }> | undefined;
  /** Of the last write: whether it was to go over another node's. */
  insisted = false;
  /** The last claim. */
  claimed: LeaseRequest | undefined;
  readonly lines: string[] = [];
  readonly problems: Problems;
  /** state.json. */
  state: NodeState = emptyState;
  readonly memory = new RememberedState(
    {
      readState: () => this.state,
      writeState: (state) => {
        this.state = state;
        return true;
      },
    },
    () => undefined,
  );
  readonly membership: Membership;

  constructor(remembered?: LeaseMemory) {
    this.remembered = remembered;
    const logger = openLogger({ level: 'info', format: 'text', write: (line) => this.lines.push(line), now: () => 0 });
    this.problems = new Problems(logger, () => 0);
    this.membership = new Membership({
      config: this.#source,
      store: this.#store(),
      logger,
      problems: this.problems,
      metrics: new Metrics({ version: '', runtime: '', monotonic: () => 0 }),
      node: 'h1',
      version: '1',
      backends,
      renewMarginMs: hourMs,
      previous: undefined,
      remembered: this.memory,
      now: () => this.nowMs + this.clockStepMs,
      monotonic: () => this.nowMs,
      random: () => this.chance,
      memory: { read: () => this.remembered, write: (memory) => void this.written.push(memory) },
      withdraw: () => void this.withdrawn++,
      formerSubnets: {
        use: () => this.use,
        remove: ({ prefix }) => void this.calls.push(`remove ${formatPrefix(prefix)}`),
      },
      hostNetworks: () => this.hostNetworks,
      identity: {
        propose: (config): Proposal => {
          if (this.identityError) throw this.identityError;
          return proposalOf(this.identity, config);
        },
        adopt: ({ identity }) => identity,
      },
    });
  }

  own(claim: Pick<LeaseRequest, 'value'>): OwnLease {
    return { ...peer(1), ...claim.value, expiresAtMs: this.nowMs + this.clockStepMs + this.lifeMs };
  }

  #put(own: OwnLease): void {
    this.leases = [...this.leases.filter(({ ownerId }) => ownerId !== own.ownerId), own];
  }

  readonly #source: ConfigSource = {
    kind: 'etcd',
    path: '/p/config',
    place: 'etcd key "/p/config"',
    read: async () => (this.config === undefined ? undefined : { text: this.config, version: '1' }),
    watch: unused,
  };

  #store(): ClusterStore {
    const renew = async (own: OwnLease, value: LeaseValue, insists = false): Promise<Updated> => {
      this.insisted = insists;
      this.calls.push(own.ownerId === '/p/subnets/10.1.1.0-24' ? 'renew' : `renew ${own.ownerId}`);
      if (this.renew) return this.renew;
      const renewed = { ...own, ...value, expiresAtMs: this.nowMs + this.clockStepMs + this.lifeMs };
      this.#put(renewed);
      return { state: 'held', own: renewed };
    };
    return {
      kind: 'etcd',
      place: '/p',
      scope: undefined,
      list: async ({ mark = this.mark, promised }: Known = {}) => ({
        leases: LeaseSet.of(this.leases),
        malformed: this.malformed,
        continuity:
          mark === this.mark &&
          (promised === undefined || [...this.leases, ...this.malformed].some(({ ownerId }) => ownerId === promised))
            ? 'same'
            : 'lost',
        mark: this.mark,
      }),
      acquire: async (request): Promise<Acquired> => {
        this.calls.push(request.previous ? 'claim again' : 'claim');
        this.claimed = request;
        if (this.refusal) return this.refusal;
        const own = this.own(request);
        this.#put(own);
        const how = request.previous ? 'previous' : 'new';
        return { state: 'have', own, how, lostRaces: 0, superseded: this.superseded };
      },
      holds: (own, listed) => own.ownerId === listed.ownerId,
      update: renew,
      keepAlive: renew,
      release: async (lease) => {
        this.calls.push(`release ${lease.ownerId}`);
        return true;
      },
      liveness: {
        living: async (nodes) => {
          this.asked++;
          return new Set(nodes.filter((node) => this.living.has(node)));
        },
        publish: async ({ node }) => {
          this.calls.push(`publish ${node}`);
          return {};
        },
        withdraw: unused,
        list: unused,
        count: unused,
      },
      watch: unused,
      health: unused,
      close: unused,
    };
  }
}

/** The owners of the view's peers. */
export const keysOf = (view: ClusterView | undefined): string[] => view!.peers.all.map(({ ownerId }) => ownerId).sort();
