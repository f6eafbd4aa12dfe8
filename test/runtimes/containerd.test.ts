/** Debian's containerd with Weft: containers of `ctr run --cni`, and pods by the CRI as a kubelet makes them. */

import { readFileSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { exampleConflist } from '../lab/project.ts';
import { fixture } from '../support/fixture.ts';
import { ask, asking, parseAnswer } from './answers.ts';
import { type Containerd, startContainerdCluster } from './containerd.ts';
import { answerPort, imageName } from './image.ts';

const test = suite('runtimes: containerd');
const portmap = readFileSync(exampleConflist.replace('.conflist', '-portmap.conflist'), 'utf8');
const lab = fixture(
  test,
  () => startContainerdCluster('containerd', { hosts: 2, conflist: portmap }),
  (made) => made.remove(),
);

test('a container of "ctr run --cni" reaches a pod of the other host by its own address, and nothing is left', async () => {
  const [here, there] = lab().runtimes as [Containerd, Containerd];
  const pod = await there.runPod({ name: 'web', hostPorts: [{ hostPort: 8081, containerPort: answerPort }] });
  const [address] = pod.addresses;
  await ask((argv) => there.machine.execute(argv), address!);

  const group = `${here.machine.cgroupParent}/asker`;
  const said = here.ctr('run', '--rm', '--cni', '--cgroup', group, imageName, 'asker', ...asking(address!));
  const { source, name } = parseAnswer(said);
  assert.is(name, 'web');
  assert.ok(source.startsWith(here.machine.subnet.replace(/0\/24$/, '')), source);
  assert.equal(here.machine.leftovers(), []);

  // From outside of the cluster, by the node's address.
  const outside = (argv: readonly string[]) => here.machine.execute(argv);
  assert.is((await ask(outside, there.machine.address, 8081)).name, 'web');
  await there.cri.removePod(pod.id);
  assert.equal(there.machine.leftovers(), []);
});

test('"ctr task rm" and "ctr container rm" call no plugin: "weftctl gc" frees the address, and no other', async () => {
  const [here] = lab().runtimes as [Containerd, Containerd];
  const { machine } = here;
  const pod = await here.runPod({ name: 'stays' });
  here.ctr('run', '-d', '--cni', '--cgroup', `${machine.cgroupParent}/leak`, imageName, 'leak');
  const reserved = machine.reservations();
  assert.is(reserved.length, 2);
  here.ctr('task', 'rm', '-f', 'leak');
  here.ctr('container', 'rm', 'leak');
  assert.equal(machine.reservations(), reserved);
  // Doctor believes it once no ADD or DEL can be on its way any more.
  assert.is(machine.weftctl('doctor').status, 0);
  const [leaked] = reserved.filter((name) => name !== `weft/${pod.addresses[0]}`);
  utimesSync(join(machine.dataDir, leaked!), 1, 1);
  assert.match(
    machine.weftctl('doctor').stdout,
    /reservation-without-container: .* for the container "default-leak", which has no interface\n.*\n +run: weftctl gc\n/,
  );
  const { status, stdout, stderr } = machine.weftctlGc();
  assert.is(status, 0, stderr);
  assert.match(stdout, /default-leak +eth0 +weft +freed +no namespace has it; unknown to containerd/);
  assert.equal(machine.reservations(), [`weft/${pod.addresses[0]}`]);
  assert.is(machine.weftctl('doctor').status, 0);
  await here.cri.removePod(pod.id);
  assert.equal(machine.leftovers(), []);
});

test('"weftctl attach" finds a pod by its name and by its id, and the interface ends with the pod', async () => {
  const [here] = lab().runtimes as [Containerd, Containerd];
  const { machine } = here;
  const pod = await here.runPod({ name: 'wide' });
  const interfaces = (): string[] => {
    const argv = ['nsenter', `--net=${machine.outside(pod.netns)}`, 'ip', '-json', '-4', 'address'];
    return (JSON.parse(machine.execute(argv).stdout) as { ifname: string }[]).map(({ ifname }) => ifname);
  };
  const said = machine.weftctl('attach', 'cri:wide', 'weft');
  assert.match(said.stdout, /^cri:wide has eth1 with 10\.244\.[0-9.]+ in the network "weft"\.\n$/, said.stderr);
  assert.equal(interfaces(), ['lo', 'eth0', 'eth1']);
  const again = machine.weftctl('attach', pod.id.slice(0, 12), 'weft', '--name', 'lan0');
  assert.is(again.status, 0, again.stderr);
  assert.match(machine.weftctl('attachments', '--check').stdout, /\/wide +cri +eth1 .* up\n.*\/wide +cri +lan0 .* up/);
  assert.is(machine.weftctl('detach', pod.id, 'weft', '--name', 'eth1').status, 0);
  assert.equal(interfaces(), ['lo', 'eth0', 'lan0']);
  await here.cri.removePod(pod.id);
  const { stdout } = machine.weftctlGc();
  assert.match(stdout, /lan0 +weft +freed +its process has ended/);
  assert.equal(machine.leftovers(), []);
});

test('weftctl doctor finds nothing wrong on these hosts', async () => {
  for (const { machine, cri } of lab().runtimes) {
    const id = await cri.runPod({ name: 'healthy', cgroupParent: machine.cgroupParent });
    const { status, stdout } = machine.weftctl('doctor');
    assert.is(status, 0, stdout);
    await cri.removePod(id);
  }
});

test.run();
