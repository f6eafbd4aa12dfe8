import type { IKeyValue } from 'etcd3';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { ChangeLog } from '../../../../cluster/change-log.ts';
import { keysBelow } from '../../../../cluster/etcd/keys.ts';
import { LeaseReader } from '../../../../cluster/etcd/lease-reader.ts';
import { type Entry, type Snapshot, sameDigest, toEntry, toWholeEntry } from '../../../../cluster/etcd/snapshot.ts';
import { backends } from '../../../../daemon/backends/map.ts';

const test = suite('cluster/etcd/lease-reader');

const kv = (name: string, value: string, revision = 1): IKeyValue => ({
  key: Buffer.from(`/p/subnets/${name}`),
  value: Buffer.from(value),
  create_revision: String(revision),
  mod_revision: String(revision),
  version: '1',
  lease: '7',
});
const good = (n: number): Entry =>
  toEntry(kv(`10.1.${n}.0-24`, `{"PublicIP":"192.0.2.${n}","BackendType":"host-gw"}`, n));

const snapshotOf = (entries: readonly Entry[], changes?: ChangeLog<Entry>): Snapshot => ({
  config: undefined,
  leases: new Map(entries.map((entry) => [entry.key, entry])),
  revision: '9',
  configRevision: '9',
  clusterId: '1',
  history: 0,
  ...(changes ? { changes } : {}),
});

test('a value that is too long is dropped on receipt; the config is not', () => {
  const text = `{"PublicIP":${'['.repeat(400_000)}`;
  const entry = toEntry(kv('10.1.9.0-24', text));
  assert.equal([entry.value, entry.tooLongBytes], ['', 400_012]);
  assert.is(toWholeEntry(kv('x', text)).value.length, 400_012);
  assert.is(good(2).tooLongBytes, undefined);
});

test('entries that cannot be read are skipped one by one, whatever is in them', () => {
  const bad = [
    toEntry(kv('10.1.9.0-24', `{"PublicIP":${'['.repeat(400_000)}`)),
    toEntry(kv('10.1.8.0-24', `{"PublicIP":${'['.repeat(4000)}${']'.repeat(4000)}}`)),
    toEntry(kv(`${'9'.repeat(100_000)}-24`, '{}')),
  ];
  // As if a value got past every bound.
  const getsPast: Entry = { ...bad[0]!, key: '/p/subnets/10.1.7.0-24', value: '{}' };
  const broken = new Map([...backends]);
  broken.set('broken', {
    ...backends.get('host-gw')!,
    parseLeaseData: () => {
      throw new RangeError('Maximum call stack size exceeded');
    },
  });
  const reader = new LeaseReader(keysBelow('/p'), broken);
  const throws = toEntry(kv('10.1.6.0-24', '{"BackendType":"broken","BackendData":{}}'));
  const { leases, malformed } = reader.read(snapshotOf([good(2), ...bad, getsPast, throws, good(3)]));
  assert.equal(
    leases.all.map(({ ownerId }) => ownerId),
    ['/p/subnets/10.1.2.0-24', '/p/subnets/10.1.3.0-24'],
  );
  assert.is(malformed.length, 5);
  assert.is(malformed[0]!.reason, 'its value has 400012 bytes; at most 8192 are read');
  assert.equal(malformed[0]!.subnets?.[4]?.length, 24);
  assert.is(malformed[4]!.reason, 'weftd cannot read it: Maximum call stack size exceeded');
  for (const { reason } of malformed) assert.ok(reason.length < 320, reason.slice(0, 400));
});

test('a value that cannot be read, or is padded, is not kept', () => {
  const padded = toEntry(
    kv('10.1.8.0-24', `{"PublicIP":"192.0.2.8","BackendType":"host-gw","x":"${'x'.repeat(2000)}"}`),
  );
  const { leases } = new LeaseReader(keysBelow('/p'), backends).read(snapshotOf([good(2), padded]));
  assert.equal([leases.size, padded.value, good(2).value.length > 0], [2, '', true]);
  const bad = toEntry(kv('10.1.9.0-24', `{"PublicIP":${'['.repeat(8000)}`));
  new LeaseReader(keysBelow('/p'), backends).read(snapshotOf([good(2), bad]));
  assert.equal([bad.value, bad.isForgotten], ['', true]);
  // It is the same entry for comparisons, unless it was written again.
  const same = toEntry(kv('10.1.9.0-24', `{"PublicIP":${'['.repeat(8000)}`));
  const again = { ...same, modRevision: '2' };
  const digest = (newest: Entry) => ({ revision: '9', count: 2, newest: [newest] });
  assert.equal([sameDigest(digest(bad), digest(same)), sameDigest(digest(bad), digest(again))], [true, false]);
});

