/**
 * A cluster on one machine: a switch (a network namespace with a bridge, where etcd runs, too), hosts behind it (one
 * network namespace and one set of folders each), and pods behind the hosts.
 */

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { NodeStatus } from '../../cluster/status.ts';
import type { Family } from '../../net/address.ts';
import type { Certificate } from '../support/certificates.ts';
import type { CniDocument } from '../support/cni.ts';
import { execute, type Finished, run, type Service } from './commands.ts';
import { type Attachment, type Conflist, Network, readConflist } from './conflist.ts';
import { describeHost } from './kernel-state.ts';
import { Scratch, type ScratchOptions } from './scratch.ts';
import { waitFor } from './wait.ts';

export const root = fileURLToPath(new URL('../../', import.meta.url));
const program = (name: string): string => join(root, 'dist/bin', name);

/** The network between the hosts. Nothing of it is seen outside of the namespaces. */
const underlay = {
  4: { prefix: '192.168.77.', length: 24 },
  6: { prefix: 'fd77::', length: 64 },
} as const;
const [switchHost, firstHost] = [1, 11];
const addressOf = (family: Family, host: number): string => underlay[family].prefix + host;
const endpointOf = (family: Family): string =>
  family === 4 ? `http://${addressOf(4, switchHost)}:2379` : `http://[${addressOf(6, switchHost)}]:2379`;

/** etcd's where the hosts have IPv4 addresses. */
export const etcdEndpoint = endpointOf(4);
export const etcdAddress = addressOf(4, switchHost);
export const etcdPrefix = '/coreos.com/network';

export const exampleConflist = join(root, 'examples/10-weft.conflist');
export const exampleConfig = join(root, 'examples/network-config.json');

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
    this.attachment = { containerId: name, netns: `/run/netns/${namespace}` };
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

export class Host {
  readonly cluster: Cluster;
  readonly name: string;
  readonly namespace: string;
  /** Of each of the cluster's families, IPv4's first. */
  readonly addresses: readonly string[];
  readonly folder: string;
  readonly pods: Pod[] = [];
  weftd: Service | undefined;
  #podCount = 0;

  constructor(cluster: Cluster, name: string, namespace: string, addresses: readonly string[]) {
    this.cluster = cluster;
    this.name = name;
    this.namespace = namespace;
    this.addresses = addresses;
    this.folder = cluster.scratch.makeFolder(name);
  }

  get address(): string {
    return this.addresses[0]!;
  }

  get runDir(): string {
    return join(this.folder, 'run');
  }

  get subnetFile(): string {
    return join(this.folder, 'subnet.env');
  }

  get dataDir(): string {
    return join(this.folder, 'networks');
  }

  get logFile(): string {
    return join(this.folder, 'weftd.log');
  }

  get log(): string {
    return existsSync(this.logFile) ? readFileSync(this.logFile, 'utf8') : '';
  }

  /** The paths and names that make this host another one than its neighbours on the same machine. */
  get weftdArguments(): string[] {
    return [
      ...['--node', this.name, '--etcd-endpoints', this.cluster.etcdEndpoint, '--run-dir', this.runDir],
      ...['--subnet-file', this.subnetFile, '--state-dir', join(this.folder, 'state'), '--cni-data-dir', this.dataDir],
    ];
  }

  startWeftd(...further: string[]): Service {
    return this.startWeftdThrough([], ...further);
  }

  /** @param through a program and its arguments that run weftd for us */
  startWeftdThrough(through: readonly string[], ...further: string[]): Service {
    const argv = [...through, program('weftd'), ...this.weftdArguments, '--log-format', 'text', ...further];
    this.weftd = this.cluster.scratch.start(argv, { namespace: this.namespace, logFile: this.logFile });
    return this.weftd;
  }

  /** @param environment the whole of it */
  startWeftdWith(environment: Record<string, string>, ...further: string[]): Service {
    const argv = [program('weftd'), ...this.weftdArguments, '--log-format', 'text', ...further];
    this.weftd = this.cluster.scratch.start(argv, { namespace: this.namespace, logFile: this.logFile, environment });
    return this.weftd;
  }

  /** Runs weftd to its end: for `--leave`, and for what it refuses. */
  runWeftd(...further: string[]): Finished {
    const argv = [program('weftd'), ...this.weftdArguments, ...further];
    return execute(argv, { namespace: this.namespace, timeoutMs: 30_000 });
  }

  /** The same without any right. */
  runWeftdAsNobody(): Finished {
    const nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--inh-caps=-all', '--'];
    const argv = [...nobody, program('weftd'), ...this.weftdArguments];
    return execute(argv, { namespace: this.namespace, timeoutMs: 30_000 });
  }

  weftctl(...words: string[]): Finished {
    return execute([program('weftctl'), '--run-dir', this.runDir, ...words], { namespace: this.namespace });
  }

  status(): NodeStatus {
    const { status, stdout, stderr } = this.weftctl('status', '--json');
    if (status !== 0) throw new Error(`weftctl status: ${stderr || stdout}`);
    return JSON.parse(stdout) as NodeStatus;
  }

