import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { FilterSession } from '../../../../daemon/filter/filter-session.ts';
import type { PartContent } from '../../../../daemon/filter/part.ts';
import { assembleTable, TableKeeper, type TableStep } from '../../../../daemon/filter/table-keeper.ts';
import type { NftConnection } from '../../../../linux/nft/connection.ts';
import { counter, drop, rule, sourceInSet } from '../../../../linux/nft/match.ts';
import type { NftTable } from '../../../../linux/nft/table.ts';
import type { Sys } from '../../../../linux/sys.ts';
import { address } from '../overlay/cluster-of.ts';

const test = suite('daemon/filter/table-keeper');

const table = { family: 'inet', name: 'weft' } as const;

/** A part that is no part of weftd: drops and counts what some addresses send. */
const toy = (name: string, priority: number, sources: readonly string[]): PartContent => ({
  name,
  family: 'inet',
  structure: `${priority}`,
  sets: [
    {
      name: `${name}-sources`,
      keyType: 'ipv4_addr',
      source: sources,
      elements: () => sources.map((text) => address(text).bytes),
    },
  ],
  chains: () => [
    {
      name,
      base: { type: 'filter', hook: 'input', priority, policy: 'accept' },
      rules: [rule([sourceInSet(`${name}-sources`, 4), counter(), drop()])],
    },
  ],
});

/** A kernel with one table, whose state others may replace. */
class Bench {
  readonly session = new FilterSession({} as Sys);
  readonly keeper = new TableKeeper(this.session, table, true);
  table: NftTable | undefined;
  generation = 1;
  reads = 0;
  readonly nft = {
    generation: () => this.generation,
    readTable: () => {
      this.reads++;
      return this.table;
    },
  } as Partial<NftConnection> as NftConnection;

  /** Plans, and does as if the kernel had done it; `disturbed`: somebody else changes something, too. */
  ensure(
    contents: readonly PartContent[],
    options: { keepElements?: boolean; trust?: boolean; disturbed?: boolean } = {},
  ): TableStep & { readonly isSettled: boolean } {
    const { keepElements = false, trust = false, disturbed = false } = options;
    const wanted = this.keeper.want(contents);
    const generation = this.generation;
    const step = this.keeper.plan(this.nft, wanted, generation, { keepElements, trust });
    if (step.requests.length === 0) return { ...step, isSettled: true };
    this.generation += disturbed ? 2 : 1;
    if (step.because !== undefined || !keepElements) this.table = assembleTable(table, contents);
    step.commit(generation);
    return { ...step, isSettled: step.conclude(this.session.settle(this.nft, generation)) };
  }

  isInOrder(contents: readonly PartContent[], trust = false): boolean {
    return this.keeper.isInOrder(this.keeper.want(contents), trust ? undefined : this.generation, trust);
  }
}

const peers = ['192.0.2.2'];

test('parts stand in the order in which packets meet them, then by name, whatever the order they are given in', () => {
  const parts = [toy('late', 100, []), toy('b', 0, []), toy('a', 0, []), toy('early', -300, [])];
  const { chains, sets } = assembleTable(table, parts);
  assert.equal(
    chains.map(({ name }) => name),
    ['early', 'a', 'b', 'late'],
  );
  assert.equal(
    sets.map(({ name }) => name),
    ['early-sources', 'a-sources', 'b-sources', 'late-sources'],
  );
});

test('two parts with chains or sets of one name are refused', () => {
  const part = toy('one', 0, []);
  assert.throws(
    () => assembleTable(table, [part, part]),
    /Two parts of table "inet weft" have sets named "one-sources"/,
  );
  const withoutSets = { ...part, sets: [] };
  assert.throws(() => assembleTable(table, [withoutSets, withoutSets]), /have chains named "one"/);
});

test('a table is made once, and not read while nobody changes anything', () => {
  const bench = new Bench();
  const parts = [toy('one', 0, peers)];
  const made = bench.ensure(parts);
  assert.equal([made.because, made.damaged, made.isSettled, bench.reads], ['it is not there', [], true, 1]);
  assert.ok(bench.isInOrder(parts));
  bench.generation++;
  assert.not(bench.isInOrder(parts));
  assert.ok(bench.isInOrder(parts, true), 'on trust');
  assert.equal(bench.ensure(parts, { trust: true }).requests, []);
  assert.is(bench.reads, 1);
  assert.equal(bench.ensure(parts).requests, []);
  assert.is(bench.reads, 2);
  assert.ok(bench.isInOrder(parts));
});

