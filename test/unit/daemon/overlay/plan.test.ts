import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Lease } from '../../../../cluster/lease.ts';
import { type ActualRoute, type DesiredState, routeProtocol } from '../../../../daemon/backends/entries.ts';
import { deriveDesired, nothingDesired, type Overlay } from '../../../../daemon/overlay/desired.ts';
import { formatOperation, plan } from '../../../../daemon/overlay/plan.ts';
import type { Family } from '../../../../net/address.ts';
import {
  address,
  type Changes,
  dualStack,
  mac,
  macs,
  type OwnBackend,
  overlay,
  peer,
  prefix,
  vxlan,
} from './cluster-of.ts';
import { formatState, SimulatedKernel } from './simulated-kernel.ts';

const host = (): SimulatedKernel =>
  new SimulatedKernel({
    devices: [{ name: 'eth0', index: 2, kind: undefined, up: true, mac: mac(250), mtuBytes: 1500 }],
  });

/** Plans, applies, and returns what was done. */
function reconcile(kernel: SimulatedKernel, desired: DesiredState): string[] {
  const { operations } = plan(desired, kernel.dump());
  for (const operation of operations) kernel.apply(operation);
  return operations.map(formatOperation);
}

const settled = (kernel: SimulatedKernel, desired: DesiredState): void => {
  assert.equal(plan(desired, kernel.dump()).operations.map(formatOperation), []);
};

const state = (changes: Changes = {}): DesiredState => deriveDesired(overlay(changes)).state;

const test = suite('daemon/overlay/plan');

test('a new node: the device first, then per peer neighbour, FDB entry, route', () => {
  const kernel = host();
  assert.equal(reconcile(kernel, state()), [
    'add VXLAN device "flannel.1"',
    'add address "10.1.1.0/32" to "flannel.1"',
    'set neighbour "10.1.2.0" (02:00:00:00:00:02) on "flannel.1"',
    'set neighbour "10.1.3.0" (02:00:00:00:00:03) on "flannel.1"',
    'set FDB entry "02:00:00:00:00:02" to "192.0.2.2" on "flannel.1"',
    'set FDB entry "02:00:00:00:00:03" to "192.0.2.3" on "flannel.1"',
    'set route "10.1.2.0/24" via "10.1.2.0" on "flannel.1"',
    'set route "10.1.3.0/24" via "10.1.3.0" on "flannel.1"',
  ]);
  settled(kernel, state());
});

test('our device by another name is ours; another’s with our VNI is in the way', () => {
  const kernel = host();
  reconcile(kernel, state());
  const rename = (name: string, change: object = {}): void => {
    kernel.state.devices = kernel.state.devices.map((device) =>
      device.kind === 'vxlan' ? { ...device, name, ...change } : device,
    );
  };
  rename('lost');
  assert.equal(reconcile(kernel, state()).slice(0, 2), ['remove device "lost"', 'add VXLAN device "flannel.1"']);
  rename('calico.vx', { mac: mac(99) });
  const { operations, problems } = plan(state(), kernel.dump());
  assert.equal(operations, []);
  assert.equal(problems, [
    'Cannot make VXLAN device "flannel.1": "calico.vx" has VNI 1 at port 8472 already; delete it, or give the network another Backend.VNI',
  ]);
});

test('a peer that leaves: the same in reverse', () => {
  const kernel = host();
  reconcile(kernel, state());
  assert.equal(reconcile(kernel, state({ peers: [peer(3)] })), [
    'remove route "10.1.2.0/24" via "10.1.2.0" on "flannel.1"',
    'remove FDB entry "02:00:00:00:00:02" to "192.0.2.2" on "flannel.1"',
    'remove neighbour "10.1.2.0" (02:00:00:00:00:02) on "flannel.1"',
  ]);
});

test('a peer with a new MAC and a new address: the old FDB entry goes last', () => {
  const kernel = host();
  reconcile(kernel, state());
  const moved = state({
    peers: [peer(2, { backendData: macs(77, 78), publicAddresses: { 4: address('192.0.2.9') } }), peer(3)],
  });
  assert.equal(reconcile(kernel, moved), [
    'set neighbour "10.1.2.0" (02:00:00:00:00:4d) on "flannel.1"',
    'set FDB entry "02:00:00:00:00:4d" to "192.0.2.9" on "flannel.1"',
    'remove FDB entry "02:00:00:00:00:02" to "192.0.2.2" on "flannel.1"',
  ]);
  settled(kernel, moved);
});

