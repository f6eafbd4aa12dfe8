/** containerd on a machine: at its default paths, with one image, which is also that of every sandbox. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Service } from '../lab/commands.ts';
import { waitFor } from '../lab/wait.ts';
import { CriClient, type PodOptions, type SandboxStatus } from './cri.ts';
import { imageName, makeImage } from './image.ts';
import { type Machine, Machines, type MachinesOptions } from './machine.ts';

const configuration = `version = 2
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/opt/cni/bin"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "${imageName}"
`;

export class Containerd {
  readonly machine: Machine;
  readonly logFile: string;
  readonly cri: CriClient;
  #service: Service | undefined;

  constructor(machine: Machine) {
    this.machine = machine;
    this.logFile = join(machine.folder, 'containerd.log');
    this.cri = new CriClient(machine.outside('/run/containerd/containerd.sock'));
  }

  /**
   * Starts it, and waits until it answers and has read the network's configuration.
   * @param withoutNetwork there is none yet
   */
  async start(withoutNetwork = false): Promise<void> {
    this.machine.writeFile('/etc/containerd/config.toml', configuration);
    this.#service = this.machine.serve(['containerd'], this.logFile);
    const isReady = async (): Promise<boolean> => {
      if (!this.#service!.alive) throw new Error(`containerd has ended:\n${this.log.slice(-2000)}`);
      const unready = (await this.cri.unready()).filter((each) => !(withoutNetwork && each.startsWith('NetworkReady')));
      if (unready.length > 0) throw new Error(unready.join('; '));
      return true;
    };
    await waitFor('containerd to be ready', isReady, { deadlineMs: 60_000 });
  }

  get log(): string {
    return readFileSync(this.logFile, 'utf8');
  }

  importImage(archive: string): void {
    for (const space of ['k8s.io', 'default']) this.ctr('-n', space, 'images', 'import', archive);
  }

  ctr(...words: string[]): string {
    return this.machine.inside('ctr', ...words);
  }

  /** Starts a pod. */
  async runPod(options: Omit<PodOptions, 'cgroupParent'>): Promise<SandboxStatus> {
    const { cgroupParent } = this.machine;
    return await this.cri.pod(await this.cri.runPod({ ...options, cgroupParent }));
  }

  /** kill -9 of containerd itself; what it started runs on. */
  async kill(): Promise<void> {
    this.machine.kill('containerd');
    await this.#service?.exited;
  }
}

/** Machines with containerd. */
export interface ContainerdCluster {
  readonly machines: Machines;
  readonly runtimes: readonly Containerd[];
  remove(): Promise<void>;
}

export async function startContainerdCluster(label: string, options: MachinesOptions): Promise<ContainerdCluster> {
  const machines = await Machines.start(label, options);
  const runtimes = machines.hosts.map((host) => new Containerd(host));
  const remove = async (): Promise<void> => {
    for (const { cri } of runtimes) cri.close();
    await machines.remove();
  };
  try {
    const archive = makeImage(machines.cluster.scratch.makeFolder('image'));
    await Promise.all(runtimes.map((runtime) => runtime.start()));
    for (const runtime of runtimes) runtime.importImage(archive);
    return { machines, runtimes, remove };
  } catch (error) {
    await remove();
    throw error;
  }
}
