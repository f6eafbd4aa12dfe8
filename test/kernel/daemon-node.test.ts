/** weftd as a process: hosts in namespaces of their own, a real etcd between them. As root. */

import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { executeAsync, type Finished, run, type Service } from '../lab/commands.ts';
import { describeHost, difference, readFdb, readLink, readNeighbours, readRoutes } from '../lab/kernel-state.ts';
import { Scratch } from '../lab/scratch.ts';
import { timed, waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

const entry = join(import.meta.dirname, '..', '..', 'main-weftd.ts');
const etcdAddress = '192.0.2.254';
const endpoint = `http://${etcdAddress}:2379`;
const config = '{"Network":"10.1.0.0/16","SubnetMax":"10.1.249.0","Backend":{"Type":"vxlan"}}';

const test = suite('daemon/node');

/** An underlay with an etcd, and hosts on it: `eth0` is 192.0.2.<n>. */
class Lab {
  readonly scratch = new Scratch('dn');
  readonly underlay: string;
  readonly weftds = new Map<number, Service>();
  private etcd: Service | undefined;

  constructor() {
    this.underlay = this.scratch.addNamespace('u');
    run(['ip', '-n', this.underlay, '-batch', '-'], {
      stdin: ['link add br0 type bridge', 'link set br0 up', `addr add ${etcdAddress}/24 dev br0`].join('\n'),
    });
  }

  addHost(n: number): void {
    const name = this.scratch.addNamespace(`h${n}`);
    run(['ip', '-n', this.underlay, '-batch', '-'], {
      stdin: [`link add p${n} type veth peer name eth0 netns ${name}`, `link set p${n} master br0 up`].join('\n'),
    });
    run(['ip', '-n', name, '-batch', '-'], {
      stdin: [`addr add 192.0.2.${n}/24 dev eth0`, 'link set eth0 up', `route add default via ${etcdAddress}`].join(
        '\n',
      ),
    });
  }

  host(n: number): string {
    return `${this.scratch.prefix}-h${n}`;
  }

  path(n: number, ...rest: string[]): string {
    return join(this.scratch.folder, `h${n}`, ...rest);
  }

  async startEtcd(): Promise<void> {
    const peer = 'http://127.0.0.1:2380';
    const argv = [
      ...['etcd', '--data-dir', join(this.scratch.folder, 'etcd'), '--name', 'test', '--log-outputs', 'stderr'],
      ...['--logger', 'zap', '--heartbeat-interval', '20', '--election-timeout', '200'],
      ...['--listen-client-urls', endpoint, '--advertise-client-urls', endpoint],
      ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer, '--initial-cluster', `test=${peer}`],
    ];
    const logFile = join(this.scratch.folder, 'etcd.log');
    this.etcd = this.scratch.start(argv, { namespace: this.underlay, logFile });
    await waitFor('etcd', () => this.ctl('endpoint', 'health') !== undefined);
  }

  async stopEtcd(): Promise<void> {
    await this.etcd!.stop('SIGKILL');
  }

  ctl(...args: string[]): string {
    const environment = { ...(process.env as Record<string, string>), ETCDCTL_API: '3' };
    return run(['etcdctl', '--endpoints', endpoint, ...args], { namespace: this.underlay, environment });
  }

  private argv(n: number, args: readonly string[]): string[] {
    return [
      ...[process.execPath, entry, '--etcd-endpoints', endpoint, '--node', `h${n}`],
      ...['--run-dir', this.path(n, 'run'), '--state-dir', this.path(n, 'state'), '--ip-masq'],
      ...['--subnet-file', this.path(n, 'subnet.env'), '--log-level', 'debug', ...args],
    ];
  }

  weftd(n: number, ...args: string[]): Service {
    const logFile = join(this.scratch.makeFolder(`h${n}`), 'weftd.log');
    const service = this.scratch.start(this.argv(n, args), { namespace: this.host(n), logFile });
    this.weftds.set(n, service);
    return service;
  }

  /** weftd run to its end. */
  once(n: number, ...args: string[]): Promise<Finished> {
    return executeAsync(this.argv(n, args), { namespace: this.host(n) });
  }

  log(n: number): string {
    return readFileSync(this.path(n, 'weftd.log'), 'utf8');
  }

  /** Waits for another line with this text, beyond the first `from` characters of the log. */
  async logged(n: number, text: string, from = 0): Promise<void> {
    await waitFor(`"${text}" in the log of h${n}`, () => this.log(n).slice(from).includes(text)).catch((error) => {
      throw new Error(`${(error as Error).message}\n${this.log(n).slice(from)}`);
    });
  }

  /** Starts weftd and waits until it is ready. */
  async ready(n: number, ...args: string[]): Promise<void> {
    const from = existsSync(this.path(n, 'weftd.log')) ? this.log(n).length : 0;
    this.weftd(n, ...args);
    await this.logged(n, '"ready"', from);
  }

  subnet(n: number): string {
    return JSON.parse(readFileSync(this.path(n, 'run', 'node.json'), 'utf8')).subnets[0];
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
          fdb.some(({ destination }) => destination === `192.0.2.${other}`),
      )
    );
  }

  async remove(): Promise<void> {
    for (const service of this.weftds.values()) await service.stop();
    this.scratch.remove();
  }
}

