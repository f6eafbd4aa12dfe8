import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { peer } from '../overlay/cluster-of.ts';
import { FakeCluster, vxlanConfig } from './fake-cluster.ts';

const test = suite('daemon/membership/former-leases');

test('a new config that does not allow the lease: a new lease is claimed, and the older one is released once nothing uses it', async () => {
  const cluster = new FakeCluster();
  await cluster.membership.sync();
  const old = peer(8, { node: 'h1', publicAddresses: {} });
  cluster.superseded = [old];
  cluster.leases.push(old);
  cluster.config = '{"Network":"10.0.0.0/8","Backend":{"Type":"vxlan"}}';
  const view = await cluster.membership.sync();
  assert.not(view!.peers.all.includes(old));
  assert.equal(cluster.state.subnets, [peer(1).subnets], 'it was given back');
  cluster.used = true;
  cluster.config = vxlanConfig;
  await cluster.membership.sync();
  assert.equal(cluster.calls, [
    'claim',
    'claim again',
    `release ${old.ownerId}`,
    'claim again',
    `renew ${old.ownerId}`,
  ]);
  assert.equal(cluster.state.subnets, [peer(1).subnets, old.subnets], 'the next start knows of it by this alone');
  // Renewed in time while it is in use, and given back when nothing uses it any more.
  await cluster.membership.sync();
  cluster.nowMs = cluster.membership.renewalDelayMs;
  await cluster.membership.sync();
  cluster.used = false;
  await cluster.membership.sync();
  assert.equal(
    cluster.calls.slice(5).filter((call) => call.endsWith(old.ownerId)),
    [`renew ${old.ownerId}`, `release ${old.ownerId}`],
  );
  assert.equal(cluster.state.subnets, [peer(1).subnets]);
  assert.is(cluster.lines.filter((line) => line.includes('containers have its addresses')).length, 1);
});

test.run();
