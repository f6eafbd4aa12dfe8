/**
 * The requests of a store that watches: nothing that its memory contains, because five thousand nodes may ask at once. And
 * its behaviour when the memory no longer matches etcd.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { EtcdMark } from '../../cluster/etcd/mark.ts';
import type { LeaseList } from '../../cluster/store.ts';
import type { StoreObserver } from '../../cluster/store-observer.ts';
import { type Etcd, startEtcd } from '../lab/etcd.ts';
import { waitFor } from '../lab/wait.ts';
import { Wire } from '../lab/wire.ts';
import { claimOf, nodeValue, type TestStore, testStore } from '../support/etcd-store.ts';

const test = suite('following etcd');
const subnets = '/coreos.com/network/subnets/';
const leaseValue = (n: number): string => `{"PublicIP":"192.0.2.${n}","PublicIPv6":null,"BackendType":"host-gw"}`;

const stores: TestStore[] = [];
const servers: Etcd[] = [];
let folder = '';

test.before.each(() => {
  folder = mkdtempSync(join(tmpdir(), 'weft-follow-'));
});
test.after.each(async () => {
  for (const store of stores.splice(0)) store.close();
  for (const server of servers.splice(0)) await server.remove();
  rmSync(folder, { recursive: true, force: true });
});

const start = async (options?: Parameters<typeof startEtcd>[0]): Promise<Etcd> => {
  const server = await startEtcd(options);
  servers.push(server);
  return server;
};

function markOf({ mark }: LeaseList): EtcdMark {
  if (!(mark instanceof EtcdMark)) throw new TypeError('not a mark of etcd');
  return mark;
}

/** A store that watches, with what it has asked for. */
function following(server: Etcd, options: Parameters<typeof testStore>[1] & { endpoint?: string } = {}) {
  const asked = new Map<string, number>();
  const observer: StoreObserver = {
    storeRequest: (operation) => void asked.set(operation, (asked.get(operation) ?? 0) + 1),
    storeConnection: () => undefined,
    watchStarted: () => undefined,
    watchLost: () => undefined,
    watchResync: () => undefined,
    watchEvent: () => undefined,
  };
  const { endpoint = server.endpoint, ...others } = options;
  const store = testStore(endpoint, { observer, ...others });
  stores.push(store);
  const seen = { wakes: 0, problems: 0 };
  store.watch(
    () => seen.wakes++,
    () => seen.problems++,
  );
  const names = ({ leases }: LeaseList): string[] =>
    leases.all.map(({ ownerId }) => ownerId.slice(subnets.length)).sort();
  return {
    store,
    seen,
    lists: () => asked.get('list_leases') ?? 0,
    /** A comparison that finds a difference waits for it to end before the next one. */
    comparesAgain: async () => {
      const before = asked.get('heartbeat') ?? 0;
      await waitFor('five comparisons', () => (asked.get('heartbeat') ?? 0) >= before + 5);
    },
    names: async () => names(await store.leases.list()),
  };
}

const hostCount = 20;
const put = (server: Etcd, n: number): string => server.ctl('put', `${subnets}10.5.${n}.0-24`, leaseValue(n));
const revisionOf = (server: Etcd): string =>
  String((JSON.parse(server.ctl('get', 'x', '-w', 'json')) as { header: { revision: number } }).header.revision);

test('a start lists all leases once; claiming, renewing and publishing list none', async () => {
  const server = await start();
  for (let n = 1; n <= hostCount; n++) put(server, n);
  const { store, lists, names } = following(server);
  assert.is((await names()).length, hostCount);
  const { own } = await store.claim(claimOf(99));
  assert.ok((await names()).includes(own.ownerId.slice(subnets.length)));
  assert.is((await store.leases.keepAlive(own, { ...nodeValue(99), version: '0.9' })).state, 'held');
  const record = { node: 'n', version: '1', publicAddresses: {}, backendType: 'vxlan', startedAtMs: 0, health: 'ok' };
  for (let i = 0; i < 8; i++) await store.liveness.publish({ ...record, containers: i });
  assert.is((await store.leases.list()).leases.all.find(({ ownerId }) => ownerId === own.ownerId)?.version, '0.9');
  assert.is(await store.config.write('{"a":1}'), true);
  assert.is((await store.config.read())?.text, '{"a":1}');
  assert.is(await store.leases.release(own), true);
  assert.is((await names()).length, hostCount);
  assert.is(lists(), 1);
});

