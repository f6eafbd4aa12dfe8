/**
 * A real Kubernetes control plane: etcd and the API server, in a namespace or on this machine's loopback. No kubelet and no
 * controller runs: tests make Node objects themselves. `test/kubernetes/kube.mjs` builds the executable.
 */

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CertificateAuthority } from '../support/certificates.ts';
import { execute, type Finished, run, type Service } from './commands.ts';
import type { Scratch } from './scratch.ts';
import { waitFor } from './wait.ts';

/** The rights of weftd and no more; flanneld's are the same. */
const rights = {
  apiVersion: 'v1',
  kind: 'List',
  items: [
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'ClusterRole',
      metadata: { name: 'weft' },
      rules: [
        { apiGroups: [''], resources: ['nodes'], verbs: ['get', 'list', 'watch'] },
        { apiGroups: [''], resources: ['nodes/status'], verbs: ['patch'] },
        { apiGroups: [''], resources: ['events'], verbs: ['create'] },
      ],
    },
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'ClusterRoleBinding',
      metadata: { name: 'weft' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'weft' },
      subjects: [{ kind: 'Group', apiGroup: 'rbac.authorization.k8s.io', name: 'weft' }],
    },
  ],
};

/** The parts of a Node object that tests look at. */
export interface NodeObject {
  readonly metadata: {
    readonly name: string;
    readonly uid: string;
    readonly resourceVersion: string;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly spec: { readonly podCIDR?: string; readonly podCIDRs?: readonly string[] };
  readonly status: { readonly conditions?: readonly Readonly<Record<string, string>>[] };
}

export interface KubeOptions {
  /** Stops it at the latest when it is removed. */
  readonly scratch: Scratch;
  /** The name of a network namespace; this process's by default. */
  readonly namespace?: string;
  /** Where the API server listens. The two ports after `port` are etcd's, on the loopback. */
  readonly address: string;
  readonly port: number;
  /** The names of nodes that real kubelets run on: each has a token, `NAME-token`. */
  readonly nodes?: readonly string[];
}

/** What pods reach the API server at: the first address of its services. */
const serviceAddress = '10.96.0.1';
export const podNetwork = '10.244.0.0/16';

type Component = 'etcd' | 'apiserver' | 'controllers' | 'scheduler';

export class Kube {
  readonly url: string;
  readonly folder: string;
  readonly caFile: string;
  readonly #options: KubeOptions;
  readonly #program: string;
  readonly #services = new Map<Component, Service>();

