import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { formatFdbEntry, formatRoute } from '../../../../daemon/backends/entries.ts';
import { containerMtu, deriveDesired } from '../../../../daemon/overlay/desired.ts';
import type { VxlanData } from '../../../../linux/netlink/vxlan.ts';
import { address, dualStack, mac, macs, overlay, peer, prefix, vxlan } from './cluster-of.ts';

const test = suite('daemon/overlay/desired');

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

test.run();
