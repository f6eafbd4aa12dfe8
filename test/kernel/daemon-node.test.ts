/**
 * weftd as a process: hosts in namespaces of their own, a real etcd between them. As root.
 * @alone
 */

import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Cluster } from '../lab/cluster.ts';
import { executeAsync, type Finished, run, type Service } from '../lab/commands.ts';
import type { Host } from '../lab/host.ts';
import { describeHost, difference, readFdb, readLink, readNeighbours, readRoutes } from '../lab/kernel-state.ts';
import { root } from '../lab/project.ts';
import { timed, waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

/** weftd from its source, without a build. */
const command = [process.execPath, join(root, 'main-weftd.ts')];
const options = ['--ip-masq', '--log-level', 'debug', '--log-format', 'json'];
const config = '{"Network":"10.1.0.0/16","SubnetMax":"10.1.249.0","Backend":{"Type":"vxlan"}}';

const test = suite('daemon/node');

/** etcd and three hosts whose weftd runs from its source; hosts are numbered from 1. */
class Lab {
  readonly cluster = new Cluster('dn');

  #host(n: number): Host {
    return this.cluster.hosts[n - 1]!;
  }

  host(n: number): string {
    return this.#host(n).namespace;
  }

  address(n: number): string {
    return this.#host(n).address;
  }

  path(n: number, ...rest: string[]): string {
    return join(this.#host(n).folder, ...rest);
  }

  ctl(...args: string[]): string {
    return this.cluster.etcdctl(...args);
  }

  start(n: number): Service {
    return this.#host(n).startWeftdWith({ command }, ...options);
  }

  weftd(n: number): Service {
    return this.#host(n).weftd!;
  }

  /** weftd run to its end. */
  once(n: number, ...args: string[]): Promise<Finished> {
    const argv = [...command, ...this.#host(n).weftdArguments, ...options, ...args];
    return executeAsync(argv, { namespace: this.host(n) });
  }

  log(n: number): string {
    return this.#host(n).log;
  }

  /** Waits for another line with this text, beyond the first `from` characters of the log. */
  async logged(n: number, text: string, from = 0): Promise<void> {
    await waitFor(`"${text}" in the log of h${n}`, () => this.log(n).slice(from).includes(text)).catch((error) => {
      throw new Error(`${(error as Error).message}\n${this.log(n).slice(from)}`);
    });
  }

  /** Starts weftd and waits until it is ready. */
  async ready(n: number): Promise<void> {
    const from = this.log(n).length;
    this.start(n);
    await this.logged(n, '"ready"', from);
  }

  subnet(n: number): string {
    return this.#host(n).subnet;
  }

  /** Whether host `n` has all it takes to reach the hosts. */
  reaches(n: number, ...others: number[]): boolean {
    const host = this.host(n);
    const routes = readRoutes(host).filter(({ device }) => device === 'flannel.1');
    const fdb = readFdb(host);
    return (
      routes.length === others.length &&
      fdb.length === others.length &&
      readNeighbours(host).filter(({ device }) => device === 'flannel.1').length === others.length &&
      others.every(
        (other) =>
          routes.some(({ destination }) => destination === this.subnet(other)) &&
          fdb.some(({ destination }) => destination === this.address(other)),
      )
    );
  }
}

const lab = fixture(
  test,
  async () => {
    const made = new Lab();
    for (let i = 0; i < 3; i++) made.cluster.addHost();
    await made.cluster.startEtcd();
    return made;
  },
  ({ cluster }) => cluster.remove(),
);

/** Without what a device that is made anew has another of. */
const stable = (host: string): string[] =>
  describeHost(host).map((line) => line.replace(/"index":\d+,?|"handle":\s*\d+,?/g, ''));

test('without a network config, weftd names the missing key and how to write it, and continues once it exists', async () => {
  lab().start(1);
  await lab().logged(1, 'No network config in etcd at \\"/coreos.com/network/config\\"; write one: weftctl config set');
  assert.not(existsSync(lab().path(1, 'subnet.env')));
  lab().ctl('put', '/coreos.com/network/config', '{"Network":"10.1.0.0/33"}');
  await lab().logged(1, 'waiting for a better one');
  lab().ctl('put', '/coreos.com/network/config', config);
  await lab().logged(1, '"ready"');
  assert.match(readFileSync(lab().path(1, 'subnet.env'), 'utf8'), /^FLANNEL_NETWORK=10\.1\.0\.0\/16\n/);
  assert.is(statSync(lab().path(1, 'run', 'weftd.sock')).mode & 0o777, 0o600);
});

test('hosts find each other, and packets arrive', async () => {
  await Promise.all([lab().ready(2), lab().ready(3)]);
  await waitFor('all peers', () => lab().reaches(1, 2, 3) && lab().reaches(2, 1, 3) && lab().reaches(3, 1, 2));
  const endpointOf = (n: number): string => lab().subnet(n).replace(/\/.*/, '');
  run(['ping', '-c', '1', '-W', '2', '-I', endpointOf(1), endpointOf(2)], { namespace: lab().host(1) });
});

test('after a kill and a start, nothing in the kernel changes and no file is rewritten', async () => {
  const files = ['run/node.json', 'subnet.env', 'state/state.json'].map((file) => lab().path(2, file));
  const before = [describeHost(lab().host(2)), files.map((file) => statSync(file).ino)];
  await lab().weftd(2).stop('SIGKILL');
  assert.equal(describeHost(lab().host(2)), before[0]);
  await lab().ready(2);
  assert.equal([describeHost(lab().host(2)), files.map((file) => statSync(file).ino)], before);
});

test('everything that is deleted is restored within a second', async () => {
  const host = lab().host(1);
  const before = stable(host);
  const peer = lab().subnet(2);
  const address = peer.replace(/\/.*/, '');
  const entries = readFdb(host);
  const harms = [
    `ip route del ${peer}`,
    `ip route replace ${peer} via ${lab().cluster.underlay.gateway}`,
    `ip neigh del ${address} dev flannel.1`,
    `bridge fdb del ${entries[0]!.mac} dev flannel.1 dst ${entries[0]!.destination}`,
    'ip addr flush dev flannel.1',
    'ip link set flannel.1 mtu 1300',
    'ip link set flannel.1 down',
    'ip link del flannel.1',
    'nft delete table inet weft',
    'nft flush chain inet weft postrouting',
    'sysctl -q -w net.ipv4.ip_forward=0',
  ];
  const healed = (): boolean =>
    difference(before, stable(host)).length === 0 &&
    run(['sysctl', '-n', 'net.ipv4.ip_forward'], { namespace: host }).trim() === '1';
  for (const harm of harms) {
    run(harm.split(' '), { namespace: host });
    const { ms } = await timed(() => waitFor(`the repair of "${harm}"`, healed, { deadlineMs: 5000 }));
    assert.ok(ms < 1000, `${harm}: ${Math.round(ms)} ms`);
  }
});

test('after its lease is deleted, weftd claims the same subnet again', async () => {
  const subnet = lab().subnet(1);
  const from = lab().log(1).length;
  lab().ctl('del', `/coreos.com/network/subnets/${subnet.replace('/', '-')}`);
  await lab().logged(1, 'lease claimed again', from);
  assert.is(lab().subnet(1), subnet);
  await waitFor('the others', () => lab().reaches(2, 1, 3) && lab().reaches(3, 1, 2));
});

test('a malformed lease and one of an unknown backend are skipped, and the others are kept', async () => {
  const before = stable(lab().host(1));
  const from = lab().log(1).length;
  lab().ctl('put', '/coreos.com/network/subnets/10.1.250.0-24', 'nonsense');
  lab().ctl('put', '/coreos.com/network/subnets/10.1.251.0-24', '{"PublicIP":"192.0.2.99","BackendType":"wireguard"}');
  await lab().logged(1, 'Cannot read lease \\"/coreos.com/network/subnets/10.1.250.0-24\\", which is skipped', from);
  await lab().logged(1, 'its backend is \\"wireguard\\"', from);
  assert.equal(difference(before, stable(lab().host(1))), []);
  for (const subnet of ['10.1.250.0', '10.1.251.0']) lab().ctl('del', `/coreos.com/network/subnets/${subnet}-24`);
});

test('while etcd is stopped, repairs go on and a restarted weftd waits and changes nothing; nothing changes when etcd is back', async () => {
  const hosts = [1, 2].map((n) => lab().host(n));
  const before = hosts.map(stable);
  await lab().cluster.stopEtcd();
  run(['ip', 'link', 'del', 'flannel.1'], { namespace: hosts[0]! });
  await waitFor('the repair without etcd', () => difference(before[0]!, stable(hosts[0]!)).length === 0);

  const { result, ms } = await timed(() => lab().weftd(2).stop('SIGTERM'));
  assert.is(result, 0);
  assert.ok(ms < 1000, `${Math.round(ms)} ms`);
  const from = lab().log(2).length;
  lab().start(2);
  await lab().logged(2, `in etcd at ${lab().cluster.etcdEndpoint}`, from);
  assert.equal(difference(before[1]!, stable(hosts[1]!)), []);

  await lab().cluster.startEtcd();
  await lab().logged(2, '"ready"', from);
  assert.equal(hosts.map(stable), before);
});

test('a changed address of the host is followed at once, on this host and on the others', async () => {
  const ip = (...words: string[]): string => run(['ip', '-n', lab().host(3), ...words]);
  const leads = (address: string): boolean => readFdb(lab().host(1)).some(({ destination }) => destination === address);
  for (const [before, after] of [
    [lab().address(3), '192.168.77.33'],
    ['192.168.77.33', lab().address(3)],
  ] as const) {
    ip('addr', 'del', `${before}/24`, 'dev', 'eth0');
    ip('addr', 'add', `${after}/24`, 'dev', 'eth0');
    ip('route', 'add', 'default', 'via', lab().cluster.underlay.gateway);
    const { ms } = await timed(() => waitFor(`the way to ${after}`, () => leads(after) && !leads(before)));
    // Less than the deadline of a call to etcd, whose answer goes to the address that is gone.
    assert.ok(ms < 3000, `${Math.round(ms)} ms`);
  }
  assert.ok(lab().reaches(1, 2, 3));
});

test('after etcd has lost all leases, peers stay until all have claimed again, even one whose weftd is stopped', async () => {
  await lab().weftd(3).stop('SIGTERM');
  const before = stable(lab().host(1));
  const from = lab().log(1).length;
  // Leases that somebody deletes end, even if all are deleted at once: see hostile-leases.test.ts.
  await lab().cluster.stopEtcd();
  lab().cluster.etcd.wipe();
  await lab().cluster.startEtcd();
  lab().ctl('put', '/coreos.com/network/config', config);
  await lab().logged(1, 'lease claimed again', from);
  await waitFor(
    'the other to claim again',
    () => lab().ctl('get', '--prefix', '/', '--keys-only').split('subnets/').length === 3,
  );
  await lab().logged(1, 'etcd has lost leases', from);
  assert.equal(difference(before, stable(lab().host(1))), []);
  assert.not(lab().log(1).slice(from).includes('remove '));
  await lab().ready(3);
  await lab().logged(1, 'lost leases: all right again', from);
  assert.equal(difference(before, stable(lab().host(1))), []);
});

test('--leave without etcd changes nothing, and the running weftd continues', async () => {
  const before = stable(lab().host(3));
  await lab().cluster.stopEtcd();
  const { status, stderr } = await lab().once(3, '--leave');
  await lab().cluster.startEtcd();
  assert.is(status, 1);
  assert.match(stderr, /nothing was removed, try again when etcd answers/);
  assert.ok(lab().weftd(3).alive);
  assert.equal(difference(before, stable(lab().host(3))), []);
});

test('a second weftd with the same run folder is refused', async () => {
  const { status, stderr } = await lab().once(1);
  assert.is(status, 1);
  assert.match(stderr, /Another weftd \(process \d+\) uses/);
});

test('without the right to change the network, weftd ends with one line', async () => {
  const { status, stderr } = await executeAsync(
    ['setpriv', '--bounding-set', '-net_admin', ...command, '--run-dir', join(lab().cluster.scratch.folder, 'nobody')],
    { namespace: lab().host(1) },
  );
  assert.is(status, 1);
  assert.is(stderr.trim().split('\n').length, 1);
  assert.match(stderr, /CAP_NET_ADMIN\): run it as root/);
});

test('--leave ends the running weftd and removes everything of it, on this host and on the others', async () => {
  const host = lab().host(3);
  const { status, stderr } = await lab().once(3, '--leave');
  assert.is(status, 0, stderr);
  assert.is(await lab().weftd(3).exited, 0);
  await waitFor('the others', () => lab().reaches(1, 2) && lab().reaches(2, 1));
  assert.is(readLink(host, 'flannel.1'), undefined);
  assert.equal(
    readRoutes(host).map(({ destination }) => destination),
    ['default', '192.168.77.0/24'],
  );
  assert.is(run(['nft', 'list', 'ruleset'], { namespace: host }).trim(), '');
  for (const file of ['run/node.json', 'run/weftd.sock', 'subnet.env', 'state/state.json']) {
    assert.not(existsSync(lab().path(3, file)), file);
  }
  assert.not(lab().ctl('get', '--prefix', '/coreos.com/network/', '--keys-only').includes('/host3'));
  assert.is((await lab().once(3, '--leave')).status, 0);
});

test.run();
