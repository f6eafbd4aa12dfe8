/**
 * Weft's hosts and one of flannel's in one cluster. That host becomes Weft's and then flannel's again, while its containers
 * keep communicating. WEFT_TEST_FLANNELD names a flanneld to use beside the imitation.
 */

import { readFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Family } from '../../net/address.ts';
import { Cluster, etcdPrefix } from '../lab/cluster.ts';
import { run } from '../lab/commands.ts';
import { type Flannel, FlannelHost, type Flavour, flavours } from '../lab/flannel.ts';
import type { Host, Pod } from '../lab/host.ts';
import { difference, readFdb, readLink, readNeighbours, readRoutes } from '../lab/kernel-state.ts';
import { askEcho, ping, reaches, startEcho, startPing } from '../lab/packets.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

interface Site {
  readonly cluster: Cluster;
  /** Weft's. */
  readonly one: Host;
  readonly two: Host;
  readonly third: FlannelHost;
  readonly flannel: Flannel;
}

/** For how long the peer lock of a weftd that is gone is in flannel's way: shorter than it is for users. */
const lockLifeMs = 2000;

type Families = readonly Family[];
const variants: readonly Families[] = [[4], [4, 6], [6]];

const configOf = (families: Families): object => ({
  ...(families.includes(4) ? { Network: '10.244.0.0/16' } : { EnableIPv4: false }),
  ...(families.includes(6) && { EnableIPv6: true, IPv6Network: 'fd00:10:244::/48' }),
  Backend: { Type: 'vxlan' },
});

async function openSite(flavour: Flavour, families: Families): Promise<Site> {
  const cluster = new Cluster('mixed', { families });
  try {
    await cluster.startEtcd();
    cluster.put('config', JSON.stringify({ ...configOf(families), ...flavour.config }));
    const [one, two] = [cluster.addHost(), cluster.addHost()];
    const third = cluster.addHost(FlannelHost);
    const flannel = flavour.open(third, { ipMasq: true });
    one.startWeftd('--ip-masq');
    // The imitation chooses its subnets without a transaction: it must not choose while another host does.
    await waitFor('the lease of Weft’s first host', () => one.subnets.length > 0);
    await flannel.start();
    two.startWeftd('--ip-masq');
    const site = { cluster, one, two, third, flannel };
    await settled(site);
    for (const host of cluster.hosts) {
      for (const pod of host.attachPods(host === third ? 2 : 1)) await startEcho(cluster.scratch, pod.namespace);
    }
    return site;
  } catch (error) {
    cluster.remove();
    throw error;
  }
}

/** Waits until each of Weft's hosts reaches all others, and flannel's has heard of them. */
async function settled({ cluster, one, two, third, flannel }: Site): Promise<void> {
  for (const host of [one, two]) await host.reaches(cluster.hosts);
  flannel.follow();
  await waitFor('flannel to have routes to both', () => tunnelRoutes(third).length === 2);
}

/** Routes through the tunnel of the first of the families. */
const tunnelRoutes = (host: Host) =>
  host.addresses[0]!.includes('.')
    ? readRoutes(host.namespace).filter(({ device }) => device === 'flannel.1')
    : readRoutes(host.namespace, 6).filter(({ device, gateway }) => device === 'flannel-v6.1' && gateway);

const leaseOf = (cluster: Cluster, host: Host): { key: string; value: string } => {
  const lines = cluster.etcdctl('get', '--prefix', `${etcdPrefix}/subnets/`).trimEnd().split('\n');
  const at = lines.findIndex((line) => line.includes(`":"${host.address}"`));
  assert.ok(at > 0, `${host.name} has a lease`);
  return { key: lines[at - 1]!, value: lines[at]! };
};

/** What a change of hands must not change. */
const identity = (host: Host) =>
  ['flannel.1', 'flannel-v6.1']
    .map((name) => readLink(host.namespace, name))
    .map((link) => link && { index: link.index, mac: link.mac, addresses: link.addresses, mtu: link.mtu });

