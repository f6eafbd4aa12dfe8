/**
 * Starts: many at the same instant, after a reboot, after etcd has lost everything, after both, and with another host's
 * name. A node gets its former subnet again.
 */

import { mkdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Cluster, startCluster } from '../lab/cluster.ts';
import { run } from '../lab/commands.ts';
import type { Host } from '../lab/host.ts';
import { difference, readRoutes } from '../lab/kernel-state.ts';
import { MountNamespace } from '../lab/mount-namespace.ts';
import { ping, startPing } from '../lab/packets.ts';
import { exampleConfig } from '../lab/project.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('starts');
const cluster = fixture(
  test,
  () => startCluster('starts', { hosts: 3 }),
  (made) => made.remove(),
);

/** The kernel of a host that was switched off and on again. */
function forgetKernel(host: Host): void {
  for (const { device } of readRoutes(host.namespace).filter(({ device }) => /^flannel/.test(device ?? ''))) {
    if (device && host.ip('link').includes(`${device}:`)) host.ip('link', 'del', device);
  }
  if (host.ip('link').includes('flannel.1:')) host.ip('link', 'del', 'flannel.1');
}

/** What a disk that is new, or empties itself at each start, no longer has. */
function forgetDisk(host: Host): void {
  rmSync(host.runDir, { recursive: true, force: true });
  rmSync(join(host.folder, 'state'), { recursive: true, force: true });
  rmSync(host.subnetFile, { force: true });
}

/** `reaches`, where something may be wrong all the same. */
const knows = (host: Host, others: readonly Host[]) =>
  waitFor(`${host.name} to have programmed ${others.map(({ name }) => name).join(', ')}`, () => {
    const programmed = host.status().peers.filter((peer) => peer.programmed);
    const addresses = programmed.flatMap(({ publicAddresses }) => publicAddresses);
    return others.every(({ address }) => addresses.includes(address));
  });

/** etcd is begun anew: all that it held is gone, but for the config. */
async function loseEtcd(): Promise<void> {
  await cluster().stopEtcd();
  cluster().etcd.wipe();
  await cluster().startEtcd();
  cluster().put('config', readFileSync(exampleConfig, 'utf8'));
}

test('a folder or a FIFO in the place of a file: weftd starts, reports it, and writes what it can', async () => {
  const { hosts } = cluster();
  const [one] = hosts as [Host];
  const { subnet } = one;
  await one.weftd!.stop();
  const [state, memory] = ['state.json', 'cluster.json'].map((name) => join(one.folder, 'state', name)) as [
    string,
    string,
  ];
  const node = join(one.runDir, 'node.json');
  for (const path of [state, memory, node, one.subnetFile]) rmSync(path, { force: true });
  for (const path of [state, memory]) mkdirSync(path);
  for (const path of [node, one.subnetFile]) run(['mkfifo', path]);
  one.startWeftd();
  await one.waitForStatus('the problem', ({ problems }) =>
    problems.some((problem) => problem.includes('state.json", which is a folder: remove it')),
  );
  await waitFor('the files', () => [node, one.subnetFile].every((path) => statSync(path).isFile()));
  assert.is(one.subnet, subnet);
  await one.weftd!.stop();
  for (const path of [state, memory]) rmSync(path, { recursive: true });
  one.startWeftd();
  await one.reaches(hosts);
});

test("a container's /proc/sys is read-only: weftd says what to do, and uses the host's where that is mounted", async () => {
  const { hosts, scratch } = cluster();
  const [one] = hosts as [Host];
  await one.weftd!.stop();
  const mounts = await MountNamespace.open(scratch, 'private');
  const settings = join(one.folder, 'settings');
  mkdirSync(join(settings, 'net'), { recursive: true });
  const through = mounts.enter();
  const elsewhere = ['--proc-sys-dir', settings];
  one.startWeftdWith({ through }, ...elsewhere);
  assert.is(await one.weftd!.exited, 1);
  const advice = `"${settings}" (--proc-sys-dir) has no net/ipv4/ip_forward; mount the host's /proc/sys/net as "${settings}/net"`;
  assert.ok(one.log.includes(advice), one.log);
  mounts.mount('--bind', '/proc/sys/net', join(settings, 'net'));
  mounts.mount('--bind', '/proc/sys', '/proc/sys');
  mounts.mount('-o', 'remount,bind,ro', '/proc/sys');
  one.run('sysctl', '-qw', 'net/ipv4/conf/flannel.1/forwarding=0');
  one.startWeftdWith({ through });
  await one.waitForStatus('the problem', ({ problems }) =>
    problems.some((line) =>
      /Cannot set "\/proc\/sys\/net\/ipv4\/conf\/flannel\.1\/forwarding" to "1": EROFS.*; in a container, mount the host's \/proc\/sys\/net elsewhere, and name the folder above it by --proc-sys-dir/.test(
        line,
      ),
    ),
  );
  await one.weftd!.stop();
  one.startWeftdWith({ through }, ...elsewhere);
  await one.waitForStatus('no problem', ({ problems, state }) => state === 'running' && problems.length === 0);
  assert.is(one.run('cat', '/proc/sys/net/ipv4/conf/flannel.1/forwarding').trim(), '1');
  await one.weftd!.stop();
  one.startWeftd();
  await one.reaches(hosts);
});

