/** Routes against what the kernel and iproute2 really send. */

import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { formatAction } from '../../../../linux/errors.ts';
import type { NetlinkRequest } from '../../../../linux/netlink/connection.ts';
import { decodeRoute, deleteRoute, encodeRoute, newRoute, type Route } from '../../../../linux/netlink/route.ts';
import { formatAddress } from '../../../../net/address.ts';
import { formatPrefix } from '../../../../net/prefix.ts';
import { readMessages } from '../../../support/netlink-fixture.ts';
import { decodeMessages } from '../../../support/netlink-messages.ts';
import {
  address,
  prefix,
  randomValues,
  refusesCutBodies,
  roundTrip,
  saysWhatIproute2Says,
  takesRandomBytes,
} from './codec.ts';

const summary = (r: Route): string =>
  `${formatPrefix(r.destination)}${r.gateway ? ` via ${formatAddress(r.gateway)}` : ''} dev ${r.oif} table ${r.table}`;

test('routes of both families survive decoding and encoding', () => {
  const routes = ['routes-ipv4', 'routes-ipv6'].flatMap(readMessages).map(({ body }) => decodeRoute(body)!);
  const find = (destination: string): Route => routes.find((r) => formatPrefix(r.destination) === destination)!;
  assert.is(summary(find('10.2.1.0/24')), '10.2.1.0/24 via 10.2.1.0 dev 12 table 254');
  assert.is(find('10.2.1.0/24').onlink, true);
  const { metric, mtuBytes, advmss, table, protocol, scope, preferredSource } = find('10.3.0.0/16');
  assert.equal(
    { metric, mtuBytes, advmss, table, protocol, scope },
    { metric: 5, mtuBytes: 1300, advmss: 1200, table: 1000, protocol: 4, scope: 253 },
  );
  assert.is(formatAddress(preferredSource!), '10.1.0.1');
  assert.is(find('10.4.0.0/16').type, 6);
  // Several next hops are kept as they came.
  assert.ok(find('10.5.0.0/16').unknown!.some(({ type }) => type === 9));
  assert.is(summary(find('fd00:2::/64')), 'fd00:2::/64 via fd00:1::2 dev 10 table 254');
  assert.is(find('fd00:2::/64').metric, 77);
  for (const route of routes) assert.equal(roundTrip(route, encodeRoute, decodeRoute), route);
});

test("requests have the contents of iproute2's", () => {
  saysWhatIproute2Says([
    [
      'request-route',
      newRoute({ destination: prefix('10.7.0.0/16'), gateway: address('10.1.0.2'), oif: 10 }),
      decodeRoute,
    ],
    [
      'request-route-onlink',
      newRoute(
        {
          destination: prefix('10.2.1.0/24'),
          gateway: address('10.2.1.0'),
          oif: 12,
          onlink: true,
          preferredSource: address('10.1.0.1'),
          metric: 9,
          mtuBytes: 1300,
          advmss: 1200,
        },
        'replace',
      ),
      decodeRoute,
    ],
    ['request-route-link', newRoute({ destination: prefix('10.8.0.0/16'), oif: 10, table: 1000 }), decodeRoute],
    [
      'request-route-ipv6',
      newRoute({ destination: prefix('::/0'), gateway: address('fd00:1::2'), oif: 10 }),
      decodeRoute,
    ],
    ['request-route-delete', deleteRoute({ destination: prefix('10.2.1.0/24'), oif: 12 }), decodeRoute],
  ]);
});

test('a body that is cut off inside an attribute gives a DecodeError', () => {
  refusesCutBodies('routes-ipv4', decodeRoute);
  refusesCutBodies('routes-ipv6', decodeRoute);
});

test('captured messages with random bytes give values or a DecodeError', () => {
  takesRandomBytes((bytes) => {
    for (const { body } of decodeMessages(bytes)) decodeRoute(body);
  });
});

test('random values survive encoding and decoding', () => {
  randomValues(({ integer, bytes, address, maybe }, family) => {
    const bits = family === 4 ? 32 : 128;
    const flags = integer(16);
    const route: Route = {
      family,
      destination: { address: address(family), length: 1 + integer(bits) },
      table: integer(2000),
      protocol: integer(256),
      scope: integer(256),
      type: integer(256),
      onlink: (flags & 4) !== 0,
      flags,
      ...maybe('gateway', () => address(family)),
      ...maybe('oif', () => integer(2 ** 31)),
      ...maybe('metric', () => integer(2 ** 32)),
      ...maybe('preferredSource', () => address(family)),
      ...maybe('mtuBytes', () => integer(65536)),
      ...maybe('advmss', () => integer(65536)),
      ...maybe('unknown', () => [{ type: 100 + integer(100), value: bytes(integer(30)) }]),
    };
    // Table 0 is "not said", and stands in the header for a table above 255.
    assert.equal(roundTrip(route, encodeRoute, decodeRoute), route);
  });
});

test('a request is described in words', () => {
  const words = (request: NetlinkRequest): string => formatAction(request.action);
  assert.is(
    words(newRoute({ destination: prefix('10.1.0.0/24'), gateway: address('10.1.0.0'), oif: 5 }, 'replace')),
    'set route "10.1.0.0/24" via 10.1.0.0 on interface 5',
  );
});

test.run();
