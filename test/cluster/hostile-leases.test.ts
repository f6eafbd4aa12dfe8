/** Leases that somebody with a node's rights in etcd has written: each is refused by itself, and harms nobody. As root. */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startCluster } from '../lab/cluster.ts';
import { run } from '../lab/commands.ts';
import { difference, readRoutes } from '../lab/kernel-state.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('hostile leases');
const cluster = fixture(
  test,
  async () => {
    const made = await startCluster('hostile-leases', { hosts: 2, arguments: ['--log-level', 'debug'] });
    for (const host of made.hosts) host.attachPods(1);
    return made;
  },
  (made) => made.remove(),
);

const value = (publicIp: string, mac: string): string =>
  JSON.stringify({
    PublicIP: publicIp,
    PublicIPv6: null,
    BackendType: 'vxlan',
    BackendData: { VNI: 1, VtepMAC: mac },
  });
const somewhere = '192.168.77.250';
const mac = (last: number): string => `02:00:00:00:02:${last}`;

test('hostile leases: the kernel, the honest peers and the node’s state stay, also after a restart', async () => {
  const [one, two] = cluster().hosts;
  await one!.reaches(cluster().hosts);
  // The lock admits a refused peer at an address that a host may have: nothing is routed there.
  const isPeerSet = (line: string): boolean => line.includes('"peers4"');
  const kernel = (): string[] => one!.describe().filter((line) => !isPeerSet(line));
  const admitted = (): unknown => /"elem":(\[[^\]]*\])/.exec(one!.describe().find(isPeerSet)!)?.[1];
  const before = kernel();
  const twosMac = JSON.parse(cluster().get(`subnets/${two!.subnet.replace('/', '-')}`)).BackendData.VtepMAC as string;
  const half = two!.subnet.replace('.0/24', '.128-25');
  const leases: [key: string, value: string, problem: RegExp][] = [
    ['8.8.8.0-24', value(somewhere, mac(10)), /"8\.8\.8\.0\/24" is not inside the cluster's network/],
    ['10.96.0.0-12', value(somewhere, mac(11)), /is not inside the cluster's network/],
    ['128.0.0.0-1', value(somewhere, mac(12)), /contains the host address|is not inside the cluster's network/],
    [half, value(somewhere, mac(13)), /overlaps with that of the older lease/],
    ['10.244.201.0-24', value(somewhere, twosMac), /of another host has the same MAC/],
    ['10.244.202.0-24', value(somewhere, '01:00:5e:00:00:01'), /it is not unicast/],
    ['10.244.203.0-24', value(somewhere, '00:00:00:00:00:00'), /it is not unicast/],
    ['10.244.204.0-24', value('127.0.0.1', mac(14)), /is a loopback address/],
    ['10.244.205.0-24', value('224.0.0.1', mac(15)), /is a multicast address/],
    ['10.244.206.0-24', value('255.255.255.255', mac(16)), /is the broadcast address/],
    ['10.244.207.0-24', `{"PublicIP":${'['.repeat(100_000)}`, /its value has 100012 bytes; at most 8192 are read/],
    [
      '10.244.208.0-24',
      `{"PublicIP":${'['.repeat(3000)}${']'.repeat(3000)}}`,
      /"PublicIP" is \[+… \(6000 characters\)/,
    ],
  ];
  for (const [key, text] of leases) cluster().put(`subnets/${key}`, text);
  const refused = () =>
    one!.waitForStatus('all to be told of', ({ peers, problems, state }) => {
      const told = [...peers.map(({ problem }) => problem ?? ''), ...problems].join('\n');
      return leases.every(([, , problem]) => problem.test(told)) && state === 'running';
    });
  await refused();
  assert.equal(difference(before, kernel()), []);
  assert.is(admitted(), JSON.stringify([two!.address, somewhere]));
  // A change of another peer reaches the kernel beside them.
  cluster().put('subnets/10.244.250.0-24', value(somewhere, mac(20)));
  await one!.waitForStatus('an honest peer', ({ peers }) =>
    peers.some(({ subnets, programmed }) => programmed && subnets.includes('10.244.250.0/24')),
  );
  assert.ok(readRoutes(one!.namespace).some(({ destination }) => destination === '10.244.250.0/24'));
  cluster().etcdctl('del', '/coreos.com/network/subnets/10.244.250.0-24');
  await one!.weftd!.stop();
  one!.startWeftd();
  await refused();
  await one!.waitForStatus('the peer to go', ({ peers }) =>
    peers.every(({ subnets }) => !subnets.includes('10.244.250.0/24')),
  );
  assert.equal(difference(before, kernel()), []);
  for (const line of one!.log.split('\n')) assert.ok(line.length < 2000, line.slice(0, 300));
  for (const [key] of leases) cluster().etcdctl('del', `/coreos.com/network/subnets/${key}`);
  await one!.reaches(cluster().hosts);
  assert.equal(difference(before, kernel()), []);
});

test('leases with this host’s own address, found at its start, open nothing and are not written', async () => {
  const [one] = cluster().hosts;
  await one!.reaches(cluster().hosts);
  const before = one!.describe();
  const own = JSON.parse(cluster().get(`subnets/${one!.subnet.replace('/', '-')}`)) as { Weft: { node: string } };
  const copy = value(one!.address, mac(30));
  const named = JSON.stringify({ ...JSON.parse(copy), Weft: own.Weft });
  const leases = { '128.0.0.0-1': copy, '192.0.0.0-3': named, '10.244.0.0-17': copy, '10.244.9.0-25': named };
  await one!.weftd!.stop();
  for (const [key, text] of Object.entries(leases)) cluster().put(`subnets/${key}`, text);
  one!.startWeftd();
  const { subnets } = await one!.reaches(cluster().hosts);
  assert.equal(subnets, [one!.subnet]);
  assert.equal(difference(before, one!.describe()), []);
  for (const [key, text] of Object.entries(leases)) assert.is(cluster().get(`subnets/${key}`), text, key);
  for (const key of Object.keys(leases)) cluster().etcdctl('del', `/coreos.com/network/subnets/${key}`);
});

test('an administrator’s routes stay, though leases name their gateways as peers', async () => {
  const [one, two] = cluster().hosts;
  const { namespace } = one!;
  const router = '192.168.77.250';
  const own = { '10.244.230.0/24': two!.address, '10.244.231.0/24': router, '172.30.0.0/16': router };
  for (const [to, via] of Object.entries(own)) run(['ip', '-n', namespace, 'route', 'add', to, 'via', via]);
  await one!.reaches(cluster().hosts);
  const before = readRoutes(namespace);
  cluster().put('subnets/10.244.232.0-24', value(router, mac(40)));
  await one!.waitForStatus('the lease to be programmed', ({ peers }) =>
    peers.some(({ subnets, programmed }) => programmed && subnets.includes('10.244.232.0/24')),
  );
  cluster().etcdctl('del', '/coreos.com/network/subnets/10.244.232.0-24');
  await one!.waitForStatus('the lease to be gone', ({ peers }) => peers.length === 1);
  await one!.weftd!.stop();
  one!.startWeftd();
  await one!.reaches(cluster().hosts);
  assert.equal(readRoutes(namespace), before);
  for (const to of Object.keys(own)) run(['ip', '-n', namespace, 'route', 'del', to]);
});

test('a forged lease ends with its key, though all leases are deleted at once', async () => {
  const [one, two] = cluster().hosts;
  const own = [one!, two!].map(({ subnet }) => subnet);
  await one!.reaches(cluster().hosts);
  const before = one!.describe();
  const forged = JSON.stringify({ ...JSON.parse(value(somewhere, mac(50))), Weft: { node: 'nobody', version: '1' } });
  cluster().put('subnets/10.244.240.0-24', forged);
  await one!.waitForStatus('the lease to be programmed', ({ peers }) =>
    peers.some(({ subnets, programmed }) => programmed && subnets.includes('10.244.240.0/24')),
  );
  cluster().etcdctl('del', '--prefix', '/coreos.com/network/subnets/');
  await one!.waitForStatus(
    'the forged lease to be gone',
    ({ peers, problems }) =>
      peers.every(({ subnets }) => !subnets.includes('10.244.240.0/24')) && problems.length === 0,
  );
  await one!.reaches(cluster().hosts);
  assert.equal(
    [one!, two!].map(({ subnet }) => subnet),
    own,
    'the nodes have claimed theirs again',
  );
  assert.equal(difference(before, one!.describe()), []);
});

test('a node whose key is deleted beside a forged lease of a part of it keeps its subnet', async () => {
  const [one, two] = cluster().hosts;
  const { subnet } = one!;
  await one!.reaches(cluster().hosts);
  const before = two!.describe();
  const key = `/coreos.com/network/subnets/${subnet.replace('/', '-')}`;
  const part = `subnets/${subnet.replace('.0/24', '.128-25')}`;
  cluster().put(part, value(somewhere, mac(60)));
  cluster().etcdctl('del', key);
  await waitFor('its key to be back', () => cluster().etcdctl('get', key) !== '');
  cluster().etcdctl('del', `/coreos.com/network/${part}`);
  const { subnets } = await one!.reaches(cluster().hosts);
  assert.equal(subnets, [subnet]);
  await two!.reaches(cluster().hosts);
  assert.equal(difference(before, two!.describe()), []);
});

test('an etcd endpoint by name, and a name server that comes later, are in no peer’s subnet', async () => {
  const [one] = cluster().hosts;
  await one!.reaches(cluster().hosts);
  const before = one!.describe();
  const [hosts, resolvers] = ['hosts', 'resolv.conf'].map((name) => join(one!.folder, name));
  // The second endpoint is never asked: the first one answers.
  writeFileSync(hosts!, '127.0.0.1 localhost\n10.244.213.7 etcd.test\n');
  writeFileSync(resolvers!, '');
  const mounts = `mount --bind ${hosts} /etc/hosts && mount --bind ${resolvers} /etc/resolv.conf && exec "$@"`;
  await one!.weftd!.stop();
  const endpoints = `${cluster().etcd.endpoint},http://etcd.test:2379`;
  const through = ['unshare', '--mount', 'sh', '-c', mounts, 'sh'];
  const weftd = one!.startWeftdWith({ through }, '--etcd-endpoints', endpoints);
  const refuses = (subnet: string, problem: string) =>
    one!.waitForStatus(`"${problem}"`, ({ peers }) =>
      peers.some((peer) => peer.subnets.includes(subnet) && peer.problem?.includes(problem)),
    );
  cluster().put('subnets/10.244.213.0-24', value(somewhere, mac(70)));
  await refuses('10.244.213.0/24', 'contains the address "10.244.213.7" of etcd');
  cluster().put('subnets/10.244.214.0-24', value(somewhere, mac(71)));
  await one!.waitForStatus('the other one to be a peer', ({ peers }) =>
    peers.some(({ subnets, programmed }) => programmed && subnets.includes('10.244.214.0/24')),
  );
  writeFileSync(resolvers!, 'nameserver 10.244.214.53\n');
  weftd.child.kill('SIGHUP');
  await refuses('10.244.214.0/24', 'contains the address "10.244.214.53" of a name server');
  for (const n of [213, 214]) cluster().etcdctl('del', `/coreos.com/network/subnets/10.244.${n}.0-24`);
  await one!.weftd!.stop();
  one!.startWeftd();
  await one!.reaches(cluster().hosts);
  assert.equal(difference(before, one!.describe()), []);
});

test('more leases than fit into one message do not keep weftd from starting', async () => {
  const one = cluster().hosts[0]!;
  const before = one.describe();
  const large = `{"PublicIP":"${'x'.repeat(1_200_000)}"}`;
  const keys = Array.from({ length: 60 }, (_, i) => `/coreos.com/network/subnets/10.99.${i}.0-24`);
  for (const key of keys) cluster().etcd.putLong(key, large);
  await one.weftd!.stop();
  one.startWeftd();
  const status = await one.reaches(cluster().hosts);
  assert.is(status.problems.filter((problem) => /its value has 1200015 bytes; at most 8192/.test(problem)).length, 60);
  for (const key of keys) cluster().etcdctl('del', key);
  await one.waitForStatus('all to be gone', ({ problems }) => problems.length === 0);
  assert.equal(difference(before, one.describe()), []);
});

test('of two leases that want the same, the older counts everywhere, and both nodes report it', async () => {
  const [one, two] = cluster().hosts;
  const half = `subnets/${two!.subnet.replace('.0/24', '.128-25')}`;
  cluster().put(half, value(somewhere, mac(30)));
  const prefix = '/coreos.com/network';
  const twos = `${prefix}/subnets/${two!.subnet.replace('/', '-')}`;
  await two!.waitForStatus(
    'the older one to report the younger',
    ({ problems, state }) =>
      problems.includes(
        `The younger lease "${prefix}/${half}" of the host at ${somewhere} wants the same as this node's lease "${twos}", and other hosts refuse it; delete it`,
      ) && state === 'running',
  );
  // An older lease, and a node that remembers a subnet which overlaps it.
  cluster().put('subnets/10.244.199.128-25', value(somewhere, mac(31)));
  const three = cluster().addHost();
  writeFileSync(
    three.subnetFile,
    'FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.199.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n',
  );
  cluster().put('subnets/10.244.199.0-24', value(three.address, mac(33)));
  three.startWeftd();
  await three.waitForStatus(
    'the younger one to report the older',
    ({ problems, state }) =>
      problems.some((problem) =>
        problem.startsWith(
          `The older lease "${prefix}/subnets/10.244.199.128-25" of the host at ${somewhere} wants the same as this node's lease "${prefix}/subnets/10.244.199.0-24", and other hosts follow the older one;`,
        ),
      ) && state === 'degraded',
  );
  const [route] = readRoutes(one!.namespace).filter(({ destination }) => destination.startsWith('10.244.199.'));
  assert.is(route?.destination, '10.244.199.128/25');
  for (const key of [half, 'subnets/10.244.199.128-25']) cluster().etcdctl('del', `${prefix}/${key}`);
  for (const host of [two!, three]) {
    await host.waitForStatus(
      'the problem to end',
      ({ problems, state }) => problems.length === 0 && state === 'running',
    );
  }
});

test('a MAC that an older lease copies after each change is changed three times, and then it stays and is reported', async () => {
  const copy = 'subnets/10.244.240.0-24';
  cluster().put(copy, value(somewhere, mac(40)));
  const host = cluster().addHost();
  host.startWeftd();
  await host.reaches([cluster().hosts[0]!]);
  const macIn = (key: string): string => JSON.parse(cluster().get(key)).BackendData.VtepMAC;
  const own = `subnets/${host.subnet.replace('/', '-')}`;
  const seen = new Set<string>();
  // Each look starts etcdctl twice or more: on a busy machine that takes seconds.
  const problem = await host.waitForStatus(
    'the last change to be over',
    ({ problems }) => {
      const current = macIn(own);
      if (!seen.has(current)) cluster().put(copy, value(somewhere, current));
      seen.add(current);
      return seen.size === 4 && problems.find((each) => each.startsWith('The older lease'));
    },
    { deadlineMs: 40_000 },
  );
  assert.ok(problem.includes(`${copy}" of the host at ${somewhere} wants the same`), problem);
  process.kill(host.weftd!.pid, 'SIGHUP');
  await host.waitForStatus('it to stay', ({ state }) => state === 'degraded');
  assert.is(macIn(own), macIn(copy));
  cluster().etcdctl('del', `/coreos.com/network/${copy}`);
  await host.waitForStatus('the problem to end', ({ problems, state }) => problems.length === 0 && state === 'running');
  assert.is(macIn(own), [...seen][3]);
});

test('a record of a node that somebody else writes is told by the node, and written back', async () => {
  const [one] = cluster().hosts;
  await one!.reaches(cluster().hosts);
  const key = `nodes/${one!.name}`;
  const own = cluster().get(key);
  const tells = (text: string) =>
    one!.waitForStatus(`"${text}"`, ({ problems }) => problems.some((problem) => problem.startsWith(text)), {
      deadlineMs: 20_000,
    });
  const forgeries = [
    [own.replace(one!.address, somewhere), `Another host, at ${somewhere}, has the name "${one!.name}", too`],
    ['{', `Somebody writes the record of "${one!.name}" in etcd; weftd writes it back`],
  ] as const;
  assert.is.not(forgeries[0][0], own);
  for (const [forged, told] of forgeries) {
    cluster().put(key, forged);
    await tells(told);
    await waitFor('its own to be back', () => cluster().get(key).includes(one!.address));
  }
});

test('a lease of the whole network leaves a new node a subnet', async () => {
  const keys = ['10.244.0.0-16', '10.0.0.0-8', '0.0.0.0-0'];
  for (const [i, key] of keys.entries()) cluster().put(`subnets/${key}`, value(somewhere, mac(80 + i)));
  const host = cluster().addHost();
  host.startWeftd();
  await host.reaches([cluster().hosts[0]!]);
  assert.match(host.subnet, /^10\.244\.\d+\.0\/24$/);
  for (const key of keys) cluster().etcdctl('del', `/coreos.com/network/subnets/${key}`);
  await host.waitForStatus('no problem', ({ problems, state }) => problems.length === 0 && state === 'running');
});

test.run();
