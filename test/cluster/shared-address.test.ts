/**
 * Several living nodes with one public address, and others who write a node's keys: each node keeps a subnet of its own, says
 * so, and nobody writes without end. The writes are counted by etcd's revision. As root.
 */

import { readFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Cluster } from '../lab/cluster.ts';
import type { Host } from '../lab/host.ts';
import { exampleConfig } from '../lab/project.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('shared public address');
const cluster = fixture(
  test,
  async () => {
    const made = new Cluster('shared-address');
    await made.startEtcd();
    made.put('config', readFileSync(exampleConfig, 'utf8'));
    return made;
  },
  (made) => made.remove(),
);

const prefix = '/coreos.com/network';
const revision = (): number => JSON.parse(cluster().etcdctl('get', `${prefix}/config`, '-w', 'json')).header.revision;
const keyOf = (host: Host): string => `subnets/${host.subnet.replace('/', '-')}`;

const problemOf = (host: Host, pattern: RegExp): Promise<string> =>
  host.waitForStatus(
    `${host.name} to report ${pattern}`,
    ({ problems }) => problems.find((each) => pattern.test(each)),
    {
      deadlineMs: 20_000,
    },
  );

/** Everything is looked at again, several times. */
async function lookAgain(hosts: readonly Host[]): Promise<void> {
  for (let i = 0; i < 5; i++) {
    for (const host of hosts) {
      const { requests } = host.status().etcd;
      process.kill(host.weftd!.pid, 'SIGHUP');
      await host.waitForStatus('weftd to look again', ({ etcd }) => etcd.requests > requests);
    }
  }
}

async function stopAll(hosts: readonly Host[]): Promise<void> {
  for (const host of hosts) await host.weftd!.stop('SIGTERM');
  cluster().etcdctl('del', '--prefix', `${prefix}/subnets/`);
  cluster().etcdctl('del', '--prefix', `${prefix}/nodes/`);
}

test('nodes with one public address each take a subnet of their own and report the others, and etcd is left alone', async () => {
  const address = '203.0.113.9';
  const [one, two, three] = [cluster().addHost(), cluster().addHost(), cluster().addHost()];
  const first = revision();
  // Two at one instant, and one that comes later.
  for (const host of [one, two]) host.startWeftd('--public-ip', address);
  for (const host of [one, two]) await problemOf(host, /^This node's public address/);
  three.startWeftd('--public-ip', address);
  const said = await problemOf(three, /"host1", "host2"|"host2", "host1"/);
  assert.match(
    said,
    /^This node's public address 203\.0\.113\.9 is also that of "host\d", "host\d": packets of other hosts reach only one of them; give each node an address of its own with --public-ip or --iface$/,
  );
  for (const host of [one, two]) await problemOf(host, /"host3"/);
  const all = [one, two, three];
  assert.is(new Set(all.map(({ subnet }) => subnet)).size, 3);
  for (const host of all) {
    assert.is(JSON.parse(cluster().get(keyOf(host))).Weft.node, host.name);
    assert.is(host.status().problems.length, 1, `${host.status().problems}`);
  }
  const settled = revision();
  assert.ok(settled - first < 40, `${settled - first} writes`);
  await lookAgain(all);
  assert.ok(revision() - settled <= 6, `${revision() - settled} writes: the records of nodes whose health has changed`);
  // One that starts again takes nobody else's subnet, though its files may have been lost.
  const subnet = three.subnet;
  await three.weftd!.stop('SIGKILL');
  three.startWeftd('--public-ip', address);
  await problemOf(three, /^This node's public address/);
  assert.is(three.subnet, subnet);
  await stopAll(all);
});

test('a lease of flannel’s is adopted by its address; somebody who keeps writing it is reported, and it is written three times', async () => {
  const host = cluster().addHost();
  const key = 'subnets/10.244.77.0-24';
  const flannels = JSON.stringify({
    PublicIP: host.address,
    PublicIPv6: null,
    BackendType: 'vxlan',
    BackendData: { VNI: 1, VtepMAC: '02:00:00:00:00:77' },
  });
  cluster().put(key, flannels);
  host.startWeftd();
  await host.reaches([]);
  assert.is(host.subnet, '10.244.77.0/24');
  const stranger = flannels.replace('00:77', '00:78');
  let written = 0;
  const overwrite = (): void => {
    if (cluster().get(key) === stranger) return;
    written++;
    cluster().put(key, stranger);
  };
  overwrite();
  const problem = await host.waitForStatus('the other writer to be reported', ({ problems }) => {
    overwrite();
    return problems.find((each) => each.startsWith('Somebody else'));
  });
  overwrite();
  await lookAgain([host]);
  assert.is(cluster().get(key), stranger, 'it is left for a while');
  assert.is(written, 4, 'the first, and one after each of three writes');
  assert.ok(
    problem.startsWith(
      `Somebody else keeps writing the lease "${prefix}/${key}" of this node, "${host.name}" at ${host.address}: it names ${host.address};`,
    ),
    problem,
  );
  await stopAll([host]);
});

test.run();
