/** Neighbours and FDB entries against what the kernel and iproute2 really send. */

import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { formatAction } from '../../../../linux/errors.ts';
import type { NetlinkRequest } from '../../../../linux/netlink/connection.ts';
import {
  decodeNeighbour,
  deleteFdbEntry,
  deleteNeighbour,
  encodeNeighbour,
  type Neighbour,
  newFdbEntry,
  newNeighbour,
} from '../../../../linux/netlink/neighbour.ts';
import { formatAddress } from '../../../../net/address.ts';
import { formatMac } from '../../../../net/mac.ts';
import { readMessages } from '../../../support/netlink-fixture.ts';
import { decodeMessages } from '../../../support/netlink-messages.ts';
import {
  address,
  mac,
  randomValues,
  refusesCutBodies,
  roundTrip,
  saysWhatIproute2Says,
  takesRandomBytes,
} from './codec.ts';

test('neighbours and FDB entries survive decoding and encoding', () => {
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

test("requests have the contents of iproute2's", () => {
  saysWhatIproute2Says([
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
  ]);
});

test('a body that is cut off inside an attribute gives a DecodeError', () => {
  refusesCutBodies('neighbours-ipv6', decodeNeighbour);
  refusesCutBodies('fdb', decodeNeighbour);
});

test('captured messages with random bytes give values or a DecodeError', () => {
  takesRandomBytes((bytes) => {
    for (const { body } of decodeMessages(bytes)) decodeNeighbour(body);
  });
});

test('random values survive encoding and decoding', () => {
  randomValues(({ random, integer, bytes, address, maybe }, family) => {
    const neighbour: Neighbour = {
      family: random() < 0.3 ? 'bridge' : family,
      index: integer(2 ** 31),
      state: integer(65536),
      flags: integer(256),
      type: integer(256),
      ...maybe('address', () => address(family)),
      ...maybe('mac', () => bytes(6)),
      ...maybe('vlan', () => integer(4096)),
      ...maybe('port', () => integer(65536)),
      ...maybe('vni', () => integer(2 ** 24)),
      ...maybe('master', () => integer(2 ** 31)),
    };
    assert.equal(roundTrip(neighbour, encodeNeighbour, decodeNeighbour), neighbour);
  });
});

test('a request is described in words', () => {
  const words = (request: NetlinkRequest): string => formatAction(request.action);
  assert.is(words(deleteNeighbour({ index: 7, address: address('::1') })), 'delete neighbour "::1" on interface 7');
});

test.run();
