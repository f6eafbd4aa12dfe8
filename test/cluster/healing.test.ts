/** Whatever somebody breaks in the kernel is put back within a second. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Host, startCluster } from '../support/cluster.ts';
import { run } from '../support/commands.ts';
import { fixture } from '../support/fixture.ts';
import { readFdb, readLink, readNeighbours, readRoutes } from '../support/kernel-state.ts';
import { ping } from '../support/packets.ts';
import { waitFor } from '../support/wait.ts';

const test = suite('healing');
const cluster = fixture(
  test,
  async () => {
    const made = await startCluster('healing', { hosts: 3 });
    for (const host of made.hosts) host.attachPods(1);
    return made;
  },
  (made) => made.remove(),
);

/** What matters for packets, without what a new device or table has new anyway: index and handle. */
const essence = (host: Host): string[] =>
  host.describe().map((line) => line.replace(/"(index|handle|peerIndex)":\d+,?/g, ''));

/** Breaks something on host1 and waits until all is as it was. */
async function heals(what: string, damage: (host: Host) => void): Promise<void> {
  const [one, two] = cluster().hosts as [Host, Host];
  const before = essence(one);
  damage(one);
  const start = performance.now();
  await waitFor(`${what} to heal`, () => essence(one).join('\n') === before.join('\n'), { deadlineMs: 5000 });
  const ms = performance.now() - start;
  console.log(`\n  ${what}: healed in ${ms.toFixed(0)} ms`);
  assert.ok(ms < 1500, `${ms.toFixed(0)} ms`);
  assert.is(ping(one.pods[0]!.namespace, two.pods[0]!.address).received, 1);
}

test('the VXLAN device deleted: made again with the same MAC, peers and all', async () => {
  const mac = readLink(cluster().hosts[0]!.namespace, 'flannel.1')!.mac;
  await heals('VXLAN device deleted', (host) => host.ip('link', 'del', 'flannel.1'));
  assert.is(readLink(cluster().hosts[0]!.namespace, 'flannel.1')!.mac, mac);
});

test('the VXLAN device set down', () =>
  heals('VXLAN device set down', (host) => host.ip('link', 'set', 'flannel.1', 'down')));

test('another MTU on the VXLAN device', () =>
  heals('MTU changed', (host) => host.ip('link', 'set', 'flannel.1', 'mtu', '1300')));

test('a route deleted', () =>
  heals('route deleted', (host) => {
    const route = readRoutes(host.namespace).find(({ device, gateway }) => device === 'flannel.1' && gateway)!;
    host.ip('route', 'del', route.destination);
  }));

test('a neighbour deleted', () =>
  heals('neighbour deleted', (host) => {
    const { address } = readNeighbours(host.namespace).find(({ device }) => device === 'flannel.1')!;
    host.ip('neigh', 'del', address, 'dev', 'flannel.1');
  }));

test('a forwarding entry deleted', () =>
  heals('forwarding entry deleted', (host) => {
    const { mac, destination } = readFdb(host.namespace).find(({ device }) => device === 'flannel.1')!;
    run(['bridge', '-n', host.namespace, 'fdb', 'del', mac, 'dev', 'flannel.1', 'dst', destination]);
  }));

test('the device’s address deleted', () =>
  heals('address deleted', (host) => host.ip('addr', 'flush', 'dev', 'flannel.1', 'scope', 'global')));

test('the packet filter table deleted', () =>
  heals('table deleted', (host) => run(['nft', 'delete', 'table', 'inet', 'weft'], { namespace: host.namespace })));

test('forwarding switched off', async () => {
  const [one] = cluster().hosts as [Host];
  run(['sysctl', '-qw', 'net.ipv4.ip_forward=0'], { namespace: one.namespace });
  await waitFor(
    'ip_forward to be 1',
    () => run(['cat', '/proc/sys/net/ipv4/ip_forward'], { namespace: one.namespace }).trim() === '1',
  );
});

test('entries that nobody needs are left alone unless they are weftd’s own', async () => {
  const [one] = cluster().hosts as [Host];
  one.ip('route', 'add', '198.51.100.0/24', 'via', '192.168.77.1');
  await heals('route deleted beside a foreign one', (host) => {
    const route = readRoutes(host.namespace).find(({ device, gateway }) => device === 'flannel.1' && gateway)!;
    host.ip('route', 'del', route.destination);
  });
  assert.ok(readRoutes(one.namespace).some(({ destination }) => destination === '198.51.100.0/24'));
});

test.run();