test('honest changes of the same revision as a malformed one arrive', () => {
  const changes = new ChangeLog<Entry>();
  const reader = new LeaseReader(keysBelow('/p'), backends);
  const entries = [good(2)];
  reader.read(snapshotOf(entries, changes));
  const bad = toEntry(kv('10.1.9.0-24', `{"PublicIP":${'['.repeat(400_000)}`, 5));
  for (const entry of [good(3), bad, good(4)]) {
    changes.add([undefined, entry]);
    entries.push(entry);
  }
  const { leases, malformed } = reader.read(snapshotOf(entries, changes));
  assert.equal([leases.size, malformed.length], [3, 1]);
});

test('beside entries that cannot be read, changes are followed one by one', () => {
  const changes = new ChangeLog<Entry>();
  const reader = new LeaseReader(keysBelow('/p'), backends);
  const entries = new Map<string, Entry>();
  const read = () => reader.read(snapshotOf([...entries.values()], changes));
  const set = (entry: Entry): void => {
    changes.add([entries.get(entry.key), entry]);
    entries.set(entry.key, entry);
  };
  const bad = toEntry(kv('10.1.9.0-24', 'x', 5));
  set(good(2));
  let before = read();
  const follow = (entry: Entry): [size: number, malformed: number, changes: number | undefined, isSame: boolean] => {
    set(entry);
    const after = read();
    const made = after.leases.changesSince(before.leases)?.length;
    const isSame = after.malformed === before.malformed;
    before = after;
    return [after.leases.size, after.malformed.length, made, isSame];
  };
  assert.equal(follow(bad), [1, 1, 0, false]);
  assert.equal(follow(good(3)), [2, 1, 1, true], 'an honest one');
  assert.equal(follow(toEntry(kv('10.1.3.0-24', 'x', 6))), [1, 2, 1, false], 'it becomes unreadable');
  assert.equal(follow(good(3)), [2, 1, 1, false], 'and readable again');
  assert.equal(follow({ ...bad, value: '', modRevision: '8' }), [2, 1, 0, false], 'another one');
  assert.equal(follow(good(4)), [3, 1, 1, true]);
});

test('a lease whose key is deleted and comes back for the same node is as old as before, for another node it is not', () => {
  const changes = new ChangeLog<Entry>();
  const reader = new LeaseReader(keysBelow('/p'), backends);
  const entries = new Map<string, Entry>();
  const change = (name: string, entry: Entry | undefined): void => {
    const key = `/p/subnets/${name}`;
    changes.add([entries.get(key), entry]);
    if (entry) entries.set(key, entry);
    else entries.delete(key);
  };
  const of = (node: string, ip: string, revision: number): Entry =>
    toEntry(kv('10.1.2.0-24', `{"PublicIP":"${ip}","BackendType":"host-gw","Weft":{"node":"${node}"}}`, revision));
  const age = (): string | undefined => {
    const read = reader.read({ ...snapshotOf([]), leases: entries, changes });
    return read.leases.all[0]?.seniority;
  };
  change('10.1.2.0-24', of('h2', '192.0.2.2', 7));
  assert.is(age(), '7');
  change('10.1.2.0-24', undefined);
  assert.is(age(), undefined);
  change('10.1.2.0-24', of('h2', '192.0.2.2', 20));
  assert.is(age(), '7');
  // Gone and back between two looks.
  change('10.1.2.0-24', undefined);
  change('10.1.2.0-24', of('h2', '192.0.2.2', 30));
  assert.is(age(), '7');
  change('10.1.2.0-24', of('h2', '192.0.2.2', 40));
  assert.is(age(), '7');
  for (const [node, ip] of [
    ['h3', '192.0.2.2'],
    ['h2', '192.0.2.3'],
  ] as const) {
    change('10.1.2.0-24', of(node, ip, 50));
    assert.is(age(), '50');
  }
  // Somebody else had it meanwhile.
  change('10.1.2.0-24', undefined);
  change('10.1.2.0-24', of('h2', '192.0.2.2', 60));
  assert.is(age(), '7');
  // Made unreadable, or another's, before it was deleted.
  for (const between of [toEntry(kv('10.1.2.0-24', 'x', 60)), of('h9', '192.0.2.9', 60)]) {
    change('10.1.2.0-24', between);
    age();
    change('10.1.2.0-24', undefined);
    age();
    change('10.1.2.0-24', of('h2', '192.0.2.2', 65));
    assert.is(age(), '7');
    // The next one is made in its place.
    change('10.1.2.0-24', of('h2', '192.0.2.2', 60));
    assert.is(age(), '7');
  }
  // After a loss of contact everything is read anew.
  const again = of('h2', '192.0.2.2', 70);
  assert.is(reader.read(snapshotOf([again], new ChangeLog())).leases.all[0]?.seniority, '7');
  assert.is(reader.read(snapshotOf([of('h2', '192.0.2.2', 80)], new ChangeLog())).leases.all[0]?.seniority, '7');
});

test.run();