  /** Waits until weftd runs and has programmed all these hosts. */
  async reaches(others: readonly Host[]): Promise<NodeStatus> {
    const wanted = others.filter((host) => host !== this).flatMap(({ addresses }) => addresses);
    return await waitFor(`${this.name} to reach ${wanted.join(', ')}`, () => {
      if (this.weftd && !this.weftd.alive) throw new Error(`weftd has ended:\n${this.log}`);
      const status = this.status();
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
    const namespaces = this.cluster.scratch.addNamespaces(names);
    const pods = names.map((name, i) => new Pod(this, name, namespaces[i]!));
    this.pods.push(...pods);
    return pods;
  }

  attachPods(count: number): Pod[] {
    return this.addPods(count).map((pod) => pod.attach());
  }

  ip(...words: string[]): string {
    return run(['ip', '-n', this.namespace, ...words]);
  }

  describe(): string[] {
    return describeHost(this.namespace);
  }
}

export type HostKind<H extends Host> = new (
  cluster: Cluster,
  name: string,
  namespace: string,
  addresses: readonly string[],
) => H;

export interface UnderlayOptions extends ScratchOptions {
  /** Of the addresses that the hosts have; IPv4 unless told. */
  readonly families?: readonly Family[];
}

/** PEM files of an etcd that speaks TLS and wants certificates of its clients. */
export interface EtcdTls {
  readonly caFile: string;
  readonly server: Certificate;
  /** etcdctl's. */
  readonly client: Certificate;
}

export class Cluster {
  readonly scratch: Scratch;
  readonly families: readonly Family[];
  readonly switchNamespace: string;
  readonly hosts: Host[] = [];
  etcd: Service | undefined;
  /** Set before etcd starts. */
  tls: EtcdTls | undefined;

  constructor(label: string, { families = [4], ...options }: UnderlayOptions = {}) {
    this.scratch = new Scratch(label, options);
    this.families = families;
    this.switchNamespace = this.scratch.addNamespace('switch');
    this.inSwitch('link add br0 type bridge', 'link set br0 up', ...this.#addressLines(switchHost, 'br0'));
  }

  /** Lines of `ip -batch` that give a device its addresses. Nothing here has to be found out to be free first. */
  #addressLines(host: number, device: string): string[] {
    return this.families.map((family) => {
      const address = `${addressOf(family, host)}/${underlay[family].length}`;
      return `addr add ${address} dev ${device}${family === 6 ? ' nodad' : ''}`;
    });
  }

  /** Lines of `ip -batch` for the switch. */
  inSwitch(...lines: string[]): void {
    run(['ip', '-n', this.switchNamespace, '-batch', '-'], { stdin: `${lines.join('\n')}\n` });
  }

  /** A host with its `eth0` on the switch. */
  addHost(): Host;
  addHost<H extends Host>(kind: HostKind<H>): H;
  addHost(kind: HostKind<Host> = Host): Host {
    const number = this.hosts.length + 1;
    const name = `host${number}`;
    const namespace = this.scratch.addNamespace(name);
    const host = firstHost + number - 1;
    this.inSwitch(
      `link add ${name} type veth peer name eth0 netns ${namespace}`,
      `link set ${name} master br0`,
      `link set ${name} up`,
    );
    // Nor its link-local address, without which it could not look for another host's MAC at once.
    if (this.families.includes(6)) run(['sysctl', '-qw', 'net.ipv6.conf.eth0.accept_dad=0'], { namespace });
    const lines = [
      ...this.#addressLines(host, 'eth0'),
      'link set eth0 up',
      ...this.families.map((family) => `route add default via ${addressOf(family, switchHost)}`),
    ];
    run(['ip', '-n', namespace, '-batch', '-'], { stdin: `${lines.join('\n')}\n` });
    const addresses = this.families.map((family) => addressOf(family, host));
    const made = new kind(this, name, namespace, addresses);
    this.hosts.push(made);
    return made;
  }

  get etcdEndpoint(): string {
    const endpoint = endpointOf(this.families[0]!);
    return this.tls ? endpoint.replace('http:', 'https:') : endpoint;
  }

  /** @param further arguments of etcd's */
  async startEtcd(...further: string[]): Promise<void> {
    const { tls } = this;
    const folder = this.scratch.makeFolder('etcd');
    const peer = 'http://127.0.0.1:2380';
    const clients = `${this.etcdEndpoint},${tls ? 'https' : 'http'}://127.0.0.1:2379`;
    const argv = [
      ...['etcd', '--name', 'one', '--data-dir', join(folder, 'data'), '--logger', 'zap', '--log-outputs', 'stderr'],
      ...['--listen-client-urls', clients, '--advertise-client-urls', this.etcdEndpoint],
      ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer, '--initial-cluster', `one=${peer}`],
      ...['--heartbeat-interval', '50', '--election-timeout', '500'],
      ...(tls ? ['--client-cert-auth', '--trusted-ca-file', tls.caFile] : []),
      ...(tls ? ['--cert-file', tls.server.certFile, '--key-file', tls.server.keyFile] : []),
      ...further,
    ];
    const logFile = join(folder, 'log');
    const etcd = this.scratch.start(argv, { namespace: this.switchNamespace, logFile });
    this.etcd = etcd;
    await waitFor('etcd to answer', () => {
      if (!etcd.alive) throw new Error(`etcd has ended: ${readFileSync(logFile, 'utf8').slice(-2000)}`);
      return this.etcdctl('get', '/') === '';
    });
  }

  async stopEtcd(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    await this.etcd?.stop(signal);
  }

  etcdctl(...words: string[]): string {
    const environment = { PATH: process.env['PATH'] ?? '', ETCDCTL_API: '3' };
    const { tls } = this;
    const argv = [
      ...['etcdctl', '--endpoints', this.etcdEndpoint, '--command-timeout', '2s'],
      ...(tls ? ['--cacert', tls.caFile, '--cert', tls.client.certFile, '--key', tls.client.keyFile] : []),
      ...words,
    ];
    return run(argv, { namespace: this.switchNamespace, environment });
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
