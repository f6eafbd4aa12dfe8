/** A node that was suspended until its subnet became another's, while no subnet is free. As root. */

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Cluster } from '../lab/cluster.ts';
import { PluginError } from '../lab/conflist.ts';
import type { Host } from '../lab/host.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('lost subnet');

/** Its lease expires within seconds of a suspension, not within a day. */
const startBriefly = (host: Host): void => {
  const environment = { ...(process.env as Record<string, string>), WEFTD_TEST_LEASE_TTL_SECONDS: '3' };
  host.startWeftdWith({ environment });
};

const cluster = fixture(
  test,
  async () => {
    const made = new Cluster('lost-subnet');
    await made.startEtcd();
    // Two subnets in all.
    const bounds = { SubnetMin: '10.244.1.0', SubnetMax: '10.244.2.0' };
    made.put('config', JSON.stringify({ Network: '10.244.0.0/16', ...bounds, Backend: { Type: 'vxlan' } }));
    const [one, two] = [made.addHost(), made.addHost()];
    startBriefly(one);
    two.startWeftd();
    for (const host of made.hosts) await host.reaches(made.hosts);
    return made;
  },
  (made) => made.remove(),
);

test('the plugins lose a subnet that is another’s now: ADD fails with code 11 until there is a free one', async () => {
  const [one] = cluster().hosts;
  const [pod] = one!.attachPods(1);
  const subnet = one!.subnet;
  const files = [join(one!.runDir, 'node.json'), one!.subnetFile];
  const texts = files.map((path) => readFileSync(path));
  process.kill(one!.weftd!.pid, 'SIGSTOP');
  await waitFor('its lease to expire', () => cluster().get(`subnets/${subnet.replace('/', '-')}`) === '');
  const three = cluster().addHost();
  three.startWeftd();
  await three.reaches([cluster().hosts[1]!]);
  assert.is(three.subnet, subnet);
  assert.ok(files.every((path) => existsSync(path)));
  process.kill(one!.weftd!.pid, 'SIGCONT');
  const status = await one!.waitForStatus('the loss to be reported', (found) =>
    found.problems.some((problem) => problem.startsWith(`This node's subnet ${subnet} is now that of "host3" at `)) &&
    found.problems.some((problem) => problem.startsWith('No free IPv4 subnet'))
      ? found
      : undefined,
  );
  assert.equal([status.state, status.subnets, status.lease], ['degraded', [], undefined]);
  assert.not.ok(files.some((path) => existsSync(path)));
  const [late] = one!.addPods(1);
  const codeOf = (work: () => void): unknown => {
    try {
      work();
    } catch (error) {
      if (error instanceof PluginError) return error.document['code'];
      throw error;
    }
    return undefined;
  };
  assert.is(
    codeOf(() => late!.attach()),
    11,
  );
  // A restart changes nothing, even with the files of before.
  await one!.weftd!.stop('SIGTERM');
  for (const [i, path] of files.entries()) writeFileSync(path, texts[i]!);
  startBriefly(one!);
  await one!.waitForStatus('the loss to be reported again', ({ problems }) =>
    problems.some((problem) => problem.includes(`is now that of "host3"`)),
  );
  assert.is(
    codeOf(() => late!.attach()),
    11,
  );
  pod!.detach();
  const { status: left, stderr } = three.runWeftd('--leave');
  assert.is(left, 0, stderr);
  await one!.reaches([cluster().hosts[1]!]);
  await one!.waitForStatus(
    'the problems to end',
    ({ problems, state }) => problems.length === 0 && state === 'running',
  );
  assert.is(one!.subnet, subnet);
  late!.attach();
  assert.ok(late!.address.startsWith(subnet.replace('0/24', '')));
});

test.run();
