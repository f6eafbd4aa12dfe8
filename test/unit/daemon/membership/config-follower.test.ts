import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { peer } from '../overlay/cluster-of.ts';
import { FakeCluster, vxlanConfig } from './fake-cluster.ts';

const test = suite('daemon/membership/config-follower');

test('a config that is missing, wrong, or for an unknown backend is reported; the last good one stays in force', async () => {
  const cluster = new FakeCluster();
  cluster.config = undefined;
  assert.is(await cluster.membership.sync(), undefined);
  assert.match(
    cluster.problems.list()[0]!,
    /^No network config in etcd at "\/p\/config"; write one: weftctl config set/,
  );
  cluster.config = '{"Network":"10.1.0.0/16"}';
  assert.is(await cluster.membership.sync(), undefined);
  assert.match(cluster.problems.list()[0]!, /weftd cannot run backend "udp"; it runs vxlan, host-gw/);
  cluster.config = vxlanConfig;
  assert.ok(await cluster.membership.sync());
  assert.equal(cluster.problems.list(), []);
  for (const bad of ['{', '{"Network":"10.1.0.0/99"}', undefined]) {
    cluster.config = bad;
    assert.is((await cluster.membership.sync())!.config.backend.type, 'vxlan');
    assert.match(cluster.problems.list()[0]!, /the last good one stays in force/);
  }
  assert.equal(cluster.calls, ['claim']);
});

test('a new config that allows the lease needs no request to etcd; of many nodes each adopts it at its own time', async () => {
  const cluster = new FakeCluster();
  cluster.leases = Array.from({ length: 500 }, (_, i) => peer(i % 250, { ownerId: `/p/subnets/${i}` }));
  cluster.chance = 0.5;
  const first = await cluster.membership.sync();
  cluster.config = '{"Network":"10.0.0.0/15","SubnetLen":24,"Backend":{"Type":"vxlan"}}';
  cluster.own = (claim) => ({ ...peer(1), ...claim.value, expiresAtMs: undefined });
  assert.is((await cluster.membership.sync())!.config, first!.config, 'not yet');
  const delayMs = cluster.membership.renewalDelayMs;
  assert.ok(delayMs > 400 && delayMs <= 501, String(delayMs));
  cluster.nowMs += delayMs;
  assert.is((await cluster.membership.sync())!.config.networks[4]!.network.length, 15);
  assert.equal(cluster.calls, ['claim', 'claim again'], 'the lease of 10.1.1.0/24 lies outside of that one');
  cluster.config = '{"Network":"10.0.0.0/14","SubnetLen":24,"Backend":{"Type":"vxlan"}}';
  await cluster.membership.sync();
});

test.run();
