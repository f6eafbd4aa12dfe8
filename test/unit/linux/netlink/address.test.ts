/** Addresses of interfaces against what the kernel and iproute2 really send. */

import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { formatAction } from '../../../../linux/errors.ts';
import {
  decodeAddress,
  deleteAddress,
  encodeAddress,
  type InterfaceAddress,
  newAddress,
} from '../../../../linux/netlink/address.ts';
import type { NetlinkRequest } from '../../../../linux/netlink/connection.ts';
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

test('addresses survive decoding and encoding', () => {
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

test("requests have the contents of iproute2's", () => {
  saysWhatIproute2Says([
    [
      'request-address',
      newAddress({ index: 10, prefix: prefix('10.6.0.1/24'), broadcast: address('10.6.0.255') }),
      decodeAddress,
    ],
    ['request-address-ipv6', newAddress({ index: 10, prefix: prefix('fd00:6::1/64'), noDad: true }), decodeAddress],
    ['request-address-delete', deleteAddress({ index: 10, prefix: prefix('10.1.0.1/24') }), decodeAddress],
  ]);
});

test('a body that is cut off inside an attribute gives a DecodeError', () => {
  refusesCutBodies('addresses', decodeAddress);
});

test('captured messages with random bytes give values or a DecodeError', () => {
  takesRandomBytes((bytes) => {
    for (const { body } of decodeMessages(bytes)) decodeAddress(body);
  });
});

test('random values survive encoding and decoding', () => {
  randomValues(({ integer, address, maybe }, family) => {
    const bits = family === 4 ? 32 : 128;
    const interfaceAddress: InterfaceAddress = {
      index: integer(2 ** 31),
      prefix: { address: address(family), length: integer(bits + 1) },
      scope: integer(256),
      flags: integer(2 ** 31),
      ...maybe('broadcast', () => address(family)),
      ...maybe('local', () => address(family)),
      ...maybe('label', () => 'eth0:1'),
      ...maybe('validSeconds', () => integer(1000)),
      ...maybe('preferredSeconds', () => integer(1000)),
    };
    assert.equal(roundTrip(interfaceAddress, encodeAddress, decodeAddress), interfaceAddress);
  });
});

test('a request is described in words', () => {
  const words = (request: NetlinkRequest): string => formatAction(request.action);
  assert.is(words(newAddress({ index: 2, prefix: prefix('fd00::1/64') })), 'add address "fd00::1/64" to interface 2');
});

test.run();