const lab = fixture(
  test,
  async () => {
    const made = new Lab();
    for (const n of [1, 2, 3]) made.addHost(n);
    await made.startEtcd();
    return made;
  },
  (made) => made.remove(),
);

/** Without what a device that is made anew has another of. */
const stable = (host: string): string[] =>
  describeHost(host).map((line) => line.replace(/"index":\d+,?|"handle":\s*\d+,?/g, ''));

test('no network config: says which key is missing and how to write it; goes on when it is there', async () => {
  lab().weftd(1);
  await lab().logged(1, 'No network config in etcd at \\"/coreos.com/network/config\\"; write one: weftctl config set');
  assert.not(existsSync(lab().path(1, 'subnet.env')));
  lab().ctl('put', '/coreos.com/network/config', '{"Network":"10.1.0.0/33"}');
  await lab().logged(1, 'waiting for a better one');
  lab().ctl('put', '/coreos.com/network/config', config);
  await lab().logged(1, '"ready"');
  assert.match(readFileSync(lab().path(1, 'subnet.env'), 'utf8'), /^FLANNEL_NETWORK=10\.1\.0\.0\/16\n/);
  assert.is(statSync(lab().path(1, 'run', 'weftd.sock')).mode & 0o777, 0o600);
});

test('hosts find each other, and packets get through', async () => {
  await Promise.all([lab().ready(2), lab().ready(3)]);
  await waitFor('all peers', () => lab().reaches(1, 2, 3) && lab().reaches(2, 1, 3) && lab().reaches(3, 1, 2));
  const endpointOf = (n: number): string => lab().subnet(n).replace(/\/.*/, '');
  run(['ping', '-c', '1', '-W', '2', '-I', endpointOf(1), endpointOf(2)], { namespace: lab().host(1) });
});

test('killed and started again: nothing in the kernel changes, no file is written anew', async () => {
  const files = ['run/node.json', 'subnet.env', 'state/state.json'].map((file) => lab().path(2, file));
  const before = [describeHost(lab().host(2)), files.map((file) => statSync(file).ino)];
  await lab().weftds.get(2)!.stop('SIGKILL');
  assert.equal(describeHost(lab().host(2)), before[0]);
  await lab().ready(2);
  assert.equal([describeHost(lab().host(2)), files.map((file) => statSync(file).ino)], before);
});