test('one watch serves config and leases: a follower is woken at its start and by its own changes', async () => {
  const server = await start();
  const store = testStore(server.endpoint);
  stores.push(store);
  const wakes = { leases: 0, config: 0, late: 0 };
  const watch = store.leases.watch(() => wakes.leases++);
  store.config.watch(() => wakes.config++);
  await waitFor('the first wakes', () => wakes.leases === 1 && wakes.config === 1);
  put(server, 1);
  await waitFor('a wake for the lease', () => wakes.leases === 2);
  server.ctl('put', '/coreos.com/network/config', '{}');
  await waitFor('a wake for the config', () => wakes.config === 2);
  store.leases.watch(() => wakes.late++);
  await waitFor('a wake of one that comes late', () => wakes.late === 1);
  watch.close();
  put(server, 2);
  await waitFor('a wake for the next lease', () => wakes.late === 2);
  assert.equal(wakes, { leases: 2, config: 2, late: 2 });
});

test('after an outage the watch continues with the changes since, and lists nothing', async () => {
  const server = await start();
  for (let n = 1; n <= hostCount; n++) put(server, n);
  const { seen, lists, names } = following(server);
  await waitFor('the first wake', () => seen.wakes > 0);
  for (let round = 1; round <= 3; round++) {
    await server.stop('SIGKILL');
    await waitFor('the problem', () => seen.problems === round);
    await server.start();
    put(server, 100 + round);
    server.ctl('del', `${subnets}10.5.${round}.0-24`);
    await waitFor(`what came in outage ${round}`, async () => {
      const known = await names();
      return known.includes(`10.5.${100 + round}.0-24`) && !known.includes(`10.5.${round}.0-24`);
    });
  }
  assert.is((await names()).length, hostCount);
  assert.is(lists(), 1);
});

test('changes compacted in an outage cause a new list; a compaction of compared revisions does not', async () => {
  const server = await start();
  put(server, 1);
  const { seen, lists, names } = following(server, { verifyMs: 100 });
  await waitFor('the first wake', () => seen.wakes > 0);
  // A cluster in which nothing happens, but for other keys.
  for (let i = 0; i < 5; i++) server.ctl('put', 'elsewhere', String(i));
  const quiet = revisionOf(server);
  // Both are compared by then: the leases every 100 ms, the config every 300.
  await new Promise((resolve) => setTimeout(resolve, 1000));
  server.ctl('compact', quiet);
  await server.stop('SIGKILL');
  await server.start();
  put(server, 2);
  await waitFor('the lease', async () => (await names()).includes('10.5.2.0-24'));
  assert.is(lists(), 1);

  // Compacted before the watch is back.
  const wire = await Wire.open(Number(new URL(server.endpoint).port));
  try {
    const cutOff = following(server, { endpoint: `http://127.0.0.1:${wire.port}` });
    await waitFor('the first wake', () => cutOff.seen.wakes > 0);
    wire.cut();
    put(server, 3);
    server.ctl('del', `${subnets}10.5.1.0-24`);
    server.ctl('compact', revisionOf(server));
    wire.mend();
    await waitFor('both', async () => (await cutOff.names()).join() === '10.5.2.0-24,10.5.3.0-24');
    assert.is(cutOff.lists(), 2);
  } finally {
    wire.close();
  }
});

test('changes that are too large for one message after an outage cause a new list, in pages', async () => {
  const server = await start();
  put(server, 1);
  const wire = await Wire.open(Number(new URL(server.endpoint).port));
  try {
    const { seen, lists, names } = following(server, { endpoint: `http://127.0.0.1:${wire.port}` });
    await waitFor('the first wake', () => seen.wakes > 0);
    wire.cut();
    const long = 'x'.repeat(1_400_000);
    for (let n = 100; n < 150; n++) server.putLong(`${subnets}10.5.${n}.0-24`, long);
    put(server, 2);
    wire.mend();
    await waitFor('the honest lease', async () => (await names()).join() === '10.5.1.0-24,10.5.2.0-24');
    const before = lists();
    // The watch goes on from there.
    put(server, 3);
    await waitFor('the next one', async () => (await names()).includes('10.5.3.0-24'));
    assert.is(lists(), before);
  } finally {
    wire.close();
  }
});

