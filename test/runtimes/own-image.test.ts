/**
 * The image of the release in containerd, run as examples/kubernetes/weft.yaml has it: the same commands, rights and folders of
 * the host, with etcd as the store.
 * @long
 */

import { existsSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { execute, run } from '../lab/commands.ts';
import { manifestFolder, readObjects } from '../lab/kube-objects.ts';
import { root } from '../lab/project.ts';
import { waitFor } from '../lab/wait.ts';
import { readStatus } from '../lab/weftd.ts';
import { fixture } from '../support/fixture.ts';
import { type Containerd, startContainerdCluster } from './containerd.ts';

const test = suite('runtimes: the image of the release');

const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
const ownImage = `localhost/weft:${version}`;

const lab = fixture(
  test,
  async () => {
    const made = await startContainerdCluster('own-image', { hosts: 2 });
    try {
      const { scratch } = made.machines.cluster;
      const out = scratch.makeFolder('release');
      run(['node', join(root, 'release.mjs'), '--target', process.arch, '--plain', '--out', out], {
        timeoutMs: 240_000,
      });
      const archive = join(out, `weft-${version}-linux-${process.arch}-image.tar`);
      for (const runtime of made.runtimes) runtime.ctr('-n', 'default', 'images', 'import', archive);
      return made;
    } catch (error) {
      await made.remove();
      throw error;
    }
  },
  (made) => made.remove(),
);

interface Container {
  readonly name: string;
  readonly command: readonly string[];
  readonly securityContext: { readonly capabilities: { readonly add: readonly string[] } };
  readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string; readonly readOnly?: boolean }[];
}

interface PodSpec {
  readonly initContainers: readonly Container[];
  readonly containers: readonly Container[];
  readonly volumes: readonly { readonly name: string; readonly hostPath?: { readonly path: string } }[];
}

const podOf = (path?: string): PodSpec => {
  const daemonSet = readObjects(path).find(({ kind }) => kind === 'DaemonSet')!;
  return (daemonSet['spec'] as { template: { spec: PodSpec } }).template.spec;
};
const pod = podOf();
const removal = podOf(join(manifestFolder, 'remove.yaml'));

/** What containerd grants unless told otherwise; all of it goes. */
const usualRights = [
  ...['CHOWN', 'DAC_OVERRIDE', 'FSETID', 'FOWNER', 'MKNOD', 'NET_RAW', 'SETGID', 'SETUID', 'SETFCAP', 'SETPCAP'],
  ...['NET_BIND_SERVICE', 'SYS_CHROOT', 'KILL', 'AUDIT_WRITE'],
];

interface RunOptions {
  /** Further words for ctr. */
  readonly more?: readonly string[];
  /** Instead of the container's command. */
  readonly words?: readonly string[];
  readonly volumes?: PodSpec['volumes'];
}

/** Its command with etcd instead of Kubernetes, which does not run here. */
const byEtcd = ({ command }: Container, { machine }: Containerd): string[] => [
  ...command.filter((word) => !/^--(kube|net-config)/.test(word)),
  ...['--node', machine.name, '--etcd-endpoints', machine.etcd.endpoint],
];

/** `ctr run` for a container of the DaemonSet. */
function runContainer(
  { machine }: Containerd,
  { command, securityContext, volumeMounts }: Container,
  id: string,
  { more = [], words = command, volumes = pod.volumes }: RunOptions,
): string[] {
  const mounts = volumeMounts.flatMap(({ name, mountPath, readOnly }) => {
    const source = volumes.find((each) => each.name === name)?.hostPath?.path ?? `/run/pod/${name}`;
    if (!existsSync(machine.outside(source))) mkdirSync(machine.outside(source), { recursive: true });
    return ['--mount', `type=bind,src=${source},dst=${mountPath},options=rbind:${readOnly ? 'ro' : 'rw'}`];
  });
  const { add } = securityContext.capabilities;
  const dropped = usualRights.filter((right) => !add.includes(right));
  return [
    ...['ctr', 'run', '--net-host', '--read-only', '--seccomp', '--cgroup', `${machine.cgroupParent}/${id}`],
    ...dropped.flatMap((right) => ['--cap-drop', `CAP_${right}`]),
    ...add.flatMap((right) => ['--cap-add', `CAP_${right}`]),
    ...mounts,
    ...more,
    ownImage,
    id,
    ...words,
  ];
}

/** The process id of the weftd in this network namespace: a container has a PID namespace of its own. */
function findWeftd(namespace: string): number {
  const net = statSync(`/run/netns/${namespace}`).ino;
  const isIt = (pid: string): boolean => {
    try {
      return readFileSync(`/proc/${pid}/comm`, 'utf8') === 'weftd\n' && statSync(`/proc/${pid}/ns/net`).ino === net;
    } catch {
      // It has just ended.
      return false;
    }
  };
  return Number(readdirSync('/proc').find((name) => /^\d+$/.test(name) && isIt(name)));
}

