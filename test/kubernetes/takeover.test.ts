/**
 * A flannel cluster on Kubernetes is taken over while its containers communicate, node by node and all at once, and given
 * back. Nothing is lost, and nothing reaches the outside with a container's own address. `node test/flannel/programs.mjs`
 * builds the flanneld for it once, or WEFT_TEST_FLANNELD names one. WEFT_TEST_PINGS says how many packets must have been sent at least.
 * @long
 */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { flanneldPath } from '../lab/flannel.ts';
import { KubeCluster, type KubeHost } from '../lab/kube-cluster.ts';
import { KubeFlanneld } from '../lab/kube-flanneld.ts';
import { reaches } from '../lab/packets.ts';
import { type Outside, Traffic } from '../lab/traffic.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

const leastPings = Number(process.env['WEFT_TEST_PINGS'] ?? 2000);

interface Site {
  readonly cluster: KubeCluster;
  readonly flannelds: ReadonlyMap<KubeHost, KubeFlanneld>;
  readonly outsides: readonly Outside[];
}

const networks = '"Network": "10.244.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00:244::/48"';

/** Three hosts with flanneld, and a container on each. */
async function openSite(backend: string): Promise<Site> {
  const cluster = new KubeCluster('takeover', {
    hosts: 3,
    families: [4, 6],
    config: `{${networks}, "Backend": {"Type": "${backend}"}}`,
    podCIDRs: (n) => [`10.244.${n}.0/24`, `fd00:244:0:${n}::/64`],
  });
  try {
    await cluster.kube.start();
    const hosts = [1, 2, 3].map((n) => {
      const host = cluster.addHost();
      // Without any annotation of its Node flanneld crashes.
      cluster.kube.addNode(host.name, cluster.podCIDRs(n), { 'node.alpha.kubernetes.io/ttl': '0' });
      return host;
    });
    const flannelds = new Map(hosts.map((host) => [host, new KubeFlanneld(host)]));
    for (const flanneld of flannelds.values()) await flanneld.start();
    for (const host of hosts) host.attachPods(host === hosts[1] ? 2 : 1);
    const outsides = [200, 201].map((last) => {
      const namespace = cluster.scratch.addNamespace(`outside${last}`);
      const addresses = [`192.168.77.${last}`, `fd77::${last.toString(16)}`];
      cluster.underlay.connect(`outside${last}`, namespace, addresses);
      return { namespace, addresses };
    });
    return { cluster, flannelds, outsides };
  } catch (error) {
    cluster.remove();
    throw error;
  }
}

function defineTakeover(backend: string): void {
  const test = suite(`kubernetes: take-over, ${backend}`);
  const site = fixture(
    test,
    () => openSite(backend),
    ({ cluster }) => cluster.remove(),
  );

  /** Stops weftd or flanneld on a host and starts the other. */
  const toWeft = async (host: KubeHost): Promise<void> => {
    await site().flannelds.get(host)!.stop();
    host.startWeftd('--ip-masq');
    await host.reaches(site().cluster.hosts);
  };
  const toFlannel = async (host: KubeHost): Promise<void> => {
    await host.weftd!.stop();
    await site().flannelds.get(host)!.start();
  };

  test('node by node and all at once, there and back, under traffic: no packet is lost', async () => {
    const { cluster, flannelds, outsides } = site();
    const { hosts, scratch } = cluster;
    const [one, two, another, three] = hosts.flatMap(({ pods }) => pods);
    for (const [from, to] of [
      [one!, two!],
      [another!, three!],
      [three!, one!],
    ] as const) {
      for (const address of [...to.addresses, ...outsides.flatMap(({ addresses }) => addresses)]) {
        await waitFor(`${address} to be reached`, () => reaches(from.namespace, address));
      }
    }
    const traffics = [
      await Traffic.start(scratch, one!, two!, outsides[0]!),
      await Traffic.start(scratch, another!, three!, outsides[1]!),
    ];
    const startedMs = Date.now();
    // Four streams of pings in each, 10 ms apart.
    const leastMs = (leastPings / 8) * 10;
    let rounds = 0;
    do {
      for (const host of hosts) await toWeft(host);
      for (const host of hosts) await toFlannel(host);
      // All at once, and weftd before flanneld has ended, as when two DaemonSets change places.
      for (const host of hosts) host.startWeftd('--ip-masq');
      for (const host of hosts) {
        await host.waitForStatus('the wait for flanneld', ({ problems }) =>
          problems.some((problem) => problem.startsWith('flanneld runs on this host')),
        );
      }
      await Promise.all([...flannelds.values()].map((flanneld) => flanneld.stop('SIGKILL')));
      for (const host of hosts) await host.reaches(hosts);
      for (const host of hosts) await toFlannel(host);
      rounds++;
    } while (Date.now() - startedMs < leastMs);

    const reports = await Promise.all(traffics.map((traffic) => traffic.stop()));
    for (const [i, { pings, streams, datagrams }] of reports.entries()) {
      console.log(
        `\n  ${backend}, ${rounds} rounds: ${pings.sent} pings, ${pings.sent - pings.received} lost; ` +
          `${streams.bytes} bytes, ${streams.faults.length} faults; ` +
          `${datagrams.sent} datagrams, by source: ${JSON.stringify(datagrams.sources)}`,
      );
      assert.is(pings.sent - pings.received, 0);
      assert.equal(streams.faults, []);
      assert.ok(streams.bytes > 1_000_000);
      assert.equal(Object.keys(datagrams.sources).sort(), [...hosts[i]!.addresses].sort());
      const arrived = Object.values(datagrams.sources).reduce((sum, count) => sum + count, 0);
      assert.is(arrived, datagrams.sent);
    }
  });

  test.run();
}

if (flanneldPath === undefined) {
  console.log('\n  take-over: not run, for it needs flanneld itself ("node test/flannel/programs.mjs" builds it once)');
} else {
  for (const backend of ['vxlan', 'host-gw']) defineTakeover(backend);
}
