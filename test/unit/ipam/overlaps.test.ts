import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { findOverlap, SpanIndex } from '../../../ipam/overlaps.ts';
import { parseResolvConf } from '../../../ipam/resolv-conf.ts';
import { type Address, compareAddresses, offsetAddress, parseAddress } from '../../../net/address.ts';
import { randomStream } from '../../support/random.ts';

const test = suite('ipam/overlaps');

interface Span {
  readonly start: Address;
  readonly end: Address;
}

const at = (offset: number, family: 4 | 6 = 4): Address =>
  offsetAddress(parseAddress(family === 4 ? '10.0.0.0' : 'fd00::')!, offset)!;
const span = (start: number, end: number, family: 4 | 6 = 4): Span => ({
  start: at(start, family),
  end: at(end, family),
});
const overlap = (a: Span, b: Span): boolean =>
  a.start.family === b.start.family && compareAddresses(a.start, b.end) <= 0 && compareAddresses(b.start, a.end) <= 0;

test('an overlap is found wherever it is, and the pair is in the order of the list', () => {
  const [low, high, wide, other] = [span(1, 5), span(6, 9), span(9, 30), span(1, 9, 6)];
  assert.is(findOverlap([]), undefined);
  assert.is(findOverlap([high, low, other]), undefined);
  assert.equal(findOverlap([wide, low, high]), [wide, high]);
  assert.equal(findOverlap([low, span(7, 8), other, high]), [span(7, 8), high]);
  assert.equal(findOverlap([low, low]), [low, low]);
});

test('the answers are the same as those of comparing all pairs', () => {
  for (let seed = 1; seed <= 2000; seed++) {
    const random = randomStream(seed);
    const draw = (below: number): number => Math.floor(random() * below);
    const spans = Array.from({ length: 1 + draw(7) }, () => {
      const start = draw(60);
      return span(start, start + draw(8), draw(4) === 0 ? 6 : 4);
    });
    const found = findOverlap(spans);
    const has = spans.some((a, i) => spans.slice(0, i).some((b) => overlap(a, b)));
    assert.is(found !== undefined, has, `seed ${seed}`);
    if (!has) {
      const index = new SpanIndex(spans);
      for (const address of [...Array.from({ length: 70 }, (_, i) => at(i)), at(draw(70), 6)]) {
        const holder = spans.find((each) => overlap(each, { start: address, end: address }));
        assert.is(index.find(address), holder, `seed ${seed}`);
      }
    }
    if (found) assert.ok(overlap(...found) && spans.indexOf(found[0]) <= spans.lastIndexOf(found[1]), `seed ${seed}`);
  }
});

test('four times as many ranges take about four times the work, in any order', () => {
  for (const order of ['ascending', 'descending'] as const) {
    const work = [1000, 4000].map((count) => {
      let reads = 0;
      const spans = Array.from({ length: count }, (_, i) => {
        const { start, end } = span(
          10 * (order === 'ascending' ? i : count - i),
          10 * (order === 'ascending' ? i : count - i) + 5,
        );
        return { start: counted(start), end: counted(end) };
      });
      function counted(address: Address): Address {
        return {
          family: address.family,
          get bytes() {
            reads++;
            return address.bytes;
          },
        };
      }
      assert.is(findOverlap(spans), undefined);
      return reads;
    }) as [number, number];
    assert.ok(work[1] < 6 * work[0], `${order}: ${work}`);
  }
});

test('a resolv.conf with very many words is read', () => {
  const { search, options } = parseResolvConf(`search${' a'.repeat(200_000)}\noptions${' b'.repeat(200_000)}\n`);
  assert.equal([search!.length, options!.length], [200_000, 200_000]);
});

test.run();
