/**
 * What weftd does when Node objects change: each row that flanneld gets wrong, and the others.
 * @long
 */

import { existsSync, readFileSync, rmSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { NodeStatus } from '../../cluster/status.ts';
import { annotationPrefix, type KubeCluster, type KubeHost, startKubeCluster } from '../lab/kube-cluster.ts';
import { reaches } from '../lab/packets.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('kubernetes: what happens when');
const config = '{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}';
const cluster = fixture(
  test,
  () => startKubeCluster('rows', { hosts: 2, config }),
  (made) => made.remove(),
);

/** The annotations of a peer that flanneld looks after. */
const flannelPeer = (n: number, mac = `02:00:00:00:00:${n}`): Record<string, string> => ({
  [`${annotationPrefix}backend-data`]: `{"VNI":1,"VtepMAC":"${mac}"}`,
  [`${annotationPrefix}backend-type`]: 'vxlan',
  [`${annotationPrefix}kube-subnet-manager`]: 'true',
  [`${annotationPrefix}public-ip`]: `192.168.77.${n}`,
});

const first = ({ hosts }: KubeCluster): KubeHost => hosts[0]!;

const routeTo = (host: KubeHost, subnet: string): boolean => host.ip('route', 'show', subnet).includes('flannel.1');
const fdb = (host: KubeHost): string => host.run('bridge', 'fdb', 'show', 'dev', 'flannel.1');
const neighbours = (host: KubeHost): string => host.ip('neigh', 'show', 'dev', 'flannel.1');

const hasRoute = (host: KubeHost, subnet: string): Promise<boolean> =>
  waitFor(`${host.name}'s route to ${subnet}`, () => routeTo(host, subnet));
const hasNoRoute = (host: KubeHost, subnet: string): Promise<boolean> =>
  waitFor(`${host.name} to drop ${subnet}`, () => !routeTo(host, subnet));

const told = (host: KubeHost, text: RegExp): Promise<string> =>
  waitFor(`${host.name} to tell ${text}`, async () => {
    const status = host.status();
    return [...status.problems, ...status.peers.flatMap(({ problem }) => problem ?? [])].find((line) =>
      text.test(line),
    );
  });

const healthy = (host: KubeHost): Promise<NodeStatus> =>
  host.waitForStatus(`${host.name} to be well`, (status) => status.problems.length === 0 && status);

test("a peer's Node comes and goes, and so do its route, neighbour and FDB entry", async () => {
  const { kube } = cluster();
  const one = first(cluster());
  kube.addNode('peer41', ['10.244.41.0/24'], flannelPeer(41));
  await hasRoute(one, '10.244.41.0/24');
  assert.match(fdb(one), /02:00:00:00:00:41 dst 192\.168\.77\.41/);
  kube.removeNode('peer41');
  await hasNoRoute(one, '10.244.41.0/24');
  assert.not.match(fdb(one) + neighbours(one), /02:00:00:00:00:41/);
});

test("a peer's changed MAC is followed, and the old FDB entry goes", async () => {
  const { kube } = cluster();
  const one = first(cluster());
  kube.addNode('peer42', ['10.244.42.0/24'], flannelPeer(42));
  await hasRoute(one, '10.244.42.0/24');
  kube.annotate('peer42', { [`${annotationPrefix}backend-data`]: '{"VNI":1,"VtepMAC":"02:00:00:00:42:42"}' });
  await waitFor('the new MAC', () => fdb(one).includes('02:00:00:00:42:42 dst 192.168.77.42'));
  await waitFor('the old MAC to go', () => !fdb(one).includes('02:00:00:00:00:42'));
  kube.removeNode('peer42');
  await hasNoRoute(one, '10.244.42.0/24');
});

test("a peer's malformed annotation is told, its entries stay, and they go with the Node", async () => {
  const { kube } = cluster();
  const one = first(cluster());
  kube.addNode('peer43', ['10.244.43.0/24'], flannelPeer(43));
  await hasRoute(one, '10.244.43.0/24');
  kube.annotate('peer43', { [`${annotationPrefix}backend-data`]: '{"VNI":1,"VtepMAC":7}' });
  const problem = await told(one, /peer43/);
  assert.match(problem, /Cannot read lease "peer43\/[-0-9a-f]+", which is skipped: "backend-data\.VtepMAC" is 7/);
  assert.ok(routeTo(one, '10.244.43.0/24'));
  kube.removeNode('peer43');
  await hasNoRoute(one, '10.244.43.0/24');
  await healthy(one);
});

test('a Node that nobody manages any more is no peer', async () => {
  const { kube } = cluster();
  const one = first(cluster());
  kube.addNode('peer44', ['10.244.44.0/24'], flannelPeer(44));
  await hasRoute(one, '10.244.44.0/24');
  kube.annotate('peer44', { [`${annotationPrefix}kube-subnet-manager`]: null });
  await hasNoRoute(one, '10.244.44.0/24');
  kube.removeNode('peer44');
});

test('a peer whose podCIDR comes after its annotations is programmed then', async () => {
  const { kube } = cluster();
  const one = first(cluster());
  kube.addNode('peer45', [], flannelPeer(45));
  kube.giveCidrs('peer45', ['10.244.45.0/24']);
  await hasRoute(one, '10.244.45.0/24');
  kube.removeNode('peer45');
});

test('a peer that is made anew with another podCIDR while nothing is heard has the new route alone', async () => {
  const { kube } = cluster();
  const one = first(cluster());
  kube.addNode('peer46', ['10.244.46.0/24'], flannelPeer(46));
  await hasRoute(one, '10.244.46.0/24');
  process.kill(one.weftd!.pid, 'SIGSTOP');
  try {
    kube.removeNode('peer46');
    await kube.restartApiserver();
    kube.addNode('peer46', ['10.244.47.0/24'], flannelPeer(46));
  } finally {
    process.kill(one.weftd!.pid, 'SIGCONT');
  }
  await hasRoute(one, '10.244.47.0/24');
  await hasNoRoute(one, '10.244.46.0/24');
  kube.removeNode('peer46');
});

test('our own damaged annotations are repaired', async () => {
  const one = first(cluster());
  const before = one.annotations;
  one.annotate({ 'public-ip': '9.9.9.9' });
  await waitFor('the address', () => one.annotations['public-ip'] === one.address);
  one.annotate({ 'backend-data': 'nonsense', weft: '' });
  await waitFor('the data', () => JSON.stringify(one.annotations) === JSON.stringify(before));
  one.annotate(Object.fromEntries(Object.keys(before).map((key) => [key, null])));
  await waitFor('all of them', () => JSON.stringify(one.annotations) === JSON.stringify(before));
  await cluster().hosts[1]!.reaches(cluster().hosts);
});

test('a fight about the annotations is told, and slow', async () => {
  const [, two] = cluster().hosts as [KubeHost, KubeHost];
  await waitFor('the fight to be told', () => {
    two.annotate({ 'public-ip': '9.9.9.9' });
    return two.status().problems.find((line) => /^Somebody else keeps writing the lease "host2\//.test(line));
  });
  assert.equal(two.subnets, ['10.244.2.0/24'], 'nothing is given up');
  await waitFor('the address', () => two.annotations['public-ip'] === two.address, { deadlineMs: 60_000 });
  await waitFor('the fight to end', () => two.status().problems.length === 0, { deadlineMs: 60_000 });
});

test('our own Node is deleted and made anew with another podCIDR: the host moves there', async () => {
  const { kube } = cluster();
  const [one, two] = cluster().hosts as [KubeHost, KubeHost];
  kube.removeNode('host2');
  await told(two, /There is no Node "host2" in Kubernetes; kubelet makes it when it starts/);
  assert.ok(routeTo(two, '10.244.1.0/24'), 'without its own Node the ways to the others stay');
  kube.addNode('host2');
  await told(two, /Node "host2" has no podCIDR yet/);
  kube.giveCidrs('host2', ['10.244.22.0/24']);
  await hasRoute(one, '10.244.22.0/24');
  await hasNoRoute(one, '10.244.2.0/24');
  await waitFor('the files', () => two.subnet === '10.244.22.0/24');
  assert.match(readFileSync(two.subnetFile, 'utf8'), /FLANNEL_SUBNET=10\.244\.22\.1\/24/);
  const [[here], [there]] = [one.attachPods(1), two.attachPods(1)];
  assert.ok(reaches(here!.namespace, there!.address));
});

test('somebody else says that the network is unavailable: it is said otherwise again', async () => {
  const { kube } = cluster();
  const condition = { type: 'NetworkUnavailable', status: 'True', reason: 'Test', message: 'x' };
  kube.kubectl([
    ...['patch', 'node', 'host1', '--subresource=status', '--type=strategic'],
    ...['-p', JSON.stringify({ status: { conditions: [condition] } })],
  ]);
  await waitFor(
    'the condition',
    () => kube.node('host1').status.conditions?.find(({ type }) => type === condition.type)?.['status'] === 'False',
    { deadlineMs: 30_000 },
  );
});

test('public-ip-overwrite is published at once, and taken back', async () => {
  const [one, two] = cluster().hosts as [KubeHost, KubeHost];
  one.annotate({ 'public-ip-overwrite': '192.168.77.200' });
  await waitFor('the address', () => one.annotations['public-ip'] === '192.168.77.200');
  await waitFor('the peer', () => fdb(two).includes('dst 192.168.77.200'));
  assert.match(one.ip('-d', 'link', 'show', 'flannel.1'), /local 192\.168\.77\.11 /);
  one.annotate({ 'public-ip-overwrite': 'x'.repeat(1000) });
  const problem = await told(one, /public-ip-overwrite/);
  assert.match(
    problem,
    /"flannel\.alpha\.coreos\.com\/public-ip-overwrite" is "x{199}… \(1002 characters\), which is no/,
  );
  one.annotate({ 'public-ip-overwrite': null });
  await waitFor('the address', () => one.annotations['public-ip'] === one.address);
  await waitFor('the peer', () => fdb(two).includes(`dst ${one.address}`));
  await healthy(one);
});

test('node-public-ip chooses the address of the tunnel', async () => {
  const one = first(cluster());
  one.ip('addr', 'add', '192.168.77.150/24', 'dev', 'eth0');
  one.annotate({ 'node-public-ip': '192.168.77.150' });
  await waitFor('the address', () => one.annotations['public-ip'] === '192.168.77.150');
  await waitFor('the device', () => /local 192\.168\.77\.150 /.test(one.ip('-d', 'link', 'show', 'flannel.1')));
  one.annotate({ 'node-public-ip': null });
  await waitFor('the address', () => one.annotations['public-ip'] === one.address, { deadlineMs: 15_000 });
  one.ip('addr', 'del', '192.168.77.150/24', 'dev', 'eth0');
  await healthy(one);
});

test("hostile Nodes get no route, are told, and harm nobody's", async () => {
  const { kube } = cluster();
  const one = first(cluster());
  const cases: readonly [name: string, cidrs: readonly string[], annotations: Record<string, string>, told: RegExp][] =
    [
      ['bad1', ['10.244.1.0/24'], flannelPeer(51), /overlaps with this host's own/],
      ['bad2', ['0.0.0.0/0'], flannelPeer(52), /contains the host address|is not inside|overlaps/],
      ['bad3', ['192.168.77.0/28'], flannelPeer(53), /contains the host address|is not inside/],
      ['bad4', ['10.96.0.0/24'], flannelPeer(54), /is not inside the cluster's network/],
      ['bad5', ['10.244.55.0/24'], { ...flannelPeer(55), [`${annotationPrefix}public-ip`]: '224.0.0.1' }, /multicast/],
      [
        'bad6',
        ['10.244.56.0/24'],
        { ...flannelPeer(56), [`${annotationPrefix}public-ip`]: '{"a":[1]}' },
        /no IPv4 address/,
      ],
      [
        'bad7',
        ['10.244.57.0/24'],
        { ...flannelPeer(57), [`${annotationPrefix}backend-data`]: `[${'['.repeat(8000)}` },
        /"backend-data" is "\[+… \(\d+ characters\), which is not JSON/,
      ],
      [
        'bad8',
        ['10.244.58.0/24'],
        { ...flannelPeer(58), [`${annotationPrefix}backend-data`]: '9'.repeat(200_000) },
        /"backend-data" has more than 8192 characters/,
      ],
    ];
  for (const [name, cidrs, annotations] of cases) kube.addNode(name, cidrs, annotations);
  for (const [name, cidrs, , text] of cases) {
    const problem = await waitFor(`${name} to be told`, () => {
      const { problems, peers } = one.status();
      return [...problems, ...peers.flatMap((peer) => (peer.node === name ? (peer.problem ?? []) : []))].find((line) =>
        text.test(line),
      );
    });
    assert.ok(problem.length < 600, `${name}: ${problem.length} characters`);
    if (name !== 'bad1') assert.not.ok(routeTo(one, cidrs[0]!), name);
  }
  await one.reaches(cluster().hosts);
  for (const [name] of cases) kube.removeNode(name);
  await healthy(one);
});

test('another network config moves all nodes to the other backend', async () => {
  const [one, two] = cluster().hosts as [KubeHost, KubeHost];
  for (const host of [one, two]) host.writeConfig('{"Network": "10.244.0.0/16", "Backend": {"Type": "host-gw"}}');
  for (const host of [one, two]) {
    await waitFor(`${host.name}'s annotation`, () => host.annotations['backend-type'] === 'host-gw');
    assert.is(host.annotations['backend-data'], 'null');
  }
  await waitFor('the plain route', () => one.ip('route', 'show', two.subnet).includes(`via ${two.address} dev eth0`));
  for (const host of [one, two]) host.writeConfig(config);
  await hasRoute(one, two.subnet);
  rmSync(one.netConfPath);
  await told(one, /There is no network config: no file ".*net-conf\.json"; the last good one stays in force; write it/);
  assert.ok(routeTo(one, two.subnet));
  one.writeConfig(config);
  await healthy(one);
});

test('a problem that a person has to mend is shown as an event of the Node', async () => {
  const { kube } = cluster();
  const one = first(cluster());
  one.writeConfig('{"Network": "10.244.0.0/99"}');
  const event = await waitFor(
    'the event',
    () => {
      const { items } = JSON.parse(
        kube.kubectl(['get', 'events', '--field-selector', 'involvedObject.name=host1', '-o', 'json']),
      ) as { items: Record<string, unknown>[] };
      return items.find(({ reason }) => reason === 'NetworkConfig');
    },
    { deadlineMs: 60_000, intervalMs: 500 },
  );
  assert.is(event['type'], 'Warning');
  assert.match(String(event['message']), /"Network" is "10\.244\.0\.0\/99"/);
  assert.match(kube.kubectl(['describe', 'node', 'host1']), /Warning\s+NetworkConfig/);
  one.writeConfig(config);
  await healthy(one);
});

test('a peer that left while weftd was down is gone after its start', async () => {
  const { kube } = cluster();
  const one = first(cluster());
  kube.addNode('peer48', ['10.244.48.0/24'], flannelPeer(48));
  await hasRoute(one, '10.244.48.0/24');
  await one.weftd!.stop();
  kube.removeNode('peer48');
  one.startWeftd();
  await hasNoRoute(one, '10.244.48.0/24');
  await one.reaches(cluster().hosts);
});

test('weftd --leave takes our annotations away, and leaves those of people', async () => {
  const [one, two] = cluster().hosts as [KubeHost, KubeHost];
  two.annotate({ 'node-public-ip': two.address });
  const { status, stderr } = two.runWeftd('--leave');
  assert.is(status, 0, stderr);
  assert.equal(two.annotations, { 'node-public-ip': two.address });
  await hasNoRoute(one, '10.244.22.0/24');
  assert.not.ok(existsSync(two.subnetFile));
});

test.run();
