/** Calls a built CNI program as a container runtime does: environment and stdin in; status, stdout and stderr out. */

import { execute, executeAsync, type Finished } from './commands.ts';
import { referenceFolder, root } from './project.ts';

/** The runtime of the programs: the native one, or Bun with the same bundle. WEFT_TEST_HOST chooses. */
export const pluginHost = process.env['WEFT_TEST_HOST'] === 'bun' ? 'bun' : 'native';

/** The folder of the programs under test. */
export const pluginFolder = `${root}dist/${pluginHost === 'bun' ? 'bun' : 'bin'}`;

/** CNI_PATH with the reference's plugins, too. */
export const bothFolders = `${pluginFolder}:${referenceFolder}`;

export type Program = 'weft' | 'weft-ipam' | 'flannel' | 'loopback';

export interface CallOptions {
  /** CNI_COMMAND; without it the variable is missing. */
  readonly command?: string | undefined;
  readonly containerId?: string | undefined;
  /** CNI_NETNS, a path. */
  readonly netns?: string | undefined;
  readonly ifname?: string | undefined;
  /** CNI_PATH; the folder of the programs under test unless null, which leaves it out. */
  readonly path?: string | null;
  /** CNI_ARGS. */
  readonly args?: string;
  /** Any further variables. */
  readonly environment?: Record<string, string>;
  /** The network configuration: text as it is, anything else as JSON. */
  readonly stdin?: unknown;
  /** A file instead. */
  readonly stdinFile?: string;
  /** Name of the network namespace that stands for the host. */
  readonly namespace?: string | undefined;
  /** A program and its arguments that run the plugin for us: `strace …`. */
  readonly through?: readonly string[];
  /** Another executable than the one under test. */
  readonly executable?: string;
}

/** Fields that the documents on stdout may have, all versions' together. */
export interface CniDocument {
  cniVersion?: string;
  code?: number;
  msg?: string;
  details?: string;
  supportedVersions?: string[];
  interfaces?: { name: string; mac?: string; sandbox?: string; mtu?: number }[];
  ips?: { version?: string; interface?: number; address: string; gateway?: string }[];
  routes?: {
    dst: string;
    gw?: string;
    mtu?: number;
    advmss?: number;
    priority?: number;
    table?: number;
    scope?: number;
  }[];
  dns?: { nameservers?: string[]; domain?: string; search?: string[]; options?: string[] };
  ip4?: { ip: string; gateway?: string; routes?: { dst: string; gw?: string }[] };
  ip6?: { ip: string; gateway?: string; routes?: { dst: string; gw?: string }[] };
  [key: string]: unknown;
}

export interface Outcome extends Finished {
  /** The documents on stdout; undefined where there is none. @throws where stdout is not exactly one JSON document */
  readonly document: CniDocument | undefined;
}

function environmentOf(options: CallOptions): Record<string, string> {
  const variables: Record<string, string | undefined | null> = {
    CNI_COMMAND: options.command,
    CNI_CONTAINERID: options.containerId,
    CNI_NETNS: options.netns,
    CNI_IFNAME: options.ifname,
    CNI_PATH: options.path === undefined ? pluginFolder : options.path,
    CNI_ARGS: options.args,
    ...options.environment,
  };
  return Object.fromEntries(Object.entries(variables).filter((entry): entry is [string, string] => entry[1] != null));
}

function commandOf(program: Program, options: CallOptions): string[] {
  return [...(options.through ?? []), options.executable ?? `${pluginFolder}/${program}`];
}

/** The call's standard input as text. */
export const stdinOf = ({ stdin = '' }: CallOptions): string =>
  typeof stdin === 'string' ? stdin : JSON.stringify(stdin);

type Listener = (program: Program, options: CallOptions, finished: Finished) => void;
const listeners: Listener[] = [];

/** From now on the listener hears of every call that has ended. */
export const onCall = (listener: Listener): void => void listeners.push(listener);

function outcomeOf(program: Program, options: CallOptions, finished: Finished): Outcome {
  const { stdout } = finished;
  for (const listener of listeners) listener(program, options, finished);
  return {
    ...finished,
    get document() {
      return stdout === '' ? undefined : (JSON.parse(stdout) as CniDocument);
    },
  };
}

export function callPlugin(program: Program, options: CallOptions): Outcome {
  const finished = execute(commandOf(program, options), {
    namespace: options.namespace,
    stdin: stdinOf(options),
    stdinFile: options.stdinFile,
    environment: environmentOf(options),
  });
  return outcomeOf(program, options, finished);
}

export async function callPluginAsync(program: Program, options: CallOptions): Promise<Outcome> {
  const finished = await executeAsync(commandOf(program, options), {
    namespace: options.namespace,
    stdin: stdinOf(options),
    environment: environmentOf(options),
  });
  return outcomeOf(program, options, finished);
}
