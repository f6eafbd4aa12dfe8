import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { HostState } from '../../../../daemon/host/host-state.ts';
import { deriveDesired } from '../../../../daemon/overlay/desired.ts';
import { type FlannelRoutes, flannelGateways } from '../../../../daemon/overlay/flannel-routes.ts';
import type { Route } from '../../../../linux/netlink/route.ts';
import { formatAddress } from '../../../../net/address.ts';
import { address, dualStack, overlay, peer, prefix } from './cluster-of.ts';

const test = suite('daemon/overlay/flannel-routes');

const route = (destination: string, gateway: string | undefined, changes: Partial<Route> = {}): Route => ({
  family: prefix(destination).address.family,
  destination: prefix(destination),
  ...(gateway === undefined ? {} : { gateway: address(gateway) }),
  oif: 2,
  table: 254,
  protocol: 3,
  scope: 0,
  type: 1,
  onlink: false,
  flags: 0,
  ...changes,
});
const peers = [2, 3, 4].map((n) => peer(n, { backendType: 'host-gw' }));
const { table } = deriveDesired(overlay({ ...dualStack, backend: { type: 'host-gw' }, peers }));

const find = (routes: Route[], changes: Partial<FlannelRoutes> = {}): string[] =>
  flannelGateways({
    host: { links: [], addresses: [], routes } as HostState,
    networks: [prefix('10.1.0.0/16'), prefix('fd00::/48')],
    remembered: [],
    isTakeOver: false,
    peers: () => table.peers,
    ...changes,
  }).map(formatAddress);

test('a route to a peer’s exact subnet through that peer is flannel’s', () => {
  assert.equal(find([route('10.1.2.0/24', '192.0.2.2'), route('fd00:0:0:3::/64', '2001:db8::3')]), [
    '192.0.2.2',
    '2001:db8::3',
  ]);
  const others = [
    route('10.1.2.0/24', '192.0.2.3'),
    route('10.1.2.0/25', '192.0.2.2'),
    route('10.1.2.0/24', '192.0.2.2', { protocol: 4 }),
    route('10.1.3.0/24', '192.0.2.3', { protocol: 87 }),
    route('10.1.4.0/24', '192.0.2.4', { type: 6 }),
    route('10.1.77.0/24', '192.0.2.77'),
    route('10.1.78.0/24', undefined),
    route('10.9.0.0/24', '192.0.2.2'),
  ];
  assert.equal(find(others), []);
  assert.equal(find(others, { isTakeOver: true }), [], 'flannel has made none');
});

test('at the take-over stale routes are flannel’s through any peer; later only through those remembered', () => {
  const stale = [
    route('10.1.2.0/24', '192.0.2.2'),
    route('10.1.70.0/24', '192.0.2.3'),
    route('10.1.71.0/24', '192.0.2.77'),
  ];
  assert.equal(find(stale), ['192.0.2.2']);
  assert.equal(find(stale, { isTakeOver: true }), ['192.0.2.2', '192.0.2.3']);
  assert.equal(find(stale, { peers: () => [], remembered: [address('192.0.2.2'), address('192.0.2.3')] }), [
    '192.0.2.2',
    '192.0.2.3',
  ]);
  assert.equal(find([], { remembered: [address('192.0.2.2')] }), [], 'none leads through it any more');
});

test('a router of this host is no peer of flannel’s, whatever a lease says', () => {
  const own = route('10.1.2.0/24', '192.0.2.2');
  assert.equal(find([own, route('0.0.0.0/0', '192.0.2.2')], { isTakeOver: true }), []);
  assert.equal(find([own, route('10.0.0.0/8', '192.0.2.2')], { remembered: [address('192.0.2.2')] }), []);
  // struct rtnexthop by struct rtnexthop: length, flags, hops, interface, RTA_GATEWAY.
  const hop = (last: number): number[] => [16, 0, 0, 0, 2, 0, 0, 0, 8, 0, 5, 0, 192, 0, 2, last];
  const unknown = [{ type: 9, value: Uint8Array.from([...hop(9), ...hop(2)]) }];
  assert.equal(find([own, route('0.0.0.0/0', undefined, { unknown })]), []);
});

test.run();
