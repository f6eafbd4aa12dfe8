/** Changes below weftd: the external interface, its address, its MTU, the default route; other programs' routes. */

import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { NodeStatus } from '../../cluster/status.ts';
import { linesInFull } from '../../daemon/report/folding-logger.ts';
import { type Cluster, etcdPrefix, startCluster } from '../lab/cluster.ts';
import { run } from '../lab/commands.ts';
import type { Host } from '../lab/host.ts';
import { difference, readFdb, readLink, readRoutes } from '../lab/kernel-state.ts';
import { ping } from '../lab/packets.ts';
import { program } from '../lab/project.ts';
import { startSquatter } from '../lab/strangers.ts';
import { waitFor } from '../lab/wait.ts';
import { NodeFiles, weftdArguments } from '../lab/weftd.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('underlay');
const cluster = fixture(
  test,
  async () => {
    const made = await startCluster('underlay', { hosts: 2 });
    for (const host of made.hosts) host.attachPods(1);
    return made;
  },
  (made) => made.remove(),
);
const hosts = (): [Host, Host] => cluster().hosts as [Host, Host];

/** Both containers reach each other, and the other host's tunnel leads to this address. */
async function works(address: string): Promise<void> {
  const [one, two] = hosts();
  const [here, there] = [one.pods[0]!, two.pods[0]!];
  await waitFor(
    `the way to ${address}`,
    () =>
      readFdb(two.namespace)
        .map(({ destination }) => destination)
        .join() === address,
  );
  await waitFor('packets', () => ping(here.namespace, there.address).received === 1, { deadlineMs: 15_000 });
  assert.is(ping(there.namespace, here.address).received, 1);
}

const tunnel = (host: Host) => readLink(host.namespace, 'flannel.1')!;
const mac = (): string => tunnel(hosts()[0]).mac;

test('the external interface goes down and up again', async () => {
  const [one] = hosts();
  const before = mac();
  one.ip('link', 'set', 'eth0', 'down');
  await waitFor('weftd to say so', () => /Cannot choose the external interface.*eth0 \(down\)/.test(one.log));
  one.ip('link', 'set', 'eth0', 'up');
  // The kernel has taken the default route with it; weftd does without.
  await works(one.address);
  one.ip('route', 'add', 'default', 'via', '192.168.77.1');
  assert.is(mac(), before);
});

for (const [what, address] of [
  ['the same', '192.168.77.11'],
  ['another', '192.168.77.111'],
  ['its first', '192.168.77.11'],
] as const) {
  test(`the external interface is deleted and recreated with ${what} address`, async () => {
    const [one] = hosts();
    const before = mac();
    const subnet = one.subnet;
    one.ip('link', 'del', 'eth0');
    cluster().underlay.plug(one.name, one.namespace);
    one.ip('link', 'set', 'eth0', 'up');
    one.ip('addr', 'add', `${address}/24`, 'dev', 'eth0');
    one.ip('route', 'add', 'default', 'via', '192.168.77.1');
    await works(address);
    assert.equal([mac(), one.subnet], [before, subnet]);
  });
}

test('the MTU changes: device and files follow, running containers keep theirs, new ones get it', async () => {
  const [one] = hosts();
  const mtus = () => [
    tunnel(one).mtu,
    (JSON.parse(readFileSync(join(one.runDir, 'node.json'), 'utf8')) as { mtu: number }).mtu,
    /FLANNEL_MTU=(\d+)/.exec(readFileSync(one.subnetFile, 'utf8'))![1],
  ];
  const before = mtus();
  const index = tunnel(one).index;
  one.ip('link', 'set', 'eth0', 'mtu', '1400');
  await waitFor('the MTU', () => {
    const now = mtus();
    return now[0] === 1350 && now[2] === '1350';
  });
  assert.is(tunnel(one).index, index, 'the device is the same');
  assert.is(readLink(one.pods[0]!.namespace, 'eth0')!.mtu, 1450);
  const [pod] = one.attachPods(1);
  assert.is(readLink(pod!.namespace, 'eth0')!.mtu, 1350);
  pod!.detach();
  one.ip('link', 'set', 'eth0', 'mtu', '1500');
  await waitFor('the MTU of before', () => mtus().join() === before.join());
  await works(one.address);
});

