import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { CniVersion } from '../../../cni/spec/versions.ts';
import {
  formatRange,
  formatRangeSet,
  parseRange,
  parseRangeSets,
  type RangeSources,
  rangeSetsOfNode,
} from '../../../ipam/ranges.ts';
import { formatAddress } from '../../../net/address.ts';
import { parsePrefix } from '../../../net/prefix.ts';
import { refused } from '../cni/refused.ts';

const test = suite('ipam/ranges');

const sets = (sources: Partial<RangeSources>, version: CniVersion = '1.1.0') =>
  parseRangeSets({ runtime: [], legacy: {}, ranges: [], ...sources }, version).map(formatRangeSet);

const invalid = (run: () => unknown, message: RegExp) => refused(run, 7, message);

test('a range defaults to the first through the last address before the broadcast address, with the first as the gateway', () => {
  for (const [subnet, range, gateway] of [
    ['10.1.2.0/24', '10.1.2.1-10.1.2.254', '10.1.2.1'],
    ['10.1.2.128/30', '10.1.2.129-10.1.2.130', '10.1.2.129'],
    ['fd00::/64', 'fd00::1-fd00::ffff:ffff:ffff:ffff', 'fd00::1'],
    ['fd00::4/126', 'fd00::5-fd00::7', 'fd00::5'],
  ] as const) {
    const parsed = parseRange({ subnet }, 'ipam');
    assert.is(formatRange(parsed), range);
    assert.is(formatAddress(parsed.gateway), gateway);
  }
});

test('the error for a wrong range names its place', () => {
  const range = (values: Parameters<typeof parseRange>[0]) => () => parseRange(values, 'ipam.ranges[0][1]');
  invalid(range({}), /"ipam\.ranges\[0\]\[1\]\.subnet" is ""/);
  invalid(range({ subnet: '10.0.0.0/33' }), /not a subnet/);
  invalid(range({ subnet: '10.0.0.1' }), /not a subnet/);
  for (const subnet of ['10.0.0.0/31', '10.0.0.0/32', 'fd00::/127', 'fd00::/128'])
    invalid(range({ subnet }), /too small/);
  invalid(range({ subnet: '10.0.0.1/24' }), /host bits set, write 10\.0\.0\.0\/24/);
  invalid(range({ subnet: '10.0.0.0/24', rangeStart: '10.0.1.1' }), /rangeStart" 10\.0\.1\.1 is not in the subnet/);
  invalid(range({ subnet: '10.0.0.0/24', rangeEnd: 'fd00::1' }), /rangeEnd" fd00::1 is not in the subnet/);
  invalid(range({ subnet: '10.0.0.0/24', rangeStart: '10.0.0.9', rangeEnd: '10.0.0.8' }), /after its end/);
  invalid(range({ subnet: '10.0.0.0/24', gateway: 'x' }), /gateway" is "x", which is not an IP address/);
  invalid(range({ subnet: '10.0.0.0/24', gateway: 'fd00::1' }), /not of the same family/);
  invalid(
    range({ subnet: '10.0.0.0/24', gateway: '10.0.1.1' }),
    /gateway" 10\.0\.1\.1 is not in the subnet 10\.0\.0\.0\/24/,
  );
  invalid(range({ subnet: 'fd00::/64', gateway: 'fe80::1' }), /gateway" fe80::1 is not in the subnet fd00::\/64/);
});

test('ranges come from runtimeConfig, then subnet, then ranges', () => {
  assert.equal(
    sets({
      ranges: [[{ subnet: '10.3.0.0/24' }]],
      legacy: { subnet: '10.2.0.0/24', rangeStart: '10.2.0.9' },
      runtime: [[{ subnet: '10.1.0.0/24' }]],
    }),
    ['10.1.0.1-10.1.0.254', '10.2.0.9-10.2.0.254', '10.3.0.1-10.3.0.254'],
  );
});

test('missing, empty, mixed and overlapping sets are refused', () => {
  invalid(() => sets({}), /no IP ranges/);
  invalid(() => sets({ ranges: [[]] }), /"ipam\.ranges\[0\]" is an empty range set/);
  invalid(() => sets({ ranges: [[{ subnet: '10.0.0.0/24' }, { subnet: 'fd00::/64' }]] }), /mixes IPv4 and IPv6/);
  invalid(() => sets({ ranges: [[{ subnet: '10.0.0.0/24' }, { subnet: '10.0.0.0/25' }]] }), /overlap/);
  invalid(
    () => sets({ ranges: [[{ subnet: '10.0.0.0/24' }], [{ subnet: '10.0.0.128/25' }]] }),
    /sets 0 \(10\.0\.0\.1-10\.0\.0\.254\) and 1 \(10\.0\.0\.129-10\.0\.0\.254\) overlap/,
  );
});

test('two parts of one subnet do not overlap, and families never do', () => {
  const half = (rangeStart: string, rangeEnd: string) => ({ subnet: '10.0.0.0/24', rangeStart, rangeEnd });
  const split = [half('10.0.0.1', '10.0.0.99'), half('10.0.0.100', '10.0.0.200')];
  assert.equal(sets({ ranges: [split] }), ['10.0.0.1-10.0.0.99,10.0.0.100-10.0.0.200']);
  assert.is(sets({ ranges: split.map((range) => [range]) }).length, 2);
  assert.is(sets({ ranges: [[{ subnet: '10.0.0.0/24' }], [{ subnet: '::/64' }]] }).length, 2);
});

test('old versions allow one address of each family', () => {
  const two = [[{ subnet: '10.0.0.0/24' }], [{ subnet: '10.0.1.0/24' }]];
  invalid(() => sets({ ranges: two }, '0.2.0'), /cniVersion 0\.2\.0 has one IPv4 address only/);
  assert.is(sets({ ranges: two }, '0.3.0').length, 2);
  assert.is(sets({ ranges: [[{ subnet: '10.0.0.0/24' }], [{ subnet: 'fd00::/64' }]] }, '0.2.0').length, 2);
});

test('the subnets of a node make one set per family, in their order', () => {
  const subnets = ['10.5.2.0/24', 'fd00:5::/64', '10.5.9.0/24'].map((text) => parsePrefix(text)!);
  assert.equal(rangeSetsOfNode({ subnets }).map(formatRangeSet), [
    '10.5.2.1-10.5.2.254,10.5.9.1-10.5.9.254',
    'fd00:5::1-fd00:5::ffff:ffff:ffff:ffff',
  ]);
});

test.run();
