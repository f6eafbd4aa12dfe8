/**
 * What the store does when etcd stops, freezes, loses its memory or its rights.
 * @alone
 */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { handleOf } from '../../cluster/etcd/handle.ts';
import { StoreError, StoreRefusedError, StoreUnavailableError } from '../../cluster/store-errors.ts';
import { type Etcd, freePort, startEtcd } from '../lab/etcd.ts';
import { waitFor } from '../lab/wait.ts';
import { claimOf, nodeValue, type TestStore, testStore } from '../support/etcd-store.ts';

const test = suite('etcd in trouble');
const subnets = '/coreos.com/network/subnets/';
const leaseValue = (n: number): string => `{"PublicIP":"192.0.2.${n}","PublicIPv6":null,"BackendType":"host-gw"}`;

let etcd: Etcd;
const stores: TestStore[] = [];
const servers: Etcd[] = [];
const open = (...args: Parameters<typeof testStore>): TestStore => {
  const store = testStore(...args);
  stores.push(store);
  return store;
};
const start = async (options?: Parameters<typeof startEtcd>[0]): Promise<Etcd> => {
  const server = await startEtcd(options);
  servers.push(server);
  return server;
};

test.before(async () => {
  etcd = await startEtcd();
});
test.before.each(() => {
  etcd.ctl('del', '--prefix', '');
});
test.after.each(async () => {
  for (const store of stores.splice(0)) store.close();
  for (const server of servers.splice(0)) await server.remove();
});
test.after(async () => {
  await etcd.remove();
});

/** A store that watches, with its wakes and problems. */
function watching(server: Etcd, options: Parameters<typeof testStore>[1] = {}) {
  const store = open(server.endpoint, options);
  const seen = { wakes: 0, problems: [] as StoreError[], lastProblemMs: 0 };
  const watch = store.watch(
    () => {
      seen.wakes++;
    },
    (error) => {
      seen.problems.push(error);
      seen.lastProblemMs = performance.now();
    },
  );
  const knows = (name: string): Promise<true> =>
    waitFor(`the store to know ${name}`, async () => {
      const { leases } = await store.leases.list();
      return leases.all.some((lease) => lease.ownerId === subnets + name) || undefined;
    });
  return { store, seen, watch, knows };
}

/** Passes connections on to the port; `hang` makes those there are silent for ever, as when an address is gone. */
async function hangingProxy(target: number) {
  const sockets = new Set<Socket>();
  let made = 0;
  const server = createServer((inside) => {
    made++;
    const outside = connect(target, '127.0.0.1');
    for (const socket of [inside, outside]) {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => sockets.delete(socket));
    }
    inside.pipe(outside);
    outside.pipe(inside);
  });
  const port = await freePort();
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  const hang = (): void => {
    for (const socket of sockets) {
      socket.unpipe();
      socket.pause();
    }
  };
  return { server, port, hang, count: () => made };
}

async function failure(work: () => Promise<unknown>): Promise<StoreError> {
  try {
    await work();
  } catch (error) {
    if (error instanceof StoreError) return error;
    throw error;
  }
  throw new Error('it should have thrown');
}

test('a watch wakes at the start and on changes of config and leases only', async () => {
  const { seen } = watching(etcd);
  await waitFor('the first wake', () => seen.wakes === 1);
  etcd.ctl('put', '/coreos.com/network/config', '{}');
  await waitFor('a wake for the config', () => seen.wakes === 2);
  etcd.ctl('put', '/coreos.com/network/nodes/a', '{}');
  etcd.ctl('put', `${subnets}10.5.1.0-24`, leaseValue(1));
  await waitFor('a wake for the lease', () => seen.wakes === 3);
  etcd.ctl('del', `${subnets}10.5.1.0-24`);
  await waitFor('a wake for its end', () => seen.wakes === 4);
  assert.equal(seen.problems, []);
});