test('the public address changes: weftd follows at once, without a restart (flannel’s defect 20)', async () => {
  const [one, two] = hosts();
  const { pid } = one.weftd!;
  const [here, there] = [mac(), one.subnet];
  for (const [from, to] of [
    ['192.168.77.11', '192.168.77.61'],
    ['192.168.77.61', '192.168.77.11'],
  ] as const) {
    one.ip('addr', 'add', `${to}/24`, 'dev', 'eth0');
    one.ip('addr', 'del', `${from}/24`, 'dev', 'eth0');
    one.ip('addr', 'replace', `${to}/24`, 'dev', 'eth0');
    one.ip('route', 'replace', 'default', 'via', '192.168.77.1');
    await works(to);
    assert.is(tunnel(one).data['local'], to);
    assert.match(cluster().etcdctl('get', '--prefix', '/coreos.com/network/subnets/'), `"PublicIP":"${to}"`);
    assert.not(
      two.describe().some((line) => line.includes(from)),
      'nothing leads to the old one',
    );
  }
  assert.equal([one.weftd!.pid, one.weftd!.alive, mac(), one.subnet], [pid, true, here, there]);
});

test('the address moves to a bridge that takes the interface as a port, and back', async () => {
  const [one] = hosts();
  const address = `${one.address}/24`;
  one.ip('link', 'add', 'ext0', 'type', 'bridge');
  one.ip('link', 'set', 'ext0', 'up');
  for (const [from, to, ...further] of [
    ['eth0', 'ext0', ['link', 'set', 'eth0', 'master', 'ext0']],
    ['ext0', 'eth0', ['link', 'set', 'eth0', 'nomaster']],
  ] as const) {
    one.ip('addr', 'del', address, 'dev', from);
    for (const words of further) one.ip(...words);
    one.ip('addr', 'add', address, 'dev', to);
    one.ip('route', 'add', 'default', 'via', '192.168.77.1');
    await waitFor(`the tunnel to be on ${to}`, () => tunnel(one).data['link'] === to);
    await works(one.address);
  }
  one.ip('link', 'del', 'ext0');
});

test('another default route or address changes nothing while the external interface has its address', async () => {
  const [one] = hosts();
  const second = '192.168.77.81';
  const before = tunnel(one);
  const stays = async (): Promise<void> => {
    // Time for an event and for what follows from it: the comparison with everything that SIGHUP asks for.
    const asked = one.log.split('asked to look at everything again').length;
    one.weftd!.child.kill('SIGHUP');
    await waitFor('the signal', () => one.log.split('asked to look at everything again').length > asked);
    await works(one.address);
    assert.equal([tunnel(one).index, tunnel(one).data], [before.index, before.data]);
  };
  cluster().underlay.plug(`${one.name}b`, one.namespace, 'eth1');
  one.ip('route', 'del', 'default');
  one.ip('route', 'add', 'default', 'via', '192.168.77.1', 'dev', 'eth0', 'metric', '200');
  one.ip('link', 'set', 'eth1', 'up');
  one.ip('addr', 'add', `${second}/24`, 'dev', 'eth1');
  // As a VPN does.
  one.ip('route', 'add', 'default', 'via', '192.168.77.1', 'dev', 'eth1', 'metric', '100');
  await stays();
  // The bridge of the containers.
  one.ip('addr', 'add', '169.254.77.5/16', 'dev', 'cni0');
  one.ip('route', 'add', 'default', 'dev', 'cni0', 'metric', '5');
  one.ip('addr', 'add', '203.0.113.9/32', 'dev', 'eth0');
  await stays();
  // A restart is no reason either.
  await one.weftd!.stop();
  one.startWeftd();
  await one.reaches(cluster().hosts);
  await stays();
  assert.match(one.log, /the external interface stays; name another one with --iface .*name=eth0 newChoice=eth1/);
  // Without its address it is chosen again, by the best default route that is not the containers'.
  one.ip('addr', 'del', `${one.address}/24`, 'dev', 'eth0');
  await works(second);
  assert.is(tunnel(one).data['link'], 'eth1');
  one.ip('addr', 'add', `${one.address}/24`, 'dev', 'eth0');
  one.ip('link', 'del', 'eth1');
  one.ip('addr', 'del', '203.0.113.9/32', 'dev', 'eth0');
  one.ip('route', 'del', 'default', 'dev', 'cni0');
  one.ip('addr', 'del', '169.254.77.5/16', 'dev', 'cni0');
  one.ip('route', 'replace', 'default', 'via', '192.168.77.1');
  await works(one.address);
  assert.is(tunnel(one).data['link'], 'eth0');
});

