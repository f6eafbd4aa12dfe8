import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Lease } from '../../../../cluster/lease.ts';
import { LeaseSet } from '../../../../cluster/lease-set.ts';
import { type NetworkConfig, parseNetworkConfig } from '../../../../cluster/network-config.ts';
import { backends } from '../../../../daemon/backends/map.ts';
import type { VxlanLeaseData } from '../../../../daemon/backends/vxlan.ts';
import { FilterFeatures } from '../../../../daemon/filter/features.ts';
import { FilterUpkeep } from '../../../../daemon/filter/upkeep.ts';
import { Ways } from '../../../../daemon/filter/ways.ts';
import { ExternalChoice } from '../../../../daemon/host/external-choice.ts';
import { emptyState, type NodeState } from '../../../../daemon/host/files.ts';
import type { HostState } from '../../../../daemon/host/host-state.ts';
import { RememberedState } from '../../../../daemon/host/remembered-state.ts';
import { IdentityKeeper } from '../../../../daemon/membership/identity.ts';
import type { ClusterView, Identity } from '../../../../daemon/membership/view.ts';
import { DataPath } from '../../../../daemon/overlay/data-path.ts';
import { Healing } from '../../../../daemon/overlay/healing.ts';
import type { Kernel, Outcome } from '../../../../daemon/overlay/kernel.ts';
import type { Operation } from '../../../../daemon/overlay/plan.ts';
import { openLogger } from '../../../../daemon/report/log.ts';
import { Metrics } from '../../../../daemon/report/metrics.ts';
import { Problems } from '../../../../daemon/report/problems.ts';
import { errno, SyscallError } from '../../../../linux/errors.ts';
import { formatAddress } from '../../../../net/address.ts';
import type { Mac } from '../../../../net/mac.ts';
import { formatPrefix } from '../../../../net/prefix.ts';
import { address, mac, peer, prefix } from './cluster-of.ts';

const test = suite('daemon/overlay/data-path');

/** Of a view: the peers as they are listed. */
type ViewChanges = Partial<Omit<ClusterView, 'peers'>> & { readonly peers?: readonly Lease[] };

const config: NetworkConfig = parseNetworkConfig('{"Network":"10.1.0.0/16","Backend":{"Type":"vxlan"}}', backends);
const hostGateway: NetworkConfig = parseNetworkConfig(
  '{"Network":"10.1.0.0/16","Backend":{"Type":"host-gw"}}',
  backends,
);

const macOf = ({ leaseData }: Identity): Mac | undefined => (leaseData[4] as VxlanLeaseData | undefined)?.vtepMac;

/** A host of variables with `eth0`; what is applied fails as told, and is recorded. */
class FakeHost {
  state: NodeState;
  /** Writing any file fails. */
  diskFull = false;
  external = address('192.0.2.1');
  gateways: string[] = [];
  /** The network of another interface. */
  connected: string | undefined;
  /** What is done to the packet filter throws. */
  noFilter = false;
  /** Nothing can be asked of the kernel. */
  broken = false;
  links: HostState['links'] = [];
  nowMs = 0;
  fail: (operation: Operation) => string | undefined = () => undefined;
  applied: Operation[] = [];
  /** How often the whole host was read. */
  looks = 0;
  written = 0;
  readonly lines: string[] = [];
  readonly problems: Problems;
  readonly dataPath: DataPath;
  readonly identity: IdentityKeeper;

  constructor(state: NodeState = emptyState) {
    this.state = state;
    const logger = openLogger({ level: 'info', format: 'text', write: (line) => this.lines.push(line), now: () => 0 });
    this.problems = new Problems(logger, () => 0);
    const written = (): true => {
      if (this.diskFull) throw new SyscallError('create "/x"', errno.ENOSPC);
      this.written++;
      return true;
    };
    const healing = new Healing({
      logger,
      metrics: new Metrics({ version: '', runtime: '', monotonic: () => 0 }),
      now: () => this.nowMs,
    });
    const filter = new FilterUpkeep({
      filter: {
        change: () => !this.noFilter,
        ensure: () => {
          if (this.noFilter) throw new SyscallError('change the packet filter', errno.EBUSY);
          return { changes: 0, mended: [], forward: [], againMs: Number.POSITIVE_INFINITY };
        },
        followed() {},
        counters: () => undefined,
        senders: () => [],
        stateJudges: () => ({ judges: [], againMs: Number.POSITIVE_INFINITY }),
        remove() {},
      },
      healing,
      problems: this.problems,
      ways: new Ways(() => []),
      parts: [],
      features: new FilterFeatures(),
      logger,
      now: () => this.nowMs,
      foreignChains: true,
    });
    const kernel = this.#kernel();
    const remembered = new RememberedState(
      {
        readState: () => this.state,
        writeState: (state: NodeState) => {
          written();
          this.state = state;
          return true;
        },
      },
      (error) => this.problems.report('state file', error?.message),
    );
    const choice = { names: [], patterns: [], canReach: undefined, publicAddresses: {} };
    const external = new ExternalChoice({ choice, peerLock: true, remembered, storeAddresses: () => [] });
    this.dataPath = new DataPath({
      backends,
      kernel,
      filter,
      healing,
      files: { writeNetwork: written },
      external,
      remembered,
      lifelines: () => [],
      logger,
      problems: this.problems,
      node: 'h1',
      ipMasq: false,
      now: () => this.nowMs,
      random: () => 0,
    });
    this.identity = new IdentityKeeper({
      node: 'h1',
      backends,
      external,
      remembered,
      readHost: () => kernel.readHost(),
      hostView: (host) => kernel.hostView(host),
      settledHost: () => this.dataPath.settledHost,
      randomMacBytes: () => new Uint8Array([2, 0, 0, 0, 0, 0xee]),
      monotonic: () => this.nowMs,
    });
  }

