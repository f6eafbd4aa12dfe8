/** Links against what the kernel and iproute2 really send. */

import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { formatAction } from '../../../../linux/errors.ts';
import type { NetlinkRequest } from '../../../../linux/netlink/connection.ts';
import {
  changeLink,
  createBridge,
  createVeth,
  decodeLink,
  decodeLinkState,
  deleteLink,
} from '../../../../linux/netlink/link.ts';
import { NetlinkReader } from '../../../../linux/netlink/wire.ts';
import { formatMac } from '../../../../net/mac.ts';
import { readMessages } from '../../../support/netlink-fixture.ts';
import { decodeMessages } from '../../../support/netlink-messages.ts';
import { bodyOf, linkOf, mac, refusesCutBodies, requestOf, takesRandomBytes, tree } from './codec.ts';

test('a veth that is a port of a bridge is decoded', () => {
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

test('all links are decoded, and unknown attributes are kept if asked for', () => {
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

test("a link's state is the same as in the whole link", () => {
  for (const name of ['link-veth', 'link-bridge', 'link-vxlan', 'links']) {
    for (const { body } of readMessages(name).filter(({ type }) => type === 16)) {
      const { index, flags, operstate, bridgePort } = decodeLink(body);
      assert.equal(decodeLinkState(body), {
        index,
        flags,
        operstate,
        ...(bridgePort ? { portState: bridgePort.state } : {}),
      });
    }
  }
});

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
});

test('a body that is cut off inside an attribute gives a DecodeError', () => {
  refusesCutBodies('link-veth', decodeLink);
});

test('captured messages with random bytes give values or a DecodeError', () => {
  takesRandomBytes((bytes) => {
    for (const { body } of decodeMessages(bytes)) decodeLink(body);
  });
  takesRandomBytes((bytes) => {
    for (const { body } of decodeMessages(bytes)) decodeLinkState(body);
  });
});

test('a request is described in words', () => {
  const words = (request: NetlinkRequest): string => formatAction(request.action);
  assert.is(words(changeLink({ name: 'v0' }, { up: true })), 'change link "v0"');
  assert.is(words(deleteLink({ index: 7 })), 'delete link 7');
  assert.throws(() => changeLink({ name: 'v0' }, { name: 'v1' }), RangeError);
});

test.run();