test('while the watch runs, lists come from memory and include the store’s own writes', async () => {
  const { store, seen } = watching(etcd);
  await waitFor('the first wake', () => seen.wakes === 1);
  for (let n = 1; n <= 20; n++) {
    const { own } = await store.claim(claimOf(n));
    const { leases } = await store.leases.list();
    assert.ok(
      leases.all.some(
        (lease) => lease.ownerId === own.ownerId && handleOf(lease).modRevision === handleOf(own).modRevision,
      ),
      `lease ${n}`,
    );
  }
  await waitFor('the wakes', () => seen.wakes >= 21);
  // A frozen etcd is not asked.
  etcd.freeze();
  const { leases } = await store.leases.list();
  etcd.thaw();
  assert.is(leases.size, 20);
});

test('etcd restarts: one problem is reported, then the watch wakes, and nothing is missed', async () => {
  const { store, seen, knows } = watching(etcd);
  await waitFor('the first wake', () => seen.wakes === 1);
  await etcd.stop('SIGTERM');
  await waitFor('the problem', () => seen.problems.length === 1);
  assert.instance(seen.problems[0], StoreUnavailableError);
  const error = await failure(() => store.leases.list());
  assert.match(
    error.message,
    /^Cannot follow the leases "\/coreos\.com\/network\/subnets\/" in etcd at http:\/\/127\.0\.0\.1:\d+: connection refused; is etcd running there\? \(--etcd-endpoints\)$/,
  );
  assert.is(store.leases.health().connected, false);
  await etcd.start();
  etcd.ctl('put', `${subnets}10.5.2.0-24`, leaseValue(2));
  await knows('10.5.2.0-24');
  assert.is(store.leases.health().connected, true);
  assert.is(seen.problems.length, 1);
  etcd.ctl('put', `${subnets}10.5.3.0-24`, leaseValue(3));
  await knows('10.5.3.0-24');
});

test('etcd is killed, changed and compacted while the watch is down', async () => {
  const { seen, knows } = watching(etcd);
  await waitFor('the first wake', () => seen.wakes === 1);
  await etcd.stop('SIGKILL');
  await etcd.start();
  etcd.ctl('put', `${subnets}10.5.4.0-24`, leaseValue(4));
  const { header } = JSON.parse(etcd.ctl('get', 'x', '-w', 'json')) as { header: { revision: number } };
  etcd.ctl('compact', String(header.revision), '--physical');
  await knows('10.5.4.0-24');
  // The watch could go on, but what it went on after is no longer there to be compared: once, not for ever.
  for (const n of [5, 6, 7, 8]) {
    etcd.ctl('put', `${subnets}10.5.${n}.0-24`, leaseValue(n));
    await knows(`10.5.${n}.0-24`);
  }
  await waitFor('contact that lasts', () => performance.now() - seen.lastProblemMs > 1500);
  assert.ok(seen.problems.filter(({ message }) => message.includes('compacted')).length <= 1);
});

test('etcd freezes: calls end at their deadline, the watch notices, and all recovers after the thaw', async () => {
  const { store, seen, knows } = watching(etcd, { timeoutMs: 600 });
  await waitFor('the first wake', () => seen.wakes === 1);
  etcd.freeze();
  try {
    const startMs = Date.now();
    const error = await failure(() => store.claim(claimOf(1)));
    assert.ok(Date.now() - startMs < 1500, 'by its deadline');
    assert.match(error.message, /no answer in time; is etcd running there/);
    assert.instance(error, StoreUnavailableError);
    await waitFor('the problem', () => seen.problems.length === 1);
  } finally {
    etcd.thaw();
  }
  etcd.ctl('put', `${subnets}10.5.6.0-24`, leaseValue(6));
  await knows('10.5.6.0-24');
  assert.is((await store.claim(claimOf(1))).own.reservation, false);
});