  identify(of: NetworkConfig, leases: readonly Lease[]): Identity {
    return this.identity.adopt(this.identity.propose(of, LeaseSet.of(leases)));
  }

  #kernel(): Kernel {
    const fake: Partial<Kernel> = {
      withLinks: (host) => host,
      readHost: (): HostState => {
        this.looks++;
        return {
          links: this.links,
          addresses: [],
          routes: [
            { family: 4, destination: prefix('192.0.2.0/24'), oif: 2, type: 1, protocol: 2 },
            ...(this.connected === undefined
              ? []
              : [{ family: 4, destination: prefix(this.connected), oif: 7, type: 1, protocol: 2 }]),
            ...this.gateways.map((text) => ({
              family: 4,
              destination: prefix(`10.1.${address(text).bytes[3]}.0/24`),
              gateway: address(text),
              oif: 2,
              type: 1,
              protocol: 3,
            })),
          ] as unknown as HostState['routes'],
        };
      },
      hostView: () => ({
        interfaces: [{ index: 2, name: 'eth0', up: true, loopback: false, mtuBytes: 1500, addresses: [this.external] }],
        defaultRoutes: () => [{ index: 2, source: undefined }],
        lookupRoute: () => undefined,
      }),
      readActual: () => ({ devices: [], addresses: [], neighbours: [], fdb: [], routes: [] }),
      apply: (operations): Outcome[] => {
        if (this.broken) throw new SyscallError('receive', errno.ENOBUFS);
        this.applied.push(...operations);
        return operations.map((operation) => {
          const message = this.fail(operation);
          return { operation, error: message === undefined ? undefined : new Error(message) };
        });
      },
      ensureSysctl: () => false,
      readSysctl: () => undefined,
    };
    return fake as Kernel;
  }

  view({ peers = [peer(2), peer(3)], ...changes }: ViewChanges = {}): ClusterView {
    const of = changes.config ?? config;
    const own = { ...peer(1), expiresAtMs: undefined };
    return {
      config: of,
      backend: of.backend as ClusterView['backend'],
      own,
      age: own,
      peers: LeaseSet.of(peers),
      formerSubnets: [],
      ...changes,
    };
  }
}

/** This host's, under the config of one family. */
const ownLease = (changes: Partial<Lease> = {}): Lease =>
  peer(1, { subnets: { 4: prefix('10.1.1.0/24') }, ...changes });

test('a full disk does not keep packets from their way', () => {
  const host = new FakeHost();
  host.diskFull = true;
  assert.equal(macOf(host.identify(config, [ownLease()])), mac(1));
  const result = host.dataPath.reconcile(host.view());
  assert.ok(host.applied.some(({ kind }) => kind === 'set-route'));
  assert.is(result.complete, false, 'no container can be started');
  assert.equal(host.problems.list(), ['Cannot create "/x": ENOSPC', 'Cannot create "/x": ENOSPC']);
  host.diskFull = false;
  assert.is(host.dataPath.reconcile(host.view()).complete, true);
  assert.equal(host.problems.list(), []);
});

test('a device that cannot be had is one problem, and is tried alone when it is due', () => {
  const host = new FakeHost();
  host.fail = (operation) =>
    operation.kind === 'remove-route' ? undefined : 'Cannot add VXLAN device "flannel.1": EX';
  assert.is(host.dataPath.reconcile(host.view()).complete, false);
  const { length } = host.applied;
  host.dataPath.reconcile(host.view());
  assert.is(host.applied.length, length, 'nothing is due');
  assert.equal(host.problems.list(), ['Cannot add VXLAN device "flannel.1": EX']);
  host.fail = () => undefined;
  host.nowMs = 600;
  assert.is(host.dataPath.reconcile(host.view()).complete, true);
});

