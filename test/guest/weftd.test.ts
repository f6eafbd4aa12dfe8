/** weftd on Debian's stock kernel: hosts as network namespaces, a real etcd, real packets. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Cluster } from '../lab/cluster.ts';
import { patience } from '../lab/guest.ts';
import type { Host } from '../lab/host.ts';
import { describeHost, difference, readFdb, readRoutes } from '../lab/kernel-state.ts';
import { ping } from '../lab/packets.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

/** etcd and two of weftd share one emulated processor. */
process.env['WEFTD_TEST_ETCD_TIMEOUT_MS'] = String(5000 * patience);

const config = { Network: '10.96.0.0/16', EnableIPv6: true, IPv6Network: 'fd00:96::/48', Backend: { Type: 'vxlan' } };

/** Waits until the kernel has a route to the other host's subnets of both families. To ask weftd would slow it down. */
const programmed = (host: Host): Promise<unknown> =>
  waitFor(
    `${host.name} to have its routes`,
    () => {
      if (!host.weftd!.alive) throw new Error(`weftd has ended:\n${host.log}`);
      const devices = ([4, 6] as const).flatMap((family) => readRoutes(host.namespace, family)).map((r) => r.device);
      const reached = ['flannel.1', 'flannel-v6.1'].every((name) => devices.includes(name));
      return reached && readFdb(host.namespace).length === 2;
    },
    { intervalMs: 1000 },
  ).catch((error) => {
    throw new Error(`${error.message}\n${host.log}`);
  });

const test = suite('guest/weftd');
const cluster = fixture(
  test,
  async () => {
    const made = new Cluster('gw');
    try {
      await made.startEtcd();
      made.put('config', JSON.stringify(config));
      for (const number of [1, 2]) {
        const host = made.addHost();
        host.ip('addr', 'add', `fd00:77::${number}/64`, 'dev', 'eth0', 'nodad');
        host.startWeftd('--ip-masq');
      }
      for (const host of made.hosts) await programmed(host);
      return made;
    } catch (error) {
      made.remove();
      throw error;
    }
  },
  (made) => made.remove(),
);

test('pods on two hosts reach each other, by both families', () => {
  const [one, two] = cluster().hosts as [Host, Host];
  const [here, there] = [one.attachPods(1)[0]!, two.attachPods(1)[0]!];
  assert.is(there.addresses.length, 2);
  for (const address of there.addresses) {
    assert.equal(ping(here.namespace, address, { count: 2 }), { sent: 2, received: 2 }, address);
  }
});

test('a restart repairs the damage and changes nothing else', async () => {
  const host = cluster().hosts[0]!;
  const before = describeHost(host.namespace);
  assert.ok(
    before.some((line) => line.startsWith('nft ')),
    'there are rules',
  );
  await host.weftd!.stop();
  const route = readRoutes(host.namespace).find(({ device }) => device === 'flannel.1')!;
  host.ip('route', 'del', route.destination);
  host.startWeftd('--ip-masq');
  await programmed(host);
  assert.equal(difference(before, describeHost(host.namespace)), []);
});

test.run();
