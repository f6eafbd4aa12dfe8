import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { containerPrefixes as acceptedPrefixes } from '../../../../daemon/filter/cluster-prefixes.ts';
import { readCounts, withCounts } from '../../../../daemon/filter/counts.ts';
import { tableName } from '../../../../daemon/filter/packet-filter.ts';
import {
  destinationIn,
  markIs,
  masquerade,
  not,
  type RuleItem,
  returnVerdict,
  rule,
  sourceIn,
} from '../../../../linux/nft/match.ts';
import { parseAddress } from '../../../../net/address.ts';
import { parsePrefix } from '../../../../net/prefix.ts';
import { desiredTable, formatStructure, type RuleSettings } from '../../../lab/filter-rules.ts';

const test = suite('daemon/filter/rule-table');
const prefix = (text: string) => parsePrefix(text)!;

const settings: RuleSettings = {
  networks: { 4: prefix('10.5.0.0/16') },
  subnets: [{ 4: prefix('10.5.1.0/24') }],
  ipMasq: true,
  randomPorts: true,
  forward: true,
  lock: {
    outer: { 4: { ipProtocol: 17, udpPort: 8472, vni: 0x012345 } },
    lifeMs: 30_000,
    peers: ['192.0.2.2', '192.0.2.3', '0.0.0.0', '2001:db8::1', '192.0.2.2'].map((text) => parseAddress(text)!),
    containers: [prefix('10.5.0.0/16')],
  },
};
const chain = (name: string, from = settings) => desiredTable(from).chains.find((each) => each.name === name)!;
const weft = (...items: RuleItem[]) => rule(items, { comment: 'weft' });
const [c, p] = [prefix('10.5.0.0/16'), prefix('10.5.1.0/24')];
const everyone = not(destinationIn(prefix('224.0.0.0/4')));

test('masquerading is flannel’s, rule by rule', () => {
  const random = masquerade({ fullyRandom: true });
  assert.equal(chain('postrouting').rules, [
    weft(markIs(0x4000, 0x4000), returnVerdict()),
    weft(sourceIn(p), destinationIn(c), returnVerdict()),
    weft(sourceIn(c), destinationIn(p), returnVerdict()),
    weft(not(sourceIn(c)), destinationIn(p), returnVerdict()),
    weft(sourceIn(c), everyone, random),
    weft(not(sourceIn(c)), destinationIn(c), random),
  ]);
  const kept = chain('postrouting', { ...settings, randomPorts: false }).rules[4];
  assert.equal(kept, weft(sourceIn(c), everyone, masquerade()));
  assert.is(chain('postrouting', { ...settings, ipMasq: false }), undefined);
});

test('older subnets of this node are its own, too; and containers of a former network keep their way out', () => {
  const old = prefix('10.9.3.0/24');
  const former = { ...settings, subnets: [...settings.subnets, { 4: prefix('10.5.9.0/24') }, { 4: old }] };
  const { rules } = chain('postrouting', former);
  assert.equal(rules.slice(4, 7), [
    weft(sourceIn(prefix('10.5.9.0/24')), destinationIn(c), returnVerdict()),
    weft(sourceIn(c), destinationIn(prefix('10.5.9.0/24')), returnVerdict()),
    weft(not(sourceIn(c)), destinationIn(prefix('10.5.9.0/24')), returnVerdict()),
  ]);
  assert.equal(rules[11], weft(sourceIn(old), everyone, masquerade({ fullyRandom: true })));
  assert.equal(acceptedPrefixes(former), [c, old]);
  assert.is.not(formatStructure(former), formatStructure(settings));
});

test('peers are no part of the structure; the rest of the lock is', () => {
  const lock = settings.lock!;
  assert.is(formatStructure({ ...settings, lock: { ...lock, peers: [] } }), formatStructure(settings));
  assert.is.not(
    formatStructure({ ...settings, lock: { ...lock, outer: { 4: { ...lock.outer[4]!, vni: 1 } } } }),
    formatStructure(settings),
  );
  assert.is.not(formatStructure({ ...settings, lock: undefined }), formatStructure(settings));
});

test('the lock has peers of its families only, and its port for a while', () => {
  assert.equal(
    desiredTable(settings).sets.map(({ name, elements }) => [
      name,
      elements.map((key) => [...(key as Uint8Array)].join('.')),
    ]),
    [
      ['locked-port', ['33.24']],
      ['peers4', ['192.0.2.2', '192.0.2.3', '192.0.2.2']],
    ],
  );
  assert.equal(desiredTable({ ...settings, lock: undefined }).sets, []);
});

test('counts are taken over by the rule that has them', () => {
  const { chains } = desiredTable(settings);
  assert.equal(
    [...readCounts(chains).values()],
    [
      { packets: 0, bytes: 0 },
      { packets: 0, bytes: 0 },
    ],
  );
  const [first] = [...readCounts(chains).keys()];
  const counted = withCounts(chains, new Map([[first!, { packets: 3, bytes: 180 }]]));
  assert.equal(
    [...readCounts(counted).values()],
    [
      { packets: 3, bytes: 180 },
      { packets: 0, bytes: 0 },
    ],
  );
});

test('a table for each network', () => {
  assert.is(tableName(undefined), 'weft');
  assert.is(tableName('/blue/net work'), 'weft/blue/net_work');
});

test.run();