test('a reboot: kernel state and files are gone, etcd has the lease: same subnet, same routes', async () => {
  const { hosts } = cluster();
  const [one, two] = hosts as [Host, Host];
  const { subnet } = one;
  await one.weftd!.stop('SIGKILL');
  forgetKernel(one);
  forgetDisk(one);
  one.startWeftd();
  await one.reaches(hosts);
  assert.is(one.subnet, subnet);
  const [here, there] = [one.attachPods(1)[0]!, two.attachPods(1)[0]!];
  await two.reaches(hosts);
  await waitFor('a ping', () => ping(here.namespace, there.address).received === 1);
});

test('the reverse: kernel state and all of etcd are gone, the files exist: every host gets its subnet again', async () => {
  const { hosts } = cluster();
  const subnets = hosts.map(({ subnet }) => subnet);
  await Promise.all(hosts.map(({ weftd }) => weftd!.stop('SIGKILL')));
  await loseEtcd();
  for (const host of hosts) forgetKernel(host);
  for (const host of hosts) host.startWeftd();
  for (const host of hosts) await host.reaches(hosts);
  assert.equal(
    hosts.map(({ subnet }) => subnet),
    subnets,
  );
  const [here, there] = [hosts[0]!.pods[0]!, hosts[1]!.pods[0]!];
  await waitFor('a ping', () => ping(here.namespace, there.address).received === 1);
});

