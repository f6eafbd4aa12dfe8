import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { containerPrefixes as acceptedPrefixes } from '../../../../daemon/filter/cluster-prefixes.ts';
import {
  accept,
  destinationIn,
  markIs,
  masquerade,
  not,
  type RuleItem,
  returnVerdict,
  rule,
  sourceIn,
} from '../../../../linux/nft/match.ts';
import { formatStructure } from '../../../lab/filter-rules.ts';
import { chain, prefix, settings } from './settings-of.ts';

const test = suite('daemon/filter/masquerade and forward');

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

test('what containers send and get is accepted, also with addresses of a former network', () => {
  const old = prefix('10.9.3.0/24');
  const rules = (...prefixes: (typeof old)[]) =>
    prefixes.flatMap((each) => [weft(sourceIn(each), accept()), weft(destinationIn(each), accept())]);
  assert.equal(chain('forward').rules, rules(c));
  assert.equal(chain('forward', { ...settings, subnets: [...settings.subnets, { 4: old }] }).rules, rules(c, old));
  assert.is(chain('forward', { ...settings, forward: false }), undefined);
});

test.run();