  constructor(options: KubeOptions) {
    const { scratch, address, port } = options;
    this.#options = options;
    this.#program = process.env['WEFT_TEST_KUBE'] ?? '';
    if (!existsSync(this.#program))
      throw new Error('WEFT_TEST_KUBE names no executable: "npm test -- kubernetes" does');
    this.folder = scratch.makeFolder('kube');
    this.url = `https://${address.includes(':') ? `[${address}]` : address}:${port}`;
    const authority = new CertificateAuthority(this.folder, 'ca');
    this.caFile = authority.caFile;
    authority.issue('apiserver', { names: `IP:${address},IP:127.0.0.1,IP:${serviceAddress},DNS:localhost` });
    run(['openssl', 'genrsa', '-out', this.#file('sa.key'), '2048']);
    this.writeTokens({});
    writeFileSync(this.#file('admin.kubeconfig'), this.kubeconfigText('admin-token'));
  }

  #file(name: string): string {
    return join(this.folder, name);
  }

  /** The users: an administrator, weft with the token given (`weft-token` by default), and nobody with no right. */
  writeTokens({ weft = 'weft-token' }: { readonly weft?: string }): void {
    const { nodes = [] } = this.#options;
    const lines = [
      'admin-token,admin,1,system:masters',
      `${weft},weft,2,weft`,
      'nobody-token,nobody,3,nobody',
      'proxy-token,system:kube-proxy,4,',
      ...nodes.map((name, i) => `${name}-token,system:node:${name},${10 + i},system:nodes`),
    ];
    writeFileSync(this.#file('tokens.csv'), lines.join('\n'));
  }

  kubeconfigText(token: string): string {
    const cluster = { server: this.url, 'certificate-authority': this.caFile };
    return JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': 'c',
      clusters: [{ name: 'c', cluster }],
      users: [{ name: 'c', user: { token } }],
      contexts: [{ name: 'c', context: { cluster: 'c', user: 'c' } }],
    });
  }

  /** A kubeconfig file with this token. */
  kubeconfig(token = 'weft-token'): string {
    const path = this.#file(`${token}.kubeconfig`);
    writeFileSync(path, this.kubeconfigText(token));
    return path;
  }

  #start(name: Component, argv: readonly string[]): void {
    const { scratch, namespace } = this.#options;
    const service = scratch.start([this.#program, ...argv], { namespace, logFile: this.#file(`${name}.log`) });
    this.#services.set(name, service);
  }

  #startEtcd(): void {
    const [client, peer] = [1, 2].map((further) => `http://127.0.0.1:${this.#options.port + further}`);
    this.#start('etcd', [
      ...['etcd', '--data-dir', this.#file('etcd'), '--log-level', 'warn', '--unsafe-no-fsync'],
      ...['--listen-client-urls', client!, '--advertise-client-urls', client!],
      ...['--listen-peer-urls', peer!, '--initial-advertise-peer-urls', peer!, '--initial-cluster', `default=${peer}`],
    ]);
  }

  #startApiserver(): void {
    const { address, port } = this.#options;
    // It refuses to advertise a loopback address.
    const advertised = address.startsWith('127.')
      ? '--endpoint-reconciler-type=none'
      : `--advertise-address=${address}`;
    this.#start('apiserver', [
      ...['kube-apiserver', `--etcd-servers=http://127.0.0.1:${port + 1}`, `--bind-address=${address}`, advertised],
      ...[`--secure-port=${port}`, `--client-ca-file=${this.caFile}`, '--authorization-mode=Node,RBAC'],
      ...[
        `--tls-cert-file=${this.#file('apiserver.pem')}`,
        `--tls-private-key-file=${this.#file('apiserver-key.pem')}`,
      ],
      ...[`--token-auth-file=${this.#file('tokens.csv')}`, '--service-account-issuer=https://lab'],
      ...[
        `--service-account-key-file=${this.#file('sa.key')}`,
        `--service-account-signing-key-file=${this.#file('sa.key')}`,
      ],
      ...['--service-cluster-ip-range=10.96.0.0/16', '--enable-admission-plugins=NodeRestriction', '--profiling=false'],
    ]);
  }

  /** The controller manager, which gives nodes their podCIDRs, and the scheduler. */
  startControllers(): void {
    const common = (name: string, port: number): string[] => [
      ...[`--kubeconfig=${this.#file('admin.kubeconfig')}`, '--leader-elect=false', '--bind-address=127.0.0.1'],
      ...[`--secure-port=${port}`, `--cert-dir=${this.#file(`${name}-certificates`)}`],
    ];
    this.#start('controllers', [
      ...['kube-controller-manager', ...common('controllers', this.#options.port + 3)],
      ...['--allocate-node-cidrs', `--cluster-cidr=${podNetwork}`, `--root-ca-file=${this.caFile}`],
      `--service-account-private-key-file=${this.#file('sa.key')}`,
    ]);
    this.#start('scheduler', ['kube-scheduler', ...common('scheduler', this.#options.port + 4)]);
  }

  /** The executable: its first argument is the component. */
  get program(): string {
    return this.#program;
  }

  get apiserver(): Service {
    return this.#services.get('apiserver')!;
  }

  /** Starts both, and waits until weft's rights are in force. */
  async start(): Promise<void> {
    this.#startEtcd();
    this.#startApiserver();
    await this.isReady();
    this.kubectl(['apply', '-f', '-'], JSON.stringify(rights));
  }

  async isReady(): Promise<void> {
    await waitFor(
      'the API server to be ready',
      () => {
        if (!this.apiserver.alive) {
          throw new Error(`it has ended:\n${readFileSync(this.#file('apiserver.log'), 'utf8').slice(-2000)}`);
        }
        return this.try(['get', '--raw', '/readyz']) === 'ok';
      },
      { deadlineMs: 60_000, intervalMs: 100 },
    );
  }

