/**
 * 40 pods on each of two hosts by containerd's CRI, 8 at a time, IPv4 and IPv6, while containerd and its shims are killed.
 * @long
 */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { run } from '../lab/commands.ts';
import { timed, waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';
import { ask } from './answers.ts';
import { type Containerd, startContainerdCluster } from './containerd.ts';
import type { SandboxStatus } from './cri.ts';
import { answerPort } from './image.ts';
import { inParallel, Kubelet, type PodSpec } from './kubelet.ts';

const podCount = 40;
/** The first pods of a host have a port of the host's and a limit. */
const withPort = 4;
const firstPort = 8100;
const bandwidth = '8M';

const config = JSON.stringify({
  ...{ Network: '10.244.0.0/16', EnableIPv6: true, IPv6Network: 'fd00:10:244::/48' },
  Backend: { Type: 'vxlan' },
});
const conflist = JSON.stringify({
  cniVersion: '1.0.0',
  name: 'weft',
  plugins: [
    { type: 'weft', ipam: { type: 'weft-ipam' } },
    { type: 'portmap', capabilities: { portMappings: true } },
    { type: 'bandwidth', capabilities: { bandwidth: true } },
  ],
});

const test = suite('runtimes: pods');
const lab = fixture(
  test,
  async () => {
    const made = await startContainerdCluster('pods', { hosts: 2, families: [4, 6], config, conflist });
    return { ...made, kubelets: made.runtimes.map((runtime) => new Kubelet(runtime)) as [Kubelet, Kubelet] };
  },
  (made) => made.remove(),
);

const specs = (host: string): PodSpec[] =>
  Array.from({ length: podCount }, (_, n) => ({
    name: `${host}-pod${n}`,
    ...(n < withPort && {
      hostPorts: [{ hostPort: firstPort + n, containerPort: answerPort }],
      annotations: { 'kubernetes.io/ingress-bandwidth': bandwidth },
    }),
  }));

/** Runs a program in a pod's network namespace. */
const insidePod =
  ({ machine }: Containerd, { netns }: SandboxStatus) =>
  (argv: readonly string[]) =>
    machine.execute(['nsenter', `--net=${machine.outside(netns)}`, ...argv]);

/** Every pod of one host asks a pod of the other by each family, and is seen by its own address. */
async function checkPaths(from: Kubelet, to: Kubelet): Promise<void> {
  const [askers, targets] = [await from.ready(), await to.ready()];
  await inParallel(
    askers.map((asker, i) => ({ asker, target: targets[i]! })),
    async ({ asker, target }) => {
      for (const [i, address] of target.addresses.entries()) {
        const answer = await ask(insidePod(from.runtime, asker), address);
        assert.equal(answer, { source: asker.addresses[i], name: target.name });
      }
    },
  );
}

test('40 pods on each of two hosts start and reach each other by both families', async () => {
  const { kubelets } = lab();
  const { ms } = await timed(() => Promise.all(kubelets.map((kubelet, i) => kubelet.run(specs(`host${i + 1}`)))));
  const pods = (await Promise.all(kubelets.map((kubelet) => kubelet.ready()))).flat();
  assert.is(pods.length, 2 * podCount);
  for (const { addresses } of pods) assert.is(addresses.length, 2);
  assert.is(new Set(pods.flatMap(({ addresses }) => addresses)).size, 4 * podCount);
  assert.equal(
    kubelets.flatMap(({ errors }) => errors),
    [],
  );
  await checkPaths(kubelets[0], kubelets[1]);
  await checkPaths(kubelets[1], kubelets[0]);
  console.log(`  ${2 * podCount} pods, 8 at a time on each host: ${(ms / 1000).toFixed(1)} s`);
});

test("a port of the host leads to its pod from the other host, and a pod's limit is on its interface", async () => {
  const [one, two] = lab().kubelets;
  for (let n = 0; n < withPort; n++) {
    for (const address of one.runtime.machine.addresses) {
      const { name } = await ask((argv) => two.runtime.machine.execute(argv), address, firstPort + n);
      assert.is(name, `host1-pod${n}`);
    }
  }
  const limits = run(['tc', 'qdisc', 'show'], { namespace: one.runtime.machine.namespace }).match(/tbf .* rate 8Mbit/g);
  assert.is(limits?.length, withPort);
});

test('after kill -9 of containerd and of shims, all pods run again, each with addresses of its own', async () => {
  const { kubelets } = lab();
  const [one] = kubelets;
  await Promise.all(kubelets.map((kubelet) => kubelet.removeAll()));
  for (const { runtime } of kubelets) assert.equal(runtime.machine.leftovers(), []);

  const before = kubelets.map(({ started }) => started);
  const running = Promise.all(kubelets.map((kubelet, i) => kubelet.run(specs(`host${i + 1}`))));
  // In the middle of the work: some pods run, others are being started.
  await waitFor('some pods to run', () => one.started - before[0]! >= 12, { deadlineMs: 120_000 });
  await one.runtime.kill();
  await one.runtime.start();
  await waitFor('more pods to run', () => one.started - before[0]! >= 24, { deadlineMs: 120_000 });
  assert.ok(one.runtime.machine.kill('containerd-shim-runc-v2') > 0);
  await running;
  // Those whose shim was killed after they had been found running.
  await waitFor('containerd to notice', async () => {
    await one.run(specs('host1'));
    return (await one.ready()).length === podCount;
  });
  const pods = (await Promise.all(kubelets.map((kubelet) => kubelet.ready()))).flat();
  assert.is(pods.length, 2 * podCount);
  assert.is(new Set(pods.flatMap(({ addresses }) => addresses)).size, 4 * podCount);
  assert.ok(one.errors.some((error) => error.includes('UNAVAILABLE')));
  const restarts = one.started - before[0]!;
  console.log(`  ${restarts} sandboxes for ${podCount} pods, and ${one.errors.length} errors meanwhile`);
  await checkPaths(kubelets[0], kubelets[1]);
  await checkPaths(kubelets[1], kubelets[0]);
});

test('nothing is left of pods once they are removed', async () => {
  const { kubelets } = lab();
  await Promise.all(kubelets.map((kubelet) => kubelet.removeAll()));
  for (const { runtime } of kubelets) assert.equal(runtime.machine.leftovers(), []);
});

test.run();