test('keys that are not UTF-8, or very long, are kept apart: nothing is listed again for them', async () => {
  const server = await start();
  put(server, 1);
  const putBytes = async (key: Buffer): Promise<void> => {
    const body = { key: Buffer.concat([Buffer.from(subnets), key]).toString('base64'), value: '' };
    const { status } = await fetch(`${server.endpoint}/v3/kv/put`, { method: 'POST', body: JSON.stringify(body) });
    assert.is(status, 200);
  };
  for (const byte of [0xfd, 0xfe]) await putBytes(Buffer.of(byte));
  const { store, seen, lists, names, comparesAgain } = following(server, { verifyMs: 50, heartbeatMs: 600_000 });
  await waitFor('the first wake', () => seen.wakes > 0);
  await putBytes(Buffer.of(0xff));
  await putBytes(Buffer.alloc(1_000_000, 'x'));
  put(server, 2);
  await waitFor('the lease', async () => (await names()).includes('10.5.2.0-24'));
  const { malformed } = await store.leases.list();
  assert.is(new Set(malformed.map(({ ownerId }) => ownerId)).size, 4);
  for (const { ownerId, reason } of malformed) assert.ok(ownerId.length + reason.length < 800, ownerId);
  // A comparison with etcd that finds a difference lists everything again.
  const before = seen.wakes;
  await comparesAgain();
  assert.is((await names()).length, 2);
  assert.equal([lists(), seen.wakes - before], [1, 0]);
});

test('leases that one transaction has written are no sign of another etcd: nothing is listed again for them', async () => {
  const server = await start();
  put(server, 1);
  const write = async (...numbers: number[]): Promise<void> => {
    const success = numbers.map((n) => ({
      requestPut: { key: Buffer.from(`${subnets}10.5.${n}.0-24`).toString('base64'), value: '' },
    }));
    const { status } = await fetch(`${server.endpoint}/v3/kv/txn`, {
      method: 'POST',
      body: JSON.stringify({ success }),
    });
    assert.is(status, 200);
  };
  await write(9, 7, 8);
  const { store, seen, lists, comparesAgain } = following(server, { verifyMs: 50, heartbeatMs: 600_000 });
  await waitFor('the first wake', () => seen.wakes > 0);
  for (const numbers of [[], [13, 11, 12]]) {
    if (numbers.length > 0) await write(...numbers);
    await waitFor('them', async () => (await store.leases.list()).malformed.length === 3 + numbers.length);
    const before = seen.wakes;
    await comparesAgain();
    assert.equal([lists(), seen.wakes - before], [1, 0]);
  }
});

test('etcd is restored from a backup: the lower revision reveals it, and everything is listed again', async () => {
  const server = await start();
  put(server, 1);
  const { store, seen, names } = following(server);
  await waitFor('the first wake', () => seen.wakes > 0);
  server.save(join(folder, 'backup'));
  for (const n of [2, 3, 4]) put(server, n);
  server.ctl('del', `${subnets}10.5.1.0-24`);
  await waitFor('all of it', async () => (await names()).length === 3);
  const before = await store.leases.list();

  await server.stop('SIGKILL');
  server.restore(join(folder, 'backup'));
  await server.start();
  await waitFor('the backup', async () => (await names()).join() === '10.5.1.0-24');
  const after = await store.leases.list();
  assert.is.not(markOf(after).history, markOf(before).history, 'a number is added, since etcd keeps its own');
  assert.ok(BigInt(markOf(after).revision) < BigInt(markOf(before).revision));
  assert.is((await store.leases.list({ mark: before.mark })).continuity, 'lost');
  assert.is((await store.leases.list({ mark: after.mark })).continuity, 'same');
  put(server, 5);
  await waitFor('what comes then', async () => (await names()).join() === '10.5.1.0-24,10.5.5.0-24');
});