test('the init container installs the plugins, then the network configuration', () => {
  const [one] = lab().runtimes as [Containerd, Containerd];
  const { machine } = one;
  for (const name of ['weft', 'weft-ipam', 'loopback']) machine.inside('rm', `/opt/cni/bin/${name}`);
  machine.inside('rm', '/etc/cni/net.d/10-weft.conflist');
  const config = readObjects().find(({ kind }) => kind === 'ConfigMap')!['data'] as Record<string, string>;
  machine.writeFile('/run/pod/config/10-weft.conflist', config['10-weft.conflist']!);
  const [install] = pod.initContainers;
  const { status, stdout, stderr } = machine.executeInside(runContainer(one, install!, 'install', { more: ['--rm'] }));
  assert.is(status, 0, stdout + stderr);
  assert.match(stdout, /^put weft, weft-ipam, flannel and loopback into \/opt\/cni\/bin \(version /);
  assert.equal(machine.list('/etc/cni/net.d'), ['10-weft.conflist']);
  const { stderr: said } = machine.executeInside(['/opt/cni/bin/weft-ipam'], { environment: {} });
  assert.ok(said.includes(`v${version}`), said);
});

test('weftd in the image, with the rights and folders of weft.yaml alone, carries pods of a real runtime', async () => {
  const [one, two] = lab().runtimes as [Containerd, Containerd];
  const { machine } = one;
  machine.kill('weftd');
  const [weftd] = pod.containers;
  const words = byEtcd(weftd!, one);
  const service = machine.serve(runContainer(one, weftd!, 'weftd', { words }), join(machine.folder, 'weftd-image.log'));
  const log = (): string => readFileSync(join(machine.folder, 'weftd-image.log'), 'utf8');
  const isReady = async (): Promise<boolean> => {
    if (!service.alive) throw new Error(`weftd has ended:\n${log()}`);
    const { state, problems } = await readStatus(machine.runDir);
    if (problems.length > 0) throw new Error(problems.join('; '));
    return state === 'running';
  };
  await waitFor('weftd in its container', isReady, { deadlineMs: 60_000 });
  const status = readFileSync(`/proc/${findWeftd(machine.namespace)}/status`, 'utf8');
  const rights = BigInt(`0x${/CapEff:\s*(\w+)/.exec(status)?.[1]}`);
  assert.is(rights, (1n << 12n) | (1n << 13n), 'CAP_NET_ADMIN and CAP_NET_RAW, as weft.yaml says');
  assert.match(status, /^Seccomp:\s*2$/m);
  for (const path of ['healthz', 'readyz']) {
    const probe = ['busybox', 'wget', '-qO-', `http://127.0.0.1:10265/${path}`];
    assert.is(execute(probe, { namespace: machine.namespace }).stdout.trim(), 'ok', path);
  }
  // A setting below the host's own /proc/sys, through the mount.
  machine.run('sysctl', '-qw', 'net/ipv4/conf/flannel.1/forwarding=0');
  await waitFor('weftd to set it again', () => machine.sysctl('net/ipv4/conf/flannel.1/forwarding') === '1', {
    deadlineMs: 60_000,
  });
  const there = await two.runPod({ name: 'there' });
  const here = await one.runPod({ name: 'here' });
  await waitFor(
    'a pod of the other host to answer',
    () => machine.execute(['ping', '-c1', '-W1', there.addresses[0]!]).status === 0,
    { deadlineMs: 30_000 },
  );
  await one.cri.removePod(here.id);
  await two.cri.removePod(there.id);
  one.ctr('task', 'kill', '-s', 'SIGTERM', 'weftd');
  await service.exited;
  assert.match(log(), /stopped; the data path and the lease stay/);
});

test('the pod of remove.yaml cleans the node, and waits', async () => {
  const [one] = lab().runtimes as [Containerd, Containerd];
  const { machine } = one;
  const { volumes } = removal;
  const [leave] = removal.initContainers;
  const words = byEtcd(leave!, one);
  const left = machine.executeInside(runContainer(one, leave!, 'leave', { more: ['--rm'], words, volumes }));
  assert.is(left.status, 0, left.stdout + left.stderr);
  assert.not.ok(machine.ip('link').includes('flannel.1:'));
  assert.not.ok(existsSync(machine.outside('/run/weft/node.json')));
  assert.not.ok(machine.inside('nft', 'list', 'tables').includes('inet weft'));

  const [clean] = removal.containers;
  const logFile = join(machine.folder, 'clean.log');
  const service = machine.serve(runContainer(one, clean!, 'clean', { volumes }), logFile);
  const isClean = (): boolean => {
    if (!service.alive) throw new Error(`it has ended:\n${readFileSync(logFile, 'utf8')}`);
    return machine.list('/opt/cni/bin').every((name) => !['weft', 'weft-ipam', 'flannel', 'loopback'].includes(name));
  };
  await waitFor('a clean node', isClean, { deadlineMs: 60_000 });
  assert.equal(machine.list('/etc/cni/net.d'), []);
  assert.ok(machine.list('/opt/cni/bin').includes('portmap'), 'which is not of Weft');
  one.ctr('task', 'kill', '-s', 'SIGKILL', 'clean');
  await service.exited;
});

test.run();
