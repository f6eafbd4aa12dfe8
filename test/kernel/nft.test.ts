/**
 * nf_tables against this machine's kernel, in namespaces of its own; `nft` says what came of it. As root.
 * @guest
 */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type NftConnection, openNft, tableDifference } from '../../linux/nft/connection.ts';
import {
  accept,
  counter,
  destinationIn,
  destinationInSet,
  destinationIsLocal,
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
} from '../../linux/nft/match.ts';
import {
  deleteElements,
  deleteRule,
  type NftRule,
  type NftTable,
  newElements,
  newRule,
  newTable,
  nftPriority,
} from '../../linux/nft/table.ts';
import { sys } from '../../linux/sys-bun.ts';
import { parseAddress } from '../../net/address.ts';
import { parseMac } from '../../net/mac.ts';
import { type Prefix, parsePrefix } from '../../net/prefix.ts';
import { run } from '../lab/commands.ts';
import { withNamespace } from '../lab/namespaces.ts';
import { Scratch } from '../lab/scratch.ts';
import { fixture } from '../support/fixture.ts';
import {
  connectionMarkIs,
  connectionStateIn,
  destinationPort,
  isFamily,
  outputInterface,
  restoreMark,
  saveMark,
  setMark,
} from '../support/nft-match.ts';
import { removeTable, replaceTable } from '../support/nft-tables.ts';

const prefix = (text: string): Prefix => parsePrefix(text)!;
const key = (text: string): Uint8Array => parseAddress(text)!.bytes;
const mac = parseMac('02:00:00:00:00:01')!;

const test = suite('nft');
const host = fixture(
  test,
  () => {
    const scratch = new Scratch('nft');
    const name = scratch.addNamespace('host');
    const nft = withNamespace(name, (namespace) => openNft(sys, { namespace }));
    return { scratch, name, nft };
  },
  ({ scratch, nft }) => {
    nft.close();
    scratch.remove();
  },
);
const nftTool = (...words: string[]): string => run(['nft', ...words], { namespace: host().name });
/** The rules of a chain as nft shows them. */
const rulesShown = (...chain: string[]): string[] =>
  nftTool('list', 'chain', ...chain)
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !/^(table|chain|type|})/.test(line));

/** nft shows a table as it was written, and reading gives the same. */
function replaceAndRead(nft: NftConnection, table: NftTable): void {
  replaceTable(nft, table);
  const actual = nft.readTable(table);
  assert.ok(actual);
  assert.is(tableDifference(table, actual), undefined);
}

const network = prefix('10.5.0.0/16');
const subnet = prefix('10.5.16.0/20');
const weft: NftTable = {
  family: 'inet',
  name: 'weft',
  sets: [
    { name: 'peers', keyType: 'ipv4_addr', interval: false, elements: [key('192.0.2.1'), key('192.0.2.2')] },
    { name: 'peers6', keyType: 'ipv6_addr', interval: false, elements: [] },
    {
      name: 'networks',
      keyType: 'ipv4_addr',
      interval: true,
      elements: ['10.0.0.0/24', '10.0.1.0/24', '0.0.0.0/8', '255.255.255.0/24'].map(prefix),
    },
    { name: 'networks6', keyType: 'ipv6_addr', interval: true, elements: ['fd00::/64', '::1/128'].map(prefix) },
    { name: 'macs', keyType: 'ether_addr', interval: false, elements: [mac] },
  ],
  chains: [
    {
      name: 'postrouting',
      base: { type: 'nat', hook: 'postrouting', priority: nftPriority.srcnat, policy: 'accept' },
      rules: [
        rule([markIs(0x4000, 0x4000), returnVerdict()], { comment: 'weft masq' }),
        rule([sourceIn(subnet), destinationIn(network), returnVerdict()], { comment: 'mäsq' }),
        rule([sourceIn(network), not(destinationIn(network)), not(destinationIn(prefix('224.0.0.0/4'))), masquerade()]),
        rule([not(sourceIn(network)), destinationIn(network), masquerade({ fullyRandom: true })]),
        rule([sourceIn(prefix('fd00:5::/49')), not(destinationIn(prefix('ff00::/8'))), masquerade()]),
      ],
    },
    {
      name: 'forward',
      base: { type: 'filter', hook: 'forward', priority: nftPriority.filter, policy: 'accept' },
      rules: [
        rule([inputInterface('cni0'), not(outputInterface('cni0')), connectionStateIn(['established']), accept()]),
        rule([jump('sub')]),
      ],
    },
    {
      name: 'input',
      base: { type: 'filter', hook: 'prerouting', priority: nftPriority.raw, policy: 'drop' },
      rules: [
        rule([destinationPort('UDP', 8472), not(sourceInSet('peers', 4)), counter(), drop()]),
        rule([destinationPort('TCP', 80), sourceInSet('networks6', 6), accept()]),
      ],
    },
    {
      name: 'sub',
      rules: [
        rule([setMark(0x10, 0xf0)]),
        rule([setMark(5), saveMark()]),
        rule([restoreMark()]),
        rule([connectionMarkIs(1, 1), destinationIsLocal()]),
        rule([isFamily(6), accept()]),
        rule([sourceMac(mac), destinationInSet('networks', 4), accept()]),
      ],
    },
  ],
};

