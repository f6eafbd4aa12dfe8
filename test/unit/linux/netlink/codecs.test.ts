/** Links, addresses, routes, neighbours and events against what the kernel and iproute2 really send. */

import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { DecodeError, formatAction } from '../../../../linux/errors.ts';
import {
  decodeAddress,
  deleteAddress,
  encodeAddress,
  type InterfaceAddress,
  newAddress,
} from '../../../../linux/netlink/address.ts';
import { decodeAnswer, type NetlinkRequest } from '../../../../linux/netlink/connection.ts';
import { decodeEvents } from '../../../../linux/netlink/events.ts';
import {
  changeLink,
  createBridge,
  createVeth,
  decodeLink,
  deleteLink,
  type Link,
} from '../../../../linux/netlink/link.ts';
import {
  decodeNeighbour,
  deleteFdbEntry,
  deleteNeighbour,
  encodeNeighbour,
  type Neighbour,
  newFdbEntry,
  newNeighbour,
} from '../../../../linux/netlink/neighbour.ts';
import { decodeRoute, deleteRoute, encodeRoute, newRoute, type Route } from '../../../../linux/netlink/route.ts';
import { createVxlan, vxlanOf } from '../../../../linux/netlink/vxlan.ts';
import { decodeMessages, NetlinkReader, NetlinkWriter } from '../../../../linux/netlink/wire.ts';
import { type Address, formatAddress, parseAddress } from '../../../../net/address.ts';
import { formatMac, parseMac } from '../../../../net/mac.ts';
import { formatPrefix, parsePrefix } from '../../../../net/prefix.ts';
import { readDatagrams, readMessages } from '../../../support/netlink-fixture.ts';
import { randomStream } from '../../../support/random.ts';

const address = (text: string): Address => parseAddress(text)!;
const prefix = (text: string) => parsePrefix(text)!;
const mac = (text: string) => parseMac(text)!;

const bodyOf = (request: Pick<NetlinkRequest, 'encodeBody'>): Uint8Array => {
  const writer = new NetlinkWriter();
  request.encodeBody(writer);
  return writer.toBytes();
};
/** The last message of the fixture: tools may ask before they act. */
const requestOf = (name: string) => readMessages(name).at(-1)!;

const linkOf = (name: string): Link => decodeLink(readMessages(name)[0]!.body);

test('a veth that is a port of a bridge', () => {
  const { bridgePort, mac: hardware, kindData: _, operstate, ...link } = linkOf('link-veth');
  // Down, or that with the lower layer: it has no carrier either way.
  assert.ok(operstate === 2 || operstate === 3);
  assert.is(formatMac(hardware!), '02:00:00:00:00:11');
  assert.equal(link, {
    index: 11,
    name: 'v0',
    mtuBytes: 1450,
    flags: 0x1003, // up, broadcast, multicast
    up: true,
    hardwareType: 1,
    promiscuity: 1,
    master: 10,
    kind: 'veth',
    alias: 'weft',
    peerIndex: 2,
    peerNamespaceId: link.peerNamespaceId!,
  });
  assert.equal({ ...bridgePort, state: 0 }, { state: 0, hairpin: true, learning: true, isolated: true });
});

test('a bridge, and VXLAN devices of both families', () => {
  const bridge = linkOf('link-bridge');
  assert.is(bridge.kind, 'bridge');
  assert.is(bridge.mtuBytes, 1450);
  assert.is(vxlanOf(bridge), undefined);
  const { unknown: _four, ...vxlan } = vxlanOf(linkOf('link-vxlan'))!;
  assert.equal(vxlan, { vni: 7, port: 8472, local: address('10.1.0.1'), lower: 10, learning: false, gbp: false });
  const { unknown: _six, ...vxlan6 } = vxlanOf(linkOf('link-vxlan-ipv6'))!;
  assert.equal(vxlan6, { vni: 8, port: 8473, local: address('fd00:1::1'), lower: 10, learning: true, gbp: true });
});

test('all links, with the attributes that are not known kept where that is asked for', () => {
  const links = readMessages('links').map(({ body }) => decodeLink(body, true));
  assert.equal(
    links.map(({ name, kind }) => [name, kind]),
    [
      ['lo', undefined],
      ['br0', 'bridge'],
      ['v0', 'veth'],
      ['vx0', 'vxlan'],
      ['vx6', 'vxlan'],
    ],
  );
  // IFLA_TXQLEN among them.
  for (const { unknown } of links) assert.ok(unknown!.some(({ type }) => type === 13));
  assert.is(linkOf('link-veth').unknown, undefined);
});

