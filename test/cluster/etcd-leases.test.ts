import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { handleOf } from '../../cluster/etcd/handle.ts';
import { formatSubnets } from '../../cluster/lease.ts';
import { parseNetworkConfig } from '../../cluster/network-config.ts';
import { backends } from '../../daemon/backends/map.ts';
import { formatAddress, parseAddress } from '../../net/address.ts';
import { parsePrefix, prefixesOverlap } from '../../net/prefix.ts';
import { type Etcd, startEtcd } from '../lab/etcd.ts';
import { waitFor } from '../lab/wait.ts';
import { claimOf, nodeValue, type TestStore, testStore } from '../support/etcd-store.ts';

const test = suite('leases in etcd');
const subnets = '/coreos.com/network/subnets/';

let etcd: Etcd;
const stores: TestStore[] = [];
const open = (...args: [options?: Parameters<typeof testStore>[1]]): TestStore => {
  const store = testStore(etcd.endpoint, ...args);
  stores.push(store);
  return store;
};

test.before(async () => {
  etcd = await startEtcd();
});
test.before.each(() => {
  etcd.ctl('del', '--prefix', '');
});
test.after.each(() => {
  for (const store of stores.splice(0)) store.close();
});
test.after(async () => {
  await etcd.remove();
});

const valueAt = (key: string): string => etcd.ctl('get', '--print-value-only', key).trimEnd();
/** The id of the etcd lease on a key, '0' for none. As text: JSON's numbers cannot hold it. */
const leaseAt = (key: string): string => /"lease":(\d+)/.exec(etcd.ctl('get', key, '-w', 'json'))?.[1] ?? '0';

test('the network config is written, read, and guarded against a change in between', async () => {
  const store = open();
  assert.is(await store.config.read(), undefined);
  assert.is(await store.config.write('{"a":1}', '0'), true);
  const first = await store.config.read();
  assert.is(first?.text, '{"a":1}');
  assert.is(valueAt('/coreos.com/network/config'), '{"a":1}');
  assert.is(await store.config.write('{"a":2}', first?.version), true);
  assert.is(await store.config.write('{"a":3}', first?.version), false, 'somebody wrote since');
  assert.is((await store.config.read())?.text, '{"a":2}');
});

test('a claim writes flannel’s value plus Weft’s part, with a lease of a day', async () => {
  const { own, how } = await open().claim(claimOf(7));
  assert.is(how, 'new');
  assert.match(own.ownerId, /^\/coreos\.com\/network\/subnets\/10\.5\.\d+\.0-24$/);
  assert.is(
    valueAt(own.ownerId),
    '{"PublicIP":"192.0.2.7","PublicIPv6":null,"BackendType":"vxlan",' +
      '"BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:07"},"Weft":{"node":"node-7","version":"0.1.0"}}',
  );
  assert.match(
    etcd.ctl('lease', 'timetolive', BigInt(handleOf(own).etcdLease).toString(16)),
    /granted with TTL\(86400s\)/,
  );
  assert.ok(Math.abs(own.expiresAtMs! - Date.now() - 86_400_000) < 5000);
});

test('a second claim keeps the lease: same subnet, no event for the peers', async () => {
  const first = await open().claim(claimOf(1));
  const again = await open().claim(claimOf(1));
  assert.is(again.how, 'kept');
  assert.is(again.own.ownerId, first.own.ownerId);
  assert.is(handleOf(again.own).modRevision, handleOf(first.own).modRevision);
});

test('twenty nodes claim twenty subnets at once: each gets its own (flannel’s defect 1)', async () => {
  // 10.5.0.0/16 with 32 subnets within bounds: many collisions.
  const config = parseNetworkConfig(
    '{"Network":"10.5.0.0/16","SubnetMin":"10.5.16.0","SubnetMax":"10.5.35.0","Backend":{"Type":"vxlan"}}',
    backends,
  );
  const claims = await Promise.all(
    Array.from({ length: 20 }, (_, i) => open({ timeoutMs: 5000 }).claim(claimOf(i + 1, { config }))),
  );
  assert.is(new Set(claims.map(({ own }) => own.ownerId)).size, 20);
  assert.ok(
    claims.some(({ lostRaces }) => lostRaces > 0),
    'there were races',
  );
  const { leases, malformed } = await open().leases.list();
  assert.is(leases.size, 20);
  assert.is(malformed.length, 0);
  // No etcd lease is left over from a lost race.
  assert.match(etcd.ctl('lease', 'list'), /found 2\d leases/);
  await assertThrows(() => open().claim(claimOf(99, { config })), /No free IPv4 subnet: every \/24/);
});