test('without a default route, the external interface is the one that leads to etcd', async () => {
  const [one] = hosts();
  await one.weftd!.stop();
  rmSync(join(one.files.stateDir, 'state.json'));
  one.ip('route', 'del', 'default');
  one.startWeftd();
  await one.reaches(cluster().hosts);
  assert.is(one.status().interface, 'eth0');
  one.ip('route', 'add', 'default', 'via', '192.168.77.1');
  await works(one.address);
});

test('--iface-regex never takes the bridge of containers, also while the external interface is made anew', async () => {
  const [one] = hosts();
  assert.match(one.ip('addr', 'show', 'dev', 'cni0'), /inet 10\./);
  await one.weftd!.stop();
  one.startWeftd('--iface-regex', String.raw`^(?:10|192)\.[[:digit:]]`);
  await one.reaches(cluster().hosts);
  one.ip('link', 'del', 'eth0');
  const told = await waitFor('the choice to fail', () =>
    one.log.split('\n').find((line) => line.includes('matches "^(?:10|192)') && line.includes('(--iface-regex)')),
  );
  assert.not.match(told, /cni0/);
  cluster().underlay.connect(one.name, one.namespace, one.addresses);
  await works(one.address);
  assert.is(tunnel(one).data['link'], 'eth0');
  await one.weftd!.stop();
  one.startWeftd();
  await one.reaches(cluster().hosts);
});

test('weftd uses the first of a default route’s several next hops', async () => {
  const [one] = hosts();
  const { index } = tunnel(one);
  const hop = ['nexthop', 'via', '192.168.77.1', 'dev', 'eth0'];
  one.ip('route', 'replace', 'default', ...hop, 'nexthop', 'via', '192.168.77.2', 'dev', 'eth0');
  await one.weftd!.stop();
  one.startWeftd();
  await one.reaches(cluster().hosts);
  assert.is(tunnel(one).index, index);
  one.ip('route', 'replace', 'default', 'via', '192.168.77.1');
  await one.reaches(cluster().hosts);
});

test('weftd reports other programs’ routes in the way of a peer’s, and leaves them', async () => {
  const [one, two] = hosts();
  const before = one.describe();
  const part = two.subnet.replace('/24', '/26');
  const tells = (text: string) => one.waitForStatus(text, ({ problems }) => problems.join('\n').includes(text));
  one.ip('route', 'add', part, 'via', '192.168.77.1');
  await tells(`Another program's route "${part}" on "eth0"`);
  assert.ok(readRoutes(one.namespace).some(({ destination }) => destination === part));
  one.ip('route', 'del', part);
  one.ip('route', 'prepend', 'blackhole', two.subnet);
  await tells(`Another program's blackhole "${two.subnet}"`);
  one.ip('route', 'del', 'blackhole', two.subnet);
  await one.waitForStatus('no problem', ({ state }) => state === 'running');
  assert.equal(difference(before, one.describe()), []);
});