test('addresses, there and back', () => {
  const addresses = readMessages('addresses').map(({ body }) => decodeAddress(body)!);
  const shown = addresses.map(
    (a) => `${a.index} ${formatPrefix(a.prefix)} ${a.scope} ${a.broadcast ? 'broadcast' : ''}`,
  );
  for (const line of [
    '1 127.0.0.1/8 254 ',
    '10 10.1.0.1/24 0 broadcast',
    '12 10.2.0.0/32 253 ',
    '10 fd00:1::1/64 0 ',
  ]) {
    assert.ok(shown.includes(line), `${line} in ${shown}`);
  }
  for (const each of addresses) {
    assert.equal(roundTrip(each, encodeAddress, decodeAddress), each);
    assert.is(each.validSeconds, undefined);
  }
});

function roundTrip<T>(
  value: T,
  encode: (writer: NetlinkWriter, value: T) => void,
  decode: (body: NetlinkReader) => T | undefined,
): T | undefined {
  const writer = new NetlinkWriter();
  encode(writer, value);
  return decode(NetlinkReader.of('round trip', writer.toBytes()));
}

const summary = (r: Route): string =>
  `${formatPrefix(r.destination)}${r.gateway ? ` via ${formatAddress(r.gateway)}` : ''} dev ${r.oif} table ${r.table}`;

