import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Lease } from '../../../../cluster/lease.ts';
import { differenceOf, type LeaseChange, sumOf } from '../../../../cluster/lease-set.ts';
import { formatFdbEntry, formatRoute } from '../../../../daemon/backends/entries.ts';
import { containerMtu, deriveDesired, type Overlay } from '../../../../daemon/overlay/desired.ts';
import { narrowToPeers } from '../../../../daemon/overlay/narrow.ts';
import { countPeers } from '../../../../daemon/overlay/peer-states.ts';
import { formatOperation, plan } from '../../../../daemon/overlay/plan.ts';
import type { VxlanData } from '../../../../linux/netlink/vxlan.ts';
import { addressKey } from '../../../../net/address.ts';
import { parseMac } from '../../../../net/mac.ts';
import { randomStream } from '../../../support/random.ts';
import {
  address,
  dualStack,
  mac,
  macs,
  type OwnBackend,
  overlay,
  peer,
  prefix,
  surroundings,
  vxlan,
} from './cluster-of.ts';
import { formatState, SimulatedKernel } from './simulated-kernel.ts';

const test = suite('daemon/overlay/desired');

/** The list with the changes applied in order; undefined if the changes belong to another list. */
function patchList(list: readonly Lease[], changes: readonly LeaseChange[]): Lease[] | undefined {
  const next = list.slice();
  for (const [was, is] of changes) {
    if (!was) {
      if (is) next.push(is);
      continue;
    }
    const at = next.indexOf(was);
    if (at < 0) return undefined;
    if (is) next[at] = is;
    else next.splice(at, 1);
  }
  return next;
}

const problemsOf = (changes: Parameters<typeof overlay>[0]): (string | undefined)[] =>
  deriveDesired(overlay(changes)).peers.map(({ problem }) => problem);

test('the device: external MTU less the overhead, the subnet as one address', () => {
  const { state, mtuBytes } = deriveDesired(overlay(dualStack));
  assert.equal(
    state.devices.map(({ name, mtuBytes, local, data }) => [name, mtuBytes, local, (data as VxlanData).lower]),
    [
      ['flannel.1', 1450, address('192.0.2.1'), 2],
      ['flannel-v6.1', 1430, address('2001:db8::1'), 2],
    ],
  );
  assert.equal(
    state.addresses.map(({ prefix }) => prefix),
    [prefix('10.1.1.0/32'), prefix('fd00:0:0:1::/128')],
  );
  assert.is(mtuBytes, 1430);
});

test('an address is covered by the subnet of a peer, as long as the peer is there', () => {
  const { table, peers } = deriveDesired(overlay(dualStack));
  const all = ['10.1.2.0', '10.1.2.77', '10.1.9.0', '192.0.2.2', 'fd00:0:0:3::', 'fd00:0:0:9::'];
  const covered = (): string[] => all.filter((each) => table.covers(address(each)));
  assert.equal(covered(), ['10.1.2.0', '10.1.2.77', 'fd00:0:0:3::']);
  table.change([peers[0]!.peer], []);
  assert.equal(covered(), ['fd00:0:0:3::']);
});

test('MTU: of the configuration where it gives one, of the interface for plain routes', () => {
  assert.is(containerMtu(vxlan, [4], 1500), 1450);
  assert.is(containerMtu({ ...vxlan, mtuBytes: 1400 }, [4], 1500), 1350);
  assert.is(containerMtu({ ...vxlan, mtuBytes: 9000 }, [4], 1500), 1450, 'the kernel takes no more');
  assert.match(
    deriveDesired(overlay({ backend: { ...vxlan, mtuBytes: 9000 } })).mtuProblem!,
    /Backend\.MTU is 9000, but "eth0" takes 1500 only/,
  );
  assert.is(containerMtu(vxlan, [6], 1500), 1430);
  assert.is(containerMtu(vxlan, [4, 6], 1500), 1430);
  assert.is(containerMtu({ type: 'host-gw' }, [4, 6], 1500), 1500);
});

