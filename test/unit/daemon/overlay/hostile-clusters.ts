/** Random leases, honest and hostile, from etcd's text to the kernel: the hostile ones never harm the host or an honest peer. */

import * as assert from 'uvu/assert';
import { keysBelow } from '../../../../cluster/etcd/keys.ts';
import { LeaseReader } from '../../../../cluster/etcd/lease-reader.ts';
import type { Entry } from '../../../../cluster/etcd/snapshot.ts';
import { formatLeaseValue, type Lease } from '../../../../cluster/lease.ts';
import { isCompatible, parseNetworkConfig } from '../../../../cluster/network-config.ts';
import { currentLease, heldSubnets, supersededLeases } from '../../../../cluster/subnet-choice.ts';
import { formatRoute } from '../../../../daemon/backends/entries.ts';
import { backends } from '../../../../daemon/backends/map.ts';
import type { HostState } from '../../../../daemon/host/host-state.ts';
import { surroundingsOf } from '../../../../daemon/host/surroundings.ts';
import { deriveDesired, type Overlay, type PeerOutcome } from '../../../../daemon/overlay/desired.ts';
import { flannelGateways } from '../../../../daemon/overlay/flannel-routes.ts';
import { plan } from '../../../../daemon/overlay/plan.ts';
import { findShadows, withoutTaken } from '../../../../daemon/overlay/shadows.ts';
import { formatAddress } from '../../../../net/address.ts';
import { formatPrefix, networkOf, prefixContains, prefixesOverlap, samePrefix } from '../../../../net/prefix.ts';
import { randomStream } from '../../../support/random.ts';
import { address, dualStack, mac, type OwnBackend, overlay, peer, prefix, vxlan } from './cluster-of.ts';
import { SimulatedKernel } from './simulated-kernel.ts';

const keys = keysBelow('/p');
const honest = [2, 3, 4, 5];
const etcd = address('10.1.50.7');
const resolver = address('fd00:0:0:50::53');
const gateway = address('192.0.2.254');
const connected = ['192.0.2.0/24', '10.1.200.0/24', '10.1.208.0/21', '172.17.0.0/16', 'fd00:0:0:200::/64'].map(prefix);

/** An administrator's, inside the network: through the LAN's gateway, an honest peer, and an address that leases name. */
const administrators = [
  { destination: prefix('10.1.220.0/23'), gateway },
  { destination: prefix('10.1.222.0/25'), gateway: address('192.0.2.2') },
  { destination: prefix('10.1.224.0/22'), gateway: address('192.0.2.66') },
  { destination: prefix('10.1.222.128/26'), gateway: address('192.0.2.67') },
].map((route) => ({ ...route, device: 'eth0', onlink: false, protocol: 3, metric: 0 }));

const links = ['lo', 'eth0', 'docker0'].map((name, i) => ({ index: i + 1, name }));
const hostState = {
  links,
  addresses: [{ index: 2, prefix: prefix('192.0.2.1/24') }],
  routes: [
    { family: 4, destination: prefix('0.0.0.0/0'), gateway, oif: 2, type: 1, protocol: 3 },
    ...connected.map((destination, i) => ({
      family: destination.address.family,
      destination,
      oif: i === 0 ? 2 : 3,
      type: 1,
      protocol: 2,
      scope: 253,
      table: 254,
      flags: 0,
      onlink: false,
      ...(destination.address.family === 6 ? { metric: 256 } : {}),
    })),
    ...administrators.map((route) => ({ ...route, family: 4, oif: 2, type: 1, scope: 0, table: 254, flags: 0 })),
  ],
} as unknown as HostState;
const surroundings = surroundingsOf(hostState, [
  { address: etcd, what: 'etcd' },
  { address: resolver, what: 'a name server' },
]);

const kernelOf = (): SimulatedKernel =>
  new SimulatedKernel({
    devices: ['eth0', 'docker0'].map((name, i) => ({
      name,
      index: i + 2,
      kind: undefined,
      up: true,
      mac: mac(250 + i),
      mtuBytes: 1500,
    })),
    routes: [
      ...connected.map((destination, i) => ({
        destination,
        device: i === 0 ? 'eth0' : 'docker0',
        onlink: false,
        protocol: 2,
        metric: destination.address.family === 4 ? 0 : 256,
      })),
      ...administrators,
    ],
  });

class Adversary {
  readonly #random: () => number;

  constructor(random: () => number) {
    this.#random = random;
  }

