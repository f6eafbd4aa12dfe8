/**
 * Weft's manifest in a whole Kubernetes: real kubelets, containerd, kube-proxy, controller manager and scheduler. Pods of two
 * nodes reach each other and services, a node is drained, and nothing is left at the end.
 * @long
 */

import { copyFileSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { findProgram, run } from '../lab/commands.ts';
import { referenceFolder, root } from '../lab/project.ts';
import { Scratch } from '../lab/scratch.ts';
import { waitFor } from '../lab/wait.ts';
import { type Answer, parseAnswer } from '../runtimes/answers.ts';
import type { SandboxStatus } from '../runtimes/cri.ts';
import { answerPort, imageName, makeImage } from '../runtimes/image.ts';
import type { Machine } from '../runtimes/machine.ts';
import { fixture } from '../support/fixture.ts';
import { KubeletCluster, type ProxyMode } from './kubelets.ts';

const hostPort = 8099;
/** WEFT_TEST_OUTAGE_SECONDS: for how long the API server is away. */
const outageMs = Number(process.env['WEFT_TEST_OUTAGE_SECONDS'] ?? 1) * 1000;
const patience = { deadlineMs: 180_000, intervalMs: 500 };

interface PodObject {
  readonly metadata: { readonly name: string; readonly deletionTimestamp?: string };
  readonly spec: { readonly nodeName?: string };
  readonly status: {
    readonly podIP?: string;
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
  };
}

const isReady = ({ metadata, status }: PodObject): boolean =>
  metadata.deletionTimestamp === undefined &&
  (status.conditions ?? []).some(({ type, status: value }) => type === 'Ready' && value === 'True');

const container = (further: object = {}): object => ({
  name: 'web',
  image: imageName,
  imagePullPolicy: 'Never',
  // The sandbox has the same image, and answers.
  command: ['/bin/sleep', '1000000'],
  ports: [{ containerPort: answerPort, ...further }],
  readinessProbe: { httpGet: { path: '/cgi-bin/who', port: answerPort }, periodSeconds: 2, timeoutSeconds: 5 },
});

const deployment = (name: string, replicas: number, spec: object): object => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name, namespace: 'default' },
  spec: {
    replicas,
    selector: { matchLabels: { app: name } },
    template: {
      metadata: { labels: { app: name } },
      spec: {
        terminationGracePeriodSeconds: 1,
        automountServiceAccountToken: false,
        enableServiceLinks: false,
        ...spec,
      },
    },
  },
});

/** Evenly on both nodes. */
const web = (replicas: number): object =>
  deployment('web', replicas, {
    containers: [container()],
    topologySpreadConstraints: [
      {
        maxSkew: 1,
        topologyKey: 'kubernetes.io/hostname',
        whenUnsatisfiable: 'ScheduleAnyway',
        labelSelector: { matchLabels: { app: 'web' } },
      },
    ],
  });

const staticPod = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'static', namespace: 'default' },
  spec: { terminationGracePeriodSeconds: 1, containers: [container()] },
};

const service = {
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: 'web', namespace: 'default' },
  spec: { selector: { app: 'web' }, ports: [{ port: 80, targetPort: answerPort }] },
};

