import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { peer } from '../overlay/cluster-of.ts';
import { FakeCluster, hourMs, keysOf } from './fake-cluster.ts';

const test = suite('daemon/membership/memory');

test('the last weftd’s memory is used if etcd has lost leases: by its cluster id, its revision, or our own lease', async () => {
  const first = new FakeCluster();
  first.leases = [2, 3].map((n) => peer(n));
  const all = keysOf(await first.membership.sync());
  assert.equal(first.written, [], 'not before the kernel is seen to');
  first.membership.remember(true);
  const [memory] = first.written;
  assert.equal(
    memory!.peers.map(({ lease, untilMs }) => [lease.ownerId, untilMs]),
    [2, 3].map((n) => [peer(n).ownerId, 24 * hourMs]),
  );
  assert.is(memory!.own, peer(1).ownerId);
  for (const lose of [
    (cluster: FakeCluster) => (cluster.mark = '2'),
    (cluster: FakeCluster) => (cluster.remembered = { ...memory!, mark: '9' }),
    () => undefined,
  ]) {
    const second = new FakeCluster(memory);
    lose(second);
    const cluster = new FakeCluster(second.remembered);
    cluster.mark = second.mark;
    cluster.nowMs = hourMs;
    cluster.leases = [];
    assert.equal(keysOf(await cluster.membership.sync()), all);
    assert.match(cluster.problems.list()[0]!, /^etcd has lost leases, those of h2, h3;/);
    cluster.membership.remember(true);
    assert.is(cluster.written[0]!.peers[0]!.untilMs, 24 * hourMs, 'the promise is no longer for that');
    cluster.nowMs = 24 * hourMs;
    assert.equal(keysOf(await cluster.membership.sync()), []);
  }
});

test('the last weftd’s memory is not used if etcd has lost nothing, or if our own lease has expired', async () => {
  const first = new FakeCluster();
  first.leases = [2, 3].map((n) => peer(n));
  await first.membership.sync();
  first.membership.remember(true);
  const [memory] = first.written;
  const own = first.leases.find(({ ownerId }) => ownerId === peer(1).ownerId)!;
  const there = new FakeCluster(memory);
  there.leases = [own, peer(3)];
  assert.equal(keysOf(await there.membership.sync()), [peer(3).ownerId]);
  const late = new FakeCluster(memory);
  late.leases = [];
  late.nowMs = 24 * hourMs;
  assert.equal(keysOf(await late.membership.sync()), []);
});

test('the memory is written after changes, less often in a large cluster, and at least each hour', async () => {
  const cluster = new FakeCluster();
  cluster.leases = Array.from({ length: 100 }, (_, i) => peer(i + 2));
  const counts: number[] = [];
  const sync = async (): Promise<void> => {
    await cluster.membership.sync();
    counts.push(cluster.written.length);
  };
  await sync();
  assert.is(cluster.membership.memoryDelayMs, 2000);
  cluster.nowMs += 2000;
  await sync();
  cluster.leases = [...cluster.leases.slice(1)];
  await sync();
  cluster.nowMs += 3000;
  await sync();
  cluster.leases = [...cluster.leases.slice(1)];
  await sync();
  cluster.membership.remember(true);
  assert.is(cluster.written.length, 3, 'at the end');
  cluster.nowMs += hourMs;
  await sync();
  assert.equal(counts, [0, 1, 1, 2, 2, 4]);
  assert.is(cluster.written.length, 4);
});

test.run();