  below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)]!;
  }

  #anyPrefix(family: 4 | 6): string {
    const bytes = Uint8Array.from({ length: family === 4 ? 4 : 16 }, () => this.below(256));
    const inside = family === 4 ? [10, 1] : [0xfd, 0, 0, 0, 0, 0];
    if (this.below(3) > 0) bytes.set(inside);
    const length = this.below(bytes.length * 8 + 1);
    const whole = { address: { family, bytes }, length };
    return formatPrefix(this.below(9) === 0 ? whole : networkOf(whole)).replace('/', '-');
  }

  key(): string {
    // Nearly as an honest node would.
    const n = 2 * this.below(100);
    if (this.below(3) === 0) return `/p/subnets/10.1.${n}.0-${23 + this.below(4)}&fd00:0:0:${n}::-64`;
    const v4 = this.pick([
      ...['8.8.8.0-24', '10.96.0.0-12', '10.1.0.0-16', '0.0.0.0-0', '0.0.0.0-1', '128.0.0.0-1', '192.0.2.0-24'],
      ...['10.1.50.7-32', '10.1.50.0-24', '10.1.200.0-24', '10.1.200.128-25', '10.1.192.0-18', '10.1.210.0-24'],
      ...[
        '10.1.220.0-23',
        '10.1.2.0-24',
        '10.1.2.128-25',
        '10.1.2.0-23',
        '10.1.1.0-24',
        '10.1.1.4-30',
        '10.1.0.0-17',
        '010.1.2.0-24',
      ],
      ...['169.254.169.254-32', '224.0.0.0-4', '172.17.0.0-16', '192.0.2.254-32', '10.1.2.1-24', 'x', ''],
      ...[`10.1.${100 + this.below(100)}.0-24`, this.#anyPrefix(4), this.#anyPrefix(4), this.#anyPrefix(4)],
    ]);
    const v6 = this.pick([
      ...['2000::-3', '::-0', 'fd00::-48', 'fd00:0:0:2::-64', 'fd00:0:0:2::-65', 'fd00:0:0:200::-64', 'fe80::-10'],
      ...['fd00:0:0:50::-64', 'FD00:0:0:2::-64', 'fd00::2:0:0:0:0-64', this.#anyPrefix(6), this.#anyPrefix(6)],
    ]);
    return `/p/subnets/${this.below(2) === 0 ? v4 : `${v4}&${v6}`}`;
  }

  /** Mostly a good value, so that the rest of the lease counts. */
  #mostly<T>(good: T, others: readonly T[]): T {
    return this.below(4) > 0 ? good : this.pick(others);
  }

  value(type: string): string {
    const odd = [null, 0, '', 'x', [], {}, '['.repeat(1000), { a: { a: {} } }];
    const mac = (): unknown => {
      const good = `02:00:00:00:00:${91 + this.below(9)}`;
      const taken = ['02:00:00:00:00:02', '02:00:00:00:00:01'];
      return this.#mostly<unknown>(good, [...taken, '00:00:00:00:00:00', 'ff:ff:ff:ff:ff:ff', this.pick(odd)]);
    };
    const data = () => this.#mostly<unknown>({ VNI: 1, VtepMAC: mac() }, odd);
    const v4s = ['192.0.2.1', '192.0.2.2', '127.0.0.1', '224.0.0.1', '255.255.255.255', '0.0.0.0', '192.0.2.254'];
    const v6s = ['2001:db8::1', '2001:db8::2', '::1', 'ff02::1', 'fe80::1', '::', '::ffff:192.0.2.66', null];
    const text = JSON.stringify({
      PublicIP: this.#mostly<unknown>(`192.0.2.${60 + this.below(20)}`, [...v4s, '10.1.2.9', this.pick(odd)]),
      PublicIPv6: this.#mostly<unknown>(`2001:db8::${60 + this.below(20)}`, [...v6s, this.pick(odd)]),
      BackendType: this.#mostly<unknown>(type, ['vxlan', 'wireguard', this.pick(odd)]),
      BackendData: data(),
      BackendV6Data: data(),
      ...(this.below(4) === 0 ? { Weft: { node: this.pick(['h1', 'h2', 'x']) } } : {}),
    });
    return this.below(12) === 0 ? this.pick([text.slice(0, -3), '', 'null', '[]']) : text;
  }
}

const ways: readonly OwnBackend[] = [vxlan, { ...vxlan, directRouting: true }, { type: 'host-gw' }, { type: 'gre' }];

const configs = [
  '{"Network":"10.1.0.0/16"}',
  '{"EnableIPv6":true,"Network":"10.1.0.0/16","IPv6Network":"fd00::/48"}',
].map((text) => parseNetworkConfig(text, backends));

/** What a starting node without a memory takes for its own, and for taken. */
function checkClaims(leases: readonly Lease[], about: string): void {
  const value = { publicAddresses: peer(1).publicAddresses, node: 'h1' };
  const honestLeases = leases.filter(({ ownerId }) => isHonest(ownerId));
  for (const config of configs) {
    const claimant = { config, value };
    assert.equal(supersededLeases(leases, claimant), [], about);
    const own = currentLease(leases, claimant);
    if (own) {
      assert.ok(isCompatible(config, own.subnets), `${about}: ${own.ownerId}`);
      for (const other of honestLeases) {
        const isShared = prefixesOverlap(own.subnets[4]!, other.subnets[4]!);
        assert.not.ok(isShared, `${about}: ${own.ownerId} and ${other.ownerId}`);
      }
    }
    const held = new Set(heldSubnets(config, leases).map(({ ownerId }) => ownerId));
    for (const { ownerId } of honestLeases) assert.ok(held.has(ownerId), `${about}: ${ownerId}`);
  }
}

