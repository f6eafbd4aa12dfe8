import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { InterfaceError } from '../../../../daemon/host/external-interface.ts';
import { prefix } from '../overlay/cluster-of.ts';
import { FakeCluster } from './fake-cluster.ts';

const test = suite('daemon/membership/membership');

test('the lease is claimed once, and not written while it is right', async () => {
  const cluster = new FakeCluster();
  const view = await cluster.membership.sync();
  assert.is(view!.own.ownerId, '/p/subnets/10.1.1.0-24');
  assert.equal(
    view!.peers.all.map(({ ownerId }) => ownerId),
    ['/p/subnets/10.1.2.0-24'],
  );
  await cluster.membership.sync();
  assert.equal(cluster.calls, ['claim']);
});

test('a malformed lease is reported by its key', async () => {
  const cluster = new FakeCluster();
  cluster.malformed = [{ ownerId: '/p/subnets/x', reason: 'its value is not JSON' }];
  await cluster.membership.sync();
  assert.equal(cluster.problems.list(), ['Cannot read lease "/p/subnets/x", which is skipped: its value is not JSON']);
});

test('a new subnet that avoids networks of this host is told with them', async () => {
  const cluster = new FakeCluster();
  cluster.hostNetworks = [prefix('192.0.2.0/24'), prefix('10.1.7.0/24')];
  await cluster.membership.sync();
  assert.match(
    cluster.lines.join(''),
    /own networks overlap the cluster's; the new subnet avoids them networks=10\.1\.7\.0\/24/,
  );
});

test('a failed run leaves the view unchanged', async () => {
  const cluster = new FakeCluster();
  const view = await cluster.membership.sync();
  cluster.identityError = new InterfaceError('gone');
  await cluster.membership.sync().then(
    () => assert.unreachable(),
    (error) => assert.instance(error, InterfaceError),
  );
  assert.is(cluster.membership.view, view);
});

test('our age is that which every host sees: a lease that was claimed again keeps the one of before', async () => {
  const cluster = new FakeCluster();
  await cluster.membership.sync();
  assert.is(cluster.membership.view!.age.seniority, '1');
  cluster.leases = cluster.leases.map((lease) => ({ ...lease, seniority: '7' }));
  await cluster.membership.sync();
  assert.is(cluster.membership.view!.age.seniority, '7');
});

test.run();
