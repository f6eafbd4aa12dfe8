/**
 * A host that may run a container runtime at its usual paths: besides the network namespace of its own, it has
 * - a mount namespace with its own /run, /var/lib, /opt and some of /etc, so that weftd, the plugins and the runtime
 *   use their default paths, and several hosts do not meet;
 * - a PID namespace: everything that the runtime leaves running ends with the host.
 * Control groups are the machine's: a runtime gets `cgroupParent`, and `halt` removes what is below it.
 */

import {
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
} from 'node:fs';
import { join } from 'node:path';
import { type Cluster, startCluster } from '../lab/cluster.ts';
import {
  execute,
  executeAsync,
  type Finished,
  findProgram,
  type RunOptions,
  run,
  type Service,
} from '../lab/commands.ts';
import { Host, type Surroundings } from '../lab/host.ts';
import { readLinks } from '../lab/kernel-state.ts';
import { exampleConflist, program, referenceFolder } from '../lab/project.ts';
import { waitFor } from '../lab/wait.ts';

/** The folders that each host has for itself, and every one below that must be there from the start. */
const ownFolders = ['/run', '/var/lib', '/opt', '/etc/cni', '/etc/containerd', '/etc/docker'];
const emptyFolders = ['/run/netns', '/run/lock', '/opt/cni/bin', '/etc/cni/net.d', '/var/lib/cni'];

const cgroupRoot = '/sys/fs/cgroup';

export class Machine extends Host {
  readonly cgroupParent: string;
  #init: Service | undefined;
  #pid = 0;

  constructor(surroundings: Surroundings, name: string, number: number) {
    super(surroundings, name, number);
    this.cgroupParent = `/${surroundings.scratch.prefix}-${name}`;
  }