test('etcd is restored, then written to up to the old revision: the number of leases reveals it', async () => {
  const server = await start();
  const wire = await Wire.open(Number(new URL(server.endpoint).port));
  try {
    put(server, 1);
    const { store, seen, names } = following(server, { endpoint: `http://127.0.0.1:${wire.port}` });
    await waitFor('the first wake', () => seen.wakes > 0);
    server.save(join(folder, 'backup'));
    for (const n of [2, 3, 4]) put(server, n);
    await waitFor('all of it', async () => (await names()).length === 4);
    const before = await store.leases.list();

    // Nobody sees it before it has grown.
    wire.cut();
    await server.stop('SIGKILL');
    server.restore(join(folder, 'backup'));
    await server.start();
    for (const n of [7, 8, 9, 10, 11, 12]) put(server, n);
    assert.ok(BigInt(revisionOf(server)) > BigInt(markOf(before).revision));
    wire.mend();
    await waitFor('what is there', async () => {
      const known = await names();
      return known.length === 7 && !known.includes('10.5.2.0-24');
    });
    const after = await store.leases.list();
    assert.is.not(markOf(after).history, markOf(before).history);
    assert.is((await store.leases.list({ mark: before.mark })).continuity, 'lost');
    put(server, 13);
    await waitFor('what comes then', async () => (await names()).includes('10.5.13.0-24'));
    const last = await store.leases.list({ mark: after.mark });
    assert.is(markOf(last).history, markOf(after).history);
    assert.is(last.continuity, 'same');
  } finally {
    wire.close();
  }
});

/** How often etcd was given a password since it was started, by its own count. */
async function logIns({ endpoint }: Etcd): Promise<number> {
  const metrics = await (await fetch(`${endpoint}/metrics`)).text();
  return Number(/^grpc_server_started_total\{grpc_method="Authenticate",.*\} (\d+)$/m.exec(metrics)?.[1]);
}

test('a new connection needs no new login: it uses the token until etcd no longer knows it', async () => {
  const server = await start({ args: ['--bcrypt-cost', '4'] });
  server.ctl('user', 'add', 'root:secret');
  server.ctl('user', 'grant-role', 'root', 'root');
  server.ctl('auth', 'enable');
  const wire = await Wire.open(Number(new URL(server.endpoint).port));
  try {
    const etcdOptions = { username: 'root', password: 'secret' };
    const { store, seen, names } = following(server, { endpoint: `http://127.0.0.1:${wire.port}`, etcdOptions });
    await waitFor('the first wake', () => seen.wakes === 1);
    const wakes = seen.wakes;
    wire.cut();
    await waitFor('the problem', () => seen.problems === 1);
    wire.mend();
    await waitFor('the watch', () => seen.wakes > wakes);
    assert.is(await store.config.write('{}'), true);
    assert.is(await logIns(server), 1);
    await server.stop('SIGKILL');
    await server.start();
    server.ctl('--user', 'root:secret', 'put', `${subnets}10.5.9.0-24`, leaseValue(9));
    await waitFor('the watch, with another token', async () => (await names()).includes('10.5.9.0-24'));
  } finally {
    wire.close();
  }
});

test('a slow etcd: nothing is lost, and requests beyond the deadline are reported', async () => {
  const server = await start();
  const wire = await Wire.open(Number(new URL(server.endpoint).port));
  try {
    wire.delayMs = 150;
    const { store, seen, names } = following(server, { endpoint: `http://127.0.0.1:${wire.port}`, timeoutMs: 3000 });
    await waitFor('the first wake', () => seen.wakes > 0);
    const { own } = await store.claim(claimOf(1));
    put(server, 1);
    await waitFor('the lease', async () => (await names()).includes('10.5.1.0-24'));
    assert.is((await store.leases.keepAlive(own, nodeValue(1))).state, 'held');
    assert.is(seen.problems, 0);
    wire.delayMs = 4000;
    await waitFor('the problem', () => seen.problems === 1);
    assert.match(store.leases.health().error ?? '', /no answer in time/);
    wire.delayMs = 0;
    put(server, 2);
    await waitFor('the next lease', async () => (await names()).includes('10.5.2.0-24'));
  } finally {
    wire.close();
  }
});

test.run();
