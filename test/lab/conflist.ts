/**
 * A network configuration list, called as libcni calls it: every plugin in turn (DEL from the last), each with the
 * list's name and version, the result before it, and the parts of the runtime's configuration that its capabilities name.
 */

import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { findProgram } from './commands.ts';
import { type CniDocument, callPlugin, type Outcome, pluginFolder } from './plugin.ts';

export interface Conflist {
  readonly cniVersion: string;
  readonly name: string;
  readonly plugins: readonly ({ readonly type: string; readonly capabilities?: Record<string, boolean> } & Record<
    string,
    unknown
  >)[];
}

export interface Attachment {
  readonly containerId: string;
  /** A path. */
  readonly netns: string;
  readonly ifname?: string;
  readonly args?: string;
  /** By capability: portMappings, ips, mac, … */
  readonly runtimeConfig?: Record<string, unknown>;
}

export interface RunnerOptions {
  /** Name of the network namespace that stands for the host. */
  readonly namespace: string;
  /** The folder of results between ADD and DEL. */
  readonly cacheFolder: string;
  /** Folders of plugins besides the ones under test. */
  readonly folders?: readonly string[];
  /** All folders, instead: a plugin is found in the first that has it. */
  readonly path?: string;
  /** A program and its arguments that run each plugin: `nsenter …`. */
  readonly through?: readonly string[];
  /** Where a plugin is, for `through`; found in the path by default. */
  readonly executableOf?: (type: string) => string;
}

export const readConflist = (path: string): Conflist => JSON.parse(readFileSync(path, 'utf8')) as Conflist;

/** A plugin said no. */
export class PluginError extends Error {
  readonly document: CniDocument;

  constructor(type: string, command: string, { status, stdout, stderr, document }: Outcome) {
    super(`${type} ${command}: ${document?.msg ?? `status ${status}: ${stdout}${stderr}`}`);
    this.document = document ?? {};
  }
}

export class Network {
  readonly conflist: Conflist;
  readonly #options: RunnerOptions;

  constructor(conflist: Conflist, options: RunnerOptions) {
    this.conflist = conflist;
    this.#options = options;
  }

  #call(command: string, index: number, attachment: Attachment, prevResult: CniDocument | undefined): CniDocument {
    const { cniVersion, name, plugins } = this.conflist;
    const { namespace, folders = [], path = [pluginFolder, ...folders].join(':'), through } = this.#options;
    const { executableOf = (type: string) => findProgram(type, path) } = this.#options;
    const { capabilities = {}, ...plugin } = plugins[index]!;
    const asked = Object.entries(attachment.runtimeConfig ?? {}).filter(([key]) => capabilities[key]);
    const outcome = callPlugin('weft', {
      command,
      containerId: attachment.containerId,
      netns: attachment.netns,
      ifname: attachment.ifname ?? 'eth0',
      ...(attachment.args !== undefined && { args: attachment.args }),
      path,
      executable: executableOf(plugin.type),
      // iptables has to be found by portmap.
      environment: { PATH: process.env['PATH'] ?? '' },
      namespace,
      ...(through && { through }),
      stdin: {
        ...plugin,
        cniVersion,
        name,
        ...(asked.length > 0 && { runtimeConfig: Object.fromEntries(asked) }),
        ...(prevResult && { prevResult }),
      },
    });
    if (outcome.status !== 0) throw new PluginError(plugin.type, command, outcome);
    return outcome.document ?? {};
  }

  #cacheFile({ containerId, ifname = 'eth0' }: Attachment): string {
    return join(this.#options.cacheFolder, `${this.conflist.name}-${containerId}-${ifname}`);
  }

  cachedResult(attachment: Attachment): CniDocument | undefined {
    try {
      return JSON.parse(readFileSync(this.#cacheFile(attachment), 'utf8')) as CniDocument;
    } catch {
      return undefined;
    }
  }

  add(attachment: Attachment): CniDocument {
    let result: CniDocument | undefined;
    for (const index of this.conflist.plugins.keys()) result = this.#call('ADD', index, attachment, result);
    mkdirSync(this.#options.cacheFolder, { recursive: true });
    writeFileSync(this.#cacheFile(attachment), JSON.stringify(result));
    return result!;
  }

  check(attachment: Attachment): void {
    const result = this.cachedResult(attachment);
    for (const index of this.conflist.plugins.keys()) this.#call('CHECK', index, attachment, result);
  }

  delete(attachment: Attachment): void {
    const result = this.cachedResult(attachment);
    for (const index of [...this.conflist.plugins.keys()].reverse()) this.#call('DEL', index, attachment, result);
    rmSync(this.#cacheFile(attachment), { force: true });
  }
}
