/** Hosts join and leave. */

import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startCluster } from '../lab/cluster.ts';
import { execute } from '../lab/commands.ts';
import { difference, readFdb, readLink, readNeighbours, readRoutes } from '../lab/kernel-state.ts';
import { MountNamespace } from '../lab/mount-namespace.ts';
import { ping } from '../lab/packets.ts';
import { program } from '../lab/project.ts';
import { startLocker } from '../lab/strangers.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('membership');
const cluster = fixture(
  test,
  () => startCluster('members', { hosts: 3 }),
  (made) => made.remove(),
);

test('a fourth host joins, is reached, and leaves without a trace', async () => {
  const { hosts } = cluster();
  const before = hosts.map((host) => host.describe());
  const others = [...hosts];
  const fourth = cluster().addHost();
  const bare = fourth.describe();

  // From the moment its lease is in etcd to the moment the kernels of the others hold all three entries for it.
  let leasedAt = 0;
  const programmedAt = new Map<string, number>();
  fourth.startWeftd();
  await waitFor(
    'the others to reach host4',
    () => {
      if (
        leasedAt === 0 &&
        cluster().etcdctl('get', '--prefix', '/coreos.com/network/subnets').includes(fourth.address)
      ) {
        leasedAt = performance.now();
      }
      for (const host of others) {
        if (programmedAt.has(host.name)) continue;
        const entry = readFdb(host.namespace).find(({ destination }) => destination === fourth.address);
        const hasRoute =
          entry && readRoutes(host.namespace).filter(({ device }) => device === 'flannel.1').length === 3;
        if (hasRoute) programmedAt.set(host.name, performance.now());
      }
      // It may be programmed before it is seen in etcd.
      return programmedAt.size === others.length && leasedAt > 0;
    },
    { intervalMs: 1 },
  );
  const delays = [...programmedAt.values()].map((at) => Math.max(0, at - leasedAt));
  console.log(`\n  ${Math.max(...delays).toFixed(0)} ms from the lease to the last of three programmed hosts`);
  assert.ok(leasedAt > 0);
  assert.ok(Math.max(...delays) < 2000, `${delays}`);

  await fourth.reaches(cluster().hosts);
  const [pod] = fourth.attachPods(1);
  for (const host of others) {
    const [other] = host.attachPods(1);
    assert.is(ping(other!.namespace, pod!.address).received, 1, `${host.name} → host4`);
    assert.is(ping(pod!.namespace, other!.address).received, 1, `host4 → ${host.name}`);
    other!.detach();
  }
  pod!.detach();

  const subnet = fourth.subnet;
  const { status, stderr, stdout } = fourth.runWeftd('--leave');
  assert.is(status, 0, stdout + stderr);
  assert.is(typeof (await fourth.weftd!.exited), 'number', 'the running weftd ends');
  assert.not(cluster().etcdctl('get', '--prefix', '/coreos.com/network/').includes(fourth.address));
  for (const [i, host] of others.entries()) {
    await waitFor(`${host.name} to forget host4`, () => !host.describe().some((line) => line.includes(fourth.address)));
    const names = [...readRoutes(host.namespace), ...readNeighbours(host.namespace)].map((entry) =>
      JSON.stringify(entry),
    );
    assert.not(
      names.some((line) => line.includes(subnet.replace(/\.0\/24$/, '.'))),
      host.name,
    );
    // cni0 is new where the first container came, and in the peer lock's set of interfaces; all else is as it was.
    const came = difference(before[i]!, host.describe()).filter(
      (line) => !/cni0|inner-links|"10\.244\.\d+\.1"/.test(line),
    );
    assert.equal(came, [], host.name);
  }
  assert.is(readLink(fourth.namespace, 'flannel.1'), undefined);
  const left = difference(bare, fourth.describe()).filter((line) => !/cni0/.test(line));
  assert.equal(left, [], 'host4 is as it was before');
});

