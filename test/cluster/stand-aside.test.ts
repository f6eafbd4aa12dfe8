/** A weftd that is started while flanneld still runs on its host changes nothing and waits. */

import { chmodSync, copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startCluster } from '../lab/cluster.ts';
import { findProgram, type Service } from '../lab/commands.ts';
import type { Host } from '../lab/host.ts';
import { describeHost, difference } from '../lab/kernel-state.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('stand aside');
const cluster = fixture(
  test,
  () => startCluster('stand-aside', { hosts: 1 }),
  (made) => made.remove(),
);

/** A program that does nothing under flanneld's name. */
async function startFlanneld(host: Host): Promise<Service> {
  const program = join(host.folder, 'flanneld');
  copyFileSync(findProgram('sleep'), program);
  chmodSync(program, 0o755);
  const flanneld = cluster().scratch.start([program, '600'], {
    namespace: host.namespace,
    logFile: join(host.folder, 'flanneld.log'),
  });
  // It is another program until it has been executed.
  await waitFor('flanneld to run', () =>
    host.execute(['cat', `/proc/${flanneld.pid}/comm`]).stdout.startsWith('flanneld'),
  );
  return flanneld;
}

test('weftd waits for the end of flanneld, says so, changes nothing, and then takes the host over', async () => {
  const { hosts } = cluster();
  const [one] = hosts as [Host];
  const two = cluster().addHost();
  const flanneld = await startFlanneld(two);
  const [kernel, keys] = [describeHost(two.namespace), cluster().etcdctl('get', '--prefix', '/', '--keys-only')];
  const weftd = two.startWeftd();
  const problem = await two.waitForStatus('the reason', ({ state, problems }) => state === 'starting' && problems[0]);
  assert.is(
    problem,
    `flanneld runs on this host (process ${flanneld.pid}), and weftd changes nothing until it has ended: ` +
      `stop its service ("systemctl disable --now flanneld"), or delete its DaemonSet's pod`,
  );
  // A reload is no reason to begin.
  weftd.child.kill('SIGHUP');
  await waitFor('the signal to be heard', () => two.log.includes('SIGHUP'));
  assert.is((await two.waitForStatus('an answer', (status) => status)).state, 'starting');
  assert.is(await weftd.stop(), 0);
  assert.equal(difference(kernel, describeHost(two.namespace)), []);
  assert.is(cluster().etcdctl('get', '--prefix', '/', '--keys-only'), keys);

  two.startWeftd();
  await two.waitForStatus('the reason again', ({ problems }) => problems[0]?.startsWith('flanneld runs'));
  await flanneld.stop('SIGKILL');
  await two.reaches([one]);
  await one.reaches([two]);
  assert.equal(two.status().problems, []);
});

test('weftd with the rights of its unit sees flanneld, and waits', async () => {
  const { hosts } = cluster();
  const three = cluster().addHost();
  const flanneld = await startFlanneld(three);
  three.startWeftdWith({ through: ['setpriv', '--bounding-set=-all,+net_admin', '--inh-caps=-all', '--'] });
  await three.waitForStatus('the reason', ({ problems }) => problems[0]?.startsWith('flanneld runs on this host'));
  await flanneld.stop('SIGKILL');
  await three.reaches([hosts[0] as Host]);
});

test.run();
