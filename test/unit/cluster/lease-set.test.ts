import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Lease } from '../../../cluster/lease.ts';
import { type LeaseChange, LeaseSet } from '../../../cluster/lease-set.ts';
import { randomStream } from '../../support/random.ts';
import { peer } from '../daemon/overlay/cluster-of.ts';

const test = suite('cluster/lease-set');

const names = (leases: Iterable<Lease>): string[] => [...leases].map(({ node }) => node!);

test('a set gives the changes since an earlier one', () => {
  const [two, three, four] = [peer(2), peer(3), peer(4)];
  const first = LeaseSet.of([two, three]);
  const changed = peer(3, { version: '2' });
  const second = first.with([[three, changed]])!;
  const third = second.with([
    [undefined, four],
    [two, undefined],
  ])!;
  assert.equal(names(first), ['h2', 'h3'], 'a set stays what it is');
  assert.equal(third.all, [changed, four]);
  assert.equal(third.changesSince(third), []);
  assert.is(third.changesSince(second)?.length, 2);
  assert.is(third.changesSince(first)?.length, 3);
  assert.is(first.changesSince(third), undefined, 'there is no way back');
  assert.equal(third.differenceTo(first), { removed: [three, two], added: [changed, four] });
});

test('no changes give the same set; changes of another set are refused', () => {
  const set = LeaseSet.of([peer(2)]);
  assert.is(set.with([]), set);
  assert.is(set.with([[peer(2), undefined]]), undefined, 'it looks alike, but is another lease');
  assert.is(LeaseSet.of([]).with([])?.size, 0);
});

test('a lease is found by its owner in each set that came of another', () => {
  const [two, three, four] = [peer(2), peer(3), peer(4)];
  const first = LeaseSet.of([two, three]);
  assert.is(first.byOwner(three.ownerId), three);
  const second = first.with([[undefined, four]])!;
  assert.is(second.byOwner(three.ownerId), three);
  const changed = peer(3, { version: '2' });
  const third = second.with([[three, changed]])!;
  assert.is(third.byOwner(three.ownerId), changed);
  assert.is(third.with([[changed, undefined]])!.byOwner(three.ownerId), undefined);
  assert.is(third.byOwner(four.ownerId), four);
  assert.is(second.byOwner(three.ownerId), three, 'a set stays what it is');
  assert.is(LeaseSet.of([]).byOwner(two.ownerId), undefined);
});

test('two sets that continue one set are compared as lists', () => {
  const [two, three, four] = [peer(2), peer(3), peer(4)];
  const before = LeaseSet.of([two]);
  const one = before.with([[undefined, three]])!;
  const other = before.with([[undefined, four]])!;
  assert.is(other.changesSince(before), undefined);
  assert.is(other.changesSince(one), undefined);
  assert.equal(other.differenceTo(one), { removed: [three], added: [four] });
  assert.equal(other.differenceTo(before), { removed: [], added: [four] });
});

test('property: sets that share a list give what a copy for each would, in whatever order they are asked', () => {
  for (let seed = 1; seed <= 60; seed++) {
    const stream = randomStream(seed);
    const random = (below: number): number => Math.floor(stream() * below);
    const first = [2, 3, 4, 5].map((n) => peer(n));
    const made: { readonly set: LeaseSet; readonly list: readonly Lease[] }[] = [
      { set: LeaseSet.of(first), list: [...first] },
    ];
    for (let round = 0; round < (seed === 1 ? 700 : 30); round++) {
      const { set, list } = random(10) === 0 ? made[random(made.length)]! : made.at(-1)!;
      const next = [...list];
      const changes = Array.from({ length: 1 + random(3) }, (): LeaseChange => {
        const was = random(3) === 0 ? undefined : next[random(next.length)];
        const is = was && random(2) === 0 ? undefined : peer(random(200));
        if (was && is) next[next.indexOf(was)] = is;
        else if (was) next.splice(next.indexOf(was), 1);
        else next.push(is!);
        return [was, is];
      });
      assert.is(set.with([...changes, [peer(1), undefined]]), undefined, 'the last one is of no set');
      made.push({ set: set.with(changes)!, list: next });
      const { set: asked, list: known } = made[random(made.length)]!;
      if (random(4) === 0) assert.ok(known.every((lease) => asked.has(lease)) && asked.size === known.length);
      if (random(8) === 0) assert.equal(names(asked), names(known), `seed ${seed}`);
      if (random(16) === 0) assert.equal(names(asked.all), names(known), `seed ${seed}`);
    }
    for (const { set, list } of random(2) === 0 ? made : made.toReversed()) {
      assert.ok(set.all.length === list.length && set.all.every((lease, i) => lease === list[i]), `seed ${seed}`);
    }
  }
});

test('very old changes are dropped, and the lists compared', () => {
  const first = LeaseSet.of([peer(2)]);
  let set = first;
  for (let i = 0; i < 3000; i++) set = set.with([[set.all[0]!, peer(2, { version: String(i) })]])!;
  assert.is(set.changesSince(first), undefined);
  assert.equal(set.differenceTo(first), { removed: first.all, added: set.all });
});

test('property: the difference leads from any set to any later one', () => {
  for (let seed = 1; seed <= 50; seed++) {
    const stream = randomStream(seed);
    const random = (below: number): number => Math.floor(stream() * below);
    const sets = [LeaseSet.of([2, 3, 4].map((n) => peer(n)))];
    for (let round = 0; round < 20; round++) {
      const last = sets.at(-1)!;
      const was = random(3) === 0 ? undefined : last.all[random(last.size + 1)];
      const change: LeaseChange = [was, was && random(2) === 0 ? undefined : peer(random(200))];
      sets.push(last.with([change])!);
    }
    const later = sets[random(sets.length)]!;
    for (const earlier of sets.slice(0, sets.indexOf(later) + 1)) {
      const { removed, added } = later.differenceTo(earlier);
      const made = new Set(earlier.all);
      for (const lease of removed) assert.ok(made.delete(lease), `seed ${seed}`);
      for (const lease of added) made.add(lease);
      assert.equal(made, new Set(later.all), `seed ${seed}`);
    }
  }
});

test.run();
