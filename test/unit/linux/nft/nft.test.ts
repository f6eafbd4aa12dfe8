/** nf_tables' codecs against what nft sends and the kernel lists, and the rules that match.ts builds. */

import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { DecodeError, errno } from '../../../../linux/errors.ts';
import type { NetlinkQuery } from '../../../../linux/netlink/connection.ts';
import { NetlinkReader, NetlinkWriter } from '../../../../linux/netlink/wire.ts';
import {
  NftConnection,
  type NftLink,
  replaceTableRequests,
  sameRule,
  tableDifference,
} from '../../../../linux/nft/connection.ts';
import {
  decodeExpression,
  type Expression,
  encodeExpression,
  formatExpression,
} from '../../../../linux/nft/expression.ts';
import {
  accept,
  counter,
  destinationIn,
  drop,
  inputInterface,
  jump,
  markIs,
  masquerade,
  not,
  returnVerdict,
  rule,
  sourceIn,
  sourceInSet,
  sourceMac,
} from '../../../../linux/nft/match.ts';
import {
  decodeChain,
  decodeElements,
  decodeRule,
  decodeSet,
  elementTexts,
  type NftElement,
  type NftRule,
  type NftSet,
  type NftTable,
  newElements,
  newRule,
  nftMessage,
  nftPriority,
  rawElements,
  toElements,
} from '../../../../linux/nft/table.ts';
import { parseAddress } from '../../../../net/address.ts';
import { parseMac } from '../../../../net/mac.ts';
import { formatPrefix, type Prefix, parsePrefix } from '../../../../net/prefix.ts';
import { readDatagrams, readMessages } from '../../../support/netlink-fixture.ts';
import { bytesOf, decodeMessages } from '../../../support/netlink-messages.ts';
import {
  connectionStateIn,
  destinationIsLocal,
  destinationPort,
  saveMark,
  setMark,
} from '../../../support/nft-match.ts';
import { randomStream } from '../../../support/random.ts';

const prefix = (text: string): Prefix => parsePrefix(text)!;
const key = (text: string): Uint8Array => parseAddress(text)!.bytes;

/** The rules of the fixtures' ruleset, by our builder, chain by chain. */
const expected: Record<string, NftRule[]> = {
  postrouting: [
    rule([sourceIn(prefix('10.5.16.0/20')), destinationIn(prefix('10.5.0.0/16')), counter(), returnVerdict()], {
      comment: 'within',
    }),
    rule([
      sourceIn(prefix('10.5.0.0/16')),
      not(destinationIn(prefix('224.0.0.0/4'))),
      masquerade({ fullyRandom: true }),
    ]),
    rule([sourceInSet('networks', 6), masquerade()]),
  ],
  input: [rule([inputInterface('lo'), accept()]), rule([markIs(0x4000, 0x4000), jump('marked')])],
  marked: [
    rule([connectionStateIn(['established', 'related']), accept()]),
    rule([destinationIsLocal(), setMark(5)]),
    rule([saveMark()]),
  ],
};
/** An interface's name is compared up to its zero by nft, with all its padding by us: it means the same. */
const unpadded = (each: NftRule): NftRule => ({
  ...each,
  expressions: each.expressions.map((e) =>
    e.type === 'cmp' && e.value.length === 16 ? { ...e, value: e.value.slice(0, e.value.indexOf(0) + 1) } : e,
  ),
});
const text = (each: NftRule): string => `${each.expressions.map(formatExpression).join('\n')} ${each.comment}`;

test("Weft's rules equal nft's for the same text, and those the kernel lists", () => {
  const listed = readMessages('nft-rules').map(({ body }) => decodeRule(body));
  const sent = decodeMessages(readDatagrams('request-nft')[0]!)
    .filter(({ type }) => type === nftMessage.NFT_MSG_NEWRULE)
    .map(({ body }) => decodeRule(body));
  assert.is(listed.length, 9);
  assert.is(sent.length, 9);
  for (const rules of [listed, sent]) {
    for (const [chain, own] of Object.entries(expected)) {
      const theirs = rules.filter((each) => each.chain === chain).map((each) => each.rule);
      own.forEach((each, i) => {
        assert.is(text(unpadded(each)), text(unpadded(theirs[i]!)), `${chain} ${i + 1}`);
      });
    }
  }
  assert.ok(listed.every((each) => each.rule.handle! > 0));
  const logging = listed.find(({ rule: { expressions } }) => expressions.some(({ type }) => type === 'other'))!;
  assert.equal(
    logging.rule.expressions.flatMap((e) => (e.type === 'other' ? e.name : [])),
    ['log'],
  );
});

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

const words = (each: NftRule): string[] => each.expressions.map(({ type }) => type);

test('each guard comes once, before the match that needs it, in the form of the family', () => {
  const items = [sourceIn(prefix('10.0.0.0/8')), not(destinationIn(prefix('10.0.0.0/9'))), drop()];
  assert.equal(words(rule(items)), ['meta', 'cmp', 'payload', 'cmp', 'payload', 'bitwise', 'cmp', 'verdict']);
  assert.equal(words(rule(items, { family: 'ip' })), ['payload', 'cmp', 'payload', 'bitwise', 'cmp', 'verdict']);
  const guard = (family: 'inet' | 'bridge', address: string) => {
    const [load, cmp] = rule([sourceIn(prefix(address))], { family }).expressions;
    assert.ok(load?.type === 'meta' && cmp?.type === 'cmp');
    return [load.key, ...cmp.value];
  };
  assert.equal(guard('inet', '10.0.0.0/8'), [15, 2]);
  assert.equal(guard('inet', 'fd00::/8'), [15, 10]);
  assert.equal(guard('bridge', '10.0.0.0/8'), [1, 8, 0]);
  assert.equal(guard('bridge', 'fd00::/8'), [1, 0x86, 0xdd]);
  const mac = sourceMac(parseMac('02:00:00:00:00:01')!);
  assert.equal(words(rule([mac], { family: 'bridge' })), ['payload', 'cmp']);
  assert.equal(words(rule([mac])), ['meta', 'cmp', 'payload', 'cmp']);
  assert.equal(words(rule([destinationPort('UDP', 8472)])), ['meta', 'cmp', 'payload', 'cmp']);
});