  /** Makes its namespaces. */
  async boot(): Promise<void> {
    living.add(this);
    // The first process of a PID namespace has to collect the children of others: a shell does.
    const init = ['sh', '-c', 'while :; do sleep 1000; done'];
    const namespaces = ['--mount', '--pid', '--fork', '--kill-child', '--mount-proc', '--propagation', 'private'];
    this.#init = this.scratch.start(['unshare', ...namespaces, ...init], {
      namespace: this.namespace,
      logFile: join(this.folder, 'init.log'),
    });
    const { pid } = this.#init;
    this.#pid = await waitFor('the first process of a host', () => {
      const child = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
      // It has finished its own mounts once it has become another program.
      return child !== '' && readFileSync(`/proc/${child}/comm`, 'utf8').trim() === 'sh' && Number(child);
    });
    mkdirSync('/etc/docker', { recursive: true });
    for (const folder of ownFolders) this.inside('mount', '-t', 'tmpfs', 'tmpfs', folder);
    for (const folder of emptyFolders) mkdirSync(this.outside(folder), { recursive: true });
  }

  /** The outside's path of a file of this host. */
  outside(path: string): string {
    return `/proc/${this.#pid}/root${path}`;
  }

  override get runDir(): string {
    return this.outside('/run/weft');
  }

  override get subnetFile(): string {
    return this.outside('/run/flannel/subnet.env');
  }

  override get dataDir(): string {
    return this.outside('/var/lib/cni/networks');
  }

  override get weftdArguments(): string[] {
    return ['--node', this.name, '--etcd-endpoints', this.etcd.endpoint];
  }

  /** Signals reach it by `kill` only, as all that runs in here. */
  override startWeftd(...further: string[]): Service {
    return this.startWeftdWith({ through: this.#enter('mount', 'pid') }, ...further);
  }

  override weftctl(...words: string[]): Finished {
    return this.executeInside([program('weftctl'), ...words]);
  }

  /** `weftctl gc` believes that a container is gone only if it sees all processes of the machine. */
  weftctlGc(): Finished {
    const argv = ['unshare', '--mount', 'sh', '-c', 'mount -t proc proc /proc && exec "$@"', 'sh', program('weftctl')];
    return execute([...this.#enter('mount', 'net'), ...argv, 'gc', '--grace', '0']);
  }

  #enter(...kinds: string[]): string[] {
    return [
      findProgram('nsenter'),
      ...kinds.map((kind) => `--${kind}=/proc/${this.#pid}/ns/${kind === 'mount' ? 'mnt' : kind}`),
      '--',
    ];
  }

  #placed([name, ...words]: readonly string[]): string[] {
    return [...this.#enter('mount', 'pid', 'net'), findProgram(name!), ...words];
  }

  /** Runs a program as one of this host, to its end, whatever that is. */
  executeInside(argv: readonly string[], options: Omit<RunOptions, 'namespace'> = {}): Finished {
    return execute(this.#placed(argv), options);
  }

  executeInsideAsync(argv: readonly string[], options: Omit<RunOptions, 'namespace'> = {}): Promise<Finished> {
    return executeAsync(this.#placed(argv), options);
  }

  /** Runs a program as one of this host and gives its stdout. @throws where it fails */
  inside(...argv: string[]): string {
    return run(this.#placed(argv));
  }

  /** Starts a program as one of this host. Signals reach it by `kill` only. */
  serve(argv: readonly string[], logFile: string, environment?: Record<string, string>): Service {
    return this.scratch.start(this.#placed(argv), { logFile, ...(environment && { environment }) });
  }

  /** The processes of this host whose program has this name, or all but the first. */
  processes(name?: string): number[] {
    const own = readlinkSync(`/proc/${this.#pid}/ns/pid`);
    return readdirSync('/proc')
      .filter((entry) => /^\d+$/.test(entry) && Number(entry) !== this.#pid)
      .map(Number)
      .filter((pid) => {
        try {
          if (readlinkSync(`/proc/${pid}/ns/pid`) !== own) return false;
          // A name has 15 characters at most.
          return name === undefined || readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === name.slice(0, 15);
        } catch {
          // It has just ended.
          return false;
        }
      });
  }

  /** kill -9 of the processes with this name. Gives their number. */
  kill(name: string): number {
    const pids = this.processes(name);
    for (const pid of pids) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It has just ended by itself.
      }
    }
    return pids.length;
  }

  /** Puts Weft's and the reference's plugins where runtimes look for them. */
  installPlugins(conflist = readFileSync(exampleConflist, 'utf8')): void {
    const folder = this.outside('/opt/cni/bin');
    copyFileSync(program('weft'), join(folder, 'weft'));
    linkSync(join(folder, 'weft'), join(folder, 'weft-ipam'));
    linkSync(join(folder, 'weft'), join(folder, 'loopback'));
    for (const name of ['portmap', 'bandwidth', 'firewall', 'tuning'])
      copyFileSync(join(referenceFolder, name), join(folder, name));
    this.writeFile('/etc/cni/net.d/10-weft.conflist', conflist);
  }

  writeFile(path: string, text: string): void {
    mkdirSync(join(this.outside(path), '..'), { recursive: true });
    run(['tee', this.outside(path)], { stdin: text });
  }

  read(path: string): string {
    return readFileSync(this.outside(path), 'utf8');
  }

  /** The names in a folder of this host. */
  list(path: string): string[] {
    return existsSync(this.outside(path)) ? readdirSync(this.outside(path)).sort() : [];
  }

  /** The addresses that are reserved, of all networks. */
  reservations(): string[] {
    return this.list('/var/lib/cni/networks').flatMap((network) =>
      this.list(`/var/lib/cni/networks/${network}`)
        .filter((name) => /^[0-9a-f]+[.:]/.test(name))
        .map((name) => `${network}/${name}`),
    );
  }

  /** What containers have left behind: nothing, after the last one. */
  leftovers(): string[] {
    const rules = ['iptables-save', 'ip6tables-save'].flatMap((name) => this.inside(name).split('\n'));
    return [
      ...this.reservations().map((name) => `reservation ${name}`),
      ...readLinks(this.namespace)
        .filter(({ kind, name }) => name !== 'eth0' && !['bridge', 'vxlan'].includes(kind))
        .map(({ name, kind }) => `${kind} link ${name}`),
      ...this.list('/run/netns').map((name) => `network namespace ${name}`),
      ...this.list('/var/lib/cni/results').map((name) => `cached result ${name}`),
      ...rules.filter((rule) => /CNI-(DN|SN)-/.test(rule)).map((rule) => `rule ${rule}`),
    ];
  }

  /** Its control groups that are there, by hierarchy. */
  get cgroups(): string[] {
    return readdirSync(cgroupRoot)
      .map((hierarchy) => join(cgroupRoot, hierarchy, this.cgroupParent))
      .filter((folder) => existsSync(folder));
  }

  /** Ends all that runs on it, and removes its control groups. */
  async halt(): Promise<void> {
    await this.#init?.stop('SIGKILL');
    await waitFor('the control groups of a host to go', () => this.cgroups.every(removeGroups), { deadlineMs: 60_000 });
    living.delete(this);
  }
}

const living = new Set<Machine>();

// Where a test is interrupted, `scratch` has ended all processes just before. They need a moment.
process.on('exit', () => {
  const end = performance.now() + 3000;
  for (const machine of living) {
    for (;;) {
      try {
        machine.cgroups.every(removeGroups);
        break;
      } catch {
        if (performance.now() > end) break;
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
      }
    }
  }
});

/** Control groups go from below; one whose last process has not quite ended refuses. */
function removeGroups(folder: string): boolean {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) removeGroups(join(folder, entry.name));
  }
  rmdirSync(folder);
  return true;
}

export interface MachinesOptions {
  readonly hosts: number;
  readonly config?: string;
  readonly families?: readonly (4 | 6)[];
  readonly conflist?: string;
  /** weftd's further arguments. */
  readonly arguments?: readonly string[];
  /** What a host has been used for before weftd comes. */
  readonly before?: (host: Machine) => Promise<void>;
}

/** A cluster whose hosts are machines with weftd and the plugins. */
export class Machines {
  readonly cluster: Cluster;
  readonly hosts: readonly Machine[];

  private constructor(cluster: Cluster, hosts: readonly Machine[]) {
    this.cluster = cluster;
    this.hosts = hosts;
  }

  static async start(label: string, options: MachinesOptions): Promise<Machines> {
    const { config, families, conflist } = options;
    const cluster = await startCluster(label, { hosts: 0, ...(config && { config }), ...(families && { families }) });
    const hosts = Array.from({ length: options.hosts }, () => cluster.addHost(Machine));
    const made = new Machines(cluster, hosts);
    try {
      for (const host of hosts) {
        await host.boot();
        host.installPlugins(conflist);
        await options.before?.(host);
        host.startWeftd(...(options.arguments ?? []));
      }
      for (const host of hosts) await host.reaches(hosts);
      return made;
    } catch (error) {
      const logs = hosts.map(({ name, log }) => `${name}:\n${log}`).join('\n');
      await made.remove();
      throw new Error(`Cannot start the hosts: ${error instanceof Error ? error.message : error}\n${logs}`);
    }
  }

  async remove(): Promise<void> {
    try {
      for (const host of this.hosts) await host.halt();
    } finally {
      this.cluster.remove();
    }
  }
}