test('routes of both families, there and back', () => {
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

test('neighbours and FDB entries, there and back', () => {
  const all = ['neighbours-ipv4', 'neighbours-ipv6', 'fdb'].flatMap(readMessages).map((m) => decodeNeighbour(m.body)!);
  const shown = all.map(
    (n) =>
      `${n.family} ${n.index} ${n.address ? formatAddress(n.address) : ''} ${n.mac ? formatMac(n.mac) : ''} ${n.state}`,
  );
  for (const line of [
    '4 12 10.2.1.0 02:00:00:00:00:21 128',
    '6 10 fd00:1::2 02:00:00:00:00:22 128',
    'bridge 12 10.1.0.2 02:00:00:00:00:21 192',
    'bridge 13 fd00:1::3 02:00:00:00:00:23 192',
  ]) {
    assert.ok(shown.includes(line), `${line} in ${shown.join('\n')}`);
  }
  const vxlan6 = all.find((n) => n.index === 13 && n.address && formatAddress(n.address) === 'fd00:1::3')!;
  assert.is(vxlan6.port, 4790);
  assert.is(vxlan6.vni, 9);
  // An entry of the bridge itself tells of its bridge.
  assert.ok(all.some((n) => n.family === 'bridge' && n.index === 11 && n.master === 10));
  for (const neighbour of all) assert.equal(roundTrip(neighbour, encodeNeighbour, decodeNeighbour), neighbour);
});

test('requests say what iproute2 says', () => {
  const cases: [string, NetlinkRequest, (body: NetlinkReader) => unknown][] = [
    [
      'request-address',
      newAddress({ index: 10, prefix: prefix('10.6.0.1/24'), broadcast: address('10.6.0.255') }),
      decodeAddress,
    ],
    ['request-address-ipv6', newAddress({ index: 10, prefix: prefix('fd00:6::1/64'), noDad: true }), decodeAddress],
    ['request-address-delete', deleteAddress({ index: 10, prefix: prefix('10.1.0.1/24') }), decodeAddress],
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
    [
      'request-neighbour',
      newNeighbour({ index: 12, address: address('10.2.2.0'), mac: mac('02:00:00:00:00:41') }),
      decodeNeighbour,
    ],
    [
      'request-fdb',
      newFdbEntry({ index: 12, mac: mac('02:00:00:00:00:41'), destination: address('10.1.0.3') }),
      // `bridge` adds NUD_NOARP, which means nothing to a VXLAN device; flannel does not.
      (body) => ({ ...decodeNeighbour(body), state: decodeNeighbour(body)!.state & ~0x40 }),
    ],
    [
      'request-fdb-delete',
      deleteFdbEntry({ index: 12, mac: mac('02:00:00:00:00:21'), destination: address('10.1.0.2') }),
      (body) => ({ ...decodeNeighbour(body), state: 0 }),
    ],
  ];
  for (const [name, request, decode] of cases) {
    const theirs = requestOf(name);
    assert.is(request.type, theirs.type, name);
    assert.is(request.flags, theirs.flags & ~5, name);
    const ours = NetlinkReader.of(name, bodyOf(request));
    assert.equal(decode(ours), decode(theirs.body), name);
  }
});

/** Attributes as text, sorted: tools write them in another order. Those in `nests` are of attributes themselves. */
function tree(r: NetlinkReader, nests: Readonly<Record<string, number>>, path = ''): string[] {
  const lines: string[] = [];
  while (r.next()) {
    const here = `${path}/${r.type}`;
    const skip = nests[here];
    if (skip === undefined) lines.push(`${here} ${[...r.bytes()].map((byte) => byte.toString(16)).join(' ')}`);
    else lines.push(...tree(r.nested(skip), nests, here));
  }
  return lines.sort();
}

test('links are made as iproute2 makes them', () => {
  const nests = { '/18': 0, '/18/2': 0, '/18/2/1': 16 };
  const cases: [string, NetlinkRequest, RegExp?][] = [
    [
      'request-veth',
      createVeth({
        name: 'v1',
        mac: mac('02:00:00:00:00:31'),
        mtuBytes: 1400,
        peer: { name: 'eth1', mac: mac('02:00:00:00:00:32'), mtuBytes: 1400, namespace: 99 },
      }),
      /^\/18\/2\/1\/28 /, // IFLA_NET_NS_FD
    ],
    ['request-bridge', createBridge({ name: 'br1', mac: mac('02:00:00:00:00:33'), mtuBytes: 1400 })],
    ['request-link-delete', deleteLink({ index: 12 })],
  ];
  for (const [name, request, own] of cases) {
    const theirs = requestOf(name);
    assert.is(request.type, theirs.type, name);
    assert.is(request.flags, theirs.flags & ~5, name);
    const body = NetlinkReader.of(name, bodyOf(request));
    assert.equal([...body.bytes(0, 16)], [...theirs.body.bytes(0, 16)], name);
    // `ip` gives kinds without a terminating zero.
    const normal = (lines: string[]): string[] => lines.map((line) => line.replace(/^(\/18\/1 .*) 0$/, '$1'));
    const ours = normal(tree(body.attributes(16, name), nests)).filter((line) => !own?.test(line));
    const expected = normal(tree(theirs.body.attributes(16, name), nests));
    // An empty IFLA_INFO_DATA may be there or not.
    assert.equal(ours, expected, name);
  }
  // `ip` spells out some defaults; what we say, it says as well.
  const theirs = requestOf('request-vxlan');
  const vxlanNests = { '/18': 0, '/18/2': 0 };
  const said = tree(theirs.body.attributes(16, 'vxlan'), vxlanNests).join('\n');
  const request = createVxlan({
    name: 'vx1',
    mac: mac('02:00:00:00:00:34'),
    mtuBytes: 1400,
    vni: 9,
    port: 8474,
    local: address('10.1.0.1'),
    lower: 10,
    learning: false,
    gbp: false,
  });
  for (const line of tree(NetlinkReader.of('ours', bodyOf(request)).attributes(16, 'vxlan'), vxlanNests)) {
    assert.ok(said.includes(line.replace(/^(\/18\/1 .*) 0$/, '$1')), `${line} in\n${said}`);
  }
});

test('a body cut off inside an attribute is a DecodeError', () => {
  const decoders: [string, (body: NetlinkReader) => unknown][] = [
    ['link-veth', decodeLink],
    ['link-vxlan-ipv6', (body) => vxlanOf(decodeLink(body))],
    ['addresses', decodeAddress],
    ['routes-ipv4', decodeRoute],
    ['routes-ipv6', decodeRoute],
    ['neighbours-ipv6', decodeNeighbour],
    ['fdb', decodeNeighbour],
  ];
  for (const [name, decode] of decoders) {
    for (const { body } of readMessages(name)) {
      const bytes = body.bytes();
      let errors = 0;
      for (let length = 0; length < bytes.length; length++) {
        try {
          decode(NetlinkReader.of(name, bytes.slice(0, length)));
        } catch (error) {
          assert.instance(error, DecodeError, `${name} at ${length}: ${error}`);
          errors++;
        }
      }
      // Between attributes there is nothing to notice.
      assert.ok(errors > bytes.length / 2, `${name}: ${errors} of ${bytes.length}`);
    }
  }
});

test('random bytes in place of captured ones give values or a DecodeError, nothing else', () => {
  const random = randomStream(3);
  for (const name of ['link-veth', 'addresses', 'routes-ipv4', 'fdb', 'events']) {
    const datagram = readDatagrams(name)[0]!;
    for (let i = 0; i < 300; i++) {
      const bytes = datagram.slice();
      for (let n = 0; n < 4; n++) bytes[16 + Math.floor(random() * (bytes.length - 16))] = Math.floor(random() * 256);
      try {
        for (const { body } of decodeMessages(bytes)) {
          for (const decode of [decodeLink, decodeAddress, decodeRoute, decodeNeighbour]) decode(body);
        }
        decodeEvents(bytes);
      } catch (error) {
        assert.instance(error, DecodeError, String(error));
      }
    }
  }
});

test('random values survive the way there and back', () => {
  const random = randomStream(11);
  const integer = (below: number): number => Math.floor(random() * below);
  const bytes = (length: number): Uint8Array => Uint8Array.from({ length }, () => integer(256));
  const anyAddress = (family: 4 | 6): Address => ({ family, bytes: bytes(family === 4 ? 4 : 16) });
  const maybe = <K extends string, V>(key: K, value: () => V): { [P in K]?: V } =>
    random() < 0.5 ? ({ [key]: value() } as { [P in K]: V }) : {};
  for (let i = 0; i < 300; i++) {
    const family = random() < 0.5 ? 4 : 6;
    const bits = family === 4 ? 32 : 128;
    const flags = integer(16);
    const route: Route = {
      family,
      destination: { address: anyAddress(family), length: 1 + integer(bits) },
      table: integer(2000),
      protocol: integer(256),
      scope: integer(256),
      type: integer(256),
      onlink: (flags & 4) !== 0,
      flags,
      ...maybe('gateway', () => anyAddress(family)),
      ...maybe('oif', () => integer(2 ** 31)),
      ...maybe('metric', () => integer(2 ** 32)),
      ...maybe('preferredSource', () => anyAddress(family)),
      ...maybe('mtuBytes', () => integer(65536)),
      ...maybe('advmss', () => integer(65536)),
      ...maybe('unknown', () => [{ type: 100 + integer(100), value: bytes(integer(30)) }]),
    };
    // Table 0 is "not said", and is what a table above 255 has in the header.
    assert.equal(roundTrip(route, encodeRoute, decodeRoute), route);
    const interfaceAddress: InterfaceAddress = {
      index: integer(2 ** 31),
      prefix: { address: anyAddress(family), length: integer(bits + 1) },
      scope: integer(256),
      flags: integer(2 ** 31),
      ...maybe('broadcast', () => anyAddress(family)),
      ...maybe('local', () => anyAddress(family)),
      ...maybe('label', () => 'eth0:1'),
      ...maybe('validSeconds', () => integer(1000)),
      ...maybe('preferredSeconds', () => integer(1000)),
    };
    assert.equal(roundTrip(interfaceAddress, encodeAddress, decodeAddress), interfaceAddress);
    const neighbour: Neighbour = {
      family: random() < 0.3 ? 'bridge' : family,
      index: integer(2 ** 31),
      state: integer(65536),
      flags: integer(256),
      type: integer(256),
      ...maybe('address', () => anyAddress(family)),
      ...maybe('mac', () => bytes(6)),
      ...maybe('vlan', () => integer(4096)),
      ...maybe('port', () => integer(65536)),
      ...maybe('vni', () => integer(2 ** 24)),
      ...maybe('master', () => integer(2 ** 31)),
    };
    assert.equal(roundTrip(neighbour, encodeNeighbour, decodeNeighbour), neighbour);
  }
});

test('answers: success, an error, an error in words', () => {
  const answer = (name: string) => decodeAnswer(decodeMessages(readDatagrams(name)[0]!)[0]!);
  assert.is(answer('success').errno, 0);
  assert.equal(answer('error-plain'), { errno: 19, text: undefined, offset: undefined });
  assert.is(answer('error-text').errno, 22);
  assert.is(answer('error-text').text, 'mtu less than device minimum');
});

test('events tell what changed and where', () => {
  const events = readDatagrams('events').flatMap(decodeEvents);
  const has = (kind: string, change: string, index?: number): boolean =>
    events.some((e) => e.kind === kind && e.change === change && e.index === index);
  assert.ok(has('link', 'new', 10));
  assert.ok(has('route', 'deleted'));
  assert.ok(events.every((e) => e.kind !== 'other' && e.kind !== 'overrun'));
});

test('an overrun, and a message that is not told apart', () => {
  const writer = new NetlinkWriter();
  for (const type of [4, 36, 2]) writer.endMessage(writer.beginMessage(type, 0, 0));
  assert.equal(decodeEvents(writer.toBytes()), [{ kind: 'overrun' }, { kind: 'other' }, { kind: 'other' }]);
});

test('what a request is about, in words', () => {
  const words = (request: NetlinkRequest): string => formatAction(request.action);
  assert.is(
    words(newRoute({ destination: prefix('10.1.0.0/24'), gateway: address('10.1.0.0'), oif: 5 }, 'replace')),
    'set route "10.1.0.0/24" via 10.1.0.0 on interface 5',
  );
  assert.is(words(newAddress({ index: 2, prefix: prefix('fd00::1/64') })), 'add address "fd00::1/64" to interface 2');
  assert.is(words(changeLink({ name: 'v0' }, { up: true })), 'change link "v0"');
  assert.is(words(deleteLink({ index: 7 })), 'delete link 7');
  assert.is(words(deleteNeighbour({ index: 7, address: address('::1') })), 'delete neighbour "::1" on interface 7');
  assert.throws(() => changeLink({ name: 'v0' }, { name: 'v1' }), RangeError);
});

test.run();
