/** etcd stops and returns: containers start and stop meanwhile, and weftd changes nothing that is right. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startCluster } from '../lab/cluster.ts';
import type { Host } from '../lab/host.ts';
import { difference } from '../lab/kernel-state.ts';
import { ping, startPing } from '../lab/packets.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('outage');
const cluster = fixture(
  test,
  () => startCluster('outage', { hosts: 3 }),
  (made) => made.remove(),
);

const connected = (host: Host, wanted: boolean) =>
  host.waitForStatus(
    `${host.name} to be ${wanted ? 'connected' : 'disconnected'}`,
    ({ etcd }) => etcd.connected === wanted,
    { deadlineMs: 20_000 },
  );

test('etcd stops: ADD, DEL and packets continue; etcd returns: weftd changes nothing that is right', async () => {
  const { hosts, scratch } = cluster();
  const [one, two, three] = hosts as [Host, Host, Host];
  for (const host of hosts) host.attachPods(1);
  const old = one.pods[0]!;
  const before = hosts.map((host) => host.describe());
  const stream = startPing(scratch, old.namespace, two.pods[0]!.address, 10);

  await cluster().stopEtcd();
  for (const host of hosts) await connected(host, false);
  const fresh = hosts.map((host) => host.attachPods(1)[0]!);
  for (const from of fresh) {
    for (const to of [...fresh, old])
      assert.is(ping(from.namespace, to.address).received, 1, `${from.name} → ${to.name}`);
  }
  for (const pod of fresh) pod.detach();
  for (const [i, host] of hosts.entries()) assert.equal(difference(before[i]!, host.describe()), [], host.name);
  assert.match(three.status().problems.join(), /etcd/);

  await cluster().startEtcd();
  for (const host of hosts) await connected(host, true);
  for (const host of hosts) await host.reaches(hosts);
  for (const [i, host] of hosts.entries()) assert.equal(difference(before[i]!, host.describe()), [], host.name);
  const { sent, received } = await stream.stop();
  assert.is(received, sent);
});

test('weftd started while etcd is unreachable takes its subnet from its memory, and packets flow', async () => {
  const { hosts } = cluster();
  const [one, two] = hosts as [Host, Host];
  const before = one.describe();
  const [here, there] = [one.attachPods(1)[0]!, two.attachPods(1)[0]!];
  await cluster().stopEtcd();
  await one.weftd!.stop('SIGKILL');
  one.startWeftd();
  await one.waitForStatus('weftd to answer', ({ etcd }) => etcd.connected === false);
  assert.is(ping(here.namespace, there.address).received, 1);
  const [pod] = one.attachPods(1);
  assert.is(ping(pod!.namespace, there.address).received, 1);
  pod!.detach();
  here.detach();
  assert.equal(difference(before, one.describe()), []);
  await cluster().startEtcd();
  await one.reaches(hosts);
  assert.equal(difference(before, one.describe()), []);
});

test('a host that was cut off follows the changes when etcd is back', async () => {
  const { hosts } = cluster();
  const [one, , three] = hosts as [Host, Host, Host];
  // The switch lets nothing of host1 through.
  const port = (state: string) => cluster().underlay.batch(`link set ${one.name} ${state}`);
  port('down');
  await connected(one, false);
  const left = three.runWeftd('--leave');
  assert.is(left.status, 0, left.stderr);
  const gone = three.address;
  port('up');
  await one.waitForStatus(
    'host1 to forget host3',
    ({ peers }) => !peers.some((peer) => peer.publicAddresses.includes(gone)),
    {
      deadlineMs: 30_000,
    },
  );
  assert.not(
    one.describe().some((line) => line.includes(gone)),
    'no forwarding entry is left',
  );
});

test.run();