test('dual-stack nodes at once: neither family overlaps, though their keys differ', async () => {
  const config = parseNetworkConfig(
    '{"EnableIPv6":true,"Network":"10.5.0.0/16","SubnetMin":"10.5.1.0","SubnetMax":"10.5.8.0",' +
      '"IPv6Network":"fd00:5::/48","IPv6SubnetMin":"fd00:5:0:1::","IPv6SubnetMax":"fd00:5:0:8::","Backend":{"Type":"vxlan"}}',
    backends,
  );
  await Promise.all(
    Array.from({ length: 8 }, (_, i) => {
      const value = nodeValue(i + 1);
      const publicAddresses = { ...value.publicAddresses, 6: parseAddress(`2001:db8::${i + 1}`)! };
      const backendData = { ...value.backendData, 6: value.backendData[4]! };
      return open({ timeoutMs: 5000 }).claim({ config, value: { ...value, publicAddresses, backendData } });
    }),
  );
  const { leases } = await open().leases.list();
  assert.is(leases.size, 8);
  for (const family of [4, 6] as const) {
    const all = leases.all.map((lease) => lease.subnets[family]!);
    for (const [i, a] of all.entries()) {
      for (const b of all.slice(i + 1)) assert.not.ok(prefixesOverlap(a, b), `IPv${family}`);
    }
  }
});

test('the previous subnet is claimed again if it is free', async () => {
  const previous = { 4: parsePrefix('10.5.77.0/24')! };
  const { own, how } = await open().claim(claimOf(1, { previous }));
  assert.is(how, 'previous');
  assert.is(own.ownerId, `${subnets}10.5.77.0-24`);
  const other = await open().claim(claimOf(2, { previous }));
  assert.is(other.how, 'new');
});

test('our reservation gets a value, and stays a reservation through renewals (defect 2)', async () => {
  const key = `${subnets}10.5.9.0-24`;
  etcd.ctl('put', key, '{"PublicIP":"192.0.2.9","Comment":{"rack":4}}');
  const store = open();
  const { own, how } = await store.claim(claimOf(9));
  assert.is(how, 'kept');
  assert.is(own.ownerId, key);
  assert.is(own.reservation, true);
  assert.is(own.expiresAtMs, undefined);
  assert.is(leaseAt(key), '0');
  const value = JSON.parse(valueAt(key));
  assert.is(value.BackendData.VtepMAC, '02:00:00:00:00:09');
  assert.equal(value.Comment, { rack: 4 }, 'what is not ours stays');
  const renewed = await store.leases.keepAlive(own, { ...nodeValue(9), version: '0.2.0' });
  assert.is(renewed.state, 'held');
  assert.is(leaseAt(key), '0');
  assert.equal(JSON.parse(valueAt(key)).Comment, { rack: 4 });
  assert.is(JSON.parse(valueAt(key)).Weft.version, '0.2.0');
});

test('a lease made a reservation by hand is a reservation from then on', async () => {
  const store = open();
  const { own } = await store.claim(claimOf(1));
  etcd.ctl('put', own.ownerId, valueAt(own.ownerId));
  const renewed = await store.leases.keepAlive(own, nodeValue(1));
  assert.is(renewed.state, 'held');
  assert.is(renewed.state === 'held' && renewed.own.reservation, true);
  assert.is(leaseAt(own.ownerId), '0');
});

test('a renewal with the same value makes no event; a changed value is written', async () => {
  const store = open();
  const { own } = await store.claim(claimOf(1));
  const same = await store.leases.keepAlive(own, nodeValue(1));
  assert.is(same.state === 'held' && handleOf(same.own).modRevision, handleOf(own).modRevision);
  const moved = { ...nodeValue(1), publicAddresses: { 4: parseAddress('192.0.2.201')! } };
  const changed = await store.leases.keepAlive(own, moved);
  assert.is(changed.state, 'held');
  assert.is(JSON.parse(valueAt(own.ownerId)).PublicIP, '192.0.2.201');
  assert.is(leaseAt(own.ownerId), handleOf(own).etcdLease, 'still on the same etcd lease');
});

