/** The real flanneld with Kubernetes as its store, on a host of a `KubeCluster`. WEFT_TEST_FLANNELD names it. */

import { existsSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { Service } from './commands.ts';
import { flanneldPath } from './flannel.ts';
import type { KubeHost } from './kube-cluster.ts';
import { waitFor } from './wait.ts';

export class KubeFlanneld {
  readonly #host: KubeHost;
  #service: Service | undefined;
  #starts = 0;

  constructor(host: KubeHost) {
    this.#host = host;
  }

  get isAlive(): boolean {
    return this.#service?.alive === true;
  }

  /** Resolves once it says that it is ready. */
  async start(...further: string[]): Promise<void> {
    if (flanneldPath === undefined) throw new Error('WEFT_TEST_FLANNELD names no flanneld');
    const { scratch, namespace, folder, subnetFile, kube, name, netConfPath } = this.#host;
    const logFile = join(folder, `flanneld-${this.#starts++}.log`);
    // Under the name by which weftd finds it, whatever the file's own name is.
    const program = join(folder, 'flanneld');
    if (!existsSync(program)) symlinkSync(flanneldPath, program);
    const argv = [
      ...[program, '--kube-subnet-mgr', '--kubeconfig-file', kube.kubeconfig(), '--net-config-path', netConfPath],
      ...['--subnet-file', subnetFile, '--iface', 'eth0', '--ip-masq', ...further],
    ];
    const service = scratch.start(argv, { namespace, logFile, environment: { ...process.env, NODE_NAME: name } });
    this.#service = service;
    await waitFor('flanneld to be ready', () => {
      const log = readFileSync(logFile, 'utf8');
      if (!service.alive) throw new Error(`flanneld has ended:\n${log}`);
      return log.includes('flannel is ready');
    });
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await this.#service?.stop(signal);
  }
}
