/** The data path outlives the daemon. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startCluster } from '../lab/cluster.ts';
import type { Host } from '../lab/host.ts';
import { difference } from '../lab/kernel-state.ts';
import { ping, pingAsync, startPing } from '../lab/packets.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('restart');
const cluster = fixture(
  test,
  () => startCluster('restart', { hosts: 3 }),
  (made) => made.remove(),
);

for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
  test(`weftd is ended by ${signal} and restarted: no packet is lost, the kernel’s state is untouched`, async () => {
    const [one, two] = cluster().hosts as [Host, Host];
    const [here, there] = [one.attachPods(1)[0]!, two.attachPods(1)[0]!];
    assert.is(ping(here.namespace, there.address, { count: 3 }).received, 3);
    const before = one.describe();
    const subnet = one.subnet;

    let pinging = true;
    const pings = pingAsync(here.namespace, there.address, { count: 200, intervalMs: 10 }).finally(() => {
      pinging = false;
    });
    let restarts = 0;
    for (; pinging; restarts++) {
      await one.weftd!.stop(signal);
      assert.equal(difference(before, one.describe()), [], 'stopped');
      one.startWeftd();
      await one.reaches(cluster().hosts);
      assert.equal(difference(before, one.describe()), [], 'started again');
    }
    const { sent, received } = await pings;
    assert.is(one.subnet, subnet);
    assert.is(sent, 200);
    assert.is(received, sent);
    assert.ok(restarts > 1);
    console.log(`\n  ${signal}: ${restarts} restarts, ${sent} pings 10 ms apart, ${sent - received} lost`);
  });
}

test('all three are killed and restarted at once', async () => {
  const { hosts, scratch } = cluster();
  const [one, two] = hosts as [Host, Host];
  const [here, there] = [one.attachPods(1)[0]!, two.attachPods(1)[0]!];
  const before = hosts.map((host) => host.describe());
  const stream = startPing(scratch, here.namespace, there.address, 10);
  await Promise.all(hosts.map((host) => host.weftd!.stop('SIGKILL')));
  for (const host of hosts) host.startWeftd();
  for (const host of hosts) await host.reaches(hosts);
  const { sent, received } = await stream.stop();
  for (const [i, host] of hosts.entries()) assert.equal(difference(before[i]!, host.describe()), [], host.name);
  assert.is(received, sent);
});

test('a second weftd on the same host is refused', () => {
  const [one] = cluster().hosts as [Host];
  const { status, stderr, stdout } = one.runWeftd();
  assert.is.not(status, 0);
  assert.match(`${stdout}${stderr}`, /already|another/);
  assert.ok(one.weftd!.alive);
});

test.run();
