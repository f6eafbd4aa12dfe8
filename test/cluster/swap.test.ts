/**
 * weftd is restarted, replaces flanneld and is replaced by it, under traffic of all kinds: no packet is lost, and none
 * reaches the outside with a container's own address. All of it also with FORWARD's policy DROP. WEFT_TEST_FLANNELD names
 * a flanneld to use beside the imitation.
 */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Cluster } from '../lab/cluster.ts';
import { run } from '../lab/commands.ts';
import { type Flannel, FlannelHost, type Flavour, flavours } from '../lab/flannel.ts';
import type { Host } from '../lab/host.ts';
import { reaches } from '../lab/packets.ts';
import { type Outside, Traffic } from '../lab/traffic.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

interface Site {
  readonly cluster: Cluster;
  /** The one that changes hands. */
  readonly one: FlannelHost;
  readonly two: Host;
  readonly flannel: Flannel;
  readonly outside: Outside;
}

const config = {
  Network: '10.244.0.0/16',
  EnableIPv6: true,
  IPv6Network: 'fd00:10:244::/48',
  Backend: { Type: 'vxlan' },
};

/** On the hosts' network, and no host of the cluster's. */
function addOutside(cluster: Cluster): Outside {
  const namespace = cluster.scratch.addNamespace('outside');
  const addresses = ['192.168.77.200', 'fd77::c8'];
  // Whoever comes by an address of the cluster's is to be seen, not refused: it has routes to all.
  cluster.underlay.connect('outside', namespace, addresses);
  return { namespace, addresses };
}

async function openSite(flavour: Flavour): Promise<Site> {
  const cluster = new Cluster('swap', { families: [4, 6] });
  try {
    await cluster.startEtcd();
    cluster.put('config', JSON.stringify({ ...config, ...flavour.config }));
    const one = cluster.addHost(FlannelHost);
    const two = cluster.addHost();
    const flannel = flavour.open(one, { ipMasq: true });
    await flannel.start();
    two.startWeftd('--ip-masq');
    await two.reaches([one]);
    flannel.follow();
    for (const host of [one, two]) host.attachPods(1);
    return { cluster, one, two, flannel, outside: addOutside(cluster) };
  } catch (error) {
    cluster.remove();
    throw error;
  }
}

function defineSwap(flavour: Flavour): void {
  const test = suite(`swap: ${flavour.name}`);
  const site = fixture(
    test,
    () => openSite(flavour),
    ({ cluster }) => cluster.remove(),
  );

  for (const policy of ['ACCEPT', 'DROP']) {
    test(`${flavour.name} to weftd and back, each restarted, FORWARD's policy ${policy}`, async () => {
      const { cluster, one, two, flannel, outside } = site();
      for (const host of [one, two]) {
        for (const tool of ['iptables', 'ip6tables'])
          run([tool, '-P', 'FORWARD', policy], { namespace: host.namespace });
      }
      const startWeftd = async (): Promise<void> => {
        one.startWeftd('--ip-masq');
        await one.reaches([two]);
      };
      const startFlannel = async (): Promise<void> => {
        await flannel.start();
        flannel.follow();
      };
      if (policy === 'DROP' && !flavour.opensForward) {
        // Not before weftd has been there does anything get through.
        await flannel.stop();
        await startWeftd();
        await one.weftd!.stop();
        await startFlannel();
      }
      const [here, there] = [one.pods[0]!, two.pods[0]!];
      for (const [from, to] of [
        [here.namespace, there.addresses],
        [there.namespace, here.addresses],
        [here.namespace, outside.addresses],
      ] as const) {
        for (const address of to) await waitFor(`${address} to be reached`, () => reaches(from, address));
      }

      const traffic = await Traffic.start(cluster.scratch, here, there, outside);
      await flannel.stop();
      await startWeftd();
      for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
        await one.weftd!.stop(signal);
        await startWeftd();
      }
      await one.weftd!.stop();
      await startFlannel();
      await flannel.stop();
      await startFlannel();
      await flannel.stop();
      await startWeftd();
      await one.weftd!.stop();
      await startFlannel();

      const { pings, streams, datagrams } = await traffic.stop();
      const lost = pings.sent - pings.received;
      console.log(
        `\n  FORWARD ${policy}: ${pings.sent} pings, ${lost} lost; ${streams.bytes} bytes, ${streams.faults.length} faults;` +
          ` ${datagrams.sent} datagrams, by source: ${JSON.stringify(datagrams.sources)}`,
      );
      assert.is(lost, 0);
      assert.equal(streams.faults, []);
      assert.ok(streams.bytes > 1_000_000);
      assert.equal(Object.keys(datagrams.sources).sort(), [...one.addresses].sort());
      assert.is(
        Object.values(datagrams.sources).reduce((sum, count) => sum + count, 0),
        datagrams.sent,
      );
    });
  }

  test.run();
}

for (const flavour of flavours('swap')) defineSwap(flavour);