test('only state.json is left, and cni0 or docker0 carries the subnet: the host takes it again', async () => {
  const { hosts } = cluster();
  const [one, , three] = hosts as [Host, Host, Host];
  const subnets = hosts.map(({ subnet }) => subnet);
  const gateway = (host: Host): string => host.subnet.replace(/\.0\//, '.1/');
  const [ofOne, ofThree] = [gateway(one), gateway(three)];
  assert.ok(one.ip('addr', 'show', 'dev', 'cni0').includes(`inet ${ofOne}`));
  await Promise.all(hosts.map(({ weftd }) => weftd!.stop()));
  await loseEtcd();
  // As `dockerd --bip` does with flannel's subnet.
  three.ip('link', 'add', 'docker0', 'type', 'bridge');
  three.ip('addr', 'add', ofThree, 'dev', 'docker0');
  for (const host of [one, three]) {
    rmSync(host.runDir, { recursive: true });
    rmSync(host.subnetFile);
  }
  for (const host of hosts) host.startWeftd();
  for (const host of hosts) await host.reaches(hosts);
  assert.equal(
    hosts.map(({ subnet }) => subnet),
    subnets,
  );
  three.ip('link', 'del', 'docker0');
});

test('etcd has lost everything, and weftd restarts before the others claim again: the routes to them stay', async () => {
  const { hosts, scratch } = cluster();
  const [one, two, three] = hosts as [Host, Host, Host];
  const [here, there] = [one.pods[0]!, two.pods[0]!];
  const before = one.describe();
  // Written down within the second.
  await waitFor('the memory', () => {
    const text = readFileSync(join(one.folder, 'state', 'cluster.json'), 'utf8');
    return [two, three].every(({ address }) => text.includes(address));
  });
  const stream = startPing(scratch, here.namespace, there.address, 10);
  await Promise.all(hosts.map(({ weftd }) => weftd!.stop('SIGKILL')));
  await loseEtcd();
  one.startWeftd();
  await knows(one, [two, three]);
  await one.waitForStatus('the problem', ({ problems }) =>
    problems.some((problem) => /^etcd has lost leases, those of host\d, host\d;/.test(problem)),
  );
  assert.equal(difference(before, one.describe()), []);
  for (const host of [two, three]) host.startWeftd();
  for (const host of hosts) await host.reaches(hosts);
  await one.waitForStatus('the problem to be over', ({ problems }) => problems.length === 0);
  const { sent, received } = await stream.stop();
  assert.ok(sent > 10);
  assert.is(received, sent);
  assert.equal(difference(before, one.describe()), []);
});

test('etcd is restored from an old backup: a host that joined since stays reachable, even without a weftd', async () => {
  const { hosts, scratch } = cluster();
  const [one, two, three] = hosts as [Host, Host, Host];
  const backup = join(scratch.folder, 'backup');
  // A backup of before host3's lease.
  await three.weftd!.stop();
  assert.is(three.runWeftd('--leave').status, 0);
  await one.waitForStatus('host3 to be forgotten', ({ peers }) => peers.length === 1);
  cluster().etcd.save(backup);
  three.startWeftd();
  for (const host of hosts) await host.reaches(hosts);
  const [here, there] = [one.pods[0]!, three.attachPods(1)[0]!];
  assert.is(ping(here.namespace, there.address, { count: 3 }).received, 3);
  await three.weftd!.stop('SIGKILL');

  const before = [one, two].map((host) => host.describe());
  const stream = startPing(scratch, here.namespace, there.address, 10);
  await cluster().stopEtcd();
  cluster().etcd.restore(backup);
  await cluster().startEtcd();
  for (const host of [one, two]) {
    await host.waitForStatus(`${host.name} to notice`, ({ problems }) =>
      problems.some((problem) => /^etcd has lost leases, those of host3;/.test(problem)),
    );
  }
  three.startWeftd();
  for (const host of hosts) await host.reaches(hosts);
  for (const host of hosts)
    await host.waitForStatus(`${host.name} to be well`, ({ problems }) => problems.length === 0);
  const { sent, received } = await stream.stop();
  assert.is(received, sent);
  for (const [i, host] of [one, two].entries()) assert.equal(difference(before[i]!, host.describe()), [], host.name);
});

test('two hosts of the same name: each has its subnet, and both report it', async () => {
  const { hosts } = cluster();
  const twin = cluster().addHost();
  twin.startWeftd('--node', 'host1');
  await knows(twin, hosts.slice(0, 3));
  assert.is.not(twin.subnet, hosts[0]!.subnet);
  await waitFor(
    'one of the two to say so',
    () =>
      [twin, hosts[0]!].some((host) =>
        host.status().problems.some((line) => /Another host, at .*, has the name "host1", too; .*--node/.test(line)),
      ),
    { deadlineMs: 30_000 },
  );
  await knows(hosts[0]!, [twin]);
  await twin.weftd!.stop();
  assert.is(twin.runWeftd('--leave', '--node', 'host1').status, 0);
  assert.ok(hosts[0]!.status().subnets.length > 0);
});

for (const count of [2, 20]) {
  test(`${count} hosts start at the same instant: each gets a subnet of its own, and none gives up`, async () => {
    const many = new Cluster(`many${count}`);
    try {
      await many.startEtcd();
      // As few subnets as hosts, but for two: they cannot but want the same.
      const last = `10.244.${15 + count + 2}.0`;
      const config = {
        Network: '10.244.0.0/16',
        SubnetMin: '10.244.16.0',
        SubnetMax: last,
        Backend: { Type: 'vxlan' },
      };
      for (let i = 0; i < count; i++) many.addHost();
      for (const host of many.hosts) host.startWeftd();
      // They wait for the config: none is ahead of the others.
      for (const host of many.hosts)
        await waitFor(`${host.name} to wait`, () => /No network config/.test(host.log), { deadlineMs: 30_000 });
      many.put('config', JSON.stringify(config));
      const leases = (): string[] =>
        many.etcdctl('get', '--prefix', '/coreos.com/network/subnets/', '--keys-only').split('\n').filter(Boolean);
      for (const host of many.hosts) {
        await waitFor(`${host.name} to run`, () => /info {2}ready/.test(host.log), { deadlineMs: 30_000 });
      }
      const subnets = many.hosts.map(({ subnet }) => subnet);
      assert.is(new Set(subnets).size, count, subnets.join());
      assert.is(leases().length, count);
      assert.ok(many.hosts.every(({ weftd }) => weftd!.alive));
      const [first] = many.hosts as [Host];
      await first.reaches(many.hosts);
      const races = many.hosts.map(({ log }) => Number(/lostRaces=(\d+)/.exec(log)?.[1] ?? 0));
      console.log(
        `\n  ${count} hosts: ${races.filter((lost) => lost > 0).length} lost a race, ${Math.max(...races)} at the most`,
      );
    } finally {
      many.remove();
    }
  });
}

test.run();