test('nft shows a table with every kind of rule as it was written', () => {
  replaceAndRead(host().nft, weft);
  assert.equal(rulesShown('inet', 'weft', 'postrouting'), [
    'meta mark & 0x00004000 == 0x00004000 return comment "weft masq"',
    'ip saddr 10.5.16.0/20 ip daddr 10.5.0.0/16 return comment "mäsq"',
    'ip saddr 10.5.0.0/16 ip daddr != 10.5.0.0/16 ip daddr != 224.0.0.0/4 masquerade',
    'ip saddr != 10.5.0.0/16 ip daddr 10.5.0.0/16 masquerade fully-random',
    'ip6 saddr fd00:5::/49 ip6 daddr != ff00::/8 masquerade',
  ]);
  assert.equal(rulesShown('inet', 'weft', 'forward'), [
    'iifname "cni0" oifname != "cni0" ct state established accept',
    'jump sub',
  ]);
  assert.equal(rulesShown('inet', 'weft', 'input'), [
    'udp dport 8472 ip saddr != @peers counter packets 0 bytes 0 drop',
    'tcp dport 80 ip6 saddr @networks6 accept',
  ]);
  assert.match(
    nftTool('list', 'chain', 'inet', 'weft', 'input'),
    /type filter hook prerouting priority raw; policy drop/,
  );
  assert.equal(rulesShown('inet', 'weft', 'sub'), [
    'meta mark set meta mark & 0xffffff1f | 0x00000010',
    'meta mark set 0x00000005 ct mark set meta mark',
    'meta mark set ct mark',
    'ct mark & 0x00000001 == 0x00000001 fib daddr type local',
    'meta nfproto ipv6 accept',
    'ether saddr 02:00:00:00:00:01 ip daddr @networks accept',
  ]);
  const sets = nftTool('list', 'sets').replace(/\s+/g, ' ');
  assert.match(sets, /elements = { 192.0.2.1, 192.0.2.2 }/);
  assert.match(sets, /elements = { 0.0.0.0\/8, 10.0.0.0\/24, 10.0.1.0\/24, 255.255.255.0\/24 }/);
  assert.match(sets, /elements = { ::1, fd00::\/64 }/);
  assert.match(sets, /elements = { 02:00:00:00:00:01 }/);
});

