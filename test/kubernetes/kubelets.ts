/** A whole Kubernetes on some machines: the control plane in the switch, and on each machine containerd, kubelet, kube-proxy. */

import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Kube, podNetwork } from '../lab/kube.ts';
import { Scratch } from '../lab/scratch.ts';
import { Underlay } from '../lab/underlay.ts';
import { waitFor } from '../lab/wait.ts';
import { Containerd } from '../runtimes/containerd.ts';
import { Machine } from '../runtimes/machine.ts';

export type ProxyMode = 'iptables' | 'nftables';

/** The number at the end of the first machine's address. */
const firstMachine = 11;

const kubeletConfiguration = (machine: Machine): object => ({
  apiVersion: 'kubelet.config.k8s.io/v1beta1',
  kind: 'KubeletConfiguration',
  authentication: { anonymous: { enabled: true }, webhook: { enabled: false } },
  authorization: { mode: 'AlwaysAllow' },
  containerRuntimeEndpoint: 'unix:///run/containerd/containerd.sock',
  // A machine is no whole machine: its control groups are below one of the real machine's.
  failCgroupV1: false,
  cgroupDriver: 'cgroupfs',
  cgroupRoot: machine.cgroupParent,
  cgroupsPerQOS: false,
  enforceNodeAllocatable: [],
  oomScoreAdj: 0,
  failSwapOn: false,
  makeIPTablesUtilChains: false,
  podLogsDir: '/var/lib/kubelet/logs',
  volumePluginDir: '/var/lib/kubelet/volume-plugins',
  resolvConf: '',
  // Disks of the real machine may be nearly full.
  evictionHard: { 'memory.available': '1Mi' },
  imageGCHighThresholdPercent: 100,
  imageGCLowThresholdPercent: 99,
  nodeStatusUpdateFrequency: '2s',
  nodeStatusReportFrequency: '30s',
  syncFrequency: '10s',
  // Static pods.
  staticPodPath: '/var/lib/kubelet/manifests',
  fileCheckFrequency: '2s',
  registerNode: true,
  healthzPort: 0,
  maxPods: 110,
});

export class KubeletCluster {
  readonly scratch: Scratch;
  readonly underlay: Underlay;
  readonly kube: Kube;
  readonly machines: readonly Machine[];
  readonly runtimes: Containerd[] = [];

  private constructor(label: string, count: number) {
    this.scratch = new Scratch(label);
    this.underlay = new Underlay(this.scratch);
    const names = Array.from({ length: count }, (_, i) => `node${i + 1}`);
    const { gateway: address, namespace } = this.underlay;
    this.kube = new Kube({ scratch: this.scratch, namespace, address, port: 6443, nodes: names });
    this.machines = names.map((name, i) => new Machine(this, name, firstMachine + i));
  }

  /** Without a network yet: the nodes are not ready. @param archives images */
  static async start(
    label: string,
    count: number,
    mode: ProxyMode,
    archives: readonly string[],
  ): Promise<KubeletCluster> {
    const cluster = new KubeletCluster(label, count);
    try {
      await cluster.kube.start();
      cluster.kube.startControllers();
      for (const machine of cluster.machines) {
        await machine.boot();
        // For the mounts that a pod wants to see as they come.
        machine.inside('mount', '--make-rshared', '/');
        machine.inside('mount', '-t', 'tmpfs', 'tmpfs', '/var/log');
        const runtime = new Containerd(machine);
        cluster.runtimes.push(runtime);
        await runtime.start(true);
        for (const archive of archives) runtime.importImage(archive);
        cluster.#startKubelet(machine);
        cluster.#startProxy(machine, mode);
      }
      await waitFor('the Nodes', () => cluster.machines.every(({ name }) => cluster.kube.try(['get', 'node', name])), {
        deadlineMs: 60_000,
      });
      return cluster;
    } catch (error) {
      const logs = cluster.logs(2000);
      await cluster.remove();
      throw new Error(`Cannot start Kubernetes: ${error instanceof Error ? error.message : error}\n${logs}`);
    }
  }

  #startKubelet(machine: Machine): void {
    mkdirSync(machine.outside('/var/lib/kubelet/manifests'), { recursive: true });
    machine.writeFile('/var/lib/kubelet/config.json', JSON.stringify(kubeletConfiguration(machine)));
    machine.writeFile('/var/lib/kubelet/kubeconfig', this.kube.kubeconfigText(`${machine.name}-token`));
    const argv = [
      ...[this.kube.program, 'kubelet', '--config=/var/lib/kubelet/config.json', '--root-dir=/var/lib/kubelet'],
      ...['--kubeconfig=/var/lib/kubelet/kubeconfig', '--cert-dir=/var/lib/kubelet/pki'],
      ...[`--hostname-override=${machine.name}`, `--node-ip=${machine.address}`],
    ];
    machine.serve(argv, join(machine.folder, 'kubelet.log'));
  }

  #startProxy(machine: Machine, mode: ProxyMode): void {
    machine.writeFile('/var/lib/kube-proxy/kubeconfig', this.kube.kubeconfigText('proxy-token'));
    const argv = [
      ...[this.kube.program, 'kube-proxy', '--kubeconfig=/var/lib/kube-proxy/kubeconfig', `--proxy-mode=${mode}`],
      ...[`--cluster-cidr=${podNetwork}`, `--hostname-override=${machine.name}`],
      // The limit is the machine's, and cannot be set in a namespace.
      ...['--conntrack-max-per-core=0', '--conntrack-min=0'],
    ];
    machine.serve(argv, join(machine.folder, 'kube-proxy.log'));
  }

  /** The end of each program's log. */
  logs(characters: number): string {
    return this.machines
      .flatMap(({ folder, name }) =>
        ['kubelet', 'kube-proxy', 'containerd'].map((program) => {
          try {
            return `${name} ${program}:\n${readFileSync(join(folder, `${program}.log`), 'utf8').slice(-characters)}`;
          } catch {
            return `${name} ${program}: not started`;
          }
        }),
      )
      .join('\n');
  }

  async remove(): Promise<void> {
    for (const { cri } of this.runtimes) cri.close();
    try {
      for (const machine of this.machines) await machine.halt();
    } finally {
      this.scratch.remove();
    }
  }
}
