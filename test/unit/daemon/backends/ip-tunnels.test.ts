/** ipip and gre: their config, devices, entries, and what the plan makes of them. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { ConfigError } from '../../../../cluster/config-section.ts';
import { formatLeaseValue } from '../../../../cluster/lease.ts';
import { type NetworkConfig, parseNetworkConfig } from '../../../../cluster/network-config.ts';
import { formatNeighbour, formatRoute } from '../../../../daemon/backends/entries.ts';
import { backends, isTunnelName, outer } from '../../../../daemon/backends/map.ts';
import { containerMtu, deriveDesired } from '../../../../daemon/overlay/desired.ts';
import { formatOperation, plan } from '../../../../daemon/overlay/plan.ts';
import type { IpTunnelData } from '../../../../linux/netlink/ip-tunnel.ts';
import { address, type Changes, dualStack, type OwnBackend, overlay, peer } from '../overlay/cluster-of.ts';
import { SimulatedKernel } from '../overlay/simulated-kernel.ts';

const test = suite('daemon/backends/ip-tunnels');

const parse = (backend: object, more: object = {}): NetworkConfig =>
  parseNetworkConfig(JSON.stringify({ Network: '10.1.0.0/16', ...more, Backend: backend }), backends);
const both = { EnableIPv6: true, IPv6Network: 'fd00::/48' };
const ipip: OwnBackend = { type: 'ipip', directRouting: false };
const gre: OwnBackend = { type: 'gre' };
const keyed: OwnBackend = { type: 'gre', key: 7 };

const derive = (backend: OwnBackend, changes: Changes = {}) =>
  deriveDesired(
    overlay({
      backend,
      leaseData: {},
      peers: [2, 3].map((n) => peer(n, { backendType: backend.type, backendData: {} })),
      ...changes,
    }),
  );

test('config: defaults, options, and what is refused', () => {
  assert.equal(parse({ Type: 'ipip' }).backend, ipip);
  assert.equal(parse({ Type: 'IPIP', DirectRouting: true, Unknown: 1 }).backend, { type: 'ipip', directRouting: true });
  assert.equal(parse({ Type: 'gre' }).backend, gre);
  assert.equal(parse({ Type: 'gre', key: 0 }).backend, { type: 'gre', key: 0 });
  assert.equal(parse({ Type: 'gre', Key: 0xffffffff }).backend, { type: 'gre', key: 0xffffffff });
  for (const Key of [-1, 2 ** 32, 1.5, '7']) {
    assert.throws(
      () => parse({ Type: 'gre', Key }),
      (error: Error) => error instanceof ConfigError && error.path === 'Backend.Key',
    );
  }
});

test('ipip carries IPv4 only: one problem, and IPv4 stands', () => {
  const config = parse({ Type: 'ipip' }, both);
  assert.equal(Object.keys(config.networks), ['4']);
  assert.is(
    config.problem,
    'Network config: backend "ipip" carries IPv4 only, so IPv6 is left out; set "EnableIPv6" to false, or give another backend',
  );
  assert.is(parse({ Type: 'gre' }, both).problem, undefined);
  assert.throws(
    () => parse({ Type: 'ipip' }, { ...both, EnableIPv4: false }),
    (error: Error) => error instanceof ConfigError && /it carries IPv4 only/.test(error.message),
  );
});

test('a lease has no BackendData', () => {
  for (const backendType of ['ipip', 'gre']) {
    const value = { publicAddresses: { 4: address('192.0.2.1') }, backendType, backendData: {} };
    assert.is(
      formatLeaseValue(value, backends),
      `{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"${backendType}"}`,
    );
  }
});

test('overhead: 20 for ipip, 24 and 44 for gre, 4 more with a key', () => {
  assert.is(containerMtu(ipip, [4], 1500), 1480);
  assert.is(containerMtu(gre, [4], 1500), 1476);
  assert.is(containerMtu(keyed, [4], 1500), 1472);
  assert.is(containerMtu(gre, [6], 1500), 1456);
  assert.is(containerMtu(gre, [4, 6], 1500), 1456);
  assert.is(containerMtu(keyed, [4, 6], 1500), 1452);
});

test('packets from outside: protocol, and the key where the device keeps others out', () => {
  assert.equal(outer(ipip, 4), { ipProtocol: 4 });
  assert.equal(outer(gre, 4), { ipProtocol: 47 });
  assert.equal(outer(keyed, 4), { ipProtocol: 47, key: 7 });
  assert.equal(outer(keyed, 6), { ipProtocol: 47, key: 'any' });
  assert.equal(['flannel.ipip', 'weft-gre', 'weft-gre6', 'weft-gre66', 'gre0'].map(isTunnelName), [
    true,
    true,
    true,
    false,
    false,
  ]);
});

test('ipip: flannel’s device, and routes by the peers’ public addresses', () => {
  const { state } = derive(ipip);
  const [device] = state.devices;
  assert.equal(
    { ...device, rules: undefined },
    {
      name: 'flannel.ipip',
      kind: 'ipip',
      local: address('192.0.2.1'),
      mtuBytes: 1480,
      data: { local: address('192.0.2.1'), external: false },
      rules: undefined,
    },
  );
  assert.equal(state.routes.map(formatRoute), [
    'route "10.1.2.0/24" via "192.0.2.2" on "flannel.ipip"',
    'route "10.1.3.0/24" via "192.0.2.3" on "flannel.ipip"',
  ]);
  assert.ok(state.routes.every(({ onlink }) => onlink));
  const direct = derive({ type: 'ipip', directRouting: true }, { isNeighbour: ({ bytes }) => bytes[3] === 2 });
  assert.equal(direct.state.routes.map(formatRoute), [
    'route "10.1.2.0/24" via "192.0.2.2" on "eth0"',
    'route "10.1.3.0/24" via "192.0.2.3" on "flannel.ipip"',
  ]);
  assert.equal(
    direct.peers.map(({ paths }) => paths[4]),
    ['direct', 'tunnel'],
  );
});

test('gre: neighbours over IPv4, encapsulating routes over IPv6', () => {
  const { state } = derive(keyed, dualStack);
  assert.equal(
    state.devices.map(({ name, kind, mtuBytes, data }) => {
      const { external, key, local } = data as IpTunnelData;
      return [name, kind, mtuBytes, external, key, local && 'local'];
    }),
    [
      ['weft-gre', 'gre', 1472, false, 7, 'local'],
      ['weft-gre6', 'ip6gre', 1452, true, undefined, undefined],
    ],
  );
  assert.equal(state.neighbours.map(formatNeighbour), [
    'neighbour "10.1.2.0" (192.0.2.2) on "weft-gre"',
    'neighbour "10.1.3.0" (192.0.2.3) on "weft-gre"',
  ]);
  assert.equal(state.routes.slice(0, 2).map(formatRoute), [
    'route "10.1.2.0/24" via "10.1.2.0" on "weft-gre"',
    'route "fd00:0:0:2::/64" via "2001:db8::2" on "weft-gre6"',
  ]);
  assert.equal(state.routes[1]!.encapsulation, {
    source: address('2001:db8::1'),
    destination: address('2001:db8::2'),
    key: 7,
  });
});

const hostWith = (backend: OwnBackend, changes: Changes = {}): SimulatedKernel => {
  const kernel = new SimulatedKernel();
  kernel.state.devices.push({ name: 'eth0', index: 2, kind: undefined, up: true, mac: undefined, mtuBytes: 1500 });
  for (const operation of plan(derive(backend, changes).state, kernel.dump()).operations) kernel.apply(operation);
  return kernel;
};

test('a device that differs in what cannot be changed is made anew', () => {
  const cases: [OwnBackend, number, Partial<IpTunnelData>, string][] = [
    [ipip, 0, { remote: address('192.0.2.9') }, 'it has a remote host'],
    [ipip, 0, { local: address('192.0.2.9') }, 'its local address is "192.0.2.9", not "192.0.2.1"'],
    [ipip, 0, { settings: ['a TTL'] }, 'it has a TTL'],
    [ipip, 0, { lower: 2 }, 'it is bound to an interface'],
    [keyed, 0, { key: 8 }, 'its key is 8, not 7'],
    [gre, 0, { key: 8 }, 'its key is 8, not none'],
    [gre, 0, { external: true }, 'external control is on'],
    [gre, 1, { external: false }, 'external control is off'],
    [gre, 1, { local: address('2001:db8::9') }, 'its local address is "2001:db8::9", not unset'],
  ];
  for (const [backend, at, change, because] of cases) {
    const changes = backend.type === 'gre' ? dualStack : {};
    const kernel = hostWith(backend, changes);
    const device = kernel.state.devices[at + 1]!;
    kernel.state.devices[at + 1] = { ...device, data: { ...(device.data as IpTunnelData), ...change } };
    const [first, second] = plan(derive(backend, changes).state, kernel.dump()).operations;
    assert.equal(first, { kind: 'remove-device', name: device.name, because });
    assert.is(formatOperation(second!), `add ${device.kind!.toUpperCase()} device "${device.name}"`);
  }
});

test('another network with the same local address and key is one clear problem', () => {
  const problemsOf = (backend: OwnBackend, at: number): readonly string[] => {
    const changes = backend.type === 'gre' ? dualStack : {};
    const kernel = hostWith(backend, changes);
    kernel.state.devices[at + 1] = { ...kernel.state.devices[at + 1]!, name: 'other' };
    return plan(derive(backend, changes).state, kernel.dump()).problems;
  };
  assert.equal(problemsOf(ipip, 0), [
    'Cannot make IPIP device "flannel.ipip": "other" has the local address "192.0.2.1" already; delete it, or give one of the networks another backend',
  ]);
  assert.equal(problemsOf(keyed, 0), [
    'Cannot make GRE device "weft-gre": "other" has the local address "192.0.2.1" and key 7 already; delete it, or give the network another Backend.Key',
  ]);
  assert.equal(problemsOf(keyed, 1), [
    'Cannot make IP6GRE device "weft-gre6": "other" is the kernel’s one device of this kind under external control; delete it'.replace(
      '’',
      "'",
    ),
  ]);
});

test.run();