test('--leave ends the weftd of the folder, and no stranger who locks a file of the same number elsewhere', async () => {
  const leaving = cluster().addHost();
  // On a tmpfs, whose files have small numbers.
  const runDir = mkdtempSync('/dev/shm/weft-membership-');
  try {
    leaving.startWeftd('--run-dir', runDir);
    const lock = join(runDir, 'weftd.pid');
    await waitFor('the lock', () => existsSync(lock) && readFileSync(lock, 'utf8') !== '');
    const { ino } = statSync(lock);
    const stranger = await startLocker(leaving.scratch, leaving.namespace, ino);
    const locks = readFileSync('/proc/locks', 'utf8').split('\n');
    assert.is(locks.filter((line) => line.includes(' FLOCK ') && line.includes(`:${ino} `)).length, 2);
    const { status, stdout, stderr } = leaving.runWeftd('--run-dir', runDir, '--leave');
    assert.is(status, 0, stdout + stderr);
    assert.match(stderr, new RegExp(`stopping the weftd that runs.*${leaving.weftd!.pid}`));
    assert.is(typeof (await leaving.weftd!.exited), 'number', 'weftd ends');
    assert.ok(stranger.alive);
    await stranger.stop('SIGKILL');
  } finally {
    rmSync(runDir, { recursive: true });
  }
});

test('--leave beside a service refuses, and the service goes on with its subnet', async () => {
  const host = cluster().addHost();
  // A child of init with INVOCATION_ID, as systemd starts it.
  const { scratch } = cluster();
  const pidFile = join(scratch.folder, 'service.pid');
  const log = join(scratch.folder, 'service.log');
  const words = [program('weftd'), ...host.weftdArguments].map((word) => `'${word}'`).join(' ');
  const script = `${words} >'${log}' 2>&1 & echo $! >'${pidFile}'`;
  host.execute(['sh', '-c', script], { environment: { INVOCATION_ID: '0123456789abcdef0123456789abcdef' } });
  const pid = Number(readFileSync(pidFile, 'utf8'));
  try {
    await host.waitForStatus('weftd', ({ state }) => state === 'running');
    const before = host.describe();
    const { subnet } = host;
    for (const further of [[], ['--local']]) {
      const { status, stderr } = host.runWeftd('--leave', ...further);
      assert.is(status, 1);
      assert.match(stderr, /runs as the service \\?"[^"]+\.service\\?", .* take another subnet; nothing was removed/);
      assert.match(stderr, /systemctl disable --now [^ ]+\.service/);
    }
    assert.is(host.status().state, 'running');
    assert.is(host.subnet, subnet);
    assert.equal(difference(before, host.describe()), []);
  } finally {
    process.kill(pid, 'SIGTERM');
    await waitFor('weftd to end', () => !existsSync(`/proc/${pid}`));
  }
  assert.is(host.runWeftd('--leave').status, 0);
});

test('--leave --local removes everything of the host without etcd, and tells that the lease stays', async () => {
  const host = cluster().addHost();
  const bare = host.describe();
  host.startWeftd();
  await host.reaches([]);
  const { subnet } = host;
  const { status, stderr } = host.runWeftd('--leave', '--local', '--etcd-endpoints', 'http://192.0.2.1:2379');
  assert.is(status, 0, stderr);
  assert.match(stderr, /left on this host only: etcd was not asked, and a lease there stays until it expires/);
  assert.equal(difference(bare, host.describe()), []);
  assert.ok(cluster().etcdctl('get', '--prefix', '/coreos.com/network/subnets').includes(subnet.replace('/', '-')));
  assert.is(host.runWeftd('--local').status, 2);
});

test("--leave reads the service's settings", async () => {
  const host = cluster().addHost();
  host.startWeftd();
  await host.reaches([]);
  const { subnet } = host;
  const mounts = await MountNamespace.open(cluster().scratch, 'slave');
  const folder = cluster().scratch.makeFolder('etc-default');
  const endpoints = host.weftdArguments[host.weftdArguments.indexOf('--etcd-endpoints') + 1]!;
  writeFileSync(join(folder, 'weftd'), `# comment\nWEFTD_ETCD_ENDPOINTS="${endpoints}"\n`);
  mounts.mount('--bind', folder, '/etc/default');
  const withoutEtcd = host.weftdArguments.filter((word) => word !== '--etcd-endpoints' && word !== endpoints);
  const { status, stderr } = execute([...mounts.enter(host.namespace), program('weftd'), ...withoutEtcd, '--leave'], {
    timeoutMs: 30_000,
  });
  assert.is(status, 0, stderr);
  assert.not(cluster().etcdctl('get', '--prefix', '/coreos.com/network/subnets').includes(subnet.replace('/', '-')));
});

test('--leave on a host without a lease says so and succeeds', () => {
  const stranger = cluster().addHost();
  const { status, stdout, stderr } = stranger.runWeftd('--leave');
  assert.is(status, 0, stdout + stderr);
  assert.is(readLink(stranger.namespace, 'flannel.1'), undefined);
});

test.run();
