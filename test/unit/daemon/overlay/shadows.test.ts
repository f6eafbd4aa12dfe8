import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { HostState } from '../../../../daemon/host/host-state.ts';
import { type Desired, deriveDesired } from '../../../../daemon/overlay/desired.ts';
import { findShadows, withoutTaken } from '../../../../daemon/overlay/shadows.ts';
import type { Route } from '../../../../linux/netlink/route.ts';
import { formatPrefix } from '../../../../net/prefix.ts';
import { address, dualStack, overlay, prefix } from './cluster-of.ts';

const test = suite('daemon/overlay/shadows');

const [eth0, tunnel] = [2, 7];
const desired: Desired = deriveDesired(overlay({ ...dualStack, flannelGateways: () => [address('192.0.2.3')] }));

/** A unicast route as the kernel tells it: of protocol boot, by eth0, unless told. */
const route = (destination: string, changes: Partial<Route> = {}): Route => ({
  family: prefix(destination).address.family,
  destination: prefix(destination),
  oif: eth0,
  table: 254,
  protocol: 3,
  scope: 0,
  type: 1,
  onlink: false,
  flags: 0,
  ...changes,
});
const own = route('10.1.2.0/24', { gateway: address('10.1.2.0'), oif: tunnel, protocol: 87 });
const connected = route('10.1.2.0/24', { protocol: 2, scope: 253 });

function find(...routes: Route[]): { problems: string[]; taken: string[] } {
  const links = [
    { index: eth0, name: 'eth0' },
    { index: tunnel, name: 'flannel.1' },
  ] as unknown as HostState['links'];
  const { problems, taken } = findShadows(desired, { links, addresses: [], routes }, new Set(['flannel.1']));
  return { problems: [...problems.keys()], taken: taken.map(formatPrefix) };
}
const nothing = { problems: [], taken: [] };

test('what is no obstacle', () => {
  assert.equal(find(own), nothing);
  assert.equal(find(route('0.0.0.0/0'), route('10.0.0.0/8'), route('10.1.0.0/16')), nothing, 'less specific ones');
  assert.equal(find(route('10.1.77.0/24')), nothing, 'no peer is there');
  assert.equal(find(route('10.1.2.0/25', { oif: tunnel })), nothing, 'on our own device it is mended');
  assert.equal(find(route('10.1.2.0/25', { protocol: 87 })), nothing, 'our own');
  assert.equal(find(route('10.1.2.0/25', { gateway: address('192.0.2.3') })), nothing, 'flannel’s');
  assert.equal(find(own, route('10.1.2.0/24', { metric: 50 })), nothing, 'one that ours comes before');
  assert.equal(find(route('10.1.2.0/24')), nothing, 'ours takes its place');
});

test('more specific ones, and those that come first', () => {
  assert.equal(find(own, route('10.1.2.128/25')).problems, ['10.1.2.128/25 on "eth0"']);
  const byPeer = route('10.1.2.0/25', { gateway: address('192.0.2.2') });
  assert.equal(find(own, byPeer).problems, ['10.1.2.0/25 on "eth0"'], 'an administrator’s');
  assert.equal(find(own, route('10.1.2.9/32', { type: 6, oif: undefined as never })).problems, ['10.1.2.9/32']);
  assert.equal(find(route('10.1.2.0/24'), own).problems, ['10.1.2.0/24 on "eth0"']);
  assert.equal(find(own, route('10.1.2.0/24')).problems, []);
  assert.equal(find(route('fd00:0:0:2::/64', { metric: 256, protocol: 2 })).problems, ['fd00:0:0:2::/64 on "eth0"']);
  assert.equal(find(route('fd00:0:0:2::/64', { metric: 2048 })).problems, []);
});

test('the network of an interface: who was first stays, and both are told', () => {
  assert.equal(find(connected), { problems: [], taken: ['10.1.2.0/24'] });
  for (const protocol of [9, 16]) {
    const managed = route('10.1.2.0/24', { protocol });
    assert.equal(find(managed), { problems: [], taken: ['10.1.2.0/24'] }, 'by a network manager');
  }
  assert.equal(find(own, connected), { problems: ['10.1.2.0/24 on "eth0"'], taken: [] });
  const without = withoutTaken(desired, [prefix('10.1.2.0/24')]);
  assert.not(without.state.routes.some(({ destination }) => formatPrefix(destination) === '10.1.2.0/24'));
  assert.is(without.state.routes.length, desired.state.routes.length - 1);
  const peer = without.peers.find(({ problem }) => problem)!;
  assert.equal(Object.keys(peer.paths), ['6'], 'the other family stays');
  assert.match(peer.problem!, /^its subnet "10\.1\.2\.0\/24" is the network of an interface of this host/);
  assert.is(withoutTaken(desired, []), desired);
  const left = withoutTaken(desired, [prefix('10.1.2.0/24')], [prefix('10.1.2.0/24')]).peers.map(
    ({ problem }) => problem,
  );
  const was = `its subnet "10.1.2.0/24" was this host's before, and containers here still have its addresses; it is reached when the last of them has ended`;
  assert.ok(left.includes(was), 'our own bridge has it');
});

test.run();
