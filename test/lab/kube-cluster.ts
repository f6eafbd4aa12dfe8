/** A cluster whose nodes find each other by Kubernetes: the API server in the underlay, hosts on it, a Node object for each. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Family } from '../../net/address.ts';
import { Host, type Surroundings } from './host.ts';
import { Kube } from './kube.ts';
import { Scratch } from './scratch.ts';
import { Underlay } from './underlay.ts';
import { folderArguments } from './weftd.ts';

/** The number at the end of the first host's addresses. */
const firstHost = 11;

export const annotationPrefix = 'flannel.alpha.coreos.com/';

export class KubeHost extends Host {
  kube!: Kube;
  /** Instead of the one that the lab gives to all of them. */
  kubeconfig: string | undefined;

  get netConfPath(): string {
    return join(this.folder, 'conf', 'net-conf.json');
  }

  writeConfig(config: string): void {
    mkdirSync(join(this.folder, 'conf'), { recursive: true });
    writeFileSync(this.netConfPath, config);
  }

  override get weftdArguments(): string[] {
    return [
      ...folderArguments(this.files, this.name),
      ...['--kube-subnet-mgr', '--kubeconfig-file', this.kubeconfig ?? this.kube.kubeconfig()],
      ...['--net-config-path', this.netConfPath],
    ];
  }

  /** Our annotations of its Node, without the prefix. */
  get annotations(): Record<string, string> {
    return Object.fromEntries(
      Object.entries(this.kube.annotations(this.name))
        .filter(([key]) => key.startsWith(annotationPrefix))
        .map(([key, value]) => [key.slice(annotationPrefix.length), value]),
    );
  }

  annotate(annotations: Readonly<Record<string, string | null>>): void {
    const prefixed = Object.entries(annotations).map(([key, value]) => [annotationPrefix + key, value]);
    this.kube.annotate(this.name, Object.fromEntries(prefixed));
  }
}

export interface KubeClusterOptions {
  readonly hosts: number;
  readonly config: string;
  readonly families?: readonly Family[];
  /** Of host number n, from 1. */
  readonly podCIDRs?: (n: number) => readonly string[];
  /** weftd's further arguments. */
  readonly arguments?: readonly string[];
}

export class KubeCluster implements Surroundings {
  readonly scratch: Scratch;
  readonly underlay: Underlay;
  readonly kube: Kube;
  readonly hosts: KubeHost[] = [];
  readonly #options: KubeClusterOptions;

  constructor(label: string, options: KubeClusterOptions) {
    this.#options = options;
    this.scratch = new Scratch(label);
    this.underlay = new Underlay(this.scratch, options.families ? { families: options.families } : {});
    const { gateway: address, namespace } = this.underlay;
    this.kube = new Kube({ scratch: this.scratch, namespace, address, port: 6443 });
  }

  /** A host that runs nothing, and its network config. */
  addHost(): KubeHost {
    const n = this.hosts.length + 1;
    const host = new KubeHost(this, `host${n}`, firstHost + n - 1);
    host.kube = this.kube;
    host.writeConfig(this.#options.config);
    this.hosts.push(host);
    return host;
  }

  podCIDRs(n: number): readonly string[] {
    return this.#options.podCIDRs?.(n) ?? [`10.244.${n}.0/24`];
  }

  /** Starts a weftd on each host, for Nodes that are there. */
  async startAll(): Promise<void> {
    await this.kube.start();
    for (let n = 1; n <= this.#options.hosts; n++) {
      const host = this.addHost();
      this.kube.addNode(host.name, this.podCIDRs(n));
      host.startWeftd(...(this.#options.arguments ?? []));
    }
    for (const host of this.hosts) await host.reaches(this.hosts);
  }

  remove(): void {
    this.scratch.remove();
  }
}

export async function startKubeCluster(label: string, options: KubeClusterOptions): Promise<KubeCluster> {
  const cluster = new KubeCluster(label, options);
  try {
    await cluster.startAll();
    return cluster;
  } catch (error) {
    const logs = cluster.hosts.map(({ name, log }) => `${name}:\n${log}`).join('\n');
    cluster.remove();
    throw new Error(`Cannot start the cluster: ${error instanceof Error ? error.message : error}\n${logs}`);
  }
}