test('an interface with a peer’s subnet keeps its route, first or not, and weftd reports it', async () => {
  const [one, two] = hosts();
  const before = one.describe();
  const address = two.subnet.replace('.0/24', '.1/24');
  const own = (): boolean =>
    readRoutes(one.namespace).some(({ destination, device }) => destination === two.subnet && device === 'flannel.1');
  const foreign = (): boolean =>
    readRoutes(one.namespace).some(({ destination, device }) => destination === two.subnet && device === 'docker0');
  one.ip('link', 'add', 'docker0', 'type', 'bridge');
  one.ip('link', 'set', 'docker0', 'up');
  one.ip('addr', 'add', address, 'dev', 'docker0');
  await one.waitForStatus('the problem', ({ problems }) =>
    /Another program's route .* on "docker0"/.test(problems.join()),
  );
  assert.ok(own() && foreign(), 'the peer was first, and stays');
  // The other way round: the way to the interface's network is not taken from it.
  await one.weftd!.stop();
  one.ip('route', 'del', two.subnet, 'dev', 'flannel.1');
  one.startWeftd();
  await one.waitForStatus('the peer to be told of', ({ peers }) =>
    peers.some(({ problem }) => problem?.includes('is the network of an interface of this host')),
  );
  assert.ok(foreign() && !own());
  one.ip('link', 'del', 'docker0');
  await one.reaches(cluster().hosts);
  assert.equal(difference(before, one.describe()), []);
});

test('a new peer with the subnet of an interface does not get the interface’s route', async () => {
  const [one] = hosts();
  const routes = (): string[] =>
    readRoutes(one.namespace).flatMap(({ destination, device }) =>
      destination === '10.244.250.0/24' ? [device!] : [],
    );
  one.ip('link', 'add', 'docker0', 'type', 'bridge');
  one.ip('link', 'set', 'docker0', 'up');
  one.ip('addr', 'add', '10.244.250.1/24', 'dev', 'docker0');
  const data = { BackendType: 'vxlan', BackendData: { VNI: 1, VtepMAC: '02:00:00:00:02:50' } };
  cluster().put('subnets/10.244.250.0-24', JSON.stringify({ PublicIP: '192.168.77.250', PublicIPv6: null, ...data }));
  const peer = ({ peers }: NodeStatus) =>
    peers.find(({ publicAddresses }) => publicAddresses.includes('192.168.77.250'));
  await one.waitForStatus('the peer to be told of', (status) =>
    peer(status)?.problem?.includes('is the network of an interface of this host'),
  );
  assert.equal(routes(), ['docker0']);
  one.ip('link', 'del', 'docker0');
  await one.waitForStatus('the peer', (status) => peer(status)?.programmed);
  assert.equal(routes(), ['flannel.1']);
  cluster().etcdctl('del', `${etcdPrefix}/subnets/10.244.250.0-24`);
  await one.waitForStatus('the peer to go', (status) => !peer(status));
});

test('a route that somebody removes again and again: each repair counts, and the log has a bound', async () => {
  const [one, two] = hosts();
  const lines = (): number => one.log.split(`healed: set route "${two.subnet}"`).length - 1;
  const present = (): boolean => readRoutes(one.namespace).some(({ destination }) => destination === two.subnet);
  const before = one.status().changes.healed;
  const linesBefore = lines();
  const times = 80;
  for (let i = 0; i < times; i++) {
    one.ip('route', 'del', two.subnet);
    await waitFor('the route', present);
  }
  await one.waitForStatus('the count', ({ changes }) => changes.healed >= before + times);
  assert.ok(lines() - linesBefore <= linesInFull, `${lines() - linesBefore} lines`);
  await works(one.address);
});

test('weftd finds the external interface by an altname', async () => {
  const [one] = hosts();
  one.ip('link', 'property', 'add', 'dev', 'eth0', 'altname', 'uplink0');
  await one.weftd!.stop();
  one.startWeftd('--iface', 'uplink0');
  await one.reaches(cluster().hosts);
  assert.is(one.status().interface, 'eth0');
  await one.weftd!.stop();
  one.startWeftd();
  await one.reaches(cluster().hosts);
});

test('without --ip-masq, weftd reports a strict return path of the external interface', async () => {
  const [one] = hosts();
  const told = 'Kernel setting net.ipv4.conf.eth0.rp_filter is strict, and weftd does not masquerade';
  const set = (value: number): string =>
    run(['sysctl', '-qw', `net.ipv4.conf.eth0.rp_filter=${value}`], { namespace: one.namespace });
  const before = run(['sysctl', '-n', 'net.ipv4.conf.eth0.rp_filter'], { namespace: one.namespace }).trim();
  await one.weftd!.stop();
  set(1);
  one.startWeftd();
  await waitFor('the warning', () => one.log.includes(told));
  set(Number(before));
  await one.reaches(cluster().hosts);
});

