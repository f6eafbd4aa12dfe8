/** Matches and actions: what a rule is made of, beside what nft makes of its text. */

import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { NetlinkWriter } from '../../../../linux/netlink/wire.ts';
import { sameRule } from '../../../../linux/nft/connection.ts';
import { formatExpression } from '../../../../linux/nft/expression.ts';
import {
  accept,
  destinationIn,
  drop,
  inputInterface,
  not,
  rule,
  sourceIn,
  sourceMac,
} from '../../../../linux/nft/match.ts';
import { decodeRule, type NftRule, newRule, nftMessage } from '../../../../linux/nft/table.ts';
import { parseMac } from '../../../../net/mac.ts';
import { readDatagrams, readMessages } from '../../../support/netlink-fixture.ts';
import { decodeMessages } from '../../../support/netlink-messages.ts';
import { destinationPort } from '../../../support/nft-match.ts';
import { expected, prefix } from './ruleset.ts';

/** An interface's name is compared up to its zero by nft, with all its padding by us: it means the same. */
const unpadded = (each: NftRule): NftRule => ({
  ...each,
  expressions: each.expressions.map((e) =>
    e.type === 'cmp' && e.value.length === 16 ? { ...e, value: e.value.slice(0, e.value.indexOf(0) + 1) } : e,
  ),
});
const text = (each: NftRule): string => `${each.expressions.map(formatExpression).join('\n')} ${each.comment}`;
const words = (each: NftRule): string[] => each.expressions.map(({ type }) => type);

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

test.run();