test('changes by others are detected', () => {
  const { nft } = host();
  const difference = (): string | undefined => tableDifference(weft, nft.readTable(weft)!);
  const changes: [string[], RegExp][] = [
    [['add', 'rule', 'inet', 'weft', 'forward', 'accept'], /chain "forward" has 3 rules, not 2/],
    [['flush', 'chain', 'inet', 'weft', 'sub'], /chain "sub" has 0 rules, not 6/],
    [['add', 'element', 'inet', 'weft', 'peers', '{ 192.0.2.9 }'], /set "peers" has other elements/],
    [['add', 'chain', 'inet', 'weft', 'mine'], /chain "mine" is not Weft's/],
    [['insert', 'rule', 'inet', 'weft', 'mine', 'drop'], /chain "mine" is not Weft's/],
    [['chain', 'inet', 'weft', 'forward', '{ policy drop; }'], /chain "forward" is of another .* policy/],
  ];
  for (const [words, expected] of changes) {
    replaceTable(nft, weft);
    assert.is(difference(), undefined);
    if (words[0] === 'insert') nftTool('add', 'chain', 'inet', 'weft', 'mine');
    nftTool(...words);
    assert.match(difference() ?? 'nothing', expected);
  }
  replaceTable(nft, weft);
});

test('elements are added and removed without touching the rest', () => {
  const { nft } = host();
  replaceTable(nft, weft);
  const handles = () => nft.readTable(weft)!.chains.map((chain) => chain.rules.map(({ handle }) => handle));
  const before = handles();
  nft.transact([
    ...newElements(weft, 'peers', [key('192.0.2.1'), key('192.0.2.7')]),
    ...deleteElements(weft, 'networks', [prefix('10.0.1.0/24')]),
    ...newElements(weft, 'networks', [prefix('10.0.2.0/23')]),
  ]);
  assert.equal(handles(), before);
  const sets = nftTool('list', 'sets').replace(/\s+/g, ' ');
  assert.match(sets, /192.0.2.1, 192.0.2.2, 192.0.2.7/);
  assert.match(sets, /{ 0.0.0.0\/8, 10.0.0.0\/24, 10.0.2.0\/23, 255.255.255.0\/24 }/);
});

test('a table of the bridge family is written and read back', () => {
  const items = (...list: Parameters<typeof rule>[0]): NftRule => rule(list, { family: 'bridge' });
  replaceAndRead(host().nft, {
    family: 'bridge',
    name: 'weft',
    sets: [],
    chains: [
      {
        name: 'spoofing',
        base: { type: 'filter', hook: 'prerouting', priority: -300, policy: 'accept' },
        rules: [
          items(inputInterface('v0'), not(sourceMac(mac)), drop()),
          items(inputInterface('v0'), not(sourceIn(prefix('10.5.0.2/32'))), drop()),
        ],
      },
    ],
  });
  assert.equal(rulesShown('bridge', 'weft', 'spoofing'), [
    'iifname "v0" ether saddr != 02:00:00:00:00:01 drop',
    'iifname "v0" ip saddr != 10.5.0.2 drop',
  ]);
});

test("a rule is added to another program's chain, whose own rules are kept and read as they are", () => {
  const { nft } = host();
  nftTool(
    'table ip other { chain FORWARD { type filter hook forward priority 0; policy drop; ' +
      'ip saddr { 192.0.2.1, 192.0.2.4 } tcp dport 22 log prefix "x" accept; }; }',
  );
  const before = rulesShown('ip', 'other', 'FORWARD');
  const other = { family: 'ip', name: 'other' } as const;
  const [found] = nft.listChains('ip');
  assert.equal([found!.table, found!.chain.name, found!.chain.base?.policy], [other, 'FORWARD', 'drop']);
  const own = rule([sourceIn(network), accept()], { comment: 'weft', family: 'ip' });
  nft.transact([newRule(other, 'FORWARD', own, 'first')]);
  assert.equal(rulesShown('ip', 'other', 'FORWARD'), ['ip saddr 10.5.0.0/16 accept comment "weft"', ...before]);
  const { handle } = nft.listRules(other, 'FORWARD').find(({ comment }) => comment === 'weft')!;
  nft.transact([deleteRule(other, 'FORWARD', handle!)]);
  assert.equal(rulesShown('ip', 'other', 'FORWARD'), before);
  const read = nft.readTable(other)!;
  assert.ok(read.chains[0]!.rules[0]!.expressions.some((e) => e.type === 'other' && e.name === 'log'));
  nftTool('delete', 'table', 'ip', 'other');
});

test('a transaction is applied completely or not at all, and the error names the refused request', () => {
  const { nft } = host();
  const before = nftTool('list', 'ruleset');
  const table = { family: 'ip', name: 'new' } as const;
  const cases: [Parameters<NftConnection['transact']>[0], RegExp][] = [
    [
      [newTable(table), newRule(weft, 'nothing', rule([accept()]))],
      /^Cannot add rule to chain "nothing" of table "inet weft": ENOENT/,
    ],
    [
      [newTable(table), newRule(weft, 'forward', rule([masquerade()], { comment: 'wrong' }))],
      /^Cannot add rule "wrong" to chain "forward" of table "inet weft": EOPNOTSUPP/,
    ],
    [
      [newTable(table), newRule(weft, 'forward', rule([sourceInSet('nothing', 4)])), newTable(table)],
      /^Cannot add rule to chain "forward" .*: ENOENT/,
    ],
    [deleteElements(weft, 'peers', [key('198.51.100.1')]), /^Cannot delete 1 elements: set "peers" of .*: ENOENT/],
  ];
  for (const [requests, expected] of cases) assert.throws(() => nft.transact(requests), expected);
  assert.is(nftTool('list', 'ruleset'), before);
  // A refused transaction leaves no answer that the next could take for its own.
  replaceAndRead(nft, weft);
});

test('twenty thousand elements fit in one transaction', () => {
  const elements = Array.from({ length: 20_000 }, (_, n) => Uint8Array.of(10, n >> 16, n >> 8, n));
  const table: NftTable = {
    family: 'inet',
    name: 'large',
    sets: [{ name: 'all', keyType: 'ipv4_addr', interval: false, elements }],
    chains: [],
  };
  replaceAndRead(host().nft, table);
  removeTable(host().nft, table);
});

test('removing a table twice succeeds', () => {
  const { nft } = host();
  removeTable(nft, weft);
  removeTable(nft, weft);
  assert.is(nft.readTable(weft), undefined);
  assert.is(nftTool('list', 'tables').includes('inet weft'), false);
});

test.run();