test('a peer with a new address only: one replacement', () => {
  const kernel = host();
  reconcile(kernel, state());
  const moved = state({ peers: [peer(2, { publicAddresses: { 4: address('192.0.2.9') } }), peer(3)] });
  assert.equal(reconcile(kernel, moved), ['set FDB entry "02:00:00:00:00:02" to "192.0.2.9" on "flannel.1"']);
  settled(kernel, moved);
});

test('what can be changed is changed in place', () => {
  const kernel = host();
  reconcile(kernel, state());
  kernel.state.devices = kernel.state.devices.map((device) =>
    device.name === 'flannel.1' ? { ...device, mtuBytes: 1400, mac: mac(9), up: false } : device,
  );
  assert.equal(reconcile(kernel, state()), ['change MAC, MTU, state of device "flannel.1"']);
  settled(kernel, state());
});

test('what cannot be changed makes a new device, with every entry again', () => {
  for (const backend of [
    { ...vxlan, port: 4789 },
    { ...vxlan, learning: true },
    { ...vxlan, gbp: true },
  ]) {
    const kernel = host();
    reconcile(kernel, state());
    const before = formatState(kernel.dump()).filter((line) => !line.startsWith('device'));
    const done = reconcile(kernel, state({ backend }));
    assert.is(done[0], 'remove device "flannel.1"');
    assert.is(done[1], 'add VXLAN device "flannel.1"');
    assert.equal(
      formatState(kernel.dump()).filter((line) => !line.startsWith('device')),
      before,
    );
    settled(kernel, state({ backend }));
  }
});

test('another VNI: a new device takes the routes over before the old one goes', () => {
  const kernel = host();
  reconcile(kernel, state());
  const changed = state({ backend: { ...vxlan, vni: 2 }, formerDevices: ['flannel.1', 'flannel.2'] });
  const done = reconcile(kernel, changed);
  assert.is(done[0], 'add VXLAN device "flannel.2"');
  assert.is(done.at(-1), 'remove device "flannel.1"');
  assert.not(done.some((line) => line.startsWith('remove route')));
  settled(kernel, changed);
});

test('from tunnel to direct route and back: nothing of the other is left', () => {
  const kernel = host();
  const direct = state({ backend: { ...vxlan, directRouting: true }, isNeighbour: (a) => a.bytes[3] === 2 });
  reconcile(kernel, state());
  assert.equal(reconcile(kernel, direct), [
    'set route "10.1.2.0/24" via "192.0.2.2" on "eth0"',
    'remove FDB entry "02:00:00:00:00:02" to "192.0.2.2" on "flannel.1"',
    'remove neighbour "10.1.2.0" (02:00:00:00:00:02) on "flannel.1"',
  ]);
  settled(kernel, direct);
  reconcile(kernel, state());
  settled(kernel, state());
});

test('a link of another kind with the name of the device is left alone and reported', () => {
  const kernel = host();
  kernel.state.devices.push({
    name: 'flannel.1',
    index: 9,
    kind: 'dummy',
    up: true,
    mac: mac(8),
    mtuBytes: 1500,
  });
  const { operations, problems } = plan(state(), kernel.dump());
  assert.equal(operations, []);
  assert.match(problems[0]!, /^Cannot make VXLAN device "flannel\.1": a link of kind "dummy" has this name/);
});

const route = (
  destination: string,
  gateway: string,
  protocol: number,
  changes: Partial<ActualRoute> = {},
): ActualRoute => ({
  destination: prefix(destination),
  gateway: address(gateway),
  device: 'eth0',
  onlink: false,
  protocol,
  metric: 0,
  ...changes,
});

test('other routes stay: the default route, outside the networks, by other programs, through hosts that are no peers', () => {
  const kernel = host();
  const { RTPROT_BOOT, RTPROT_WEFT } = routeProtocol;
  const others = [
    route('0.0.0.0/0', '192.0.2.254', RTPROT_BOOT),
    route('10.2.0.0/24', '192.0.2.2', RTPROT_BOOT),
    route('10.2.1.0/24', '192.0.2.2', RTPROT_WEFT),
    route('10.1.7.0/24', '192.0.2.77', RTPROT_BOOT),
    route('10.1.8.0/24', '192.0.2.2', 4),
    route('10.1.0.0/16', '192.0.2.2', RTPROT_BOOT),
  ];
  kernel.state.routes.push(...others);
  reconcile(kernel, state({ flannelGateways: () => [address('192.0.2.2')] }));
  for (const other of others) assert.ok(kernel.state.routes.some((own) => own.destination === other.destination));
});

