/** Kubernetes' answers, without weftd: the nodes of the cluster, from wherever its API server can be reached. */

import type { KubernetesOptions } from '../cluster/kubernetes/options.ts';
import type { ClusterNodes, ConfigDocument, NodeStatus, PathSurvey, RecentLog } from '../cluster/status.ts';
import { backends } from '../daemon/backends/map.ts';
import { CliError, type CliHost } from './host.ts';
import { clockOf, type SocketSource, type Source } from './source.ts';

const timeoutMs = 10_000;

const noConfig = (): CliError =>
  new CliError(
    "In Kubernetes the network config is a file of weftd's (--net-config-path), which a ConfigMap brings: " +
      'ask weftd on a node without --kubeconfig-file, or change the ConfigMap',
  );

export class KubernetesSource implements Source {
  readonly name: string;
  readonly storeName = 'Kubernetes';
  readonly #options: KubernetesOptions;
  readonly #host: CliHost;
  readonly #socket: SocketSource;

  constructor(options: KubernetesOptions, host: CliHost, socket: SocketSource) {
    this.name = options.apiUrl ?? options.kubeconfigFile ?? '';
    this.#options = options;
    this.#host = host;
    this.#socket = socket;
  }

  status(): Promise<NodeStatus> {
    return this.#socket.status();
  }

  logs(after: number): Promise<RecentLog> {
    return this.#socket.logs(after);
  }

  survey(): Promise<PathSurvey> {
    return this.#socket.survey();
  }

  async nodes(): Promise<ClusterNodes> {
    const [{ KubeClient }, { Credentials }, { listKubernetesNodes }] = await Promise.all([
      import('../cluster/kubernetes/client.ts'),
      import('../cluster/kubernetes/credentials.ts'),
      import('../cluster/kubernetes/list-nodes.ts'),
    ]);
    const { environment } = this.#host;
    const credentials = new Credentials({ kubernetes: this.#options, environment });
    const client = new KubeClient({ credentials, clock: clockOf(this.#host), timeoutMs, observer: undefined });
    try {
      return await listKubernetesNodes(client, this.#options.annotationPrefix, backends);
    } finally {
      client.close();
    }
  }

  async config(): Promise<ConfigDocument | undefined> {
    throw noConfig();
  }

  async updateConfig(): Promise<ConfigDocument> {
    throw noConfig();
  }

  close(): void {}
}
