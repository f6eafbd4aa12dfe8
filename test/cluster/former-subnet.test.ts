/** The subnet of before a change of the network config ends with its last container: gateway, lease, and all. As root. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startCluster } from '../lab/cluster.ts';
import type { Host } from '../lab/host.ts';
import { readLink, readRoutes } from '../lab/kernel-state.ts';
import { ping } from '../lab/packets.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('former subnet');
const config = (network: string): string => JSON.stringify({ Network: network, Backend: { Type: 'vxlan' } });
const cluster = fixture(
  test,
  async () => {
    const made = await startCluster('former-subnet', { hosts: 2, config: config('10.244.0.0/16') });
    for (const host of made.hosts) await restart(host);
    return made;
  },
  (made) => made.remove(),
);

/** weftd looks more often than every ten seconds, so that the test takes less time. */
async function restart(host: Host): Promise<void> {
  await host.weftd!.stop('SIGTERM');
  host.startWeftdWith({ environment: { ...(process.env as Record<string, string>), WEFTD_TEST_RESYNC_MS: '300' } });
  await host.reaches([]);
}

const prefix = '/coreos.com/network';
const keyOf = (subnet: string): string => `subnets/${subnet.replace('/', '-')}`;
const bridgeHas = ({ namespace }: Host, subnet: string): boolean =>
  readLink(namespace, 'cni0')?.addresses.includes(subnet.replace(/0\/24$/, '1/24')) === true;

async function moves(host: Host, network: RegExp): Promise<string> {
  return await host.waitForStatus(`${host.name} to have another subnet`, ({ subnets, state }) =>
    state === 'running' && network.test(subnets[0] ?? '') ? subnets[0] : undefined,
  );
}

test('the old gateway and the old lease stay for the last container, and go with it; the next owner is reached', async () => {
  const [one, two] = cluster().hosts as [Host, Host];
  const [pod] = one.attachPods(1);
  const [other] = two.attachPods(1);
  const [old, twos] = [one.subnet, two.subnet];
  cluster().put('config', config('10.245.0.0/16'));
  for (const host of [one, two]) await moves(host, /^10\.245\./);
  await waitFor('the files to say so', () => one.subnet.startsWith('10.245.') && two.subnet.startsWith('10.245.'));
  const [young] = one.attachPods(1);
  assert.ok(young!.address.startsWith('10.245.'));
  // Old containers still reach each other, and the lease is kept for them.
  assert.is(ping(pod!.namespace, other!.address).received, 1);
  assert.ok(bridgeHas(one, old));
  assert.is(JSON.parse(cluster().get(keyOf(old))).Weft.node, 'host1');
  assert.match(
    one.log,
    /an older subnet of this node no longer fits the network config; it is given back when its last container here ends/,
  );
  pod!.detach();
  await waitFor('the old gateway to go, though the bridge serves another container', () => !bridgeHas(one, old));
  await waitFor('the old lease to go', () => cluster().get(keyOf(old)) === '');
  assert.match(one.log, /the gateway of an older subnet is removed: its last container here has ended/);
  assert.ok(bridgeHas(one, one.subnet));
  const state = (): { subnets: { subnets?: unknown }[] } =>
    JSON.parse(readFileSync(join(one.folder, 'state', 'state.json'), 'utf8'));
  await waitFor('it to be forgotten', () => state().subnets.length === 1);
  // The other host keeps its own for its container.
  assert.is(JSON.parse(cluster().get(keyOf(twos))).Weft.node, 'host2');
  const value = {
    PublicIP: '192.168.77.250',
    BackendType: 'vxlan',
    BackendData: { VNI: 1, VtepMAC: '02:00:00:00:03:01' },
  };
  cluster().put(keyOf(old), JSON.stringify(value));
  await one.waitForStatus('the next owner to be reached', ({ peers }) =>
    peers.some(({ subnets, programmed }) => programmed && subnets.includes(old)),
  );
  assert.ok(readRoutes(one.namespace).some(({ destination, device }) => destination === old && device === 'flannel.1'));
  cluster().etcdctl('del', `${prefix}/${keyOf(old)}`);
  // After a restart the rest ends in the same way.
  await restart(two);
  await moves(two, /^10\.245\./);
  assert.ok(bridgeHas(two, twos));
  other!.detach();
  await waitFor('the other old gateway to go', () => !bridgeHas(two, twos));
  await waitFor('the other old lease to go', () => cluster().get(keyOf(twos)) === '');
  for (const host of [one, two]) assert.equal(host.status().problems, []);
});

test.run();