test('what has failed is tried again at once when the host has another link', () => {
  const host = new FakeHost();
  host.fail = () => 'ENETDOWN';
  host.dataPath.reconcile(host.view());
  const { length } = host.applied;
  host.dataPath.reconcile(host.view());
  assert.is(host.applied.length, length, 'nothing is due');
  host.links = [{ index: 9, name: 'wg0', flags: 0, mtuBytes: 1420 }] as unknown as HostState['links'];
  host.fail = () => undefined;
  assert.is(host.dataPath.reconcile(host.view()).complete, true);
  assert.ok(host.applied.length > length);
});

test('a thousand entries that fail for one reason are one problem', () => {
  const host = new FakeHost();
  host.fail = ({ kind }) =>
    kind === 'set-route' ? 'Cannot set entries of "flannel.1": the device is gone' : undefined;
  host.dataPath.reconcile(host.view({ peers: [2, 3, 4, 5].map((n) => peer(n)) }));
  assert.is(host.problems.list().length, 1);
});

test('a MAC that another host has is not ours, whatever an image remembers', () => {
  const host = new FakeHost({ ...emptyState, devices: new Map([['flannel.1', mac(2)]]) });
  assert.equal(macOf(host.identify(config, [peer(2)])), mac(0xee));
  // Our own lease of before an address change has it by right.
  assert.equal(macOf(host.identify(config, [peer(0xee, { node: 'h1' })])), mac(0xee));
});

test('a MAC that was told stands, whatever somebody writes into the lease', () => {
  const host = new FakeHost();
  assert.equal(macOf(host.identify(config, [ownLease()])), mac(1));
  const overwritten = ownLease({ backendData: { 4: { vni: 1, vtepMac: mac(77) } } });
  assert.equal(macOf(host.identify(config, [overwritten])), mac(1));
  // A start goes by the lease: the peers do.
  assert.equal(macOf(new FakeHost().identify(config, [overwritten])), mac(77));
});

test('peers of flannel’s plain routes are remembered for as long as such a route leads through them', () => {
  const host = new FakeHost();
  const remembered = (): string[] => host.state.gateways.map(formatAddress);
  host.identify(hostGateway, []);
  assert.equal(host.state.networks, [prefix('10.1.0.0/16')], 'removal goes by it');
  host.gateways = ['192.0.2.2', '192.0.2.3', '192.0.2.77'];
  host.dataPath.reconcile(
    host.view({ config: hostGateway, peers: [2, 3].map((n) => peer(n, { backendType: 'host-gw' })) }),
  );
  assert.equal(remembered(), ['192.0.2.2', '192.0.2.3']);
  host.dataPath.reconcile(host.view({ config: hostGateway, peers: [] }));
  assert.equal(remembered(), ['192.0.2.2', '192.0.2.3'], 'the routes are still there to be removed');
  host.gateways = [];
  host.dataPath.reconcile(host.view({ config: hostGateway, peers: [] }));
  assert.equal(remembered(), []);
});

test('tells when the host has another address', () => {
  const host = new FakeHost();
  assert.is(host.dataPath.reconcile(host.view()).addressChanged, false);
  host.external = address('192.0.2.77');
  const result = host.dataPath.reconcile(host.view());
  assert.ok(result.addressChanged && result.identityChanged);
  assert.is(host.dataPath.reconcile(host.view()).addressChanged, false);
});

test('a new peer is followed without a look at the rest, unless the host has changed', () => {
  const host = new FakeHost();
  const { dataPath } = host;
  const before = host.view();
  assert.is(dataPath.follow(before), undefined, 'nothing is known yet');
  dataPath.reconcile(before);
  assert.is(dataPath.follow(before), undefined, "the kernel's changes are not heard of");
  dataPath.noteHearing(true);
  dataPath.reconcile(before);
  const looks = host.looks;
  host.applied = [];
  const after = host.view({ peers: [...before.peers.all, peer(4)] });
  assert.is(dataPath.follow(after)?.changes, 3);
  assert.equal(
    host.applied.map(({ kind }) => kind),
    ['set-neighbour', 'set-fdb', 'set-route'],
  );
  assert.is(dataPath.follow(after)?.changes, 0);
  assert.is(macOf(host.identify(config, [ownLease()]))?.[5], 1);
  assert.is(macOf(host.identify(config, [ownLease()]))?.[5], 1);
  assert.is(host.looks, looks);
  assert.is(dataPath.state?.peers.length, 3);
  assert.equal(dataPath.state?.peerCounts, { total: 3, programmed: 3, withProblem: 0 });
  dataPath.disturb();
  assert.is(dataPath.follow(before), undefined);
  host.identify(config, [ownLease()]);
  assert.is(host.looks, looks + 1);
  dataPath.reconcile(before);
  assert.is(dataPath.follow(host.view({ config: hostGateway })), undefined, 'another configuration');
});