test('weftd names the process that has the port of the tunnel', async () => {
  const [one] = hosts();
  await one.weftd!.stop();
  one.ip('link', 'del', 'flannel.1');
  const listen = "require('node:dgram').createSocket('udp4').bind(8472)";
  const listener = one.scratch.start([process.execPath, '-e', listen], {
    namespace: one.namespace,
    logFile: join(one.folder, 'listener.log'),
  });
  await waitFor('the port', () =>
    run(['cat', '/proc/net/udp', '/proc/net/udp6'], { namespace: one.namespace }).includes(':2118 '),
  );
  one.startWeftd();
  await waitFor('the message', () =>
    /Cannot .* "flannel\.1".*: process \d+ \(".+"\) has the UDP port 8472; stop it/.test(one.log),
  );
  await listener.stop('SIGKILL');
  await works(one.address);
});

test('a second weftd with the same VNI reports it, and touches nothing', async () => {
  const [one] = hosts();
  const before = one.describe();
  const files = new NodeFiles(one.scratch.makeFolder('second'));
  const argv = [
    ...[program('weftd'), ...weftdArguments(files, 'second', one.etcd.endpoint)],
    ...['--log-format', 'text', '--etcd-prefix', '/second'],
  ];
  const config = (vni: number): string =>
    JSON.stringify({ Network: '10.99.0.0/16', Backend: { Type: 'vxlan', VNI: vni } });
  cluster().etcdctl('put', '/second/config', config(1));
  const { logFile } = files;
  const log = (): string => readFileSync(logFile, 'utf8');
  const second = cluster().scratch.start(argv, { namespace: one.namespace, logFile });
  await waitFor('the message', () =>
    new RegExp(`Another weftd \\(process ${one.weftd!.pid}\\) of this host uses "flannel\\.1"`).test(log()),
  );
  assert.is(cluster().etcdctl('get', '--prefix', '/second/subnets/'), '', 'it takes no lease either');
  assert.equal(difference(before, one.describe()), []);
  // With a VNI of its own it goes on, without a restart.
  cluster().etcdctl('put', '/second/config', config(2));
  await waitFor('the second to be ready', () => log().includes('ready'));
  assert.ok(readLink(one.namespace, 'flannel.2'));
  await second.stop();
  await works(one.address);
});

test('a local user who takes the name of the device lock is named, and hides no second weftd', async () => {
  const [one] = hosts();
  await one.weftd!.stop();
  const squatter = await startSquatter(one.scratch, one.namespace, '@weftd/flannel.1');
  one.startWeftd();
  await one.reaches(cluster().hosts);
  assert.match(
    one.log,
    /process \d+ .* of user 65534 has the name of weftd's lock for "flannel\.1"; weftd uses another/,
  );
  await squatter.stop('SIGKILL');
  const confusing = await startSquatter(one.scratch, one.namespace, '@x @weftd/flannel.1');
  const files = new NodeFiles(one.scratch.makeFolder('hidden'));
  const second = cluster().scratch.start(
    [program('weftd'), ...weftdArguments(files, 'hidden', one.etcd.endpoint), '--log-format', 'text'],
    { namespace: one.namespace, logFile: files.logFile },
  );
  await waitFor('the message', () =>
    readFileSync(files.logFile, 'utf8').includes(
      `Another weftd (process ${one.weftd!.pid}) of this host uses "flannel.1"`,
    ),
  );
  await second.stop();
  await confusing.stop('SIGKILL');
  await works(one.address);
});

