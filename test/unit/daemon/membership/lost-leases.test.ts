import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { InterfaceError } from '../../../../daemon/host/external-interface.ts';
import { peer, prefix } from '../overlay/cluster-of.ts';
import { FakeCluster, hourMs, keysOf } from './fake-cluster.ts';

const test = suite('daemon/membership/lost-leases');

test('etcd is empty or restored: lost peers stay until they claim again, another node takes the subnet, or the lease would have expired', async () => {
  const cluster = new FakeCluster();
  cluster.leases = [2, 3, 4, 5].map((n) => peer(n));
  const all = keysOf(await cluster.membership.sync());
  cluster.leases = [];
  assert.equal(keysOf(await cluster.membership.sync()), all);
  assert.equal(cluster.calls, ['claim', 'claim again']);
  assert.match(cluster.problems.list()[0]!, /^etcd has lost leases, those of h2, h3, h4, h5; the way there is kept/);

  // Ours is there; the other number says that it is not the same etcd.
  cluster.leases = [peer(2), ...cluster.leases];
  cluster.mark = '2';
  assert.equal(keysOf(await cluster.membership.sync()), all);
  cluster.leases = [peer(2), peer(3, { ownerId: '/p/subnets/new', node: 'h9' }), ...cluster.leases.slice(1)];
  assert.equal(keysOf(await cluster.membership.sync()), [
    peer(2).ownerId,
    peer(4).ownerId,
    peer(5).ownerId,
    '/p/subnets/new',
  ]);
  cluster.leases = cluster.leases.slice(1);
  await cluster.membership.sync();
  cluster.nowMs = 2000;
  assert.equal(
    keysOf(await cluster.membership.sync()),
    [peer(4).ownerId, peer(5).ownerId, '/p/subnets/new'],
    'h2 has left',
  );
  cluster.nowMs = 24 * hourMs;
  assert.equal(keysOf(await cluster.membership.sync()), ['/p/subnets/new']);
  assert.equal(cluster.problems.list(), []);
});

test('a lease of the whole network, which peers refuse, does not end lost ones', async () => {
  const cluster = new FakeCluster();
  cluster.leases = [2, 3].map((n) => peer(n));
  const all = keysOf(await cluster.membership.sync());
  const wide = ['10.1.0.0/16', '10.0.0.0/8'].map((text) =>
    peer(9, { ownerId: `/p/subnets/${text}`, subnets: { 4: prefix(text) }, seniority: '9' }),
  );
  cluster.leases = wide;
  assert.equal(keysOf(await cluster.membership.sync()), [...wide.map(({ ownerId }) => ownerId), ...all].sort());
  assert.match(cluster.problems.list()[0]!, /^etcd has lost leases, those of h2, h3;/);
});

test('the lease of a Weft node is deleted: its routes stay for two seconds, those of a flannel node do not', async () => {
  const cluster = new FakeCluster();
  const { node: _, ...flannels } = peer(3, { ofFlannel: true });
  cluster.leases = [peer(2), flannels];
  const all = keysOf(await cluster.membership.sync());
  const [own] = cluster.leases.filter(({ node }) => node === 'h1');
  cluster.leases = [own!];
  assert.equal(keysOf(await cluster.membership.sync()), [peer(2).ownerId]);
  assert.is(cluster.membership.renewalDelayMs, 2000, 'then it is looked again');

  cluster.nowMs = 900;
  cluster.leases = [own!, peer(2), flannels];
  assert.equal(keysOf(await cluster.membership.sync()), all);
  assert.ok(cluster.membership.renewalDelayMs > 2000);

  cluster.leases = [own!, flannels];
  await cluster.membership.sync();
  cluster.nowMs = 2900;
  assert.equal(keysOf(await cluster.membership.sync()), [flannels.ownerId]);
  assert.equal(keysOf(await cluster.membership.sync()), [flannels.ownerId]);

  cluster.leases = [own!, flannels, peer(2)];
  await cluster.membership.sync();
  cluster.leases = [own!, flannels, peer(2, { ownerId: '/p/subnets/10.1.9.0-24', subnets: peer(9).subnets })];
  // Anybody can write a lease in the name of h2: it does not end the other one.
  const both = [peer(2).ownerId, flannels.ownerId, '/p/subnets/10.1.9.0-24'];
  assert.equal(keysOf(await cluster.membership.sync()), both);
  cluster.nowMs = 4900;
  assert.equal(keysOf(await cluster.membership.sync()), both.slice(1));
  assert.equal(cluster.problems.list(), []);
});

test('of many leases that are deleted at once, each stays until its node may have claimed it again', async () => {
  const cluster = new FakeCluster();
  cluster.leases = Array.from({ length: 200 }, (_, i) => peer(i + 2));
  await cluster.membership.sync();
  cluster.leases = cluster.leases.filter(({ node }) => node === 'h1');
  assert.is((await cluster.membership.sync())!.peers.size, 200);
  assert.is(cluster.membership.renewalDelayMs, 2400);
  cluster.nowMs = 2400;
  assert.is((await cluster.membership.sync())!.peers.size, 0);
});

test('an unreadable lease: a peer’s keeps its last value, our own is written again', async () => {
  const cluster = new FakeCluster();
  const view = await cluster.membership.sync();
  cluster.malformed = [peer(2).ownerId, view!.own.ownerId].map((ownerId) => ({
    ownerId,
    reason: 'its value is not JSON',
  }));
  cluster.leases = [];
  assert.equal(keysOf(await cluster.membership.sync()), [peer(2).ownerId]);
  assert.equal(cluster.calls, ['claim', 'renew']);
  cluster.malformed = [];
  await cluster.membership.sync();
  cluster.nowMs = 2000;
  assert.equal(keysOf(await cluster.membership.sync()), []);
});

test('a lease that names nobody any more keeps its last value', async () => {
  const cluster = new FakeCluster();
  cluster.leases = [peer(2), peer(3)];
  const view = await cluster.membership.sync();
  const { node: _, ...nobody } = peer(3, { publicAddresses: {}, ofFlannel: true });
  const [own] = cluster.leases.filter(({ node }) => node === 'h1');
  cluster.leases = [own!, peer(2), nobody];
  for (; cluster.nowMs < hourMs; cluster.nowMs += hourMs / 4) {
    const { peers } = (await cluster.membership.sync())!;
    assert.equal(peers.all.map(({ node }) => node).sort(), view!.peers.all.map(({ node }) => node).sort());
  }
  cluster.leases = [own!, peer(2)];
  await cluster.membership.sync();
  cluster.nowMs += 2000;
  assert.equal(keysOf(await cluster.membership.sync()), [peer(2).ownerId]);
});

test('a loss of leases is not forgotten if the same run fails later', async () => {
  const cluster = new FakeCluster();
  cluster.leases = [2, 3].map((n) => peer(n));
  const all = keysOf(await cluster.membership.sync());
  cluster.leases = cluster.leases.filter(({ node }) => node === 'h1');
  cluster.mark = '2';
  cluster.identityError = new InterfaceError('gone');
  await cluster.membership.sync().catch(() => undefined);
  cluster.identityError = undefined;
  cluster.nowMs += 60_000;
  assert.equal(keysOf(await cluster.membership.sync()), all);
  assert.match(cluster.problems.list()[0]!, /^etcd has lost leases, those of h2, h3;/);
});

test.run();