test('a peer left out for a reason takes nothing from the others', () => {
  const cases: [Parameters<typeof peer>[1], RegExp][] = [
    [{ backendType: 'wireguard', backendData: {} }, /^its backend is "wireguard", this host's is "vxlan"$/],
    [{ publicAddresses: {} }, /^it has no public IPv4 address$/],
    [{ publicAddresses: { 4: address('0.0.0.0') } }, /^it has no public IPv4 address$/],
    [{ publicAddresses: { 4: address('192.0.2.1') } }, /^its public address "192\.0\.2\.1" is this host's own$/],
    [{ subnets: { 4: prefix('10.1.1.0/24') } }, /^its subnet "10\.1\.1\.0\/24" overlaps with this host's own$/],
    [{ subnets: { 4: prefix('10.1.0.0/20') } }, /overlaps with this host's own$/],
    [{ subnets: { 4: prefix('192.0.2.0/24') } }, /contains the host address "192\.0\.2\.9"$/],
    [{ subnets: { 6: prefix('fd00::/64') } }, /^it has no IPv4 subnet$/],
    [{ backendData: {} }, /^it has no MAC of its IPv4 tunnel device$/],
    [{ backendData: macs(1, 1) }, /is this host's own$/],
    [{ backendData: macs(2, 2) }, /^lease "\/p\/subnets\/10\.1\.2\.0-24" of another host has the same MAC/],
    [{ subnets: { 4: prefix('10.1.2.0/24') } }, /^lease "\/p\/subnets\/10\.1\.2\.0-24" has the same subnet$/],
  ];
  for (const [changes, expected] of cases) {
    const desired = deriveDesired(overlay({ peers: [peer(2), peer(9, changes), peer(3)] }));
    assert.match(desired.peers[1]!.problem!, expected);
    assert.equal(desired.peers[1]!.paths, {});
    assert.equal(desired.state.routes.map(formatRoute), [
      'route "10.1.2.0/24" via "10.1.2.0" on "flannel.1"',
      'route "10.1.3.0/24" via "10.1.3.0" on "flannel.1"',
    ]);
    assert.is(desired.state.fdb.length, 2);
  }
});

test('an address or a MAC that no peer can have: that peer alone is refused, and others are followed singly', () => {
  const impossible: [string, RegExp][] = [
    ['127.0.0.1', /^its public address "127\.0\.0\.1" is a loopback address, which no host can have$/],
    ['224.0.0.1', /is a multicast address/],
    ['239.255.255.255', /is a multicast address/],
    ['240.0.0.1', /is a reserved address/],
    ['255.255.255.255', /is the broadcast address/],
    ['0.0.0.7', /is an address of "this network"/],
    ['169.254.7.7', /is link-local, and this host has no such public address$/],
    ['192.0.2.1', /is this host's own$/],
    ['198.51.100.1', /is this host's own$/],
  ];
  const impossible6: [string, RegExp][] = [
    ['::1', /is the loopback address, which no host can have$/],
    ['ff02::1', /is a multicast address/],
    ['fe80::1', /is link-local/],
    ['2001:db8::1', /is this host's own$/],
  ];
  const noMacs = ['01:00:5e:00:00:01', 'ff:ff:ff:ff:ff:ff', '00:00:00:00:00:00'];
  const cases: [Parameters<typeof peer>[1], RegExp][] = [
    ...impossible.map(([text, why]): (typeof cases)[number] => [{ publicAddresses: { 4: address(text) } }, why]),
    ...impossible6.map(([text, why]): (typeof cases)[number] => [
      { publicAddresses: { ...peer(9).publicAddresses, 6: address(text) } },
      why,
    ]),
    ...noMacs.map((text): (typeof cases)[number] => [
      { backendData: { ...macs(9, 109), 4: { vni: 1, vtepMac: parseMac(text)! } } },
      new RegExp(`^the MAC of its tunnel device, "${text}", is no device's: it is not unicast$`),
    ]),
  ];
  for (const [changes, expected] of cases) {
    const isOfFamily6 = changes?.publicAddresses?.[6] !== undefined;
    const networks = isOfFamily6 ? { 6: prefix('fd00::/48') } : { 4: prefix('10.1.0.0/16') };
    const [two, bad, three] = [peer(2), peer(9, changes), peer(3)];
    const around = { ...surroundings, ownAddresses: new Set([addressKey(address('198.51.100.1'))]) };
    const { table, state, peers } = deriveDesired(
      overlay({ networks, surroundings: around, peers: [two, bad, three] }),
    );
    assert.match(peers[1]!.problem!, expected);
    assert.equal(peers[1]!.paths, {});
    assert.equal([state.routes.length, state.fdb.length, state.neighbours.length], [2, 2, 2]);
    const next = table.change([three], [peer(3), peer(4)]);
    assert.equal([next?.removed.length, next?.added.map(({ problem }) => problem)], [1, [undefined, undefined]]);
    assert.equal(table.change([bad], [{ ...bad }])?.added[0]?.problem, peers[1]!.problem);
  }
  // A link of its own: hosts without other addresses.
  const near = deriveDesired(
    overlay({
      external: {
        ...overlay().external,
        addresses: { 4: address('169.254.7.1') },
        publicAddresses: { 4: address('169.254.7.1') },
      },
      peers: [peer(2, { publicAddresses: { 4: address('169.254.7.7') } })],
    }),
  );
  assert.is(near.peers[0]!.problem, undefined);
});

test('only subnets inside the network, and none that takes over a part of this host’s own networks', () => {
  const around: Overlay['surroundings'] = {
    ownAddresses: new Set(),
    networks: [
      { prefix: prefix('10.1.64.0/22'), device: 'eth1' },
      { prefix: prefix('10.0.0.0/8'), device: 'eth0' },
    ],
    lifelines: [
      { address: address('10.1.128.1'), what: 'the default gateway' },
      { address: address('10.1.129.7'), what: 'etcd' },
    ],
  };
  const cases: [string, RegExp | undefined][] = [
    ['8.8.8.0/24', /^its subnet "8\.8\.8\.0\/24" is not inside the cluster's network "10\.1\.0\.0\/16"$/],
    ['10.96.0.0/12', /is not inside the cluster's network/],
    ['10.2.0.0/24', /is not inside the cluster's network/],
    [
      '10.1.65.0/24',
      /^its subnet "10\.1\.65\.0\/24" overlaps with the network "10\.1\.64\.0\/22" of this host's "eth1"$/,
    ],
    ['10.1.64.0/20', /overlaps with the network/],
    ['10.1.128.0/24', /^its subnet "10\.1\.128\.0\/24" contains the address "10\.1\.128\.1" of the default gateway$/],
    ['10.1.129.7/32', /contains the address "10\.1\.129\.7" of etcd$/],
    ['10.1.130.0/24', undefined],
    ['10.7.3.0/24', undefined],
    ['10.7.0.0/16', /is not inside the cluster's network/],
  ];
  for (const [text, expected] of cases) {
    const [outcome] = deriveDesired(
      overlay({
        surroundings: around,
        // Remembered: containers may still have its addresses.
        formerNetworks: [prefix('10.1.0.0/16'), prefix('10.7.0.0/16')],
        peers: [peer(9, { subnets: { 4: prefix(text) } })],
      }),
    ).peers;
    if (expected) assert.match(outcome!.problem!, expected);
    else assert.is(outcome!.problem, undefined, text);
  }
});

test('of peers that overlap the oldest stays, whatever the order of the list, and both are named', () => {
  const old = peer(2, { seniority: '99' });
  const rivals: [Lease, RegExp][] = [
    [
      peer(9, { subnets: { 4: prefix('10.1.2.128/25') } }),
      /^its subnet "10\.1\.2\.128\/25" overlaps with that of the older lease "\/p\/subnets\/10\.1\.2\.0-24"$/,
    ],
    [
      peer(9, { subnets: { 4: prefix('10.1.2.0/23') } }),
      /^its subnet "10\.1\.2\.0\/23" overlaps with that of the older/,
    ],
    [
      peer(9, { ownerId: '/p/subnets/10.1.2.0-24&fd00::-64', subnets: old.subnets }),
      /^lease "\/p\/subnets\/10\.1\.2\.0-24" has the same subnet$/,
    ],
    [peer(9, { backendData: old.backendData }), /^lease ".*2\.0-24" of another host has the same MAC/],
  ];
  for (const [rival, expected] of rivals) {
    const young = { ...rival, seniority: '100' };
    for (const peers of [
      [old, young],
      [young, old],
    ]) {
      const desired = deriveDesired(overlay({ peers: [...peers, peer(3)] }));
      const of = (lease: Lease) => desired.peers.find((each) => each.peer === lease)!;
      assert.is(of(old).problem, undefined);
      assert.match(of(young).problem!, expected);
      assert.equal(desired.peers.map(({ peer: lease }) => lease).slice(0, 2), peers, 'the order of the list stays');
      assert.is(desired.state.routes.length, 2);
    }
  }
});

test('the number of peers is bounded by the network: of other lengths than the config’s, the oldest count', () => {
  const single = (n: number) =>
    peer(9, {
      ownerId: `/p/subnets/10.1.${200 + (n >> 8)}.${n & 255}-32`,
      subnets: { 4: prefix(`10.1.${200 + (n >> 8)}.${n & 255}/32`) },
      backendType: 'host-gw',
      seniority: String(10_000 - n),
    });
  const singles = Array.from({ length: 400 }, (_, n) => single(n));
  const regular = (n: number) => peer(n, { backendType: 'host-gw', seniority: '99999' });
  const young = [2, 3].map(regular);
  const backend = { type: 'host-gw' } as const;
  const { table, peers } = deriveDesired(overlay({ backend, peers: [...singles, ...young] }));
  const problemOf = (lease: Lease) => peers.find((each) => each.peer === lease)!.problem;
  assert.equal(young.map(problemOf), [undefined, undefined]);
  assert.equal(singles.slice(144).map(problemOf).filter(Boolean), [], 'the oldest 256');
  for (const lease of singles.slice(0, 144)) {
    assert.match(problemOf(lease)!, /is one too many: the network has 256 subnets, and older leases have as many$/);
  }
  // One of the config's length is followed by itself. Where others move up, everything is derived anew.
  const changed = table.change([young[0]!], [regular(4)]);
  assert.equal(
    changed?.added.map(({ problem }) => problem),
    [undefined],
  );
  assert.is(table.change([singles[300]!], []), undefined);
  const few = deriveDesired(overlay({ backend, peers: [...singles.slice(0, 255), ...young] })).table;
  assert.is(few.change([], [singles[300]!])?.added.length, 1);
  assert.is(few.change([], [singles[301]!]), undefined, 'one too many');
});

test('two leases of one host share its FDB entry', () => {
  const further = peer(2, { ownerId: '/p/subnets/10.1.9.0-24', subnets: { 4: prefix('10.1.9.0/24') } });
  const { state, peers } = deriveDesired(overlay({ peers: [peer(2), further] }));
  assert.equal(
    peers.map(({ problem }) => problem),
    [undefined, undefined],
  );
  assert.equal(state.fdb.map(formatFdbEntry), ['FDB entry "02:00:00:00:00:02" to "192.0.2.2" on "flannel.1"']);
  assert.is(state.routes.length, 2);
  assert.is(state.neighbours.length, 2);
});

test('host-gw: plain routes, and no route by way of a host that is no neighbour', () => {
  const changes = {
    backend: { type: 'host-gw' },
    peers: [peer(2, { backendType: 'host-gw' }), peer(3, { backendType: 'host-gw' })],
    isNeighbour: ({ bytes }: { bytes: Uint8Array }) => bytes[3] === 2,
  } as const;
  const { state } = deriveDesired(overlay(changes));
  assert.equal(state.devices, []);
  assert.equal(state.routes.map(formatRoute), ['route "10.1.2.0/24" via "192.0.2.2" on "eth0"']);
  assert.is(problemsOf(changes)[1], 'its address "192.0.2.3" is on no network of this host, which host-gw needs');
});

test('direct routing: by family, and without tunnel entries for who is a neighbour', () => {
  const { state, peers } = deriveDesired(
    overlay({
      ...dualStack,
      backend: { ...vxlan, directRouting: true },
      isNeighbour: ({ family }) => family === 4,
    }),
  );
  assert.equal(peers[0]!.paths, { 4: 'direct', 6: 'tunnel' });
  assert.equal(
    state.neighbours.map(({ device }) => device),
    ['flannel-v6.1', 'flannel-v6.1'],
  );
});

test('devices that are in use are no former devices', () => {
  const { state } = deriveDesired(overlay({ formerDevices: ['flannel.1', 'flannel.9'] }));
  assert.equal(state.formerDevices, ['flannel.9']);
  assert.equal(state.devices[0]!.mac, mac(1));
});

// Peers' changes followed one by one must come to what a comparison of everything would.

const host = (): SimulatedKernel =>
  new SimulatedKernel({
    devices: [{ name: 'eth0', index: 2, kind: undefined, up: true, mac: mac(250), mtuBytes: 1500 }],
  });
function reconcile(kernel: SimulatedKernel, of: Overlay) {
  const desired = deriveDesired(of);
  for (const operation of plan(desired.state, kernel.dump()).operations) kernel.apply(operation);
  return desired;
}
const backends: readonly OwnBackend[] = [
  vxlan,
  { ...vxlan, directRouting: true },
  { type: 'host-gw' },
  { type: 'ipip', directRouting: true },
  { type: 'gre', key: 7 },
];

test('a peer that comes, changes and goes takes the steps that are its own', () => {
  const kernel = host();
  const of = overlay();
  const desired = reconcile(kernel, of);
  const follow = (removed: Lease[], added: Lease[]): string[] => {
    const changes = desired.table.change(removed, added)!;
    const narrowed = narrowToPeers(desired.state, changes);
    const { operations } = plan(narrowed.desired, narrowed.actual);
    for (const operation of operations) kernel.apply(operation);
    return operations.map(formatOperation);
  };
  assert.equal(follow([], [peer(4)]), [
    'set neighbour "10.1.4.0" (02:00:00:00:00:04) on "flannel.1"',
    'set FDB entry "02:00:00:00:00:04" to "192.0.2.4" on "flannel.1"',
    'set route "10.1.4.0/24" via "10.1.4.0" on "flannel.1"',
  ]);
  assert.is(desired.state.routes.length, 3);
  const [two] = of.peers;
  const changed = peer(2, { backendData: macs(22, 122) });
  assert.equal(follow([two!], [changed]), [
    'set neighbour "10.1.2.0" (02:00:00:00:00:16) on "flannel.1"',
    'set FDB entry "02:00:00:00:00:16" to "192.0.2.2" on "flannel.1"',
    'remove FDB entry "02:00:00:00:00:02" to "192.0.2.2" on "flannel.1"',
  ]);
  assert.equal(follow([changed], []), [
    'remove route "10.1.2.0/24" via "10.1.2.0" on "flannel.1"',
    'remove FDB entry "02:00:00:00:00:16" to "192.0.2.2" on "flannel.1"',
    'remove neighbour "10.1.2.0" (02:00:00:00:00:16) on "flannel.1"',
  ]);
});

test('what bears on another peer is not told from the changed ones alone', () => {
  const shared = (n: number) => peer(n, { backendData: macs(3, 103) });
  const table = (peers: Lease[]) => deriveDesired(overlay({ peers })).table;
  assert.is(table([peer(2), peer(3)]).change([], [shared(4)]), undefined, 'a MAC that another has');
  const [two, three] = [peer(2), peer(3)];
  const same = peer(5, { subnets: two.subnets });
  assert.is(table([two, three]).change([], [same]), undefined, 'a subnet that another has');
  const contested = table([two, same, three]);
  assert.ok(contested.change([three], []), 'one that has nothing to do with it');
  assert.is(contested.change([two], []), undefined, 'its going leaves the subnet to the other');
  assert.is(table([two]).change([peer(2)], []), undefined, 'one that is not known');
});

/** The value of a lease, without its identity. */
const contentsOf = ({ backendType, publicAddresses, backendData }: Lease) => ({
  backendType,
  publicAddresses,
  backendData,
});

test('property: following changes comes to what a comparison of everything comes to', () => {
  let followed = 0;
  for (let seed = 1; seed <= 150; seed++) {
    const stream = randomStream(seed);
    const random = (below: number): number => Math.floor(stream() * below);
    const backend = backends[random(backends.length)]!;
    const lease = (n: number): Lease =>
      peer(n, {
        backendType: random(8) === 0 ? 'other' : backend.type,
        publicAddresses: { 4: address(`192.0.2.${random(6) === 0 ? 20 : n}`), 6: address(`2001:db8::${n}`) },
        backendData: random(6) === 0 ? macs(30 + random(2), 130 + random(2)) : macs(n, n + 100),
      });
    const of = (peers: readonly Lease[]): Overlay =>
      overlay({
        ...(seed % 2 === 0 && backend.type !== 'ipip' ? dualStack : {}),
        backend,
        peers,
        isNeighbour: (a) => a.bytes.at(-1)! % 2 === 0,
      });
    const kernel = host();
    let peers: readonly Lease[] = [2, 3, 4, 5].map(lease);
    let desired = reconcile(kernel, of(peers));
    for (let round = 0; round < 12; round++) {
      const changes: LeaseChange[] = [];
      for (let i = 0; i <= random(3); i++) {
        const was = patchList(peers, changes)![random(8)];
        const taken = new Set(patchList(peers, changes)!.map(({ ownerId }) => ownerId));
        const free = [2, 3, 4, 5, 6, 7, 8].filter((n) => !taken.has(peer(n).ownerId));
        if (was) changes.push([was, random(2) === 0 ? undefined : { ...lease(2), ...was, ...contentsOf(lease(9)) }]);
        else if (free.length > 0) changes.push([undefined, lease(free[random(free.length)]!)]);
      }
      const next = patchList(peers, changes)!;
      const { removed, added } = sumOf(changes);
      const difference = differenceOf(peers, next);
      assert.equal(new Set(removed), new Set(difference.removed));
      assert.equal(new Set(added), new Set(difference.added));
      const changed = desired.table.change(removed, added);
      if (changed) {
        followed++;
        const narrowed = narrowToPeers(desired.state, changed);
        for (const operation of plan(narrowed.desired, narrowed.actual).operations) kernel.apply(operation);
        const whole = deriveDesired(of(next));
        assert.equal(plan(whole.state, kernel.dump()).operations.map(formatOperation), [], `seed ${seed}`);
        assert.equal(plan(desired.state, kernel.dump()).operations.map(formatOperation), [], `seed ${seed}`);
        const problems = (peersOf: typeof whole.peers) =>
          peersOf.map(({ peer: { ownerId }, problem }) => [ownerId, problem]);
        assert.equal(problems(desired.peers).sort(), problems(whole.peers).sort(), `seed ${seed}`);
        assert.equal(desired.peerCounts, countPeers(desired.peers), `seed ${seed}`);
        assert.equal(whole.peerCounts, desired.peerCounts, `seed ${seed}`);
      } else {
        desired = reconcile(kernel, of(next));
      }
      peers = next;
    }
    assert.ok(formatState(kernel.dump()).length > 0);
  }
  assert.ok(followed > 300, `${followed}`);
});

test.run();
