/** Docker's own bridge with the node's subnet, as `weftctl docker-opts` gives it: alone, and beside the plugins' bridge. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { NodeStatus } from '../../cluster/status.ts';
import { startCluster } from '../lab/cluster.ts';
import type { Host } from '../lab/host.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('docker-host');
const cluster = fixture(
  test,
  () => startCluster('docker-host', { hosts: 1 }),
  (made) => made.remove(),
);

const told = ({ problems }: NodeStatus): string | undefined =>
  problems.find((problem) => problem.includes('is on the interfaces'));

test("docker0 alone with the node's subnet is fine, and beside cni0 it is a problem until one of them goes", async () => {
  const [host] = cluster().hosts as [Host];
  const gateway = host.subnet.replace('.0/', '.1/');
  host.ip('link', 'add', 'docker0', 'type', 'bridge');
  host.ip('addr', 'add', gateway, 'dev', 'docker0');
  host.ip('link', 'set', 'docker0', 'up');
  assert.throws(() => host.attachPods(1), /"docker0\\?" has the address/);
  assert.is(told(host.status()), undefined);

  host.ip('link', 'add', 'cni0', 'type', 'bridge');
  host.ip('addr', 'add', gateway, 'dev', 'cni0');
  const problem = await host.waitForStatus('the problem', told, { deadlineMs: 5000 });
  assert.match(problem, /is on the interfaces "cni0" and "docker0": packets reach the containers of one of them only/);
  host.ip('link', 'del', 'docker0');
  await host.waitForStatus('no problem', (status) => told(status) === undefined, { deadlineMs: 5000 });
  host.attachPods(1);
});

test.run();