test('a connection without an answer, given up on purpose, is replaced at once, and its calls are repeated', async () => {
  const { server: wire, port, count, hang } = await hangingProxy(Number(new URL(etcd.endpoint).port));
  try {
    const store = open(`http://127.0.0.1:${port}`, { timeoutMs: 20_000, heartbeatMs: 20_000 });
    const seen = { wakes: 0, problems: 0 };
    store.watch(
      () => seen.wakes++,
      () => seen.problems++,
    );
    await waitFor('the first wake', () => seen.wakes === 1);
    const before = count();
    hang();
    const startMs = Date.now();
    const read = store.config.write('{}');
    store.leases.reconnect();
    assert.is(await read, true);
    await waitFor('the watch to be back', () => seen.wakes === 2);
    assert.ok(Date.now() - startMs < 3000, `${Date.now() - startMs} ms`);
    assert.ok(count() > before);
    assert.is(seen.problems, 0, 'that is no trouble of etcd');
  } finally {
    wire.close();
  }
});

test('a store opened while etcd is down works when it is up', async () => {
  const server = await start();
  await server.stop();
  const { seen, knows } = watching(server);
  await waitFor('the problem', () => seen.problems.length === 1);
  await server.start();
  server.ctl('put', `${subnets}10.5.7.0-24`, leaseValue(7));
  await knows('10.5.7.0-24');
  await waitFor('a wake', () => seen.wakes >= 1);
});

test('of several endpoints one frozen, one dead: the call goes to the third', async () => {
  const frozen = await start();
  frozen.freeze();
  const dead = `http://127.0.0.1:${await freePort()}`;
  // Whichever it begins with.
  for (const random of [() => 0, () => 0.4, () => 0.9]) {
    const store = open([frozen.endpoint, dead, etcd.endpoint], { random, timeoutMs: 1500 });
    assert.is(await store.config.read(), undefined);
    const startMs = Date.now();
    await store.leases.list();
    assert.ok(Date.now() - startMs < 300, 'and stays there');
  }
});

test('a wrong password is reported clearly; a restart of etcd ends only the token', async () => {
  const server = await start({ args: ['--bcrypt-cost', '4'] });
  server.ctl('user', 'add', 'root:secret');
  server.ctl('user', 'grant-role', 'root', 'root');
  server.ctl('user', 'add', 'guest:secret');
  server.ctl('auth', 'enable');
  const login = { username: 'root', password: 'secret' };

  const wrong = await failure(() =>
    open(server.endpoint, { etcdOptions: { username: 'root', password: 'x' } }).config.read(),
  );
  assert.match(wrong.message, /wrong user name or password; check --etcd-username and --etcd-password$/);
  assert.instance(wrong, StoreRefusedError);
  const none = await failure(() => open(server.endpoint).config.read());
  assert.match(none.message, /wants a user name and password; give --etcd-username and --etcd-password$/);
  const guest = { username: 'guest', password: 'secret' };
  const denied = await failure(() => open(server.endpoint, { etcdOptions: guest }).config.read());
  assert.match(
    denied.message,
    /permission denied: user "guest" has no role; give it one: etcdctl user grant-role guest weft$/,
  );

  const { store, seen, knows } = watching(server, { etcdOptions: login });
  await waitFor('the first wake', () => seen.wakes === 1);
  const { own } = await store.claim(claimOf(1));
  // Simple tokens live in the server's memory: they are gone after a restart.
  await server.stop();
  await server.start();
  assert.is((await store.leases.keepAlive(own, nodeValue(1))).state, 'held');
  server.ctl('--user', 'root:secret', 'put', `${subnets}10.5.8.0-24`, leaseValue(8));
  await knows('10.5.8.0-24');
});