test('a node leases no subnet that overlaps the network it stands in, and says so', async () => {
  const [one] = hosts();
  const files = new NodeFiles(one.scratch.makeFolder('overlap'));
  const config = (more: object): string =>
    JSON.stringify({ Network: '192.168.76.0/22', SubnetLen: 24, ...more, Backend: { Type: 'vxlan', VNI: 3 } });
  cluster().etcdctl('put', '/overlap/config', config({ SubnetMin: '192.168.77.0', SubnetMax: '192.168.77.0' }));
  const argv = [program('weftd'), ...weftdArguments(files, 'overlap', one.etcd.endpoint)];
  const { logFile } = files;
  const third = cluster().scratch.start([...argv, '--log-format', 'text', '--etcd-prefix', '/overlap'], {
    namespace: one.namespace,
    logFile,
  });
  const log = (): string => readFileSync(logFile, 'utf8');
  await waitFor('the message', () =>
    log().includes("all that are not leased overlap this host's own networks, 192.168.77.0/24"),
  );
  cluster().etcdctl('put', '/overlap/config', config({}));
  await waitFor('another subnet', () => log().includes('ready'), { deadlineMs: 15_000 });
  assert.match(cluster().etcdctl('get', '--prefix', '/overlap/subnets/', '--keys-only'), /192\.168\.7[89]\.0-24/);
  assert.match(log(), /the new subnet avoids them networks=192\.168\.77\.0\/24/);
  await third.stop();
  one.ip('link', 'del', 'flannel.3');
  await works(one.address);
});

const directRouting = fixture(
  test,
  (): Promise<Cluster> => {
    const config = { Network: '10.244.0.0/16', EnableIPv6: true, IPv6Network: 'fd00:10:244::/48' };
    const text = JSON.stringify({ ...config, Backend: { Type: 'vxlan', DirectRouting: true } });
    return startCluster('underlaydr', { hosts: 2, families: [4, 6], config: text });
  },
  (made) => made.remove(),
);

test('DirectRouting: a peer that leaves the network gets a tunnel, and loses it on its return (flannel’s defect 12)', async () => {
  const { hosts: made } = directRouting();
  const [one, two] = made as [Host, Host];
  const [here, there] = made.map((host) => host.attachPods(1)[0]!) as [(typeof one.pods)[0], (typeof one.pods)[0]];
  const reach = (): boolean =>
    there.addresses.every((address) => ping(here.namespace, address, { timeoutMs: 300 }).received === 1);
  await one.waitForStatus('direct', ({ peers }) => peers[0]!.path === 'direct');
  await waitFor('packets', reach);
  const before = made.map((host) => host.describe());
  assert.equal(readFdb(one.namespace), []);
  // Now each is behind a router to the other: the switch itself.
  const routed = (host: Host, peer: Host): void => {
    host.ip('route', 'add', `${peer.addresses[0]}/32`, 'via', '192.168.77.1');
    host.ip('-6', 'route', 'add', `${peer.addresses[1]}/128`, 'via', 'fd77::1');
  };
  const neighbours = (host: Host, peer: Host): void => {
    host.ip('route', 'del', `${peer.addresses[0]}/32`);
    host.ip('-6', 'route', 'del', `${peer.addresses[1]}/128`);
  };
  for (const setting of ['net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1']) {
    run(['sysctl', '-qw', setting], { namespace: directRouting().switchNamespace });
  }
  routed(one, two);
  routed(two, one);
  for (const host of made) await host.waitForStatus('a tunnel', ({ peers }) => peers[0]!.path === 'vxlan');
  // The path says so from the first family on.
  await waitFor('a tunnel for both families', () => readFdb(one.namespace).length === 2);
  await waitFor('packets by the tunnel', reach);
  neighbours(one, two);
  neighbours(two, one);
  for (const host of made) await host.waitForStatus('the plain route', ({ peers }) => peers[0]!.path === 'direct');
  await waitFor('packets by the plain route', reach);
  assert.equal(readFdb(one.namespace), [], 'no FDB entry is left');
  assert.equal(
    made.map((host) => host.describe()),
    before,
    'and no neighbour',
  );
});