test('whatever is taken away is put back within a second', async () => {
  const host = lab().host(1);
  const before = stable(host);
  const peer = lab().subnet(2);
  const address = peer.replace(/\/.*/, '');
  const entries = readFdb(host);
  const harms = [
    `ip route del ${peer}`,
    `ip route replace ${peer} via ${etcdAddress}`,
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

test('the lease deleted: the same subnet is claimed again', async () => {
  const subnet = lab().subnet(1);
  const from = lab().log(1).length;
  lab().ctl('del', `/coreos.com/network/subnets/${subnet.replace('/', '-')}`);
  await lab().logged(1, 'lease claimed again', from);
  assert.is(lab().subnet(1), subnet);
  await waitFor('the others', () => lab().reaches(2, 1, 3) && lab().reaches(3, 1, 2));
});

test('a malformed and a foreign lease are skipped, the rest stand', async () => {
  const before = stable(lab().host(1));
  const from = lab().log(1).length;
  lab().ctl('put', '/coreos.com/network/subnets/10.1.250.0-24', 'nonsense');
  lab().ctl('put', '/coreos.com/network/subnets/10.1.251.0-24', '{"PublicIP":"192.0.2.99","BackendType":"wireguard"}');
  await lab().logged(1, 'Cannot read lease \\"/coreos.com/network/subnets/10.1.250.0-24\\", which is skipped', from);
  await lab().logged(1, 'its backend is \\"wireguard\\"', from);
  assert.equal(difference(before, stable(lab().host(1))), []);
  for (const subnet of ['10.1.250.0', '10.1.251.0']) lab().ctl('del', `/coreos.com/network/subnets/${subnet}-24`);
});

test('etcd stopped: repairs go on, a restart waits and leaves all as it is; etcd back: nothing changes', async () => {
  const hosts = [1, 2].map((n) => lab().host(n));
  const before = hosts.map(stable);
  await lab().stopEtcd();
  run(['ip', 'link', 'del', 'flannel.1'], { namespace: hosts[0]! });
  await waitFor('the repair without etcd', () => difference(before[0]!, stable(hosts[0]!)).length === 0);

  const { result, ms } = await timed(() => lab().weftds.get(2)!.stop('SIGTERM'));
  assert.is(result, 0);
  assert.ok(ms < 1000, `${Math.round(ms)} ms`);
  const from = lab().log(2).length;
  lab().weftd(2);
  await lab().logged(2, `in etcd at ${endpoint}`, from);
  assert.equal(difference(before[1]!, stable(hosts[1]!)), []);

  await lab().startEtcd();
  await lab().logged(2, '"ready"', from);
  assert.equal(hosts.map(stable), before);
});

test('another address of the host is followed at once, by this host and the others', async () => {
  const ip = (...words: string[]): string => run(['ip', '-n', lab().host(3), ...words]);
  const leads = (address: string): boolean => readFdb(lab().host(1)).some(({ destination }) => destination === address);
  for (const [before, after] of [
    ['192.0.2.3', '192.0.2.33'],
    ['192.0.2.33', '192.0.2.3'],
  ] as const) {
    ip('addr', 'del', `${before}/24`, 'dev', 'eth0');
    ip('addr', 'add', `${after}/24`, 'dev', 'eth0');
    ip('route', 'add', 'default', 'via', etcdAddress);
    const { ms } = await timed(() => waitFor(`the way to ${after}`, () => leads(after) && !leads(before)));
    // Less than the deadline of a call to etcd, whose answer goes to the address that is gone.
    assert.ok(ms < 3000, `${Math.round(ms)} ms`);
  }
  assert.ok(lab().reaches(1, 2, 3));
});

test('etcd begun anew: peers stay, also one whose weftd is stopped, until all have claimed again', async () => {
  await lab().weftds.get(3)!.stop('SIGTERM');
  const before = stable(lab().host(1));
  const from = lab().log(1).length;
  lab().ctl('del', '--prefix', '/coreos.com/network/subnets/');
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

test('--leave without etcd changes nothing, and the weftd that runs goes on', async () => {
  const before = stable(lab().host(3));
  await lab().stopEtcd();
  const { status, stderr } = await lab().once(3, '--leave');
  await lab().startEtcd();
  assert.is(status, 1);
  assert.match(stderr, /nothing was removed, try again when etcd answers/);
  assert.ok(lab().weftds.get(3)!.alive);
  assert.equal(difference(before, stable(lab().host(3))), []);
});

test('a second weftd on the same run folder is refused', async () => {
  const { status, stderr } = await lab().once(1);
  assert.is(status, 1);
  assert.match(stderr, /Another weftd \(process \d+\) uses/);
});

test('without the right to change the network: one line', async () => {
  const { status, stderr } = await executeAsync(
    ['setpriv', '--bounding-set', '-net_admin', process.execPath, entry, '--run-dir', lab().path(9, 'run')],
    { namespace: lab().host(1) },
  );
  assert.is(status, 1);
  assert.is(stderr.trim().split('\n').length, 1);
  assert.match(stderr, /CAP_NET_ADMIN\): run it as root/);
});

test('--leave: the weftd that runs ends, everything of it goes, here and on the others', async () => {
  const host = lab().host(3);
  const { status, stderr } = await lab().once(3, '--leave');
  assert.is(status, 0, stderr);
  assert.is(await lab().weftds.get(3)!.exited, 0);
  await waitFor('the others', () => lab().reaches(1, 2) && lab().reaches(2, 1));
  assert.is(readLink(host, 'flannel.1'), undefined);
  assert.equal(
    readRoutes(host).map(({ destination }) => destination),
    ['default', '192.0.2.0/24'],
  );
  assert.is(run(['nft', 'list', 'ruleset'], { namespace: host }).trim(), '');
  for (const file of ['run/node.json', 'run/weftd.sock', 'subnet.env', 'state/state.json']) {
    assert.not(existsSync(lab().path(3, file)), file);
  }
  assert.not(lab().ctl('get', '--prefix', '/coreos.com/network/', '--keys-only').includes('/h3'));
  assert.is((await lab().once(3, '--leave')).status, 0);
});

test.run();