test('a token that expired while idle is renewed', async () => {
  const server = await start({ args: ['--bcrypt-cost', '4', '--auth-token-ttl', '1'] });
  server.ctl('user', 'add', 'root:secret');
  server.ctl('user', 'grant-role', 'root', 'root');
  server.ctl('auth', 'enable');
  const store = open(server.endpoint, { etcdOptions: { username: 'root', password: 'secret' } });
  await store.config.read();
  await new Promise((resolve) => setTimeout(resolve, 3000));
  assert.is(await store.config.read(), undefined);
});

test('a password that etcd does not need: the store works without it', async () => {
  const store = open(etcd.endpoint, { etcdOptions: { username: 'root', password: 'secret' } });
  assert.is(await store.config.read(), undefined);
  assert.is(await store.config.write('{}'), true);
});

test('TLS works with the right authority; a missing authority or plain text is reported clearly', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'weft-tls-'));
  try {
    const keyFile = join(folder, 'key.pem');
    const certFile = join(folder, 'cert.pem');
    const made = spawnSync('openssl', [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
      ...['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'],
      ...['-keyout', keyFile, '-out', certFile],
    ]);
    assert.is(made.status, 0, String(made.stderr));
    const server = await start({ tls: { caFile: certFile, server: { certFile, keyFile } } });
    const store = open(server.endpoint, { etcdOptions: { caFile: certFile } });
    assert.is(await store.config.write('{}'), true);
    // The certificate names the address, too. gRPC as it comes refuses one; the executable's has been mended.
    const byAddress = spawnSync(
      new URL('../../dist/bin/weftctl', import.meta.url).pathname,
      [
        '--etcd-endpoints',
        server.endpoint.replace('localhost', '127.0.0.1'),
        '--etcd-cafile',
        certFile,
        'config',
        'get',
      ],
      { encoding: 'utf8' },
    );
    assert.is(byAddress.stdout, '{}\n', byAddress.stderr);

    const untrusted = await failure(() => open(server.endpoint).config.read());
    assert.match(
      untrusted.message,
      /no authority that this host knows has signed etcd's certificate; give .* by --etcd-cafile$/,
    );
    assert.instance(untrusted, StoreRefusedError);
    const missing = await failure(() =>
      open(server.endpoint, { etcdOptions: { caFile: '/nowhere/ca.pem' } }).config.read(),
    );
    assert.match(missing.message, /^Cannot read "\/nowhere\/ca\.pem" \(--etcd-cafile\): ENOENT$/);
    const plain = await failure(() => open(server.endpoint.replace('https', 'http'), { timeoutMs: 600 }).config.read());
    assert.match(plain.message, /Cannot read the network config/);
    const overPlain = await failure(() =>
      open(etcd.endpoint.replace('http://127.0.0.1', 'https://localhost'), { timeoutMs: 600 }).config.read(),
    );
    assert.match(overPlain.message, /check http or https/, overPlain.message);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('a server that is not etcd, and an unknown host name', async () => {
  const server = createServer((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
  const port = await freePort();
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  try {
    const error = await failure(() => open(`http://127.0.0.1:${port}`, { timeoutMs: 600 }).config.read());
    assert.match(error.message, /^Cannot read the network config "\/coreos\.com\/network\/config" in etcd at http/);
  } finally {
    server.close();
  }
  const named = await failure(() => open('http://no-such-host.invalid:2379').config.read());
  assert.match(named.message, /its name cannot be resolved; check --etcd-endpoints and DNS$/);
});

test('after close, a watch is silent and the store refuses', async () => {
  const { store, seen, watch } = watching(etcd);
  await waitFor('the first wake', () => seen.wakes === 1);
  const other = open(etcd.endpoint);
  watch.close();
  assert.is(await store.config.write('{}'), true, 'closing a watch leaves the rest of the store alone');
  await other.config.write('{"a":1}');
  assert.is((await store.config.read())?.text, '{"a":1}');
  assert.is(seen.wakes, 1);
  assert.equal(seen.problems, []);
  store.close();
  assert.match((await failure(() => store.leases.list())).message, /it is closed/);
});

test.run();