test('floating addresses that come first (/32, /128) do not become the address of the host', async () => {
  const [one] = directRouting().hosts as [Host, Host];
  const [v4, v6] = one.addresses as [string, string];
  await one.weftd!.stop();
  rmSync(join(one.files.stateDir, 'state.json'));
  // IPv4 keeps the order of time; IPv6 puts the newest first.
  one.ip('addr', 'add', '203.0.113.9/32', 'dev', 'eth0');
  one.ip('addr', 'del', `${v4}/24`, 'dev', 'eth0');
  one.ip('addr', 'add', `${v4}/24`, 'dev', 'eth0');
  one.ip('route', 'replace', 'default', 'via', '192.168.77.1');
  one.ip('-6', 'addr', 'add', 'fd99::100/128', 'dev', 'eth0', 'nodad');
  assert.match(one.ip('-4', 'addr', 'show', 'dev', 'eth0'), /inet 203\.0\.113\.9\/32[\s\S]*inet 192\.168/);
  assert.match(one.ip('-6', 'addr', 'show', 'dev', 'eth0'), /inet6 fd99::100\/128[\s\S]*inet6 fd77/);
  one.startWeftd();
  await one.reaches(directRouting().hosts);
  const lease = directRouting().etcdctl('get', '--prefix', `${etcdPrefix}/subnets/`);
  assert.ok(lease.includes(`"PublicIP":"${v4}"`) && lease.includes(`"PublicIPv6":"${v6}"`), lease);
  assert.not.match(lease, /203\.0\.113\.9|fd99::100/);
  one.ip('addr', 'del', '203.0.113.9/32', 'dev', 'eth0');
  one.ip('-6', 'addr', 'del', 'fd99::100/128', 'dev', 'eth0');
});

test('an uplink that leaves too little for IPv6: weftd says so, and IPv4 containers start all the same', async () => {
  const { hosts: made } = directRouting();
  const [one, two] = made as [Host, Host];
  const there = two.attachPods(1)[0]!;
  const mtu = (bytes: number): string => one.ip('link', 'set', 'eth0', 'mtu', String(bytes));
  mtu(1280);
  await one.waitForStatus('the problem', ({ problems }) =>
    problems.some((problem) =>
      problem.startsWith('IPv6 needs an MTU of 1280, and "eth0" with 1280 leaves 1210: raise'),
    ),
  );
  const reach = (pod: (typeof one.pods)[0]): boolean =>
    pod.addresses.length > 0 && ping(pod.namespace, there.address, { timeoutMs: 300 }).received === 1;
  // Also at a start.
  await one.weftd!.stop();
  one.startWeftd();
  await waitFor('the files', () => one.subnets.length === 1);
  const [narrow] = one.attachPods(1);
  assert.is(narrow!.addresses.length, 1);
  assert.is(readLink(narrow!.namespace, 'eth0')!.mtu, 1230);
  await waitFor('packets', () => reach(narrow!));
  mtu(1500);
  await one.waitForStatus('no problem', ({ problems }) => problems.length === 0);
  await waitFor('the files', () => one.subnets.length === 2);
  const [wide] = one.attachPods(1);
  assert.is(wide!.addresses.length, 2);
  await waitFor('packets of both families', () =>
    there.addresses.every((address) => ping(wide!.namespace, address, { timeoutMs: 300 }).received === 1),
  );
});

test('IPv6 forwarding costs the host no route that a router advertises, on any interface', async () => {
  const [one] = directRouting().hosts as [Host];
  const { namespace } = one;
  const setting = (path: string): string => run(['cat', `/proc/sys/net/ipv6/conf/${path}`], { namespace }).trim();
  await one.weftd!.stop();
  run(['sysctl', '-qw', 'net/ipv6/conf/all/forwarding=0'], { namespace });
  for (const name of ['ra0', 'ra1']) {
    one.ip('link', 'add', name, 'type', 'bridge');
    one.ip('link', 'set', name, 'up');
    run(['sysctl', '-qw', `net/ipv6/conf/${name}/accept_ra=1`], { namespace });
  }
  one.ip('-6', 'route', 'add', 'default', 'via', 'fe80::1', 'dev', 'ra0', 'proto', 'ra', 'metric', '4096');
  one.startWeftd();
  await waitFor('forwarding', () => setting('all/forwarding') === '1');
  assert.equal([setting('ra0/accept_ra'), setting('ra1/accept_ra')], ['2', '1']);
  await one.reaches(directRouting().hosts);
  for (const name of ['ra0', 'ra1']) one.ip('link', 'del', name);
});

test.run();
