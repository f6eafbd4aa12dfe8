/** Rules, chains, sets and elements as bytes, beside what the kernel lists. */

import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { DecodeError } from '../../../../linux/errors.ts';
import { NetlinkReader, NetlinkWriter } from '../../../../linux/netlink/wire.ts';
import { decodeExpression, type Expression, encodeExpression } from '../../../../linux/nft/expression.ts';
import {
  decodeChain,
  decodeElements,
  decodeRule,
  decodeSet,
  elementTexts,
  type NftElement,
  type NftSet,
  newElements,
  newRule,
  rawElements,
  toElements,
} from '../../../../linux/nft/table.ts';
import { formatPrefix, type Prefix } from '../../../../net/prefix.ts';
import { readMessages } from '../../../support/netlink-fixture.ts';
import { bytesOf } from '../../../support/netlink-messages.ts';
import { randomStream } from '../../../support/random.ts';

const roundTrip = (expression: Expression): Expression => {
  const writer = new NetlinkWriter();
  encodeExpression(writer, expression);
  return decodeExpression(NetlinkReader.of('expression', bytesOf(writer)).nested());
};

test('every captured rule survives decoding and encoding, unknown parts too', () => {
  for (const { body } of readMessages('nft-rules')) {
    const { chain, rule: each } = decodeRule(body);
    for (const expression of each.expressions) assert.equal(roundTrip(expression), expression);
    const writer = new NetlinkWriter();
    newRule({ family: 'inet', name: 'weft' }, chain, each).encodeBody(writer);
    const { handle: _, ...withoutHandle } = each;
    assert.equal(decodeRule(NetlinkReader.of('rule', bytesOf(writer))), { chain, rule: withoutHandle });
  }
});

test('a body that is cut off inside an attribute gives a DecodeError', () => {
  const decoders: [string, (body: NetlinkReader) => unknown][] = [
    ['nft-rules', decodeRule],
    ['nft-chains', decodeChain],
    ['nft-sets', decodeSet],
    ['nft-intervals', decodeElements],
  ];
  for (const [name, decode] of decoders) {
    for (const { body } of readMessages(name)) {
      const bytes = body.bytes();
      for (let length = 0; length < bytes.length; length++) {
        try {
          decode(NetlinkReader.of(name, bytes.slice(0, length)));
        } catch (error) {
          assert.instance(error, DecodeError, `${name} at ${length}: ${error}`);
        }
      }
    }
  }
});

test('chains and sets are decoded as the kernel lists them', () => {
  const chains = readMessages('nft-chains').map(({ body }) => decodeChain(body)!);
  assert.equal(
    chains.map(({ table, chain }) => [table.family, table.name, chain.name, chain.base]),
    [
      ['inet', 'weft', 'postrouting', { type: 'nat', hook: 'postrouting', priority: 100, policy: 'accept' }],
      ['inet', 'weft', 'input', { type: 'filter', hook: 'input', priority: 0, policy: 'drop' }],
      ['inet', 'weft', 'marked', undefined],
    ],
  );
  const sets = readMessages('nft-sets').map(({ body }) => decodeSet(body)!);
  assert.equal(sets, [
    { name: 'peers', keyType: 'ipv4_addr', interval: false, elements: [] },
    { name: 'networks', keyType: 'ipv6_addr', interval: true, elements: [] },
  ]);
  const elements = (name: string) => readMessages(name).flatMap(({ body }) => decodeElements(body));
  assert.equal(elementTexts(elements('nft-elements')), ['c0000201', 'c0000202']);
  const networks = toElements(sets[1]!, elements('nft-intervals')) as Prefix[];
  assert.equal(networks.map(formatPrefix).sort(), ['fd00:0:0:2::/63', 'fd00::/64']);
});

test('elements of any set are read back, and split into messages that hold them', () => {
  const random = randomStream(5);
  const set: NftSet = { name: 's', keyType: 'ipv4_addr', interval: true, elements: [] };
  for (let i = 0; i < 100; i++) {
    // Prefixes of one length do not overlap.
    const length = Math.floor(random() * 33);
    const prefixes = new Map<string, Prefix>();
    for (let n = 0; n < 20; n++) {
      const value =
        Math.floor(random() * 2 ** Math.min(length, 8)) * 2 ** (32 - length) +
        (n % 2 ? 0 : 2 ** 32 - 2 ** (32 - length));
      const wrapped = value % 2 ** 32;
      const address = {
        family: 4 as const,
        bytes: Uint8Array.of(wrapped / 2 ** 24, wrapped >>> 16, wrapped >>> 8, wrapped),
      };
      const each = { address, length };
      prefixes.set(formatPrefix(each), each);
    }
    const raw = rawElements([...prefixes.values()]);
    const found = toElements(set, raw) as Prefix[];
    assert.equal(found.map(formatPrefix).sort(), [...prefixes.keys()].sort(), String(length));
  }
  const many: NftElement[] = Array.from({ length: 2500 }, (_, n) => Uint8Array.of(10, 0, n >> 8, n));
  const requests = newElements({ family: 'inet', name: 'weft' }, 'peers', many);
  assert.is(requests.length, 3);
  let count = 0;
  for (const request of requests) {
    const writer = new NetlinkWriter();
    request.encodeBody(writer);
    count += decodeElements(NetlinkReader.of('elements', bytesOf(writer))).length;
  }
  assert.is(count, 2500);
  assert.equal(newElements({ family: 'inet', name: 'weft' }, 'peers', []), []);
});

test.run();
