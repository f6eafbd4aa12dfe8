/**
 * `weftctl uninstall --drain-first` beside real runtimes: containerd's pods and Podman's containers are stopped by those that
 * started them, and nothing is left of their network.
 * @long
 */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { emptyRecord } from '../../cli/install/record.ts';
import type { Finished } from '../lab/commands.ts';
import { program } from '../lab/project.ts';
import { fixture } from '../support/fixture.ts';
import { type Containerd, startContainerdCluster } from './containerd.ts';
import { makeImage } from './image.ts';
import type { Machine } from './machine.ts';
import { Podman, podmanEnvironment } from './podman.ts';

const test = suite('runtimes: drain');
const lab = fixture(
  test,
  () => startContainerdCluster('drain', { hosts: 2 }),
  (made) => made.remove(),
);

/** `weftctl uninstall` on a machine that has no more of an installation than its record. */
function uninstall(machine: Machine, ...words: string[]): Finished {
  machine.writeFile('/var/lib/weft/install.json', JSON.stringify({ ...emptyRecord('0.1.0'), network: 'weft' }));
  machine.inside('chmod', '600', '/var/lib/weft/install.json');
  return machine.executeInside([program('weftctl'), 'uninstall', ...words], { environment: podmanEnvironment });
}

function assertRefuses(machine: Machine, containers: readonly string[]): void {
  const { status, stderr } = uninstall(machine);
  assert.is(status, 1);
  assert.match(stderr, / of Weft's network still live on this host; nothing was changed\n/);
  for (const id of containers) assert.ok(stderr.includes(`\n  ${id} (eth0 in the network "weft")\n`), stderr);
}

function assertDrains(machine: Machine, containers: readonly string[]): void {
  const { status, stdout, stderr } = uninstall(machine, '--drain-first');
  assert.is(status, 0, `${stderr}\n${stdout}`);
  for (const id of containers) assert.ok(stdout.includes(`stopped ${id}\n`), stdout);
  assert.match(stdout, /^removed the bridge cni0$/m);
}

test("containerd's pods are named, stopped and gone, and then the host is left", async () => {
  const [containerd] = lab().runtimes as [Containerd];
  const pods = [await containerd.runPod({ name: 'one' }), await containerd.runPod({ name: 'two' })].map(({ id }) => id);
  assertRefuses(containerd.machine, pods);
  assertDrains(containerd.machine, pods);
  assert.equal(containerd.machine.leftovers(), []);
});

test("Podman's containers, too", () => {
  const { machines, runtimes } = lab();
  const { machine } = runtimes[1]!;
  const podman = new Podman(machine);
  podman.importImage(makeImage(machines.cluster.scratch.makeFolder('second-image')));
  podman.start('three');
  const id = podman.run('inspect', '--format', '{{.Id}}', 'three');
  assertRefuses(machine, [id]);
  assertDrains(machine, [id]);
  podman.run('rm', 'three');
  assert.equal(machine.leftovers(), []);
});

test.run();
