/**
 * A host without weftd: a network namespace with the plugins, a folder of network configurations, and processes in network
 * namespaces of their own, which stand for containers.
 */

import { readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BareHost } from './bare-host.ts';
import { type Finished, run, type Service } from './commands.ts';
import { program, root } from './project.ts';
import type { Scratch } from './scratch.ts';
import { waitFor } from './wait.ts';

/** A process that runs in a namespace of its own. */
export interface Contained {
  readonly service: Service;
  readonly pid: number;
  readonly namespace: string;
}

interface LinkLine {
  readonly ifname: string;
  readonly ifindex: number;
  /** Of the other end, where it is in another namespace. */
  readonly link_index?: number;
}

const linksOf = (namespace: string): LinkLine[] =>
  JSON.parse(run(['ip', '-n', namespace, '-json', 'link']) || '[]') as LinkLine[];

export class PluginHost extends BareHost {
  #count = 0;

  constructor(scratch: Scratch, name: string) {
    super(scratch, name);
    for (const folder of ['net.d', 'cache']) scratch.makeFolder(name, folder);
  }

  get confDir(): string {
    return join(this.folder, 'net.d');
  }

  get cacheDir(): string {
    return join(this.folder, 'cache');
  }

  /** A list of plugins with `weft` first. */
  writeNetwork(
    name: string,
    subnet: string,
    options: { cniVersion?: string; further?: readonly object[] } = {},
  ): string {
    const { cniVersion = '1.0.0', further = [] } = options;
    const ipam = { type: 'weft-ipam', dataDir: this.dataDir, ranges: [[{ subnet }]] };
    const bridge = `br-${name}`;
    const plugin = {
      type: 'weft',
      bridge,
      runDir: this.runDir,
      subnetFile: this.subnetFile,
      isDefaultGateway: true,
      ipam,
    };
    const path = join(this.confDir, `10-${name}.conflist`);
    writeFileSync(path, JSON.stringify({ cniVersion, name, plugins: [plugin, ...further] }));
    return path;
  }

  /** Starts a process in a new namespace. */
  async startContained(): Promise<Contained> {
    const namespace = this.scratch.addNamespace(`${this.name}-c${++this.#count}`);
    return await this.startIn(namespace);
  }

  async startIn(namespace: string): Promise<Contained> {
    const logFile = join(this.folder, 'contained.log');
    const service = this.scratch.start(['sleep', 'infinity'], { namespace, logFile });
    const own = readlinkSync('/proc/self/ns/net');
    const { pid } = service;
    await waitFor('the process in its namespace', () => readlinkSync(`/proc/${pid}/ns/net`) !== own);
    return { service, pid, namespace };
  }

  /** Ends a process, and its namespace with it. */
  async end({ service, namespace }: Contained): Promise<void> {
    await service.stop('SIGKILL');
    await this.endNamespace(namespace);
  }

  /** The kernel removes a namespace's interfaces some time after its end. */
  async endNamespace(namespace: string): Promise<void> {
    const peers = linksOf(namespace).flatMap(({ link_index }) => link_index ?? []);
    this.scratch.removeNamespaces([namespace]);
    await waitFor(
      'the end of the pairs',
      () => !linksOf(this.namespace).some(({ ifindex }) => peers.includes(ifindex)),
    );
  }

  /** The names of the host's ends. */
  veths(): string[] {
    return linksOf(this.namespace).flatMap(({ ifname }) => (ifname.startsWith('veth') ? ifname : []));
  }

  /** weftctl with this host's folders. */
  weftctl(words: readonly string[], environment: Record<string, string> = {}): Finished {
    const [verb, ...others] = words;
    const folders = ['--conf-dir', this.confDir, '--cache-dir', this.cacheDir, '--bin-dir', join(root, 'dist/bin')];
    return this.execute([program('weftctl'), '--run-dir', this.runDir, verb!, ...folders, ...others], {
      environment: { PATH: process.env['PATH'] ?? '', ...environment },
    });
  }

  addressesIn(namespace: string, ifname: string): string[] {
    const text = this.execute(['ip', '-n', namespace, '-json', 'addr', 'show', 'dev', ifname]).stdout;
    const [link] = (text.trim() === '' ? [] : JSON.parse(text)) as { addr_info: { local: string; scope: string }[] }[];
    return (link?.addr_info ?? []).filter(({ scope }) => scope === 'global').map(({ local }) => local);
  }
}
