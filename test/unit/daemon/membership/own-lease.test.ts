import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Lease } from '../../../../cluster/lease.ts';
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

/** The leases, with ours as another node has written it. */
const overwritten = (cluster: FakeCluster, value: Partial<Lease>): Lease[] =>
  cluster.leases.map((lease) => (lease.ownerId === peer(1).ownerId ? { ...lease, ...value } : lease));

test('a lease that another node with our address keeps writing is written back three times, and then ever more seldom', async () => {
  const cluster = new FakeCluster();
  await cluster.membership.sync();
  for (let i = 0; i < 100; i++) {
    cluster.leases = overwritten(cluster, { node: 'h7', backendData: { 4: { vni: 1, vtepMac: mac(7) } } });
    await cluster.membership.sync();
  }
  // It is told first that this node lives: the other one may then yield.
  assert.equal(cluster.calls.slice(1), ['publish h1', 'renew', 'publish h1', 'renew', 'publish h1', 'renew']);
  assert.match(
    cluster.problems.list()[0]!,
    /^Somebody else keeps writing the lease "\/p\/subnets\/10\.1\.1\.0-24" of this node, "h1" at 192\.0\.2\.1: it names "h7" at 192\.0\.2\.1; give each host its own address with --public-ip or --iface, and its own name with --node;/,
  );
  assert.is(cluster.membership.renewalDelayMs, 60_000);
  const startedMs = cluster.nowMs;
  while (cluster.nowMs - startedMs < hourMs) {
    cluster.nowMs += cluster.membership.renewalDelayMs;
    cluster.leases = overwritten(cluster, { node: 'h7', backendData: { 4: { vni: 1, vtepMac: mac(7) } } });
    await cluster.membership.sync();
  }
  assert.ok(cluster.calls.filter((call) => call === 'renew').length <= 12, `${cluster.calls}`);
});

test('a problem of a contested lease ends when nobody writes it any more', async () => {
  const cluster = new FakeCluster();
  await cluster.membership.sync();
  for (let i = 0; i < 4; i++) {
    cluster.leases = overwritten(cluster, { node: 'h7' });
    await cluster.membership.sync();
  }
  assert.is(cluster.problems.list().length, 1);
  cluster.nowMs += cluster.membership.renewalDelayMs;
  await cluster.membership.sync();
  await cluster.membership.sync();
  assert.is(cluster.problems.list().length, 1, 'it was only just written back');
  cluster.nowMs += 120_000;
  await cluster.membership.sync();
  assert.equal(cluster.problems.list(), []);
});

test('a lease that is deleted again and again is claimed at once ten times, and then more and more seldom', async () => {
  const cluster = new FakeCluster();
  await cluster.membership.sync();
  for (let i = 0; i < 100; i++) {
    cluster.leases = [peer(2)];
    assert.ok(await cluster.membership.sync(), 'the view stays');
  }
  assert.is(cluster.calls.length, 11);
  assert.is(cluster.membership.renewalDelayMs, 1000);
  cluster.nowMs += 1000;
  await cluster.membership.sync();
  assert.is(cluster.calls.length, 12);
  assert.ok(cluster.membership.renewalDelayMs > hourMs, 'it is there');
});

test('a node whose subnets are taken one after the other claims a few, and then waits', async () => {
  const cluster = new FakeCluster();
  await cluster.membership.sync();
  let refused = '';
  for (let i = 0; i < 50; i++) {
    // It was suspended for longer than it may insist on its lease.
    cluster.clockStepMs += 100_000;
    cluster.leases = overwritten(cluster, { node: 'h9', publicAddresses: { 4: address('192.0.2.9') } });
    cluster.renew = { state: 'lost', how: 'taken', holder: peer(9) };
    await cluster.membership.sync().catch((error: Error) => {
      refused = error.message;
    });
  }
  assert.is(cluster.calls.filter((call) => call.startsWith('claim')).length, 4);
  assert.match(
    refused,
    /^Somebody else takes the subnets of this node again and again, 10\.1\.1\.0\/24 \S+ last; claiming another in a while$/,
  );
  assert.ok(cluster.membership.renewalDelayMs <= 60_000);
});

test('a node insists on a lease that it made, and has looked at all the time; after a suspension it does not', async () => {
  const cluster = new FakeCluster();
  await cluster.membership.sync();
  const steal = async (): Promise<boolean> => {
    cluster.insisted = false;
    cluster.leases = overwritten(cluster, { node: 'h9', publicAddresses: { 4: address('192.0.2.9') } });
    await cluster.membership.sync();
    return cluster.insisted;
  };
  assert.ok(await steal());
  cluster.nowMs += 60_000;
  assert.ok(await steal(), 'as often as weftd looks');
  // Its clock that does not go back stands while it is suspended.
  cluster.clockStepMs += 91_000;
  assert.not.ok(await steal());
  assert.equal(
    cluster.calls.filter((call) => call.startsWith('claim')),
    ['claim'],
  );
});

test('a node that pauses between its writes keeps its lease, whoever is in it', async () => {
  const cluster = new FakeCluster();
  await cluster.membership.sync();
  for (let i = 0; i < 20; i++) {
    cluster.leases = overwritten(cluster, { node: 'h9', publicAddresses: { 4: address('192.0.2.9') } });
    const view = await cluster.membership.sync();
    assert.is(view?.own.ownerId, peer(1).ownerId);
  }
  assert.equal(cluster.calls, ['claim', ...Array(3).fill(['publish h1', 'renew']).flat()]);
  assert.match(cluster.problems.list()[0]!, /: it names "h9" at 192\.0\.2\.9;/);
});

test('a deleted lease is claimed as the one that it was; one that another node has taken is not', async () => {
  const cluster = new FakeCluster();
  const view = await cluster.membership.sync();
  assert.is(cluster.claimed?.lost, undefined);
  cluster.leases = [];
  await cluster.membership.sync();
  assert.is(cluster.claimed?.lost, view!.own);
  cluster.leases = [];
  cluster.clockStepMs += 100_000;
  await cluster.membership.sync();
  assert.is(cluster.claimed?.lost, undefined, 'not after a suspension');
  cluster.clockStepMs += 100_000;
  cluster.leases = overwritten(cluster, { node: 'h9', publicAddresses: { 4: address('192.0.2.9') } });
  cluster.renew = { state: 'lost', how: 'taken', holder: peer(9) };
  await cluster.membership.sync();
  assert.is(cluster.claimed?.lost, undefined);
});

test.run();