/** Makes so many clusters, each by its own seed, and checks what becomes of them. */
export function checkHostileClusters(cases: number): void {
  let refused = 0;
  let accepted = 0;
  for (let seed = 1; seed <= cases; seed++) {
    const adversary = new Adversary(randomStream(seed));
    const backend = adversary.pick(ways);
    const honestKey = (n: number): string => `/p/subnets/10.1.${n}.0-24&fd00:0:0:${n}::-64`;
    const entry = (key: string, value: string, revision: number): Entry => ({
      ...{ key, value, etcdLease: '7', modRevision: String(revision + 1000), createRevision: String(revision) },
    });
    const good = honest.map((n) =>
      entry(honestKey(n), formatLeaseValue(peer(n, { backendType: backend.type }), backends), n),
    );
    const bad = Array.from({ length: 1 + adversary.below(8) }, (_, i) =>
      entry(adversary.key(), adversary.value(backend.type), 9 + i),
    );
    const entries = listed(good, bad, adversary);
    const leases = new Map(entries.map((each) => [each.key, each]));
    const snapshot = { config: undefined, revision: '99', configRevision: '99', clusterId: '1', history: 0, leases };
    const parsed = new LeaseReader(keys, backends).read(snapshot);
    const { networks } = adversary.below(2) === 0 ? dualStack : overlay();
    const gateways = (peers: () => readonly PeerOutcome[]) =>
      flannelGateways({ host: hostState, networks: Object.values(networks), remembered: [], isTakeOver: false, peers });
    const of: Overlay = overlay({
      networks,
      backend,
      surroundings,
      peers: parsed.leases.all,
      flannelGateways: gateways,
    });
    const derived = deriveDesired(of);
    const desired = withoutTaken(
      derived,
      findShadows(derived, hostState, new Set(['flannel.1', 'flannel-v6.1'])).taken,
    );
    const kernel = kernelOf();
    const { operations, problems } = plan(desired.state, kernel.dump());
    const about = `seed ${seed}`;
    assert.equal(problems, [], about);
    for (const operation of operations) kernel.apply(operation);
    assert.equal(plan(desired.state, kernel.dump()).operations, [], about);

    for (const { destination } of desired.state.routes) {
      const text = `${about}: ${formatPrefix(destination)}`;
      const network = networks[destination.address.family]!;
      assert.ok(network && destination.length > network.length && prefixContains(network, destination.address), text);
      assert.not.ok(
        connected.some((other) => prefixesOverlap(other, destination)),
        text,
      );
      for (const vital of [etcd, resolver, gateway, address('192.0.2.1')]) {
        assert.not.ok(prefixContains(destination, vital), `${text} has ${formatAddress(vital)}`);
      }
      assert.not.ok(prefixesOverlap(destination, of.subnets[destination.address.family]!), text);
    }
    for (const route of administrators) {
      // Only a peer's exact subnet replaces one.
      const isReplaced = desired.state.routes.some(({ destination }) => samePrefix(destination, route.destination));
      const isThere = kernel.state.routes.some((other) => formatRoute(other) === formatRoute(route));
      assert.ok(isThere || isReplaced, `${about}: ${formatRoute(route)}`);
    }
    for (const destination of connected) {
      const there = kernel.state.routes.filter(
        (route) => formatPrefix(route.destination) === formatPrefix(destination),
      );
      assert.equal(
        there.map(({ protocol }) => protocol),
        [2],
        about,
      );
    }
    for (const [i, { destination }] of desired.state.routes.entries()) {
      for (const other of desired.state.routes.slice(i + 1)) {
        assert.not.ok(prefixesOverlap(destination, other.destination), `${about}: ${formatPrefix(destination)}`);
      }
    }
    checkClaims(parsed.leases.all, about);
    const families = ([4, 6] as const).filter((family) => networks[family]);
    const withoutBad = deriveDesired({ ...of, peers: parsed.leases.all.filter(({ ownerId }) => isHonest(ownerId)) });
    const routes = new Set(desired.state.routes.map(formatRoute));
    for (const route of withoutBad.state.routes) assert.ok(routes.has(formatRoute(route)), about);
    assert.is(withoutBad.state.routes.length, honest.length * families.length, about);
    for (const { peer: lease, problem } of desired.peers) {
      if (isHonest(lease.ownerId)) assert.is(problem, undefined, `${about}: ${lease.ownerId}`);
      else if (problem === undefined) accepted++;
      else refused++;
    }
  }
  assert.ok(refused > cases && accepted > cases / 20, `${refused} refused, ${accepted} accepted`);
}

const honestKeys = new Set(honest.map((n) => `/p/subnets/10.1.${n}.0-24&fd00:0:0:${n}::-64`));
const isHonest = (ownerId: string): boolean => honestKeys.has(ownerId);

/** In any order: the older wins, not the first. */
const listed = (good: readonly Entry[], bad: readonly Entry[], adversary: Adversary): Entry[] =>
  [...good, ...bad.filter(({ key }) => !isHonest(key))]
    .map((entry) => ({ entry, at: adversary.below(1000) }))
    .sort((a, b) => a.at - b.at)
    .map(({ entry }) => entry);
