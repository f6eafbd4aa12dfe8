import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { FilterSession, unknownGeneration } from '../../../../daemon/filter/filter-session.ts';
import type { NftConnection } from '../../../../linux/nft/connection.ts';
import type { Sys } from '../../../../linux/sys.ts';

const test = suite('daemon/filter/filter-session');

const nftAt = (generation: number | undefined): NftConnection =>
  ({ generation: () => generation }) as Partial<NftConnection> as NftConnection;

test('what is known moves on with our own transactions, and not past somebody else’s', () => {
  const session = new FilterSession({} as Sys);
  const [one, other] = [session.knowledge<string>(), session.knowledge<string>()];
  one.set('a', 5);
  other.set('b', 4);
  assert.ok(session.settle(nftAt(6), 5));
  assert.equal([one.isOf(6), other.isOf(6), other.isOf(4)], [true, false, true]);
  assert.not(session.settle(nftAt(8), 6));
  assert.equal([one.isOf(6), one.isOf(8), one.value], [true, false, 'a']);
});

test('the generation after the last number is 1', () => {
  const session = new FilterSession({} as Sys);
  const known = session.knowledge<string>();
  known.set('a', 0xffffffff);
  assert.ok(session.settle(nftAt(1), 0xffffffff));
  assert.ok(known.isOf(1));
  assert.is(session.generation(nftAt(undefined)), unknownGeneration);
});

test('the generation of the last look serves the next transaction, which finds changes by others', () => {
  const session = new FilterSession({} as Sys);
  const known = session.knowledge<string>();
  assert.is(session.lastGeneration(nftAt(5)), 5, 'nothing was looked at yet');
  known.set('a', 5);
  assert.is(session.lastGeneration(nftAt(9)), 5);
  assert.not(session.settle(nftAt(10), 5), 'others were there in between');
  assert.not(known.isOf(10));
  assert.is(session.lastGeneration(nftAt(11)), 10);
  session.close();
  assert.is(session.lastGeneration(nftAt(12)), 12);
});

test('all is forgotten with the connection', () => {
  const session = new FilterSession({} as Sys);
  const known = session.knowledge<string>();
  known.set('a', 5);
  known.amend('b');
  assert.equal([known.value, known.isOf(5)], ['b', true]);
  session.close();
  assert.equal([known.value, known.isOf(5), known.isOf(unknownGeneration)], [undefined, false, false]);
});

test.run();