test("stale routes go: weftd's own by their mark, flannel's through a peer", () => {
  const kernel = host();
  const { RTPROT_BOOT, RTPROT_WEFT } = routeProtocol;
  kernel.state.routes.push(
    route('10.1.7.0/24', '192.0.2.77', RTPROT_WEFT),
    route('10.1.8.0/24', '192.0.2.2', RTPROT_BOOT),
    route('10.1.2.0/24', '192.0.2.2', RTPROT_BOOT, { metric: 50 }),
  );
  reconcile(kernel, state({ flannelGateways: () => [address('192.0.2.2')] }));
  assert.equal(
    kernel.state.routes.map(({ device }) => device),
    ['flannel.1', 'flannel.1'],
  );
});

test('an administrator’s route through a peer stays, however the peer is reached', () => {
  const direct = { backend: { ...vxlan, directRouting: true }, isNeighbour: () => true } as const;
  const ways: Changes[] = [{ backend: vxlan }, direct, { ...direct, backend: { type: 'host-gw' } }];
  for (const changes of ways) {
    const kernel = host();
    const peers = [2, 3].map((n) => peer(n, { backendType: changes.backend!.type }));
    reconcile(kernel, state({ ...changes, peers }));
    const own = ['10.1.7.0/24', '10.1.8.0/25'].map((to) => route(to, '192.0.2.2', routeProtocol.RTPROT_BOOT));
    kernel.state.routes.push(...own);
    settled(kernel, state({ ...changes, peers }));
    reconcile(kernel, state({ ...changes, peers: [] }));
    assert.equal(kernel.state.routes, own);
  }
});

test("another network's routes stay, though this network had its addresses before", () => {
  const kernel = host();
  reconcile(kernel, state());
  // 10.1.0.0/16 is now that of the weftd with VNI 2; this one has moved.
  const moved = state({
    networks: { 4: prefix('10.9.0.0/16') },
    subnets: { 4: prefix('10.9.1.0/24') },
    peers: [],
    formerNetworks: [prefix('10.1.0.0/16')],
  });
  reconcile(kernel, moved);
  const other = deriveDesired(overlay({ backend: { ...vxlan, vni: 2 } })).state;
  for (let round = 0; round < 2; round++) {
    reconcile(kernel, other);
    settled(kernel, moved);
    settled(kernel, other);
  }
});

test("flannel's own state is taken as it is", () => {
  const kernel = host();
  reconcile(kernel, state());
  kernel.state.routes = kernel.state.routes.map((own) => ({ ...own, protocol: routeProtocol.RTPROT_BOOT }));
  settled(kernel, state());
});

test('leaving removes everything of it and nothing else', () => {
  const kernel = host();
  const before = formatState(kernel.dump());
  reconcile(kernel, state({ backend: { ...vxlan, directRouting: true }, isNeighbour: (a) => a.bytes[3] === 2 }));
  reconcile(kernel, nothingDesired([prefix('10.1.0.0/16')], ['flannel.1'], [address('192.0.2.2')]));
  assert.equal(formatState(kernel.dump()), before);
});

test('two families: each has its device and entries', () => {
  const kernel = host();
  reconcile(kernel, state(dualStack));
  const lines = formatState(kernel.dump());
  assert.ok(lines.includes('route fd00:0:0:2::/64 via fd00:0:0:2:: flannel-v6.1 1024'));
  assert.ok(lines.includes('fdb flannel-v6.1 02:00:00:00:00:66 2001:db8::2'));
  assert.ok(lines.includes('address flannel-v6.1 fd00:0:0:1::/128'));
  settled(kernel, state(dualStack));
});

/** A small generator with a seed, so that a failure can be seen again. */
function randomNumbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

