import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { LockRenewal } from '../../../../daemon/filter/lock-renewal.ts';
import { lockContent } from '../../../../daemon/filter/peer-lock.ts';
import type { NftConnection } from '../../../../linux/nft/connection.ts';
import type { NftTable } from '../../../../linux/nft/table.ts';
import { desiredTable } from '../../../lab/filter-rules.ts';
import { settings } from './settings-of.ts';

const test = suite('daemon/filter/lock-renewal');

/** A kernel that notes what it is asked to do. */
class Bench {
  table: NftTable | undefined;
  reads = 0;
  readonly actions: string[] = [];
  readonly nft = {
    readTable: () => {
      this.reads++;
      return this.table;
    },
    transact: (requests) => void this.actions.push(...requests.map(({ action }) => [action].flat().join(' '))),
  } as Partial<NftConnection> as NftConnection;

  open(keepFormer: boolean): LockRenewal {
    const session = {
      use: <T>(body: (nft: NftConnection) => T) => body(this.nft),
      generation: () => 1,
      settle: () => true,
    };
    return new LockRenewal(session, { tables: [{ family: 'inet', name: 'weft' }], lifeMs: 1500, keepFormer });
  }
}

const renewed = ['add', 'delete', 'add'].map((verb) => `${verb} 1 elements: set locked-port of table "inet weft"`);

test('timed sets of the parts are renewed, other sets are left alone', () => {
  const bench = new Bench();
  const renewal = bench.open(true);
  renewal.hold([lockContent(settings.lock!)]);
  renewal.run();
  assert.equal([bench.actions, bench.reads], [renewed, 0]);
  renewal.hold([]);
  renewal.run();
  assert.is(bench.actions.length, 3);
});

test('before it is known what is wanted, the lock that is in the table is kept, unless it has opened or is not wanted', () => {
  const bench = new Bench();
  bench.open(true).run();
  assert.equal(bench.actions, []);
  const closed = desiredTable(settings);
  bench.table = { ...closed, sets: closed.sets.map((set) => ({ ...set, elements: [] })) };
  bench.open(true).run();
  assert.equal(bench.actions, []);
  bench.table = closed;
  bench.open(false).run();
  assert.equal(bench.actions, []);
  bench.open(true).run();
  assert.equal(bench.actions, renewed);
});

test.run();