test('a renewal does not overwrite another owner (defect 3)', async () => {
  const store = open();
  const { own } = await store.claim(claimOf(1));
  const theirs = '{"PublicIP":"192.0.2.250","PublicIPv6":null,"BackendType":"host-gw"}';
  etcd.ctl('put', own.ownerId, theirs);
  const result = await store.leases.keepAlive(own, { ...nodeValue(1), version: '9' });
  assert.is(result.state, 'lost');
  assert.is(result.state === 'lost' && result.how, 'taken');
  assert.is(valueAt(own.ownerId), theirs);
  assert.is(await store.leases.release(own), false, 'nor does a release remove it');
  assert.is(valueAt(own.ownerId), theirs);
});

test('a node that insists overwrites another node in its lease, on an etcd lease of its own', async () => {
  const store = open();
  const { own } = await store.claim(claimOf(1));
  etcd.ctl('put', own.ownerId, '{"PublicIP":"192.0.2.99","BackendType":"vxlan","Weft":{"node":"node-99"}}');
  const result = await store.leases.update(own, nodeValue(1), true);
  assert.is(result.state, 'held');
  assert.match(valueAt(own.ownerId), /^\{"PublicIP":"192\.0\.2\.1",.*"node":"node-1"/);
  assert.is(leaseAt(own.ownerId), handleOf(own).etcdLease);
});

test('a lease that names nobody is nobody’s: its node writes it again', async () => {
  const store = open();
  const { own } = await store.claim(claimOf(1));
  for (const text of ['{}', '{"PublicIP":"0.0.0.0","BackendType":"vxlan"}']) {
    etcd.ctl('put', own.ownerId, text);
    assert.is((await store.leases.update(own, nodeValue(1))).state, 'held', text);
    assert.match(valueAt(own.ownerId), /^\{"PublicIP":"192\.0\.2\.1",/);
    assert.is(leaseAt(own.ownerId), handleOf(own).etcdLease);
  }
});

test('a deleted lease is claimed again, whatever younger leases have its subnet or its node’s address', async () => {
  const store = open();
  const { own } = await store.claim(claimOf(1));
  const name = own.ownerId.slice(subnets.length);
  const forged = '{"PublicIP":"192.0.2.1","BackendType":"vxlan","Weft":{"node":"node-1"}}';
  for (const key of ['10.5.200.0-24', `${name}&fd00::-64`, name.replace('.0-24', '.128-25')]) {
    etcd.ctl('put', subnets + key, forged);
  }
  etcd.ctl('del', own.ownerId);
  const again = await store.claim({ ...claimOf(1), previous: own.subnets, lost: own });
  assert.equal([again.how, again.own.ownerId, again.own.seniority], ['previous', own.ownerId, own.seniority]);
  // Nor does whoever was faster.
  etcd.ctl('del', own.ownerId);
  etcd.ctl('put', own.ownerId, '{"PublicIP":"192.0.2.99","BackendType":"vxlan","Weft":{"node":"node-99"}}');
  const taken = await store.claim({ ...claimOf(1), previous: own.subnets, lost: again.own });
  assert.equal([taken.how, taken.own.ownerId, taken.own.seniority], ['previous', own.ownerId, own.seniority]);
  assert.match(valueAt(own.ownerId), /"node":"node-1"/);
  assert.is.not(leaseAt(own.ownerId), '0');
});

test('our lease that somebody has deleted and put again is as old as before for us', async () => {
  const store = open();
  const { own } = await store.claim(claimOf(1));
  const value = valueAt(own.ownerId);
  etcd.ctl('del', own.ownerId);
  for (const text of [value, 'nonsense']) {
    etcd.ctl('put', own.ownerId, text);
    const result = await store.leases.update(own, { ...nodeValue(1), version: '9' });
    assert.is(result.state === 'held' && result.own.seniority, own.seniority);
  }
});

test('our lease, made unreadable by somebody, is overwritten and keeps its etcd lease', async () => {
  const store = open();
  const { own } = await store.claim(claimOf(1));
  const [value, lease] = [valueAt(own.ownerId), leaseAt(own.ownerId)];
  etcd.ctl('put', own.ownerId, 'nonsense');
  assert.equal(
    (await store.leases.list()).malformed.map(({ ownerId }) => ownerId),
    [own.ownerId],
  );
  assert.is((await store.leases.keepAlive(own, nodeValue(1))).state, 'held');
  assert.equal([valueAt(own.ownerId), leaseAt(own.ownerId)], [value, lease]);
});

test('our lease, unreadable at a start, is ours by our memory alone, and is overwritten', async () => {
  const { own } = await open().claim(claimOf(1));
  const [value, lease] = [valueAt(own.ownerId), leaseAt(own.ownerId)];
  for (const text of ['nonsense', `{"PublicIP":"${'x'.repeat(10_000)}"}`, '']) {
    etcd.ctl('put', '--ignore-lease', own.ownerId, text);
    // A lease with our address is no bait then.
    etcd.ctl('put', `${subnets}10.5.200.0-24`, JSON.stringify({ PublicIP: '192.0.2.1', BackendType: 'vxlan' }));
    const again = await open().claim(claimOf(1, { previous: own.subnets }));
    assert.equal([again.how, again.own.ownerId], ['kept', own.ownerId]);
    assert.equal([valueAt(own.ownerId), leaseAt(own.ownerId)], [value, lease]);
    etcd.ctl('del', `${subnets}10.5.200.0-24`);
  }
  etcd.ctl('put', own.ownerId, 'nonsense');
  const other = await open().claim(claimOf(2));
  assert.is.not(other.own.ownerId, own.ownerId, 'another node does not take it');
  const stranger = await open().claim(claimOf(1));
  assert.is.not(stranger.own.ownerId, own.ownerId, 'without memory nothing proves whose it is');
});

test('a node whose key somebody deletes gets it again, and both it and others see it as old as before, also beside a younger one', async () => {
  const [store, other] = [open(), open()];
  for (const each of [store, other])
    each.watch(
      () => undefined,
      () => undefined,
    );
  const { own } = await store.claim(claimOf(1));
  const seen = async ({ leases }: TestStore) =>
    (await leases.list()).leases.all.find(({ ownerId }) => ownerId === own.ownerId)?.seniority;
  await waitFor(
    'both to see it',
    async () => (await seen(store)) === own.seniority && (await seen(other)) === own.seniority,
  );
  const part = own.ownerId.replace('.0-24', '.128-25');
  etcd.ctl('put', part, JSON.stringify({ PublicIP: '192.0.2.99', BackendType: 'vxlan' }));
  etcd.ctl('del', own.ownerId);
  await waitFor('both to miss it', async () => (await seen(store)) === undefined && (await seen(other)) === undefined);
  const again = await store.claim(claimOf(1, { previous: own.subnets, previousAge: own.seniority }));
  assert.equal([again.own.ownerId, again.own.seniority], [own.ownerId, own.seniority]);
  await waitFor(
    'both to see it again',
    async () => (await seen(store)) !== undefined && (await seen(other)) !== undefined,
  );
  assert.equal([await seen(store), await seen(other)], [own.seniority, own.seniority]);
});

test('a lost lease is reported, and the same subnet is claimed again (defect 9)', async () => {
  const store = open();
  const { own } = await store.claim(claimOf(1));
  etcd.ctl('lease', 'revoke', BigInt(handleOf(own).etcdLease).toString(16));
  const result = await store.leases.keepAlive(own, nodeValue(1));
  assert.equal(result, { state: 'lost', how: 'gone' });
  const again = await store.claim(claimOf(1, { previous: own.subnets }));
  assert.is(again.how, 'previous');
  assert.is(again.own.ownerId, own.ownerId);
});

test('a short lease lapses unless it is renewed', async () => {
  const store = open({ leaseTtlSeconds: 2 });
  const [kept, left] = await Promise.all([store.claim(claimOf(1)), store.claim(claimOf(2))]);
  let own = kept.own;
  await waitFor('the lease that nobody renews to lapse', async () => {
    const renewed = await store.leases.keepAlive(own, nodeValue(1));
    assert.is(renewed.state, 'held');
    if (renewed.state === 'held') own = renewed.own;
    const { leases } = await store.leases.list();
    assert.ok(leases.all.some((lease) => lease.ownerId === own.ownerId));
    return !leases.all.some((lease) => lease.ownerId === left.own.ownerId);
  });
});

test('a lease with too short a TTL, made by somebody else, gets our TTL', async () => {
  const granted = /lease ([0-9a-f]+) granted/.exec(etcd.ctl('lease', 'grant', '60'))![1]!;
  const key = `${subnets}10.5.3.0-24`;
  etcd.ctl('put', `--lease=${granted}`, key, '{"PublicIP":"192.0.2.3","PublicIPv6":null,"BackendType":"host-gw"}');
  const { own, how } = await open().claim(claimOf(3));
  assert.is(how, 'kept');
  assert.match(etcd.ctl('lease', 'timetolive', BigInt(handleOf(own).etcdLease).toString(16)), /TTL\(86400s\)/);
});

test('malformed entries are reported and skipped, the others stay, their subnets count as taken (defect 5)', async () => {
  const store = open();
  const { own } = await store.claim(claimOf(1, { previous: { 4: parsePrefix('10.5.77.0/24')! } }));
  etcd.ctl('put', `${subnets}10.5.2.0-24`, 'no JSON at all');
  etcd.ctl(
    'put',
    `${subnets}10.5.3.0-24`,
    '{"PublicIP":"192.0.2.3","BackendType":"vxlan","BackendData":{"VtepMAC":"x"}}',
  );
  etcd.ctl('put', `${subnets}nonsense`, '{}');
  etcd.ctl('put', `${subnets}10.5.4.7-24`, '{}');
  const { leases, malformed } = await store.leases.list();
  assert.equal(
    leases.all.map((lease) => lease.ownerId),
    [own.ownerId],
  );
  assert.equal(
    malformed.map(({ ownerId, reason }) => `${ownerId.slice(subnets.length)}: ${reason}`),
    [
      '10.5.2.0-24: its value is not JSON',
      '10.5.3.0-24: "BackendData.VtepMAC" is "x", which is no MAC address',
      '10.5.4.7-24: "10.5.4.7-24" has bits set beyond its length',
      'nonsense: "nonsense" is not a subnet in the form "10.5.52.0-24"',
    ],
  );
  const config = parseNetworkConfig(
    '{"Network":"10.5.0.0/16","SubnetMin":"10.5.2.0","SubnetMax":"10.5.3.0","Backend":{"Type":"vxlan"}}',
    backends,
  );
  await assertThrows(() => store.claim(claimOf(2, { config })), /No free IPv4 subnet/);
});

test('after a change of the network a new subnet is claimed and the old lease is named, not removed', async () => {
  const store = open();
  const { own } = await store.claim(claimOf(1));
  const config = parseNetworkConfig('{"Network":"10.6.0.0/16","Backend":{"Type":"vxlan"}}', backends);
  const moved = await store.claim(claimOf(1, { config, previous: own.subnets }));
  assert.match(formatSubnets(moved.own.subnets), /^10\.6\./);
  assert.equal(
    moved.superseded.map((lease) => lease.ownerId),
    [own.ownerId],
  );
  assert.is(await store.leases.release(moved.superseded[0]!), true);
  assert.is(etcd.ctl('get', own.ownerId), '');
});

test('a changed public address keeps the subnet, by the node’s name and its memory', async () => {
  const { own } = await open().claim(claimOf(1));
  const value = { ...nodeValue(1), publicAddresses: { 4: parseAddress('192.0.2.77')! } };
  const again = await open().claim(claimOf(1, { value, previous: own.subnets }));
  assert.is(again.how, 'kept');
  assert.is(again.own.ownerId, own.ownerId);
  assert.is(JSON.parse(valueAt(own.ownerId)).PublicIP, '192.0.2.77');
});

test('a further subnet is claimed next to the first', async () => {
  const store = open();
  const { own } = await store.claim(claimOf(1));
  const further = await store.claim(claimOf(1, { further: true }));
  assert.is(further.how, 'new');
  assert.is.not(further.own.ownerId, own.ownerId);
  assert.is(await store.leases.release(further.own), true);
  assert.is(await store.leases.release(further.own), false, 'it is gone already');
  assert.equal(
    (await store.leases.list()).leases.all.map((lease) => lease.ownerId),
    [own.ownerId],
  );
});

test('a node’s record lives while it is published, reveals a namesake, and is removed', async () => {
  const store = open({ nodeTtlSeconds: 2 });
  const record = {
    node: 'node-1',
    version: '0.1.0',
    publicAddresses: { 4: parseAddress('192.0.2.1')! },
    backendType: 'vxlan',
    startedAtMs: 1_700_000_000_000,
    health: 'ok',
    containers: 3,
  };
  assert.equal(await store.liveness.publish(record), {});
  const key = '/coreos.com/network/nodes/node-1';
  assert.is(
    valueAt(key),
    '{"node":"node-1","publicIP":"192.0.2.1","backend":"vxlan","version":"0.1.0",' +
      '"started":"2023-11-14T22:13:20.000Z","health":"ok","containers":3}',
  );
  assert.equal((await store.liveness.list()).nodes, [record]);
  const revision = (): number => JSON.parse(etcd.ctl('get', key, '-w', 'json')).header.revision;
  const before = revision();
  await store.liveness.publish(record);
  assert.is(revision(), before, 'the same again makes no event');
  await store.liveness.publish({ ...record, health: 'degraded' });
  assert.is((await store.liveness.list()).nodes[0]?.health, 'degraded');

  const namesake = open();
  const conflict = await namesake.liveness.publish({ ...record, publicAddresses: { 4: parseAddress('192.0.2.2')! } });
  assert.is(conflict.conflict?.health, 'degraded');
  // The same host after a restart of weftd takes its record over.
  assert.equal(await open({ nodeTtlSeconds: 2 }).liveness.publish(record), {});

  await store.liveness.withdraw('node-1');
  assert.is((await store.liveness.list()).nodes.length, 1, 'the restarted one’s record stays');
  etcd.ctl('put', '/coreos.com/network/nodes/broken', '{');
  await waitFor('the record that nobody publishes to go', async () => {
    const { nodes, malformed } = await store.liveness.list();
    assert.is(malformed.length, 1);
    return nodes.length === 0;
  });
});

test('of two living hosts with one name and one address each is told of the other, and neither writes without end', async () => {
  const record = {
    node: 'debian',
    version: '0.1.0',
    publicAddresses: { 4: parseAddress('10.0.2.15')! },
    backendType: 'vxlan',
    startedAtMs: 1_700_000_000_000,
    health: 'ok',
  };
  const [first, second] = [open(), open()];
  assert.equal(await first.liveness.publish(record), {});
  assert.equal(
    await second.liveness.publish({ ...record, health: 'other' }),
    {},
    'it may be its own of before a restart',
  );
  const revision = (): number => JSON.parse(etcd.ctl('get', 'x', '-w', 'json')).header.revision;
  const before = revision();
  const told = { first: 0, second: 0 };
  const calls = 120;
  for (let i = 0; i < calls; i++) {
    if ((await first.liveness.publish(record)).conflict?.health === 'other') told.first++;
    if ((await second.liveness.publish({ ...record, health: 'other' })).conflict?.health === 'ok') told.second++;
  }
  assert.ok(told.first === calls && told.second >= calls - 1, JSON.stringify(told));
  const written = revision() - before;
  assert.ok(written >= 6 && written <= 16, `${written} writes`);
  await second.liveness.withdraw('debian');
  for (let i = 0; i < 110; i++) await first.liveness.publish(record);
  assert.equal(await first.liveness.publish(record), {}, 'it is alone again');
});

test('a record that somebody else writes is noticed at the next call, told, and written back with growing pauses', async () => {
  const [store, adversary] = [open(), open()];
  const of = (last: number) => ({
    node: 'node-1',
    version: '0.1.0',
    publicAddresses: { 4: parseAddress(`192.0.2.${last}`)! },
    backendType: 'vxlan',
    startedAtMs: 1_700_000_000_000,
    health: 'ok',
  });
  const key = '/coreos.com/network/nodes/node-1';
  assert.equal(await store.liveness.publish(of(1)), {});
  const [value, lease] = [valueAt(key), leaseAt(key)];
  // A living node's record, hanging on an etcd lease of its own.
  await adversary.liveness.publish({ ...of(66), node: 'traitor' });
  const theirs = leaseAt('/coreos.com/network/nodes/traitor');
  const forged = JSON.stringify({ ...JSON.parse(value), publicIP: '192.0.2.66', health: 'down' });
  const forge = (text = forged) => etcd.ctl('put', `--lease=${BigInt(theirs).toString(16)}`, key, text);
  const isBack = (): boolean => valueAt(key) === value && leaseAt(key) === lease;
  const told = async () => {
    const { conflict, isForged } = await store.liveness.publish(of(1));
    return conflict ? formatAddress(conflict.publicAddresses[4]!) : isForged;
  };
  forge();
  assert.equal([await told(), isBack()], ['192.0.2.66', true]);
  assert.equal([await told(), isBack()], [undefined, true]);
  forge('{');
  assert.equal([await told(), isBack()], [true, true]);
  etcd.ctl('put', '--ignore-lease', key, forged);
  assert.equal([await told(), isBack()], ['192.0.2.66', true]);
  // It goes on: the pauses are of 6 calls, then of 12.
  const written: boolean[] = [];
  for (let i = 0; i < 30; i++) {
    if (isBack()) forge();
    assert.is(await told(), '192.0.2.66');
    written.push(isBack());
  }
  assert.equal(
    written.flatMap((each, i) => (each ? i : [])),
    [6, 19],
  );
  etcd.ctl('del', key);
  assert.equal([await told(), isBack()], [undefined, true]);
});

test('a node lives while its record hangs on an etcd lease', async () => {
  const store = open();
  const record = {
    node: 'node-7',
    version: '0.1.0',
    publicAddresses: { 4: parseAddress('192.0.2.1')! },
    backendType: 'vxlan',
    startedAtMs: 1_700_000_000_000,
    health: 'ok',
  };
  await store.liveness.publish(record);
  etcd.ctl('put', '/coreos.com/network/nodes/node-8', valueAt('/coreos.com/network/nodes/node-7').replace('-7', '-8'));
  etcd.ctl('put', '/coreos.com/network/nodes/node-9', '{');
  const names = (set: ReadonlySet<string>): string[] => [...set];
  assert.equal(names(await store.liveness.living(['node-6', 'node-7', 'node-7', 'node-8', 'node-9'])), ['node-7']);
  assert.equal(names(await store.liveness.living([])), []);
  const many = Array.from({ length: 40 }, (_, i) => `many-${i}`);
  assert.is((await store.liveness.living(many)).size, 8, 'those that are not looked up count as living');
});

test('a lease with our public address is not adopted, overwritten or given back while the node that it names lives', async () => {
  const [other, store] = [open(), open()];
  const shared = { ...nodeValue(1), node: 'node-7' };
  const theirs = await other.claim({ ...claimOf(1), value: shared });
  const record = { node: 'node-7', version: '', publicAddresses: shared.publicAddresses, backendType: 'vxlan' };
  await other.liveness.publish({ ...record, startedAtMs: 1_700_000_000_000, health: 'ok' });
  const ours = await store.claim(claimOf(1));
  assert.is(ours.how, 'new');
  assert.is.not(ours.own.ownerId, theirs.own.ownerId);
  assert.equal(ours.superseded, []);
  // It has written ours: we lose it, and it is not given back in its name.
  etcd.ctl('put', '--ignore-lease', ours.own.ownerId, valueAt(theirs.own.ownerId));
  const updated = await store.leases.update(ours.own, nodeValue(1));
  assert.is(updated.state === 'lost' && updated.how === 'taken' && updated.holder.node, 'node-7');
  assert.is(await store.leases.release(ours.own), false);
  await other.liveness.withdraw('node-7');
  const written = await store.leases.update(ours.own, nodeValue(1));
  assert.is(written.state, 'held', 'the node does not live any more');
  const adopted = await open().claim(claimOf(1, { previous: theirs.own.subnets }));
  assert.is(adopted.how, 'kept');
  assert.is(adopted.own.ownerId, theirs.own.ownerId, 'nor does the other one');
});

async function assertThrows(work: () => Promise<unknown>, pattern: RegExp): Promise<void> {
  try {
    await work();
  } catch (error) {
    assert.match(String(error), pattern);
    return;
  }
  assert.unreachable('it should have thrown');
}

test.run();