  /** KILL loses nothing, for etcd has it all; by TERM it takes 8 to 14 s. */
  async stopApiserver(): Promise<void> {
    await this.apiserver.stop('SIGKILL');
  }

  /** On its old data. It knows no earlier changes: every watch has to begin anew. */
  async restartApiserver(): Promise<void> {
    await this.stopApiserver();
    this.#startApiserver();
    await this.isReady();
  }

  /** Ends both, and copies what etcd holds. */
  async backUp(): Promise<void> {
    for (const service of this.#services.values()) await service.stop('SIGKILL');
    run(['cp', '-a', this.#file('etcd'), this.#file('backup')]);
  }

  /** Ends both, and gives etcd the data of the copy. */
  async restore(): Promise<void> {
    for (const service of this.#services.values()) await service.stop('SIGKILL');
    run(['rm', '-rf', this.#file('etcd')]);
    run(['cp', '-a', this.#file('backup'), this.#file('etcd')]);
  }

  /** Starts both on the data that is there. */
  async startAgain(): Promise<void> {
    this.#startEtcd();
    this.#startApiserver();
    await this.isReady();
  }

  freeze(name: 'etcd' | 'apiserver'): void {
    process.kill(this.#services.get(name)!.pid, 'SIGSTOP');
  }

  thaw(name: 'etcd' | 'apiserver'): void {
    process.kill(this.#services.get(name)!.pid, 'SIGCONT');
  }

  #kubectl(words: readonly string[], kubeconfig = this.#file('admin.kubeconfig')): string[] {
    const files = ['--kubeconfig', kubeconfig, '--cache-dir', this.#file('kubectl')];
    return [this.#program, 'kubectl', ...files, ...words];
  }

  /** With an administrator's rights, and no exception where it fails. */
  ask(words: readonly string[], stdin = ''): Finished {
    return this.kubectlAs(this.#file('admin.kubeconfig'), words, stdin);
  }

  /** With another user's kubeconfig. */
  kubectlAs(kubeconfig: string, words: readonly string[], stdin = ''): Finished {
    return execute(this.#kubectl(words, kubeconfig), { namespace: this.#options.namespace, stdin });
  }

  /** kubectl's output. @throws where it fails */
  kubectl(words: readonly string[], stdin = ''): string {
    const { namespace } = this.#options;
    return run(this.#kubectl(words), { namespace, stdin });
  }

  /** kubectl's output; undefined where it fails. */
  try(words: readonly string[]): string | undefined {
    const { status, stdout } = execute(this.#kubectl(words), { namespace: this.#options.namespace });
    return status === 0 ? stdout : undefined;
  }

  addNode(name: string, podCIDRs: readonly string[] = [], annotations: Readonly<Record<string, string>> = {}): void {
    const spec = podCIDRs.length > 0 ? { podCIDR: podCIDRs[0], podCIDRs } : {};
    const node = { apiVersion: 'v1', kind: 'Node', metadata: { name, annotations }, spec };
    this.kubectl(['create', '-f', '-'], JSON.stringify(node));
  }

  /** What the controller manager does some time after a Node was made. */
  giveCidrs(name: string, podCIDRs: readonly string[]): void {
    const patch = JSON.stringify({ spec: { podCIDR: podCIDRs[0], podCIDRs } });
    this.kubectl(['patch', 'node', name, '--type=merge', '-p', patch]);
  }

  removeNode(name: string): void {
    this.kubectl(['delete', 'node', name, '--wait=false']);
  }

  /** Sets annotations; null removes one. */
  annotate(name: string, annotations: Readonly<Record<string, string | null>>): void {
    const patch = JSON.stringify({ metadata: { annotations } });
    this.kubectl(['patch', 'node', name, '--type=merge', '-p', patch]);
  }

  node(name: string): NodeObject {
    return JSON.parse(this.kubectl(['get', 'node', name, '-o', 'json'])) as NodeObject;
  }

  annotations(name: string): Readonly<Record<string, string>> {
    return this.node(name).metadata.annotations ?? {};
  }
}
