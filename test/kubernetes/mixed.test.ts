/**
 * Two hosts with weftd and one with the real flanneld on the real API server, with two backends and every choice of families:
 * all reach each other, the annotations are the same byte for byte, and each role leaves and joins.
 * `node test/flannel/programs.mjs` builds flanneld once, or WEFT_TEST_FLANNELD names one.
 * @long
 */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { flanneldPath } from '../lab/flannel.ts';
import { annotationPrefix, KubeCluster, type KubeHost } from '../lab/kube-cluster.ts';
import { KubeFlanneld } from '../lab/kube-flanneld.ts';
import { reaches } from '../lab/packets.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

const choices = {
  IPv4: '"Network": "10.244.0.0/16"',
  'both families': '"Network": "10.244.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00:244::/48"',
  'IPv6 alone': '"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fd00:244::/48"',
} as const;
const patient = { deadlineMs: 60_000 };
/** Without any annotation of its Node flanneld crashes. */
const others = { 'node.alpha.kubernetes.io/ttl': '0' };

interface Site {
  readonly cluster: KubeCluster;
  readonly one: KubeHost;
  readonly two: KubeHost;
  readonly flannel: KubeHost;
  readonly flanneld: KubeFlanneld;
}

async function openSite(): Promise<Site> {
  const podCIDRs = (n: number): string[] => [`10.244.${n}.0/24`, `fd00:244:0:${n}::/64`];
  const cluster = new KubeCluster('mixed', { hosts: 3, families: [4, 6], config: '{}', podCIDRs });
  try {
    await cluster.kube.start();
    const [one, two, flannel] = [1, 2, 3].map((n) => {
      const host = cluster.addHost();
      cluster.kube.addNode(host.name, podCIDRs(n), others);
      return host;
    }) as [KubeHost, KubeHost, KubeHost];
    return { cluster, one, two, flannel, flanneld: new KubeFlanneld(flannel) };
  } catch (error) {
    cluster.remove();
    throw error;
  }
}

const test = suite('kubernetes: mixed');
const site = fixture(test, openSite, ({ cluster }) => cluster.remove());

/** All routes of a host to this Node's podCIDRs, and its entries for this host's addresses. */
const tracesOf = (host: KubeHost, n: number): string[] =>
  [
    ...host.ip('route').split('\n'),
    ...host.ip('-6', 'route').split('\n'),
    ...host.run('bridge', 'fdb', 'show').split('\n'),
  ].filter(
    (line) => line.startsWith(`10.244.${n}.`) || line.includes(`:${n}::/64`) || line.includes(`dst 192.168.77.1${n}`),
  );

/** weftd has programmed the two others, and nothing is wrong. */
const isWhole = (host: KubeHost): Promise<unknown> =>
  host.waitForStatus(
    `${host.name} to have programmed its peers`,
    ({ state, problems, peers }) =>
      state === 'running' && problems.length === 0 && peers.length === 2 && peers.every(({ programmed }) => programmed),
    patient,
  );

/** The Node is gone: both others take the way to it away, and keep the one between them. */
async function isLeft(host: KubeHost): Promise<void> {
  const { one, two, flannel } = site();
  const n = Number(host.name.at(-1));
  for (const each of [one, two, flannel].filter((other) => other !== host)) {
    await waitFor(`${each.name} to have dropped ${host.name}`, () => tracesOf(each, n).length === 0, patient);
  }
}

/** What the real flanneld would write on the other host: its own annotations, with the other's addresses and MACs. */
function asFlannelWrites(host: KubeHost, backend: string): Record<string, string> {
  const { flannel } = site();
  const { weft, ...annotations } = flannel.annotations;
  assert.is(weft, undefined, 'it is flannel');
  const devices = backend === 'vxlan' ? ['flannel.1', 'flannel-v6.1'] : [];
  const there = devices.filter((device) => flannel.ip('link').includes(`${device}:`));
  const swaps = [
    ...flannel.addresses.map((address, i) => [address, host.addresses[i]!]),
    ...there.map((device) => [flannel.link(device).mac, host.link(device).mac]),
  ] as [string, string][];
  const swapped = (text: string): string => swaps.reduce((all, [from, to]) => all.replaceAll(from, to), text);
  return Object.fromEntries(Object.entries(annotations).map(([key, text]) => [key, swapped(text)]));
}

async function allReachEachOther(): Promise<void> {
  const { one, two, flannel } = site();
  const pods = [one, two, flannel].map((host) => host.attachPods(1)[0]!);
  for (const from of pods) {
    for (const to of pods.filter((pod) => pod !== from)) {
      assert.ok(to.addresses.length > 0);
      for (const address of to.addresses) {
        await waitFor(`a ping from ${from.name} to ${address}`, () => reaches(from.namespace, address), patient);
      }
    }
  }
  for (const pod of pods) pod.detach();
}

for (const backend of ['vxlan', 'host-gw']) {
  for (const [name, keys] of Object.entries(choices)) {
    test(`${backend}, ${name}: two weftd and a flanneld reach each other, leave and join`, async () => {
      const { cluster, one, two, flannel, flanneld } = site();
      const { kube } = cluster;
      for (const host of [one, two, flannel]) {
        host.writeConfig(`{${keys}, "Backend": {"Type": "${backend}"}}`);
        // A flanneld with another backend leaves its former annotations, devices and routes.
        const stale = Object.keys(host.annotations).map((key) => [annotationPrefix + key, null]);
        if (host === flannel) kube.annotate(host.name, Object.fromEntries(stale));
        if (host !== flannel && !host.weftd) host.startWeftd('--ip-masq');
      }
      for (const device of ['flannel.1', 'flannel-v6.1']) {
        if (flannel.ip('link').includes(`${device}:`)) flannel.ip('link', 'del', device);
      }
      for (const n of [1, 2]) {
        flannel.ip('route', 'flush', 'exact', `10.244.${n}.0/24`);
        flannel.ip('-6', 'route', 'flush', 'exact', `fd00:244:0:${n}::/64`);
      }
      await flanneld.start();
      for (const host of [one, two]) await isWhole(host);
      await allReachEachOther();
      for (const host of [one, two]) {
        const { weft, ...annotations } = host.annotations;
        assert.equal(annotations, asFlannelWrites(host, backend), host.name);
        assert.match(weft ?? '', /"version":/);
      }

      // A weftd's Node goes, and comes back without annotations: weftd writes them again.
      kube.removeNode('host2');
      await isLeft(two);
      kube.addNode('host2', cluster.podCIDRs(2), others);
      for (const host of [one, two]) await isWhole(host);
      // flanneld's Node does; it writes its annotations at its start only.
      kube.removeNode('host3');
      await isLeft(flannel);
      await flanneld.stop();
      kube.addNode('host3', cluster.podCIDRs(3), others);
      await flanneld.start();
      for (const host of [one, two]) await isWhole(host);
      await allReachEachOther();
      await flanneld.stop();
    });
  }
}

if (flanneldPath === undefined) {
  console.log('\n  mixed: not run, for it needs flanneld itself ("node test/flannel/programs.mjs" builds it once)');
} else {
  test.run();
}
