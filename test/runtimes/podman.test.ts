/**
 * Debian's Podman with its CNI back end: what its users ask for, on two hosts.
 * @long
 */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { fixture } from '../support/fixture.ts';
import { ask, asking, parseAnswer } from './answers.ts';
import { answerPort, imageName, makeImage } from './image.ts';
import { type Machine, Machines } from './machine.ts';
import { Podman } from './podman.ts';

const conflist = JSON.stringify({
  cniVersion: '1.0.0',
  name: 'weft',
  plugins: [
    { type: 'weft', ipam: { type: 'weft-ipam' }, capabilities: { ips: true, mac: true } },
    { type: 'portmap', capabilities: { portMappings: true } },
  ],
});
/** A network of one host, by the same plugins. */
const backNetwork = JSON.stringify({
  cniVersion: '1.0.0',
  name: 'back',
  plugins: [
    {
      ...{ type: 'weft', bridge: 'cni-back', isGateway: true },
      ipam: { type: 'weft-ipam', ranges: [[{ subnet: '10.99.0.0/24' }]] },
    },
  ],
});

const test = suite('runtimes: podman');
const lab = fixture(
  test,
  async () => {
    const machines = await Machines.start('podman', { hosts: 2, conflist });
    try {
      const archive = makeImage(machines.cluster.scratch.makeFolder('image'));
      const podmen = machines.hosts.map((host) => new Podman(host)) as [Podman, Podman];
      podmen[0].machine.writeFile('/etc/cni/net.d/20-back.conflist', backNetwork);
      for (const podman of podmen) podman.importImage(archive);
      return { machines, podmen };
    } catch (error) {
      await machines.remove();
      throw error;
    }
  },
  ({ machines }) => machines.remove(),
);

const from = (machine: Machine) => (argv: readonly string[]) => machine.execute(argv);

test('a container with a fixed address and MAC is reached from the other host, by its own address', async () => {
  const [one, two] = lab().podmen;
  const address = one.machine.subnet.replace('0/24', '77');
  one.start('fixed', '--ip', address, '--mac-address', '02:00:00:00:00:77');
  assert.equal(one.addresses('fixed'), { eth0: address });
  assert.match(one.run('exec', 'fixed', 'ip', 'link', 'show', 'eth0'), /02:00:00:00:00:77/);
  two.start('asker');
  await ask(from(two.machine), address);
  const answer = parseAnswer(two.run('exec', 'asker', ...asking(address)));
  assert.equal(answer, { source: two.addresses('asker')['eth0'], name: 'fixed' });
  two.run('rm', '-f', '-t', '0', 'asker');
  // The address is taken as long as the container has it.
  const parent = `--cgroup-parent=${one.machine.cgroupParent}`;
  const again = one.execute('run', '--rm', parent, '--ip', address, imageName);
  assert.is.not(again.status, 0);
  assert.match(again.stderr, new RegExp(`The requested IP address ${address} is taken`));
  one.run('rm', '-f', '-t', '0', 'fixed');
  for (const podman of [one, two]) assert.equal(podman.machine.leftovers(), []);
});

test('-p leads from the other host to the container, also after a restart of it', async () => {
  const [one, two] = lab().podmen;
  one.start('web', '-p', `8090:${answerPort}`);
  assert.is((await ask(from(two.machine), one.machine.address, 8090)).name, 'web');
  one.run('restart', '-t', '0', 'web');
  assert.is((await ask(from(two.machine), one.machine.address, 8090)).name, 'web');
  assert.is(one.machine.reservations().length, 1);
  one.run('rm', '-f', '-t', '0', 'web');
  assert.equal(one.machine.leftovers(), []);
});

test('a second network is one more interface', async () => {
  const [one] = lab().podmen;
  one.start('two-nets', '--network', 'weft', '--network', 'back');
  const addresses = one.addresses('two-nets');
  assert.equal(Object.keys(addresses).sort(), ['eth0', 'eth1']);
  const all = Object.values(addresses);
  assert.ok(all.some((address) => address.startsWith('10.99.0.')));
  for (const address of all) assert.is((await ask(from(one.machine), address)).name, 'two-nets');
  one.run('rm', '-f', '-t', '0', 'two-nets');
  assert.equal(one.machine.leftovers(), []);
});

test('connect and disconnect give a running container a network and take it away', () => {
  const [one] = lab().podmen;
  one.start('late');
  one.run('network', 'connect', 'back', 'late');
  assert.equal(Object.keys(one.addresses('late')).length, 2);
  one.run('network', 'disconnect', 'back', 'late');
  assert.equal(Object.keys(one.addresses('late')).length, 1);
  one.run('rm', '-f', '-t', '0', 'late');
  assert.equal(one.machine.leftovers(), []);
});

test('the containers of a pod share one address, which goes and comes with the pod', async () => {
  const [one] = lab().podmen;
  const parent = `--cgroup-parent=${one.machine.cgroupParent}`;
  one.run('pod', 'create', '--name', 'pod', '--infra-image', imageName, '--infra-command', '/bin/sleep 100000', parent);
  one.run('run', '-d', parent, '--pod', 'pod', '--name', 'member', imageName);
  const { eth0 } = one.addresses('member');
  assert.ok(eth0);
  await ask(from(one.machine), eth0);
  one.run('pod', 'restart', 'pod');
  await ask(from(one.machine), one.addresses('member')['eth0']!);
  assert.is(one.machine.reservations().length, 1);
  one.run('pod', 'rm', '-f', '-t', '0', 'pod');
  assert.equal(one.machine.leftovers(), []);
});

test('weftctl doctor finds nothing wrong on these hosts', () => {
  for (const { machine } of lab().podmen) {
    const { status, stdout } = machine.weftctl('doctor');
    assert.is(status, 0, stdout);
  }
});

test.run();
