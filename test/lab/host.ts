/** A host of a cluster: a bare host with an `eth0` on the underlay, its weftd, and its pods. */

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { NodeStatus } from '../../cluster/status.ts';
import { BareHost } from './bare-host.ts';
import type { Finished, Service } from './commands.ts';
import { type Attachment, type Conflist, Network, readConflist } from './conflist.ts';
import type { Etcd } from './etcd.ts';
import { namespacePath } from './namespaces.ts';
import type { CniDocument } from './plugin.ts';
import { exampleConflist, program } from './project.ts';
import type { Scratch } from './scratch.ts';
import type { Underlay } from './underlay.ts';
import { type WaitOptions, waitFor } from './wait.ts';
import { readStatus, weftdArguments } from './weftd.ts';

export class Pod {
  readonly host: Host;
  readonly name: string;
  readonly namespace: string;
  readonly attachment: Attachment;
  result: CniDocument | undefined;

  constructor(host: Host, name: string, namespace: string) {
    this.host = host;
    this.name = name;
    this.namespace = namespace;
    this.attachment = { containerId: name, netns: namespacePath(namespace) };
  }

  /** Its addresses without prefix length, by the result of its ADD. */
  get addresses(): string[] {
    return (this.result?.ips ?? []).map(({ address }) => address.split('/')[0]!);
  }

  get address(): string {
    return this.addresses[0] ?? '';
  }

  attach(): this {
    this.result = this.host.network.add(this.attachment);
    return this;
  }

  detach(): void {
    this.host.network.delete(this.attachment);
    this.result = undefined;
  }
}

/** The surroundings that the hosts of one cluster share. */
export interface Surroundings {
  readonly scratch: Scratch;
  readonly underlay: Underlay;
  /** Absent in a cluster that has its leases elsewhere. */
  readonly etcd?: Etcd;
}

export interface WeftdOptions {
  /** Instead of the built weftd. */
  readonly command?: readonly string[];
  /** A program and its arguments that run weftd for us. */
  readonly through?: readonly string[];
  /** The whole of it; this process's unless told. */
  readonly environment?: Record<string, string>;
}

export class Host extends BareHost {
  /** One address of each of the underlay's families, IPv4's first. */
  readonly addresses: readonly string[];
  readonly etcd: Etcd;
  readonly pods: Pod[] = [];
  #weftd: Service | undefined;
  #podCount = 0;

  /** @param number ends its addresses */
  constructor({ scratch, underlay, etcd }: Surroundings, name: string, number: number) {
    super(scratch, name);
    this.etcd = etcd!;
    this.addresses = underlay.families.map((family) => underlay.addressOf(family, number));
    underlay.connect(name, this.namespace, this.addresses);
  }

  get address(): string {
    return this.addresses[0]!;
  }

  get logFile(): string {
    return this.files.logFile;
  }

  get log(): string {
    return existsSync(this.logFile) ? readFileSync(this.logFile, 'utf8') : '';
  }

  /** The one that was started last. */
  get weftd(): Service | undefined {
    return this.#weftd;
  }

  get weftdArguments(): string[] {
    return weftdArguments(this.files, this.name, this.etcd.endpoint);
  }

  startWeftd(...further: string[]): Service {
    return this.startWeftdWith({}, ...further);
  }

  startWeftdWith(options: WeftdOptions, ...further: string[]): Service {
    const { command = [program('weftd')], through = [], environment } = options;
    const argv = [...through, ...command, ...this.weftdArguments, '--log-format', 'text', ...further];
    this.#weftd = this.scratch.start(argv, {
      namespace: this.namespace,
      logFile: this.logFile,
      ...(environment && { environment }),
    });
    return this.#weftd;
  }

  /** Runs weftd to its end: for `--leave`, and for starts that fail. */
  runWeftd(...further: string[]): Finished {
    return this.execute([program('weftd'), ...this.weftdArguments, ...further], { timeoutMs: 30_000 });
  }

  /** The same without any right. */
  runWeftdAsNobody(): Finished {
    const nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--inh-caps=-all', '--'];
    return this.execute([...nobody, program('weftd'), ...this.weftdArguments], { timeoutMs: 30_000 });
  }

  weftctl(...words: string[]): Finished {
    return this.execute([program('weftctl'), '--run-dir', this.runDir, ...words]);
  }

  /** By weftctl, as people see it. */
  status(): NodeStatus {
    const { status, stdout, stderr } = this.weftctl('status', '--json');
    if (status !== 0) throw new Error(`weftctl status: ${stderr || stdout}`);
    return JSON.parse(stdout) as NodeStatus;
  }

  /** Asks weftd's socket again and again until its status is right, and gives the probe's answer. */
  async waitForStatus<T>(
    what: string,
    probe: (status: NodeStatus) => T | undefined | null | false,
    options: WaitOptions = {},
  ): Promise<T> {
    return await waitFor(what, async () => probe(await readStatus(this.runDir)), options);
  }

  /** Waits until weftd runs and has programmed all these hosts. */
  async reaches(others: readonly Host[]): Promise<NodeStatus> {
    const wanted = others.filter((host) => host !== this).flatMap(({ addresses }) => addresses);
    return await waitFor(`${this.name} to reach ${wanted.join(', ')}`, async () => {
      if (this.weftd && !this.weftd.alive) throw new Error(`weftd has ended:\n${this.log}`);
      const status = await readStatus(this.runDir);
      const programmed = status.peers.filter((peer) => peer.programmed).flatMap((peer) => peer.publicAddresses);
      return status.state === 'running' && wanted.every((address) => programmed.includes(address)) && status;
    });
  }

  /** The subnets that weftd leased for it, one of each family. */
  get subnets(): string[] {
    return (JSON.parse(readFileSync(join(this.runDir, 'node.json'), 'utf8')) as { subnets: string[] }).subnets;
  }

  get subnet(): string {
    return this.subnets[0]!;
  }

  /** The example's configuration with this host's paths. */
  get conflist(): Conflist {
    const example = readConflist(exampleConflist);
    return {
      ...example,
      plugins: example.plugins.map((plugin) => {
        if (plugin.type !== 'weft') return plugin;
        const ipam = { ...(plugin['ipam'] as object), dataDir: this.dataDir };
        return { ...plugin, runDir: this.runDir, subnetFile: this.subnetFile, ipam };
      }),
    };
  }

  get network(): Network {
    const cacheFolder = join(this.folder, 'cni-cache');
    return new Network(this.conflist, { namespace: this.namespace, cacheFolder, folders: ['/usr/lib/cni'] });
  }

  /** New pods, not attached yet. */
  addPods(count: number): Pod[] {
    const names = Array.from({ length: count }, () => `${this.name}-${String.fromCharCode(97 + this.#podCount++)}`);
    const namespaces = this.scratch.addNamespaces(names);
    const pods = names.map((name, i) => new Pod(this, name, namespaces[i]!));
    this.pods.push(...pods);
    return pods;
  }

  attachPods(count: number): Pod[] {
    return this.addPods(count).map((pod) => pod.attach());
  }
}