/** Links, addresses, routes and entries: everything but rules, and how routes are marked. */
const paths = (host: Host): string[] =>
  host
    .describe()
    .filter((line) => !line.startsWith('nft '))
    .map((line) => line.replace(/"protocol":"[^"]*",/, ''));

const between = (froms: readonly Pod[], tos: readonly Pod[]): [Pod, Pod][] =>
  froms.flatMap((from) => tos.filter((to) => to !== from).map((to): [Pod, Pod] => [from, to]));

function defineMixed(flavour: Flavour, families: Families): void {
  const label = `a mixed cluster, ${families.map((family) => `IPv${family}`).join(' and ')}: ${flavour.name}`;
  const test = suite(label);
  const site = fixture(
    test,
    () => openSite(flavour, families),
    ({ cluster }) => cluster.remove(),
  );

  const allReach = async (pairs: readonly [Pod, Pod][]): Promise<void> => {
    for (const [from, to] of pairs) {
      for (const address of to.addresses) {
        // By IPv6 a new bridge is not ready at once.
        await waitFor(`${from.name} to reach ${address}`, () => reaches(from.namespace, address), { deadlineMs: 5000 });
      }
    }
  };

  test(`${label}: every container reaches every other, with its own source address`, async () => {
    const { cluster, one, third } = site();
    const pods = cluster.hosts.flatMap((host) => host.pods);
    await allReach(between(pods, pods));
    for (const [from, to] of [
      [one.pods[0]!, third.pods[0]!],
      [third.pods[0]!, one.pods[0]!],
    ] as const) {
      for (const [i, address] of to.addresses.entries()) {
        for (const protocol of ['tcp', 'udp'] as const) {
          assert.is(await askEcho(from.namespace, protocol, address, 'who am I'), from.addresses[i]);
        }
      }
    }
  });

  if (!families.includes(6)) {
    test(`${label}: the MTU is exact`, () => {
      const { one, third } = site();
      for (const [from, to] of between([one.pods[0]!], [third.pods[0]!]).flatMap(([a, b]) => [
        [a, b] as const,
        [b, a] as const,
      ])) {
        const whole = (payloadBytes: number, timeoutMs: number) =>
          ping(from.namespace, to.address, { payloadBytes, whole: true, timeoutMs }).received;
        assert.is(whole(1422, 1000), 1);
        assert.is(whole(1423, 100), 0);
      }
    });

    test(`${label}: weftd reports and ignores a peer with an unknown backend`, async () => {
      const { cluster, one, two, third, flannel } = site();
      const before = [one, two].map((host) => host.describe());
      const backendData = '{"PublicKey":"bXDmPkSgaHDzvb4ejzk3WBMhI4Bjwf7gyMCnIdgfUGE="}';
      const value = `{"PublicIP":"192.168.77.99","PublicIPv6":null,"BackendType":"wireguard","BackendData":${backendData}}`;
      cluster.put('subnets/10.244.250.0-24', value);
      for (const host of [one, two]) {
        const peer = await host.waitForStatus('the peer to be reported', ({ peers }) =>
          peers.find(({ subnets }) => subnets.includes('10.244.250.0/24')),
        );
        assert.is(peer.programmed, false);
        assert.match(peer.problem ?? '', /wireguard/);
        assert.match(host.log, /10\.244\.250\.0-24.*wireguard/);
        assert.is(host.status().state, 'running', 'a peer’s backend is not this node’s trouble');
      }
      flannel.follow();
      for (const [i, host] of [one, two].entries())
        assert.equal(difference(before[i]!, host.describe()), [], host.name);
      assert.is(cluster.get('subnets/10.244.250.0-24'), value);
      assert.ok(reaches(one.pods[0]!.namespace, third.pods[0]!.address));
      cluster.etcdctl('del', `${etcdPrefix}/subnets/10.244.250.0-24`);
    });

    test(`${label}: weftd follows flannel’s host to another MAC, then to another address`, async () => {
      const { cluster, one, two, third, flannel } = site();
      const pairs = between(
        [one, two].flatMap(({ pods }) => pods),
        third.pods,
      );
      const macBefore = readLink(third.namespace, 'flannel.1')!.mac;
      const subnet = leaseOf(cluster, third).key;

      await flannel.stop();
      third.ip('link', 'del', 'flannel.1');
      await flannel.start();
      const mac = readLink(third.namespace, 'flannel.1')!.mac;
      assert.is.not(mac, macBefore);
      assert.is(leaseOf(cluster, third).key, subnet);
      for (const host of [one, two]) {
        await waitFor(`${host.name} to have the new MAC`, () => {
          const [fdb, neighbours] = [readFdb(host.namespace), readNeighbours(host.namespace)];
          return (
            fdb.some((entry) => entry.mac === mac && entry.destination === third.address) &&
            neighbours.some((entry) => entry.mac === mac) &&
            ![...fdb, ...neighbours].some((entry) => entry.mac === macBefore)
          );
        });
      }
      flannel.follow();
      await allReach(pairs);

      await flannel.stop();
      const [before, now] = [third.address, '192.168.77.77'];
      // Not by itself: flanneld would look for another subnet while the old address's lease is there.
      cluster.etcdctl('del', subnet);
      third.ip('addr', 'del', `${before}/24`, 'dev', 'eth0');
      third.ip('addr', 'add', `${now}/24`, 'dev', 'eth0');
      third.ip('route', 'replace', 'default', 'via', '192.168.77.1');
      third.ip('link', 'del', 'flannel.1');
      await flannel.start();
      flannel.follow();
      for (const host of [one, two]) {
        await waitFor(`${host.name} to have the new address`, () => {
          const fdb = readFdb(host.namespace);
          return (
            fdb.some(({ destination }) => destination === now) && !fdb.some(({ destination }) => destination === before)
          );
        });
      }
      await allReach(pairs);

      // And back, as it was, for the tests that follow.
      await flannel.stop();
      cluster.etcdctl('del', subnet);
      third.ip('addr', 'del', `${now}/24`, 'dev', 'eth0');
      third.ip('addr', 'add', `${before}/24`, 'dev', 'eth0');
      third.ip('route', 'replace', 'default', 'via', '192.168.77.1');
      third.ip('link', 'del', 'flannel.1');
      await flannel.start();
      await settled(site());
      await allReach(pairs);
    });
  }

  test(`${label}: weftd takes flannel’s host over and gives it back: nothing changes, no packet is lost`, async () => {
    const { cluster, one, third, flannel } = site();
    const streams = between([one.pods[0]!], third.pods).flatMap(([a, b]) =>
      a.addresses.flatMap((address, i) => [
        startPing(cluster.scratch, a.namespace, b.addresses[i]!, 10),
        startPing(cluster.scratch, b.namespace, address, 10),
      ]),
    );
    const before = { identity: identity(third), paths: paths(third), lease: leaseOf(cluster, third) };
    const env = readFileSync(third.subnetFile, 'utf8');
    assert.is(before.identity.filter((link) => link !== undefined).length, families.length);

    await flannel.stop();
    third.startWeftdWith({ through: ['env', `WEFTD_TEST_LOCK_LIFE_MS=${lockLifeMs}`] }, '--ip-masq');
    third.plugins = 'weft';
    await third.reaches(cluster.hosts);
    assert.equal(identity(third), before.identity);
    assert.equal(difference(before.paths, paths(third)), []);
    const taken = leaseOf(cluster, third);
    assert.is(taken.key, before.lease.key);
    assert.is(taken.value.replace(/,"Weft":\{[^}]*\}/, ''), before.lease.value);
    // flannel's MTU is wrong where IPv6 travels.
    const exact = (text: string): string =>
      families.includes(6) ? text.replace('FLANNEL_MTU=1450', 'FLANNEL_MTU=1430') : text;
    assert.is(readFileSync(third.subnetFile, 'utf8'), exact(env));

    const [fresh] = third.attachPods(1);
    const used = third.pods.filter((pod) => pod !== fresh).flatMap(({ addresses }) => addresses);
    assert.not(
      fresh!.addresses.some((address) => used.includes(address)),
      'a new container has an address of its own',
    );
    await allReach([
      [fresh!, one.pods[0]!],
      [one.pods[0]!, fresh!],
      [fresh!, third.pods[0]!],
    ]);
    const held = { paths: paths(third) };

    await third.weftd!.stop();
    await flannel.start();
    assert.equal(identity(third), before.identity);
    assert.equal(difference(held.paths, paths(third)), []);
    assert.equal(leaseOf(cluster, third), before.lease);
    assert.is(readFileSync(third.subnetFile, 'utf8'), env);
    await settled(site());
    await allReach([[fresh!, one.pods[0]!]]);

    let sent = 0;
    for (const stream of streams) {
      const count = await stream.stop();
      assert.is(count.received, count.sent);
      sent += count.sent;
    }
    console.log(`\n  ${label}: ${sent} pings 10 ms apart, none lost`);
    fresh!.detach();
    third.plugins = 'reference';
  });

  if (!families.includes(6)) {
    test(`${label}: flannel’s host, given back, receives packets from a new host`, async () => {
      const { cluster, third, flannel } = site();
      assert.match(run(['nft', 'list', 'table', 'inet', 'weft'], { namespace: third.namespace }), /peers4/);
      const fourth = cluster.addHost();
      fourth.startWeftd('--ip-masq');
      await fourth.reaches(cluster.hosts);
      flannel.follow();
      const [pod] = fourth.attachPods(1);
      // weftd's lock, which does not know it, is left there, and opens by itself.
      await allReach(between([pod!], third.pods));
    });
  }

  test.run();
}

for (const flavour of flavours('mixed cluster')) {
  for (const families of variants) if (families.includes(4) || flavour.ipv6Alone) defineMixed(flavour, families);
}
