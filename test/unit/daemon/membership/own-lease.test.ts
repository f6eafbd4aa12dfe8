import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { address, mac, peer } from '../overlay/cluster-of.ts';
import { FakeCluster, hourMs } from './fake-cluster.ts';

const test = suite('daemon/membership/own-lease');

test('the lease is renewed in time, and written at once after a change', async () => {
  const cluster = new FakeCluster();
  await cluster.membership.sync();
  assert.is(cluster.membership.renewalDelayMs, 23 * hourMs);
  cluster.nowMs = 23 * hourMs;
  await cluster.membership.sync();
  assert.is(cluster.membership.renewalDelayMs, 23 * hourMs);
  cluster.identity = { ...cluster.identity, publicAddresses: { 4: address('192.0.2.77') } };
  const view = await cluster.membership.sync();
  assert.equal(view!.own.publicAddresses[4], address('192.0.2.77'));
  assert.equal(cluster.calls, ['claim', 'renew', 'renew']);
});

test('a margin longer than the lease does not cause endless renewals', async () => {
  const cluster = new FakeCluster();
  cluster.lifeMs = 10_000;
  await cluster.membership.sync();
  assert.is(cluster.membership.renewalDelayMs, 5000);
});

test('a reservation is never renewed', async () => {
  const cluster = new FakeCluster();
  cluster.own = (claim) => ({ ...peer(1), ...claim.value, reservation: true, expiresAtMs: undefined });
  await cluster.membership.sync();
  assert.is(cluster.membership.renewalDelayMs, Number.POSITIVE_INFINITY);
});

test('a lease that is deleted or taken is claimed again', async () => {
  const cluster = new FakeCluster();
  await cluster.membership.sync();
  cluster.leases = [peer(2)];
  await cluster.membership.sync();
  cluster.renew = { state: 'lost', how: 'taken', holder: peer(9) };
  cluster.identity = { ...cluster.identity, leaseData: { 4: { vni: 1, vtepMac: mac(9) } } };
  await cluster.membership.sync();
  assert.equal(cluster.calls, ['claim', 'claim again', 'renew', 'claim again']);
  assert.ok(cluster.lines.some((line) => line.includes('its key is no longer in etcd')));
  assert.ok(cluster.lines.some((line) => line.includes('it is taken by "h9"')));
});

test('a lease lost together with many others is claimed after a random delay; one lost alone is claimed at once', async () => {
  const cluster = new FakeCluster();
  cluster.leases = Array.from({ length: 200 }, (_, i) => peer(i + 2));
  cluster.chance = 0.5;
  await cluster.membership.sync();
  const peers = cluster.leases.filter(({ ownerId }) => ownerId !== peer(1).ownerId);
  cluster.leases = peers;
  await cluster.membership.sync();
  assert.equal(cluster.calls, ['claim', 'claim again']);
  cluster.leases = [];
  assert.is((await cluster.membership.sync())!.peers.size, 200);
  assert.is(cluster.membership.renewalDelayMs, 200);
  assert.is(cluster.calls.length, 2);
  cluster.nowMs += 200;
  assert.is((await cluster.membership.sync())!.peers.size, 200);
  assert.equal(cluster.calls.slice(2), ['claim again']);
});

test('nodes started together renew at different times', async () => {
  const cluster = new FakeCluster();
  cluster.chance = 0.5;
  await cluster.membership.sync();
  assert.is(cluster.membership.renewalDelayMs, 22.75 * hourMs);
});

test('setting the clock back or ahead does not delay renewal', async () => {
  const cluster = new FakeCluster();
  await cluster.membership.sync();
  for (const clockStepMs of [-1000 * hourMs, 1000 * hourMs]) {
    cluster.clockStepMs = clockStepMs;
    assert.is(cluster.membership.renewalDelayMs, 23 * hourMs);
  }
});

test('a lost lease that is listed again is not claimed', async () => {
  const cluster = new FakeCluster();
  cluster.leases = Array.from({ length: 200 }, (_, i) => peer(i + 2));
  cluster.chance = 0.5;
  await cluster.membership.sync();
  const all = cluster.leases;
  cluster.leases = [];
  await cluster.membership.sync();
  assert.is(cluster.membership.renewalDelayMs, 200);
  cluster.leases = all;
  await cluster.membership.sync();
  cluster.nowMs += 1000;
  assert.ok(cluster.membership.renewalDelayMs > hourMs);
  assert.equal(cluster.calls, ['claim']);
});

test.run();
