import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Lease } from '../../../../cluster/lease.ts';
import { LeaseSet } from '../../../../cluster/lease-set.ts';
import type { HeldAddress, SubnetUse } from '../../../../daemon/host/former-subnets.ts';
import { FormerLeases } from '../../../../daemon/membership/former-leases.ts';
import { openLogger } from '../../../../daemon/report/log.ts';
import { formatPrefix } from '../../../../net/prefix.ts';
import { peer, prefix } from '../overlay/cluster-of.ts';
import { FakeCluster, hourMs, vxlanConfig } from './fake-cluster.ts';

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
  cluster.use = { by: 'containers', count: 2 };
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
  assert.is(cluster.membership.renewalDelayMs, 10_000);
  cluster.nowMs = 23 * hourMs;
  await cluster.membership.sync();
  cluster.use = { by: 'nobody', gateways: [] };
  cluster.nowMs += cluster.membership.renewalDelayMs;
  await cluster.membership.sync();
  assert.equal(
    cluster.calls.slice(5).filter((call) => call.endsWith(old.ownerId)),
    [`renew ${old.ownerId}`, `release ${old.ownerId}`],
  );
  assert.equal(cluster.state.subnets, [peer(1).subnets]);
  assert.is(
    cluster.lines.filter((line) => line.includes('it is given back when its last container here ends')).length,
    1,
  );
});

/** A cluster whose config no longer allows the lease that this node had. */
async function moved(): Promise<{ readonly cluster: FakeCluster; readonly old: Lease }> {
  const cluster = new FakeCluster();
  await cluster.membership.sync();
  const old = peer(8, { node: 'h1', publicAddresses: {} });
  cluster.superseded = [old];
  cluster.leases.push(old);
  cluster.use = { by: 'containers', count: 1 };
  cluster.config = '{"Network":"10.0.0.0/8","Backend":{"Type":"vxlan"}}';
  await cluster.membership.sync();
  return { cluster, old };
}
const gateway: HeldAddress = { device: 'cni0', index: 5, prefix: prefix('10.1.8.1/24') };

test('after the last container the gateway is removed first; the lease is given back if nobody comes until the next look', async () => {
  const { cluster, old } = await moved();
  const look = async (): Promise<string[]> => {
    cluster.calls = [];
    cluster.nowMs += cluster.membership.renewalDelayMs;
    await cluster.membership.sync();
    return cluster.calls;
  };
  cluster.use = { by: 'nobody', gateways: [gateway] };
  assert.equal(await look(), ['remove 10.1.8.1/24']);
  assert.is(cluster.membership.renewalDelayMs, 1000);
  // One that was being started has put it back.
  cluster.use = { by: 'containers', count: 1 };
  assert.equal(await look(), []);
  assert.equal(cluster.membership.view!.formerSubnets, [old.subnets]);
  cluster.use = { by: 'nobody', gateways: [gateway] };
  assert.equal(await look(), ['remove 10.1.8.1/24']);
  cluster.use = { by: 'nobody', gateways: [] };
  assert.equal(await look(), [`release ${old.ownerId}`]);
  assert.equal(cluster.membership.view!.formerSubnets, [], 'the filter and the data path know');
  assert.ok(cluster.lines.some((line) => line.includes('its last container here has ended')));
});

test('an address that weftd does not remove keeps the lease, and the message says what to do', async () => {
  const { cluster } = await moved();
  const look = async (device: string, isDockers: boolean): Promise<string> => {
    cluster.use = { by: 'interface', held: { ...gateway, device }, isDockers };
    for (let i = 0; i < 3; i++) {
      cluster.nowMs += cluster.membership.renewalDelayMs;
      await cluster.membership.sync();
    }
    const told = cluster.lines.filter((line) => line.includes(device));
    assert.is(told.length, 1);
    return told[0]!;
  };
  assert.match(await look('docker0', true), /it is given back when that is over: restart Docker with the new subnet/);
  assert.match(
    await look('br7', false),
    /an older subnet of this node no longer fits the network config, but "br7" has the address 10\.1\.8\.1\/24 of it; it is given back when that is over: ip addr del 10\.1\.8\.1\/24 dev br7/,
  );
});

test('a subnet whose lease is lost ends in the same way', async () => {
  const cluster = new FakeCluster();
  await cluster.membership.sync();
  cluster.use = { by: 'containers', count: 1 };
  cluster.leases = [peer(2), peer(9, { ownerId: peer(1).ownerId, subnets: peer(1).subnets })];
  cluster.renew = { state: 'lost', how: 'taken', holder: cluster.leases[1]! };
  cluster.own = (claim) => ({ ...peer(3), ...claim.value, expiresAtMs: undefined });
  await cluster.membership.sync();
  assert.equal(cluster.state.subnets, [peer(3).subnets, peer(1).subnets]);
  assert.equal(cluster.membership.view!.formerSubnets, [], 'it is not ours');
  assert.ok(cluster.lines.some((line) => line.includes('containers here have its addresses, and other hosts do not')));
  cluster.calls = [];
  cluster.use = { by: 'nobody', gateways: [gateway] };
  for (const subnets of [[peer(3).subnets, peer(1).subnets], [peer(3).subnets]]) {
    cluster.nowMs += cluster.membership.renewalDelayMs;
    await cluster.membership.sync();
    assert.equal(cluster.state.subnets, subnets);
    cluster.use = { by: 'nobody', gateways: [] };
  }
  assert.equal(cluster.calls, ['remove 10.1.8.1/24']);
});

test('in a store that takes no lease back, the gateway of a subnet of before goes all the same', async () => {
  const removed: string[] = [];
  let use: SubnetUse = { by: 'nobody', gateways: [gateway] };
  let nowMs = 0;
  const logger = openLogger({ level: 'error', format: 'text', write: () => {}, now: () => 0 });
  const former = new FormerLeases({
    store: { update: () => Promise.reject(new Error('nobody renews it')) },
    logger,
    clock: { renewMarginMs: 1, now: () => nowMs, monotonic: () => nowMs, random: () => 0 },
    host: { use: () => use, remove: ({ prefix: each }) => void removed.push(formatPrefix(each)) },
  });
  former.set([peer(8)], [peer(1).subnets, peer(8).subnets], peer(1).subnets);
  assert.equal([former.size, former.remembered], [0, [peer(8).subnets]]);
  await former.keep(LeaseSet.of([]), peer(1));
  assert.equal(removed, ['10.1.8.1/24']);
  use = { by: 'nobody', gateways: [] };
  nowMs = former.dueMs;
  await former.keep(LeaseSet.of([]), peer(1));
  assert.equal([former.remembered, former.dueMs], [[], Number.POSITIVE_INFINITY]);
});

test('an older lease that somebody else keeps writing is written back a few times, and then seldom', async () => {
  const { cluster, old } = await moved();
  cluster.calls = [];
  const overwrite = async (): Promise<void> => {
    cluster.leases = cluster.leases.map((lease) => (lease.ownerId === old.ownerId ? { ...old, version: '0' } : lease));
    await cluster.membership.sync();
  };
  for (let i = 0; i < 50; i++) await overwrite();
  const writes = (): number => cluster.calls.filter((call) => call === `renew ${old.ownerId}`).length;
  assert.is(writes(), 3);
  for (let minute = 0; minute < 60; minute++) {
    cluster.nowMs += 60_000;
    await overwrite();
  }
  assert.ok(writes() <= 12, `${writes()} writes`);
});

test.run();
