/** A cluster on one machine: an underlay with etcd in it, hosts on it, and pods behind the hosts. */

import { readFileSync } from 'node:fs';
import type { Family } from '../../net/address.ts';
import { Etcd, type EtcdTls } from './etcd.ts';
import { Host, type Surroundings } from './host.ts';
import { exampleConfig } from './project.ts';
import { Scratch, type ScratchOptions } from './scratch.ts';
import { Underlay, type UnderlayOptions } from './underlay.ts';

export const etcdPrefix = '/coreos.com/network';

/** The number at the end of the first host's addresses. */
const firstHost = 11;

export type HostKind<H extends Host> = new (surroundings: Surroundings, name: string, number: number) => H;

export interface BareClusterOptions extends ScratchOptions, UnderlayOptions {
  /** Whether etcd speaks TLS; `useTls` gives it the certificates before it starts. */
  readonly tls?: boolean;
}

export class Cluster implements Surroundings {
  readonly scratch: Scratch;
  readonly underlay: Underlay;
  readonly etcd: Etcd;
  readonly hosts: Host[] = [];

  constructor(label: string, { tls = false, ...options }: BareClusterOptions = {}) {
    this.scratch = new Scratch(label, options);
    this.underlay = new Underlay(this.scratch, options);
    const { gateway, namespace } = this.underlay;
    const url = (address: string): string =>
      `${tls ? 'https' : 'http'}://${address.includes(':') ? `[${address}]` : address}:2379`;
    const endpoint = url(gateway);
    this.etcd = new Etcd({
      scratch: this.scratch,
      folder: this.scratch.makeFolder('etcd'),
      namespace,
      endpoint,
      listenUrls: [endpoint, url('127.0.0.1')],
    });
  }

  get switchNamespace(): string {
    return this.underlay.namespace;
  }

  get etcdEndpoint(): string {
    return this.etcd.endpoint;
  }

  /** A host with its `eth0` on the switch. */
  addHost(): Host;
  addHost<H extends Host>(kind: HostKind<H>): H;
  addHost(kind: HostKind<Host> = Host): Host {
    const index = this.hosts.length;
    const made = new kind(this, `host${index + 1}`, firstHost + index);
    this.hosts.push(made);
    return made;
  }

  /** @param further arguments of etcd's */
  async startEtcd(...further: string[]): Promise<void> {
    await this.etcd.start(...further);
  }

  async stopEtcd(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    await this.etcd.stop(signal);
  }

  useTls(tls: EtcdTls): void {
    this.etcd.useTls(tls);
  }

  etcdctl(...words: string[]): string {
    return this.etcd.ctl(...words);
  }

  /** A key of the cluster's, below its prefix: what etcd holds there. */
  get(key: string): string {
    return this.etcdctl('get', `${etcdPrefix}/${key}`, '--print-value-only').replace(/\n$/, '');
  }

  put(key: string, value: string): void {
    this.etcdctl('put', `${etcdPrefix}/${key}`, value);
  }

  remove(): void {
    this.scratch.remove();
  }
}

export interface ClusterOptions {
  readonly hosts: number;
  /** The network config; the example's unless told; null for none. */
  readonly config?: string | null;
  /** weftd's further arguments. */
  readonly arguments?: readonly string[];
  readonly families?: readonly Family[];
}

/** etcd with a network config, and so many hosts whose weftd reaches all the others. */
export async function startCluster(label: string, options: ClusterOptions): Promise<Cluster> {
  const cluster = new Cluster(label, options.families ? { families: options.families } : {});
  try {
    await cluster.startEtcd();
    const { config = readFileSync(exampleConfig, 'utf8') } = options;
    if (config !== null) cluster.put('config', config);
    for (let i = 0; i < options.hosts; i++) cluster.addHost();
    for (const host of cluster.hosts) host.startWeftd(...(options.arguments ?? []));
    for (const host of cluster.hosts) await host.reaches(cluster.hosts);
    return cluster;
  } catch (error) {
    const logs = cluster.hosts.map(({ name, log }) => `${name}:\n${log}`).join('\n');
    cluster.remove();
    throw new Error(`Cannot start the cluster: ${error instanceof Error ? error.message : error}\n${logs}`);
  }
}
