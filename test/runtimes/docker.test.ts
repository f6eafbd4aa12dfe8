/**
 * Three hosts whose containers are Docker's own, on docker0 with the node's subnet. Docker was there before Weft, and had
 * switched forwarding on: so it drops what it does not know.
 * @long
 */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { readLink } from '../lab/kernel-state.ts';
import { fixture } from '../support/fixture.ts';
import { ask, asking, parseAnswer } from './answers.ts';
import { Docker } from './docker.ts';
import { answerPort, imageName, makeImage } from './image.ts';
import { type Machine, Machines } from './machine.ts';

const test = suite('runtimes: docker');

/** A network of one host, for further interfaces. */
const lan = JSON.stringify({
  cniVersion: '1.0.0',
  name: 'lan',
  plugins: [
    {
      ...{ type: 'weft', bridge: 'lan0', isGateway: true, capabilities: { ips: true, mac: true } },
      ipam: { type: 'weft-ipam', ranges: [[{ subnet: '10.99.0.0/24' }]] },
    },
  ],
});

/** Docker for itself, before anybody knows of Weft. */
async function beforeWeft(host: Machine): Promise<void> {
  host.run('sysctl', '-qw', 'net.ipv4.ip_forward=0');
  const docker = new Docker(host);
  await docker.startDaemon();
  await docker.stopDaemon();
}

const lab = fixture(
  test,
  async () => {
    const machines = await Machines.start('docker', { hosts: 3, arguments: ['--ip-masq'], before: beforeWeft });
    try {
      const archive = makeImage(machines.cluster.scratch.makeFolder('image'));
      const dockers = machines.hosts.map((host) => new Docker(host));
      for (const docker of dockers) docker.writeOptions();
      await Promise.all(dockers.map((docker) => docker.startDaemon()));
      for (const docker of dockers) docker.run('load', '-q', '-i', archive);
      return { machines, dockers };
    } catch (error) {
      await machines.remove();
      throw error;
    }
  },
  ({ machines }) => machines.remove(),
);

const policy = ({ machine }: Docker): string | undefined =>
  machine.run('iptables', '-S', 'FORWARD').match(/^-P FORWARD (\w+)/)?.[1];

test("docker0 has the node's subnet, and Docker's FORWARD policy is DROP", () => {
  for (const docker of lab().dockers) {
    const { machine } = docker;
    assert.equal(readLink(machine.namespace, 'docker0')?.addresses, [machine.subnet.replace('.0/', '.1/')]);
    assert.is(policy(docker), 'DROP');
  }
});

test('containers of all three hosts reach each other, and see the real source', async () => {
  const { dockers } = lab();
  for (const [i, docker] of dockers.entries()) docker.start(`web${i}`);
  for (const from of dockers)
    await ask((argv) => from.machine.execute(argv), from.address(`web${dockers.indexOf(from)}`));
  for (const [i, from] of dockers.entries()) {
    for (const [j, to] of dockers.entries()) {
      const text = from.run('exec', `web${i}`, ...asking(to.address(`web${j}`)));
      assert.equal(parseAnswer(text), { source: from.address(`web${i}`), name: `web${j}` });
    }
  }
});

test('a whole packet of the interface passes, and one byte more does not', () => {
  const [one, two] = lab().dockers as [Docker, Docker];
  const { mtu } = readLink(one.machine.namespace, 'flannel.1')!;
  const ping = (bytes: number) => {
    const pid = one.run('inspect', '-f', '{{.State.Pid}}', 'web0');
    const argv = ['nsenter', '-t', pid, '-n', 'ping', '-c', '1', '-W', '2', '-M', 'do', '-s', String(bytes - 28)];
    return one.machine.executeInside([...argv, two.address('web1')]).status;
  };
  assert.is(ping(mtu), 0);
  assert.is.not(ping(mtu + 1), 0);
});

test("a published port is reached from another host's container and from another host", async () => {
  const [one, two, three] = lab().dockers as [Docker, Docker, Docker];
  one.start('published', '-p', `8095:${answerPort}`);
  const { address } = one.machine;
  assert.is((await ask((argv) => three.machine.execute(argv), address, 8095)).name, 'published');
  assert.is(parseAnswer(two.run('exec', 'web1', ...asking(address, 8095))).name, 'published');
  one.run('rm', '-f', 'published');
});

test('packets to the outside have the address of the host', async () => {
  const [one, two] = lab().dockers as [Docker, Docker];
  two.run('run', '-d', '--name', 'outside', '--network', 'host', imageName);
  const { machine } = two;
  const answer = parseAnswer(one.run('exec', 'web0', ...asking(machine.address)));
  assert.is(answer.source, one.machine.address);
  two.run('rm', '-f', 'outside');
});

test('a restart of Docker keeps the path to its containers', async () => {
  const [one, two] = lab().dockers as [Docker, Docker];
  await two.stopDaemon();
  await two.startDaemon();
  two.run('start', 'web1');
  await ask((argv) => two.machine.execute(argv), two.address('web1'));
  const text = one.run('exec', 'web0', ...asking(two.address('web1')));
  assert.equal(parseAnswer(text), { source: one.address('web0'), name: 'web1' });
});

test('weftctl attach gives a running container one more interface, by name, until detach', async () => {
  const [one] = lab().dockers as [Docker, ...Docker[]];
  const { machine } = one;
  machine.writeFile('/etc/cni/net.d/20-lan.conflist', lan);
  one.start('alone', '--network', 'none');
  const said = machine.weftctl('attach', 'alone', 'lan', '--ip', '10.99.0.9', '--mac', '02:00:00:00:00:99');
  assert.is(said.stdout, 'alone has eth1 with 10.99.0.9 in the network "lan".\n', said.stderr);
  assert.match(one.run('exec', 'alone', 'ip', 'link', 'show', 'eth1'), /02:00:00:00:00:99/);
  assert.is((await ask((argv) => machine.execute(argv), '10.99.0.9')).name, 'alone');
  assert.match(machine.weftctl('attachments').stdout, /^alone +docker +eth1 +10\.99\.0\.9 +lan .* up$/m);
  // A restart makes a new namespace: the interface is gone, and so is its reservation after `weftctl gc`.
  one.run('restart', '-t', '0', 'alone');
  assert.not.match(one.run('exec', 'alone', 'ip', 'link'), /eth1/);
  assert.is(machine.weftctlGc().status, 0);
  assert.equal(machine.reservations(), []);
  machine.weftctl('attach', 'alone', 'lan');
  assert.is(machine.reservations().length, 1);
  assert.is(machine.weftctl('detach', 'alone', 'lan').status, 0);
  assert.equal(machine.reservations(), []);
  one.run('rm', '-f', 'alone');
});

test('weftctl doctor finds nothing wrong on these hosts', () => {
  for (const { machine } of lab().dockers) {
    const { status, stdout } = machine.weftctl('doctor');
    assert.is(status, 0, stdout);
  }
});

test.run();