function randomOverlay(random: (below: number) => number): Overlay {
  const backends: OwnBackend[] = [
    vxlan,
    { ...vxlan, directRouting: true },
    { ...vxlan, vni: 2 },
    { ...vxlan, port: 4789, mtuBytes: 1400 },
    { type: 'host-gw' },
    { type: 'ipip', directRouting: false },
    { type: 'ipip', directRouting: true },
    { type: 'gre' },
    { type: 'gre', key: 7 },
  ];
  const backend = backends[random(backends.length)]!;
  const peers: Lease[] = [];
  for (let n = 2; n < 9; n++) {
    if (random(3) === 0) continue;
    const shown = random(4) === 0 ? 20 + random(3) : n;
    peers.push(
      peer(n, {
        backendType: backend.type,
        publicAddresses: { 4: address(`192.0.2.${shown}`), 6: address(`2001:db8::${shown}`) },
        backendData: random(4) === 0 ? macs(30 + random(3), 130 + random(3)) : macs(n, n + 100),
      }),
    );
  }
  const near = random(5);
  return overlay({
    ...(random(2) === 0 && backend.type !== 'ipip' ? dualStack : {}),
    backend,
    peers,
    isNeighbour: (a) => backend.type === 'host-gw' || a.bytes.at(-1)! % 5 > near,
    formerNetworks: [prefix('10.1.0.0/16'), prefix('fd00::/48')],
    formerDevices: ['flannel.1', 'flannel.2', 'flannel-v6.1', 'flannel-v6.2', 'flannel.ipip', 'weft-gre', 'weft-gre6'],
    flannelGateways: () => [...Array(30).keys()].flatMap((n) => [address(`192.0.2.${n}`), address(`2001:db8::${n}`)]),
  });
}

/** Breaks something at random, as a person or another program might. */
function disturb(kernel: SimulatedKernel, random: (below: number) => number): void {
  const { state: actual } = kernel;
  const lists = [actual.addresses, actual.neighbours, actual.fdb, actual.routes];
  const list = lists[random(lists.length)]!;
  if (random(2) === 0 && list.length > 0) {
    list.splice(random(list.length), 1);
    return;
  }
  const device = actual.devices[random(actual.devices.length)]!;
  if (device.name === 'eth0') return;
  const family: Family = /v6|gre6/.test(device.name) ? 6 : 4;
  const subnet = family === 4 ? `10.1.${random(12)}.0` : `fd00:0:0:${random(12)}::`;
  const shown = family === 4 ? `192.0.2.${random(12)}` : `2001:db8::${random(12)}`;
  switch (random(6)) {
    case 0:
      actual.fdb.push({ device: device.name, mac: mac(random(12)), destination: address(shown) });
      break;
    case 1:
      actual.neighbours = actual.neighbours.filter(({ address: own }) => own.family !== family);
      actual.neighbours.push({ device: device.name, address: address(subnet), mac: mac(random(12)) });
      break;
    case 2:
      actual.routes.push(
        route(`${subnet}/${family === 4 ? 24 : 64}`, subnet, routeProtocol.RTPROT_BOOT, {
          device: device.name,
          metric: 7,
          onlink: true,
        }),
      );
      break;
    case 3:
      kernel.apply({ kind: 'remove-device', name: device.name, because: 'a test' });
      break;
    case 4:
      actual.devices[actual.devices.indexOf(device)] = { ...device, mtuBytes: 1234 };
      break;
    case 5:
      actual.addresses.push({ device: device.name, prefix: prefix(`${subnet}/${family === 4 ? 32 : 128}`) });
      break;
  }
}

test('property: from any state, one plan reaches what is desired, and a second has nothing to do', () => {
  for (let seed = 1; seed <= 120; seed++) {
    const random = randomNumbers(seed);
    const kernel = host();
    for (let round = 0; round < 6; round++) {
      const desired = deriveDesired(randomOverlay(random)).state;
      reconcile(kernel, desired);
      const again = plan(desired, kernel.dump()).operations.map(formatOperation);
      assert.equal(again, [], `seed ${seed}, round ${round}`);
      // What is there is what a fresh host would have got.
      const fresh = host();
      reconcile(fresh, desired);
      assert.equal(formatState(kernel.dump()), formatState(fresh.dump()), `seed ${seed}, round ${round}`);
      for (let i = random(4); i > 0; i--) disturb(kernel, random);
    }
  }
});

test.run();