test('a prefix of no bits matches every address, and its opposite none', () => {
  assert.equal(words(rule([sourceIn(prefix('0.0.0.0/0'))])), ['meta', 'cmp']);
  assert.equal(words(rule([not(sourceIn(prefix('::/0')))])), ['meta', 'cmp', 'payload', 'range']);
});

test('a double negation is the match itself', () => {
  const match = sourceIn(prefix('10.0.0.0/8'));
  assert.equal(not(not(match)), match);
  assert.not(sameRule(rule([match]), rule([not(match)])));
});

test('a match that nf_tables cannot express is refused', () => {
  assert.throws(() => inputInterface('an-interface-name'), RangeError);
  const long = rule([accept()], { comment: 'x'.repeat(129) });
  const writer = new NetlinkWriter();
  assert.throws(() => newRule({ family: 'ip', name: 't' }, 'c', long).encodeBody(writer), RangeError);
});

const table: NftTable = {
  family: 'inet',
  name: 'weft',
  sets: [
    { name: 'peers', keyType: 'ipv4_addr', interval: false, elements: [key('192.0.2.1'), key('192.0.2.2')] },
    { name: 'networks', keyType: 'ipv6_addr', interval: true, elements: [prefix('fd00::/64')] },
  ],
  chains: [
    {
      name: 'postrouting',
      base: { type: 'nat', hook: 'postrouting', priority: nftPriority.srcnat, policy: 'accept' },
      rules: expected['postrouting']!,
    },
    { name: 'sub', rules: [rule([drop()])] },
  ],
};

test('two tables differ only in what matters', () => {
  assert.is(tableDifference(table, table), undefined);
  const [postrouting, sub] = table.chains;
  const [peers, networks] = table.sets;
  const counted = { ...postrouting!.rules[0]!, handle: 7 };
  counted.expressions = counted.expressions.map((e) => (e.type === 'counter' ? { ...e, packets: 5, bytes: 9 } : e));
  const same: NftTable = {
    ...table,
    sets: [networks!, { ...peers!, elements: [...peers!.elements].reverse() }],
    chains: [sub!, { ...postrouting!, rules: [counted, ...postrouting!.rules.slice(1)] }],
  };
  assert.is(tableDifference(table, same), undefined);
  const differ = (change: Partial<NftTable>): string | undefined => tableDifference(table, { ...table, ...change });
  assert.is(differ({ chains: [postrouting!] }), 'chain "sub" is missing');
  assert.is(differ({ chains: [...table.chains, { name: 'x', rules: [] }] }), 'chain "x" is not Weft\'s');
  assert.is(differ({ sets: [peers!] }), 'set "networks" is missing');
  assert.is(differ({ sets: [...table.sets, { ...peers!, name: 'x' }] }), 'set "x" is not Weft\'s');
  assert.is(differ({ sets: [{ ...peers!, elements: [] }, networks!] }), 'set "peers" has other elements');
  assert.is(differ({ sets: [{ ...peers!, interval: true }, networks!] }), 'set "peers" is of another type');
  assert.match(
    differ({ chains: [{ ...postrouting!, base: { ...postrouting!.base!, policy: 'drop' } }, sub!] })!,
    /chain "postrouting" is of another type, hook, priority or policy/,
  );
  const swapped = [...postrouting!.rules].reverse();
  assert.is(
    differ({ chains: [{ ...postrouting!, rules: swapped }, sub!] }),
    'rule 1 of chain "postrouting" is another one',
  );
  assert.is(differ({ chains: [{ ...postrouting!, rules: [] }, sub!] }), 'chain "postrouting" has 0 rules, not 3');
});

test('a table is replaced in one batch: deleted, created, filled', () => {
  const names = Object.entries(nftMessage);
  const order = replaceTableRequests(table).map(({ type }) => names.find(([, number]) => number === type)![0]);
  assert.equal(order, [
    'NFT_MSG_NEWTABLE',
    'NFT_MSG_DELTABLE',
    'NFT_MSG_NEWTABLE',
    'NFT_MSG_NEWSET',
    'NFT_MSG_NEWSETELEM',
    'NFT_MSG_NEWSET',
    'NFT_MSG_NEWSETELEM',
    'NFT_MSG_NEWCHAIN',
    'NFT_MSG_NEWCHAIN',
    ...new Array<string>(4).fill('NFT_MSG_NEWRULE'),
  ]);
});

test('a table that keeps changing while it is read gives an error', () => {
  let generation = 0;
  const netlink: NftLink = {
    port: 0,
    close: () => undefined,
    dump: () => [],
    get: <T>({ type }: NetlinkQuery<T>) => (type === nftMessage.NFT_MSG_GETGEN ? ++generation : undefined) as T,
    transact: () => undefined,
  };
  const nft = new NftConnection(netlink);
  try {
    nft.readTable(table);
    assert.unreachable();
  } catch (error) {
    assert.is((error as { errno?: number }).errno, errno.EAGAIN);
  }
});

test.run();