test('each damaged part is told apart from the others', () => {
  const bench = new Bench();
  const parts = [toy('one', 0, peers), toy('two', 1, peers)];
  bench.ensure(parts);
  const right = bench.table!;
  const harms: [NftTable | undefined, string[]][] = [
    [
      { ...right, chains: right.chains.map((chain) => (chain.name === 'two' ? { ...chain, rules: [] } : chain)) },
      ['two'],
    ],
    [{ ...right, chains: right.chains.map((chain) => ({ ...chain, rules: [] })) }, ['one', 'two']],
    [{ ...right, chains: [...right.chains, { name: 'more', rules: [] }] }, ['one', 'two']],
    [undefined, ['one', 'two']],
  ];
  for (const [harm, damaged] of harms) {
    bench.table = harm;
    bench.generation++;
    assert.equal(bench.ensure(parts).damaged, damaged);
  }
  // Another wish is no damage.
  assert.equal(bench.ensure([toy('one', 5, peers), toy('two', 1, peers)]).damaged, []);
  bench.table = { ...bench.table!, sets: bench.table!.sets.map((set) => ({ ...set, elements: [] })) };
  bench.generation++;
  const { touchedSets, damaged, because } = bench.ensure([toy('one', 5, peers), toy('two', 1, [])]);
  assert.equal([touchedSets, damaged, because], [['two-sources', 'one-sources'], ['one', 'two'], undefined]);
});

test('elements come and go alone; those that are kept go at the next look', () => {
  const bench = new Bench();
  bench.ensure([toy('one', 0, peers)]);
  const others = [toy('one', 0, ['192.0.2.3'])];
  const kept = bench.ensure(others, { keepElements: true, trust: true });
  assert.equal([kept.requests.length, kept.because, bench.reads], [1, undefined, 1]);
  assert.not(bench.isInOrder(others), 'one is still there that is not wanted');
  assert.is(bench.ensure(others, { trust: true }).requests.length, 1);
  assert.ok(bench.isInOrder(others));
  assert.is(bench.reads, 1);
});

test('a change by others in between leads to another look, unless all is taken on trust', () => {
  const bench = new Bench();
  assert.not(bench.ensure([toy('one', 0, peers)], { disturbed: true }).isSettled);
  assert.not(bench.isInOrder([toy('one', 0, peers)], true), 'nothing is known');
  bench.ensure([toy('one', 0, peers)]);
  const others = [toy('one', 0, ['192.0.2.3'])];
  assert.ok(bench.ensure(others, { trust: true, disturbed: true }).isSettled);
  assert.ok(bench.isInOrder(others, true));
  assert.not(bench.isInOrder(others), 'the next look that does not trust reads the table');
});

test('single changes of elements: those that are so already are left out; unknown tables are looked at', () => {
  const bench = new Bench();
  const change = (added: string[], removed: string[]) =>
    bench.keeper.planChanges([
      {
        family: 'inet',
        set: 'one-sources',
        added: added.map((text) => address(text).bytes),
        removed: removed.map((text) => address(text).bytes),
      },
    ]);
  assert.is(change(['192.0.2.3'], []), undefined);
  const parts = [toy('one', 0, peers)];
  bench.ensure(parts);
  assert.is(change(['192.0.2.2'], ['192.0.2.9'])!.requests.length, 0);
  const step = change(['192.0.2.3'], ['192.0.2.2'])!;
  assert.is(step.requests.length, 2);
  bench.generation++;
  step.commit(bench.generation - 1);
  assert.ok(step.conclude(bench.session.settle(bench.nft, bench.generation - 1)));
  assert.is(change(['192.0.2.3'], ['192.0.2.2'])!.requests.length, 0);
  assert.not(bench.isInOrder(parts), 'it holds other elements now');
  bench.keeper.followed();
  assert.ok(bench.isInOrder(parts), 'the source gives these elements now');
  const half = change(['192.0.2.4'], [])!;
  bench.generation++;
  half.commit(bench.generation - 1);
  half.conclude(bench.session.settle(bench.nft, bench.generation - 1));
  assert.not(bench.isInOrder(parts));
  assert.is(bench.ensure(parts).requests.length, 2);
  bench.keeper.followed();
  assert.ok(bench.isInOrder(parts));
});

test.run();
