/** IP tunnels, and the routes and neighbours that go with them, against what the kernel and iproute2 really send. */

import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { encapsulationAttributes, encapsulationOf } from '../../../../linux/netlink/encapsulation.ts';
import type { IpTunnelData } from '../../../../linux/netlink/ip-tunnel.ts';
import { decodeLink } from '../../../../linux/netlink/link.ts';
import { decodeNeighbour } from '../../../../linux/netlink/neighbour.ts';
import { decodeRoute, encodeRoute, newRoute, type Route } from '../../../../linux/netlink/route.ts';
import { createTunnel, isTunnelKind, moduleOf, tunnelOf } from '../../../../linux/netlink/tunnel.ts';
import { NetlinkReader } from '../../../../linux/netlink/wire.ts';
import { formatPrefix } from '../../../../net/prefix.ts';
import { readMessages } from '../../../support/netlink-fixture.ts';
import {
  address,
  bodyOf,
  linkKindNests,
  linkOf,
  prefix,
  refusesCutBodies,
  requestOf,
  roundTrip,
  tree,
} from './codec.ts';

test('kinds and their modules', () => {
  assert.equal(['vxlan', 'ipip', 'gre', 'ip6gre'].map(moduleOf), ['vxlan', 'ipip', 'ip_gre', 'ip6_gre']);
  assert.equal(['veth', undefined, 'toString'].map(isTunnelKind), [false, false, false]);
  assert.is(tunnelOf(linkOf('link-veth')), undefined);
});

test('ipip, gre and ip6gre devices are decoded', () => {
  const of = (name: string) => {
    const { unknown: _, ...data } = tunnelOf(linkOf(name)) as IpTunnelData;
    return data;
  };
  const local = address('10.1.0.1');
  assert.equal(of('link-ipip'), { local, external: false, settings: [] });
  assert.equal(of('link-gre'), { local, key: 7, external: false, settings: [] });
  assert.equal(of('link-ip6gre').external, true);
  assert.is(linkOf('link-ipip').mac, undefined);
  assert.is(linkOf('link-ip6gre').mtuBytes, 1402);
});

test('devices are made as iproute2 makes them', () => {
  const local = address('10.1.0.2');
  for (const [name, kind, mtuBytes, data] of [
    ['request-ipip', 'ipip', 1430, { local, external: false }],
    ['request-gre', 'gre', 1422, { local, key: 9, external: false }],
  ] as const) {
    // `ip` spells out some defaults; everything that we say, it says as well.
    const said = tree(requestOf(name).body.attributes(16, name), linkKindNests).join('\n');
    const request = createTunnel(kind, { name: 't1', mtuBytes }, data);
    for (const line of tree(NetlinkReader.of('ours', bodyOf(request)).attributes(16, name), linkKindNests)) {
      assert.ok(said.includes(line.replace(/^(\/18\/1 .*) 0$/, '$1')), `${line} in\n${said}`);
    }
  }
});

test('a route says how its packets are wrapped', () => {
  const routes = readMessages('routes-encapsulated').map(({ body }) => decodeRoute(body)!);
  const route = routes.find(({ destination }) => formatPrefix(destination) === 'fd00:9::/64')!;
  const encapsulation = { source: address('2001:db8::1'), destination: address('2001:db8::2'), key: 7 };
  assert.equal(encapsulationOf(route), encapsulation);
  for (const each of routes) assert.equal(roundTrip<Route>(each, encodeRoute, decodeRoute), each);
  assert.is(encapsulationOf(decodeRoute(readMessages('routes-ipv6')[0]!.body)!), undefined);

  const nests = { '/22': 0 };
  const said = tree(requestOf('request-route-encapsulated').body.attributes(12, 'route'), nests).join('\n');
  const request = newRoute(
    { destination: prefix('fd00:a::/64'), oif: 22, unknown: encapsulationAttributes(encapsulation) },
    'replace',
  );
  const ours = tree(NetlinkReader.of('ours', bodyOf(request)).attributes(12, 'route'), nests);
  assert.ok(ours.length >= 7);
  for (const line of ours) assert.ok(said.includes(line), `${line} in\n${said}`);
  const keyless = { source: address('192.0.2.1'), destination: address('192.0.2.2') };
  const body = bodyOf(
    newRoute({ destination: prefix('10.1.0.0/24'), oif: 22, unknown: encapsulationAttributes(keyless) }),
  );
  assert.equal(encapsulationOf(decodeRoute(NetlinkReader.of('ours', body))!), keyless);
});

test('a neighbour on an IP tunnel has the remote host’s address in place of a MAC', () => {
  const neighbours = readMessages('neighbours-gre').map(({ body }) => decodeNeighbour(body)!);
  const found = neighbours.find(({ state }) => state & 0x80)!;
  assert.equal(found.mac, address('192.0.2.2').bytes);
  assert.equal(found.address, address('10.9.2.0'));
});

test('a body that is cut off inside an attribute gives a DecodeError', () => {
  for (const name of ['link-ipip', 'link-gre', 'link-ip6gre'])
    refusesCutBodies(name, (body) => tunnelOf(decodeLink(body)));
});

test.run();
