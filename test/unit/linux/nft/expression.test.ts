/** Expressions as bytes, there and back. */

import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { NetlinkReader, NetlinkWriter } from '../../../../linux/netlink/wire.ts';
import {
  decodeExpression,
  type Expression,
  encodeExpression,
  formatExpression,
} from '../../../../linux/nft/expression.ts';
import type { NftRule } from '../../../../linux/nft/table.ts';
import { parseAddress } from '../../../../net/address.ts';
import { bytesOf } from '../../../support/netlink-messages.ts';

const _key = (text: string): Uint8Array => parseAddress(text)!.bytes;
const _text = (each: NftRule): string => `${each.expressions.map(formatExpression).join('\n')} ${each.comment}`;
const roundTrip = (expression: Expression): Expression => {
  const writer = new NetlinkWriter();
  encodeExpression(writer, expression);
  return decodeExpression(NetlinkReader.of('expression', bytesOf(writer)).nested());
};

test('every kind of expression survives encoding and decoding', () => {
  const bytes = (...values: number[]) => Uint8Array.from(values);
  const all: Expression[] = [
    { type: 'meta', key: 6, register: 1 },
    { type: 'meta set', key: 3, source: 2 },
    { type: 'ct', key: 0, register: 1 },
    { type: 'ct', key: 8, register: 1, direction: 1 },
    { type: 'ct set', key: 3, source: 1 },
    { type: 'payload', base: 1, offset: 12, lengthBytes: 4, register: 1 },
    { type: 'bitwise', source: 1, register: 2, mask: bytes(255, 240), xor: bytes(0, 1) },
    ...(['==', '!=', '<', '<=', '>', '>='] as const).map(
      (op): Expression => ({ type: 'cmp', source: 1, op, value: bytes(1, 2, 3) }),
    ),
    { type: 'range', source: 1, inverted: true, from: bytes(1), to: bytes(9) },
    { type: 'lookup', source: 1, set: 'peers', inverted: true },
    { type: 'immediate', register: 1, value: bytes(1, 2, 3, 4) },
    ...(['drop', 'accept', 'continue', 'return'] as const).map((verdict): Expression => ({ type: 'verdict', verdict })),
    { type: 'verdict', verdict: 'jump', chain: 'x' },
    { type: 'verdict', verdict: 'goto', chain: 'y' },
    { type: 'counter', packets: 2 ** 40, bytes: 2 ** 52 + 1 },
    { type: 'masq', flags: 0 },
    { type: 'masq', flags: 16 },
    { type: 'fib', result: 3, flags: 2, register: 1 },
    { type: 'dynset', set: 'seen', source: 1, operation: 'update' },
    { type: 'exthdr', header: 44, register: 1 },
    { type: 'notrack' },
    { type: 'other', name: 'quota', data: bytes(5, 0, 1, 0, 7, 0, 0, 0) },
  ];
  for (const expression of all) assert.equal(roundTrip(expression), expression);
});

test('a known expression with an unknown attribute is kept as bytes', () => {
  const writer = new NetlinkWriter();
  writer.attributeText(1, 'masq');
  const data = writer.begin(2);
  writer.attributeU32be(2, 8); // NFTA_MASQ_REG_PROTO_MIN
  writer.end(data);
  const expression = decodeExpression(NetlinkReader.of('expression', bytesOf(writer)).nested());
  assert.is(expression.type, 'other');
  assert.equal(roundTrip(expression), expression);
});

test.run();
