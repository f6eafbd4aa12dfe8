import { stripVTControlCharacters } from 'node:util';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { compareConfigs } from '../../../cli/config-change.ts';
import { count, formatFacts, formatSpan, formatTable, forScreen, styleFor } from '../../../cli/text.ts';
import { formatYaml } from '../../../cli/yaml.ts';
import { parseNetworkConfig } from '../../../cluster/network-config.ts';
import { backends } from '../../../daemon/backends/map.ts';

/** Bun's own parser. */
const parseYaml = (text: string): unknown =>
  (globalThis as unknown as { Bun: { YAML: { parse(text: string): unknown } } }).Bun.YAML.parse(text);

const test = suite('weftctl’s words');

test('text written by others is shown without control characters', () => {
  const shown = forScreen({ peers: [{ node: 'h\x1b[2J', subnets: ['10.1.2.0/24'], problem: undefined }], count: 2 });
  assert.equal(shown, { peers: [{ node: 'h\\u001b[2J', subnets: ['10.1.2.0/24'], problem: undefined }], count: 2 });
});

test('spans of time are printed in two units', () => {
  for (const [ms, text] of [
    [0, '0 s'],
    [-5, '0 s'],
    [59_400, '59 s'],
    [60_000, '1 min'],
    [61_000, '1 min 1 s'],
    [3_600_000, '1 h'],
    [3_605_000, '1 h'],
    [86_340_000, '23 h 59 min'],
    [90_000_000, '1 d 1 h'],
    [86_460_000, '1 d'],
  ] as const) {
    assert.is(formatSpan(ms), text);
  }
});

test('tables are aligned by visible width, without colour codes', () => {
  const style = styleFor(true);
  const rows = [
    [style.green('up'), 'b'],
    ['longer', ''],
  ];
  const seen = stripVTControlCharacters(formatTable(['A', 'B'], rows, style));
  assert.is(seen, 'A       B\nup      b\nlonger\n');
});

test('counts have the right plural', () => {
  assert.equal([count(1, 'node'), count(0, 'node'), count(2, 'entry')], ['1 node', '0 nodes', '2 entries']);
});

test('a change of the config is shown key by key', () => {
  const parse = (text: string) => parseNetworkConfig(text, backends);
  const before = parse('{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}');
  assert.equal(compareConfigs(before, parse('{"backend":{"type":"VXLAN","vni":1},"network":"10.5.0.0/16"}')), []);
  assert.equal(
    compareConfigs(before, parse('{"Network":"10.5.0.0/16","SubnetLen":25,"Backend":{"Type":"vxlan","MTU":9000}}')),
    [
      { point: 'SubnetLen', before: '24', after: '25' },
      { point: 'SubnetMin', before: '10.5.1.0', after: '10.5.0.128' },
      { point: 'SubnetMax', before: '10.5.255.0', after: '10.5.255.128' },
      { point: 'Backend.MTU', before: '0', after: '9000' },
    ],
  );
  const toHostGateway = compareConfigs(before, parse('{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"}}'));
  assert.equal(toHostGateway[0], { point: 'Backend.Type', before: 'vxlan', after: 'host-gw' });
  assert.equal(toHostGateway[1], { point: 'Backend.VNI', before: '1', after: undefined });
  assert.ok(compareConfigs(undefined, before).every((change) => change.before === undefined));
});

const longRows = [
  [
    'a-very-long-name-of-a-container',
    '10.244.87.2',
    '\x1b[31mcannot be reached: its subnet overlaps a network of this host\x1b[0m',
  ],
  ['short', '10.244.87.3', '\x1b[32mup\x1b[0m'],
];

test('a table fits the terminal: sentences are wrapped, long words cut, colours stay whole', () => {
  for (const columns of [100, 60, 48]) {
    const text = formatTable(['CONTAINER', 'ADDRESS', 'STATE'], longRows, styleFor(true, columns));
    for (const line of text.split('\n'))
      assert.ok(stripVTControlCharacters(line).length <= columns, `${columns}: ${line}`);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: colours
    for (const line of text.trimEnd().split('\n')) assert.is(line.match(/\x1b\[\d{1,2}m/g)!.length % 2, 0, line);
    const words = stripVTControlCharacters(text).replaceAll(/\s+/g, ' ');
    for (const word of ['cannot', 'overlaps', 'network', 'host', '10.244.87.3']) assert.ok(words.includes(word), word);
  }
  const narrow = stripVTControlCharacters(formatTable(['CONTAINER', 'ADDRESS', 'STATE'], longRows, styleFor(true, 48)));
  assert.match(narrow, /^a-very-long[a-z-]*… {2}10\.244\.87\.2 /m);
});

test('a table that nobody looks at is as wide as it is', () => {
  const text = formatTable(['CONTAINER', 'ADDRESS', 'STATE'], longRows, styleFor(false));
  assert.ok(text.includes('a-very-long-name-of-a-container  10.244.87.2'));
});

test('facts are wrapped below their value', () => {
  const text = formatFacts(
    [
      ['Healed', 'nothing since the start of this weftd here'],
      ['X', 'y'],
    ],
    styleFor(false, 33),
  );
  assert.is(text, '  Healed  nothing since the start\n          of this weftd here\n  X       y\n');
});

test('YAML says the same as JSON', () => {
  const texts = [
    'up',
    'yes',
    'No',
    '',
    ' ',
    'a: b',
    '- a',
    '10.1.2.0/24',
    '1e3',
    '0x1f',
    'a #b',
    'é',
    'a\nb',
    '"',
    "'",
    '~',
    'null',
    '&a',
    '{',
    'x ',
    'a/b c',
  ];
  const values: unknown[] = [
    texts,
    Object.fromEntries(texts.map((text, i) => [text, i % 3 === 0 ? i : text])),
    { a: [], b: {}, c: [[1, [2, { d: null }]], [{ e: true, f: [{ g: 'h' }] }]], i: -1.5 },
    [],
    {},
    [[]],
    'text',
    null,
  ];
  for (const value of values) assert.equal(parseYaml(formatYaml(value)), value, formatYaml(value));
});

test.run();
