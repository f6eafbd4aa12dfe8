/** A weftd of a host's own: its files, its arguments, and its answer on its socket. */

import { request } from 'node:http';
import { join } from 'node:path';
import type { NodeStatus } from '../../cluster/status.ts';

/** The files of one weftd and of the plugins beside it, in a folder that no other host has. */
export class NodeFiles {
  readonly folder: string;

  constructor(folder: string) {
    this.folder = folder;
  }

  get runDir(): string {
    return join(this.folder, 'run');
  }

  get stateDir(): string {
    return join(this.folder, 'state');
  }

  get subnetFile(): string {
    return join(this.folder, 'subnet.env');
  }

  /** The plugins' reservations. */
  get dataDir(): string {
    return join(this.folder, 'networks');
  }

  get logFile(): string {
    return join(this.folder, 'weftd.log');
  }
}

/** The arguments that keep a weftd apart from others on the same machine. */
export const folderArguments = (files: NodeFiles, node: string): string[] => [
  ...['--node', node, '--run-dir', files.runDir],
  ...['--subnet-file', files.subnetFile, '--state-dir', files.stateDir, '--cni-data-dir', files.dataDir],
];

export const weftdArguments = (files: NodeFiles, node: string, etcdEndpoints: string): string[] => [
  ...folderArguments(files, node),
  ...['--etcd-endpoints', etcdEndpoints],
];

/** Asks weftd on its unix socket, which takes a millisecond; weftctl takes fifty to start. @throws where it does not answer */
export function readStatus(runDir: string): Promise<NodeStatus> {
  return new Promise((resolve, reject) => {
    const options = { socketPath: join(runDir, 'weftd.sock'), path: '/status', headers: { host: 'weftd' } };
    const asking = request({ ...options, timeout: 5000 }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => {
        text += part;
      });
      response.on('error', reject);
      response.on('end', () => {
        if (response.statusCode !== 200) reject(new Error(`weftd answers ${response.statusCode}: ${text}`));
        else resolve(JSON.parse(text) as NodeStatus);
      });
    });
    asking.on('timeout', () => asking.destroy(new Error('weftd does not answer')));
    asking.on('error', reject);
    asking.end();
  });
}