function defineKubernetes(mode: ProxyMode, replicas: number): void {
  const test = suite(`kubernetes: kubelet, kube-proxy with ${mode}`);
  const scratch = new Scratch('images');
  const cluster = fixture(
    test,
    async () => {
      const folder = scratch.makeFolder('images');
      run([
        process.env['WEFT_TEST_NODE'] ?? 'node',
        join(root, 'release.mjs'),
        '--target',
        'x64',
        '--plain',
        '--out',
        folder,
      ]);
      const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
      const images = [join(folder, `weft-${version}-linux-x64-image.tar`), makeImage(folder)];
      return await KubeletCluster.start('kubelet', 2, mode, images);
    },
    async (made) => {
      await made.remove();
      scratch.remove();
    },
  );

  const kubectl = (...words: string[]): string => cluster().kube.kubectl(words);
  const apply = (object: object): void => void cluster().kube.kubectl(['apply', '-f', '-'], JSON.stringify(object));
  const pods = (namespace: string, selector: string): PodObject[] => {
    const text = kubectl('get', 'pods', '-n', namespace, '-l', selector, '-o', 'json');
    return (JSON.parse(text) as { items: PodObject[] }).items;
  };
  const on = ({ name }: Machine, list: readonly PodObject[]): PodObject[] =>
    list.filter(({ spec }) => spec.nodeName === name);
  const ready = (count: number): Promise<PodObject[]> =>
    waitFor(
      `${count} ready pods`,
      () => {
        const list = pods('default', 'app=web');
        const unready = list.filter((pod) => !isReady(pod));
        if (list.length === count && unready.length === 0) return list;
        throw new Error(
          `${list.length} pods, not ready: ${JSON.stringify(unready.slice(0, 3))}\n${kubectl('get', 'events')}`,
        );
      },
      patience,
    );

  /** The network namespace of a pod, as a path of its machine. */
  const netnsOf = (machine: Machine, { status }: PodObject): string => {
    const paths = machine.list('/run/netns').map((name) => `/run/netns/${name}`);
    const found = paths.find((path) =>
      machine.inside('nsenter', `--net=${path}`, 'ip', '-4', '-o', 'addr').includes(` ${status.podIP}/`),
    );
    assert.ok(found, `no namespace with ${status.podIP}`);
    return found;
  };

  /** Asks the addresses from a machine, or from a pod of it; gives who answered. */
  const ask = (machine: Machine, addresses: readonly string[], netns?: string): Answer[] => {
    const script = addresses.map((address) => `timeout 10 wget -qO- http://${address}/cgi-bin/who; echo`).join('\n');
    const enter = netns === undefined ? [] : ['nsenter', `--net=${netns}`];
    const answer = machine.inside(...enter, findProgram('busybox'), 'sh', '-ec', script);
    return answer.trim().split('\n').map(parseAnswer);
  };

  test('the manifest makes the nodes ready, and a waiting pod starts', async () => {
    const { machines, kube } = cluster();
    for (const machine of machines) {
      // As kubelet's packages bring them.
      copyFileSync(join(referenceFolder, 'portmap'), join(machine.outside('/opt/cni/bin'), 'portmap'));
    }
    apply(web(1));
    const startedMs = Date.now();
    kubectl('apply', '-f', join(root, 'examples/kubernetes/weft.yaml'));
    try {
      await ready(1);
    } catch (error) {
      const told = [
        'get nodes -o wide',
        'get pods -A -o wide',
        'describe pods -n weft',
        'logs -n weft -l app.kubernetes.io/name=weft',
      ];
      throw new Error(
        `${error}\n${told.map((words) => kube.ask(words.split(' ')).stdout).join('\n')}\n${cluster().logs(3000)}`,
      );
    }
    console.log(
      `\n  ${mode}: from the manifest to the first ready pod: ${((Date.now() - startedMs) / 1000).toFixed(1)} s`,
    );
    await waitFor(
      'weft to be ready on both nodes',
      () => {
        const list = pods('weft', 'app.kubernetes.io/component=node');
        return list.length === 2 && list.every(isReady);
      },
      patience,
    );
    for (const { name } of machines) {
      const conditions = kube.node(name).status.conditions ?? [];
      assert.is(conditions.find(({ type }) => type === 'NetworkUnavailable')?.['status'], 'False');
      assert.is(conditions.find(({ type }) => type === 'Ready')?.['status'], 'True');
    }
  });

  test(`${replicas} pods on two nodes reach each other and a service, and hosts reach both`, async () => {
    const { machines } = cluster();
    apply(service);
    const startedMs = Date.now();
    apply(web(replicas));
    const list = await ready(replicas);
    console.log(`\n  ${mode}: ${replicas} pods ready after ${((Date.now() - startedMs) / 1000).toFixed(1)} s`);
    const addresses = list.map(({ status }) => status.podIP!);
    assert.is(new Set(addresses).size, replicas);
    const names = list.map(({ metadata }) => metadata.name).sort();
    const serviceAddress = kubectl('get', 'service', 'web', '-o', 'jsonpath={.spec.clusterIP}');
    for (const machine of machines) {
      const own = on(machine, list);
      assert.ok(own.length > replicas / 3, `${machine.name} has ${own.length} pods`);
      const all = addresses.map((address) => `${address}:${answerPort}`);
      for (const netns of [netnsOf(machine, own[0]!), undefined]) {
        const answers = ask(machine, all, netns);
        assert.equal(answers.map(({ name }) => name).sort(), names);
        // The pod's own address, not its node's. Its own answer comes from itself.
        if (netns)
          assert.ok(
            answers.every(({ source }) => source === own[0]!.status.podIP),
            JSON.stringify(answers),
          );
        for (const answer of ask(machine, [`${serviceAddress}:80`, `${serviceAddress}:80`], netns)) {
          assert.ok(names.includes(answer.name), answer.name);
        }
      }
    }
  });

  test('a port of a host leads to its pod', async () => {
    const [one, two] = cluster().machines as [Machine, Machine];
    apply(deployment('port', 1, { nodeName: two.name, containers: [container({ hostPort })] }));
    const [pod] = await waitFor(
      'the pod',
      () => {
        const list = pods('default', 'app=port');
        return list.length === 1 && list.every(isReady) && list;
      },
      patience,
    );
    const answer = await waitFor('an answer', () => ask(one, [`${two.address}:${hostPort}`])[0]);
    assert.is(answer.name, pod!.metadata.name);
    kubectl('delete', 'deployment', 'port', '--wait=false');
  });

  test('without the API server, static pods start, communicate and stop, and all else stays', async () => {
    const { machines, runtimes, kube } = cluster();
    const [one, two] = machines as [Machine, Machine];
    const routes = (): string[] => machines.map((machine) => machine.ip('route'));
    const before = routes();
    await kube.stopApiserver();
    const startedMs = Date.now();
    let rounds = 0;
    // kubelet reads the folder itself, and has containerd make their sandboxes.
    const file = '/var/lib/kubelet/manifests/static.json';
    const running = async (i: number): Promise<SandboxStatus | undefined> => {
      const { cri, machine } = runtimes[i]!;
      const found = (await cri.pods()).find(({ name, ready }) => name === `static-${machine.name}` && ready);
      return found && (await cri.pod(found.id));
    };
    do {
      for (const machine of machines) machine.writeFile(file, JSON.stringify(staticPod));
      const here = await waitFor('the static pod', () => running(0), patience);
      const there = await waitFor('the other static pod', () => running(1), patience);
      const address = `${there.addresses[0]}:${answerPort}`;
      const answer = await waitFor('an answer', () => ask(one, [address], here.netns)[0]);
      assert.equal(answer, { source: here.addresses[0], name: `static-${two.name}` });
      for (const machine of machines) rmSync(machine.outside(file));
      await waitFor(
        'the static pods to end',
        async () => (await running(0)) === undefined && (await running(1)) === undefined,
        patience,
      );
      rounds++;
    } while (Date.now() - startedMs < outageMs);
    assert.equal(routes(), before);
    console.log(
      `\n  ${mode}: ${rounds} rounds in ${((Date.now() - startedMs) / 1000).toFixed(0)} s without the API server`,
    );
    await kube.restartApiserver();
    await ready(replicas);
    assert.equal(routes(), before);
  });

  test('a node is drained and comes back', async () => {
    const [one] = cluster().machines as [Machine, Machine];
    // A scheduler that has just found the API server again may still place pods there.
    await waitFor(
      'the node to be drained',
      () => {
        kubectl('drain', one.name, '--ignore-daemonsets', '--delete-emptydir-data', '--timeout=120s');
        return on(one, pods('default', 'app=web')).length === 0;
      },
      patience,
    );
    await ready(replicas);
    await waitFor('the addresses of the drained node to be free', () => one.reservations().length === 0, patience);
    kubectl('uncordon', one.name);
    kubectl('rollout', 'restart', 'deployment', 'web');
    await waitFor(
      'pods on the node again',
      () => on(one, pods('default', 'app=web').filter(isReady)).length > 0,
      patience,
    );
  });

  test('all are deleted, and nothing is left', async () => {
    const { machines } = cluster();
    kubectl('delete', 'deployment', '--all', '--wait=false');
    kubectl('delete', 'service', 'web');
    for (const machine of machines) {
      await waitFor(
        `nothing to be left on ${machine.name}`,
        () => {
          const left = machine.leftovers();
          if (left.length > 0) throw new Error(left.join('\n'));
          return true;
        },
        patience,
      );
    }
  });

  test.run();
}

defineKubernetes('iptables', 60);
defineKubernetes('nftables', 10);