test('a step that fails while a change is followed is tried again by a look at everything', () => {
  const host = new FakeHost();
  const { dataPath } = host;
  dataPath.noteHearing(true);
  dataPath.reconcile(host.view());
  host.fail = ({ kind }) => (kind === 'set-route' ? 'no' : undefined);
  const after = host.view({ peers: [peer(2), peer(3), peer(4)] });
  const result = dataPath.follow(after);
  assert.is(result?.changes, 2);
  assert.is(result?.retryDelayMs, 500);
  assert.is(dataPath.state?.peers.find(({ lease }) => lease.node === 'h4')?.problem, 'no');
  assert.equal(dataPath.state?.peerCounts, { total: 3, programmed: 2, withProblem: 1 });
  assert.is(dataPath.follow(host.view()), undefined);
});

test('a new peer whose subnet is the network of another interface is left to a look at everything', () => {
  const host = new FakeHost();
  const { dataPath } = host;
  dataPath.noteHearing(true);
  host.connected = '10.1.4.0/24';
  dataPath.reconcile(host.view());
  host.applied = [];
  const after = host.view({ peers: [peer(2), peer(3), peer(4)] });
  assert.is(dataPath.follow(after), undefined);
  assert.equal(host.applied, []);
  dataPath.reconcile(after);
  const routes = host.applied.flatMap((step) =>
    step.kind === 'set-route' ? [formatPrefix(step.route.destination)] : [],
  );
  assert.not(routes.includes('10.1.4.0/24'));
  const fourth = () => dataPath.state?.peers.find(({ lease }) => lease.node === 'h4');
  assert.match(fourth()?.problem ?? '', /is the network of an interface of this host/);
  // Nor is anything followed from there: what is left out is known to a look at everything alone.
  assert.is(dataPath.follow(host.view({ peers: [peer(2), peer(3), peer(4), peer(5)] })), undefined);
});

test('a packet filter that cannot be changed is looked at again soon, whoever has met it', () => {
  const host = new FakeHost();
  const { dataPath } = host;
  dataPath.noteHearing(true);
  assert.is(dataPath.reconcile(host.view()).rulesAgainMs, Number.POSITIVE_INFINITY);
  host.noFilter = true;
  assert.is(dataPath.follow(host.view({ peers: [peer(2), peer(3), peer(4)] }))?.rulesAgainMs, 1000);
  assert.is(dataPath.reconcile(host.view()).rulesAgainMs, 1000);
});

test('what should be is derived again when the host, the peers or our lease differ', () => {
  const host = new FakeHost();
  host.dataPath.noteHearing(true);
  const routes = (view = first): string[] => {
    host.applied.length = 0;
    host.dataPath.reconcile(view);
    return host.applied.flatMap((operation) =>
      operation.kind === 'set-route' ? [formatPrefix(operation.route.destination)] : [],
    );
  };
  const first = host.view({ peers: [peer(2), peer(3)] });
  assert.equal(routes(), ['10.1.2.0/24', '10.1.3.0/24']);
  assert.equal(routes(), ['10.1.2.0/24', '10.1.3.0/24']);
  // Another interface has a part of a peer's subnet.
  host.connected = '10.1.2.128/25';
  assert.equal(routes(), ['10.1.3.0/24']);
  host.connected = undefined;
  assert.equal(routes(), ['10.1.2.0/24', '10.1.3.0/24']);
  const own = { ...first.own, subnets: { 4: prefix('10.1.3.0/24') } };
  assert.equal(routes({ ...first, own }), ['10.1.2.0/24']);
  assert.equal(routes({ ...first, peers: LeaseSet.of([peer(4)]) }), ['10.1.4.0/24']);
  const followed = host.view({ peers: [peer(2)] });
  routes(first);
  host.dataPath.follow({ ...first, peers: followed.peers });
  assert.equal(routes({ ...first, peers: followed.peers }), ['10.1.2.0/24']);
});

test('after a comparison that ended halfway, nothing is followed', () => {
  const host = new FakeHost();
  const { dataPath } = host;
  dataPath.noteHearing(true);
  dataPath.reconcile(host.view());
  host.broken = true;
  assert.throws(() => dataPath.reconcile(host.view()));
  host.broken = false;
  assert.is(dataPath.follow(host.view({ peers: [peer(2), peer(3), peer(4)] })), undefined);
});

test.run();
