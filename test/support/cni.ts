/** Calls a built CNI program as a container runtime does: environment and stdin in; status, stdout and stderr out. */

import { fileURLToPath } from 'node:url';
import * as assert from 'uvu/assert';
import { execute, executeAsync, type Finished } from '../lab/commands.ts';
import { record } from './record.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** What carries the programs: the native runtime, or the same bundle under Bun. WEFT_TEST_HOST chooses. */
export const pluginHost = process.env['WEFT_TEST_HOST'] === 'bun' ? 'bun' : 'native';

/** Where the programs under test are. */
export const pluginFolder = `${root}dist/${pluginHost === 'bun' ? 'bun' : 'bin'}`;

export type Program = 'weft' | 'weft-ipam';

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

const stdinOf = ({ stdin = '' }: CallOptions): string => (typeof stdin === 'string' ? stdin : JSON.stringify(stdin));

function outcomeOf(program: Program, options: CallOptions, finished: Finished): Outcome {
  const { stdout } = finished;
  recordCall(program, options, finished);
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

const describe = ({ status, signal, stdout, stderr }: Finished): string =>
  `status ${status ?? signal}, stdout ${JSON.stringify(stdout)}, stderr ${JSON.stringify(stderr)}`;

/** Status 0, nothing on stderr, and one document or none. @returns the document, {} where there is none */
export function succeeds(outcome: Outcome): CniDocument {
  assert.is(outcome.status, 0, describe(outcome));
  assert.is(outcome.stderr, '', describe(outcome));
  return outcome.document ?? {};
}

/** One of Weft's own codes. */
export const own = 'own';

/**
 * Status 1 and exactly one error document of this code, with all that such a document carries; never 999.
 * @param codes the codes allowed; `own` for any from 100 to 998
 */
export function fails(outcome: Outcome, codes: number | typeof own | readonly number[], text?: RegExp): CniDocument {
  const said = describe(outcome);
  assert.is(outcome.status, 1, said);
  const { document } = outcome;
  assert.ok(document, said);
  assert.type(document.code, 'number', said);
  assert.type(document.cniVersion, 'string', said);
  assert.type(document.msg, 'string', said);
  assert.type(document.details, 'string', said);
  assert.ok(document.msg!.length > 0, said);
  assert.not.match(document.msg!, /\n|\.$/, said);
  const code = document.code!;
  if (codes === own) assert.ok(code >= 100 && code < 999, `code from 100 to 998 expected: ${said}`);
  else if (typeof codes === 'number') assert.is(code, codes, said);
  else assert.ok(codes.includes(code), `one of the codes ${codes} expected: ${said}`);
  if (text) assert.match(`${document.msg} ${document.details}`, text);
  return document;
}

/** One call's output with what differs from run to run replaced, for comparing two hosts of the same bundle. */
export interface RecordedCall {
  readonly test: string;
  readonly call: string;
  readonly status: number | null;
  readonly stdout: string;
}

let currentTest = '';

/** Names the test that the calls from now on belong to. */
export function recordAs(test: string): void {
  currentTest = test;
}

/** The versions that configurations asked for since the last `forgetVersions`. */
const asked = new Set<string>();
export const versionsAsked = (): ReadonlySet<string> => asked;
export const forgetVersions = (): void => asked.clear();

/** The cniVersion of a call's configuration, where it has one. */
function versionAsked(options: CallOptions): string | undefined {
  if (options.stdinFile !== undefined) return undefined;
  try {
    const configuration = JSON.parse(stdinOf(options)) as unknown;
    if (typeof configuration !== 'object' || configuration === null || Array.isArray(configuration)) return undefined;
    const key = Object.keys(configuration).find((name) => name.toLowerCase() === 'cniversion');
    return String((key && (configuration as Record<string, unknown>)[key]) || '0.1.0');
  } catch {
    return undefined;
  }
}

/** MACs by order of appearance; this run's folders, namespaces and process ids by a word. */
function withoutChance(text: string): string {
  const macs = new Map<string, string>();
  return (
    text
      .replace(/\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b/g, (mac) => {
        if (!macs.has(mac)) macs.set(mac, `<mac ${macs.size + 1}>`);
        return macs.get(mac)!;
      })
      .replaceAll(pluginFolder, '<plugins>')
      .replace(/weft-\d+-/g, 'weft-<pid>-')
      .replace(/(\/weft-<pid>-[a-z]+-)[A-Za-z0-9]{6}\b/g, '$1<folder>')
      // How many sites a suite has made depends on the versions that the host's rows are run at.
      .replace(/((?:weft-<pid>-[a-z]+-|<folder>\/)s)\d+\b/g, '$1<n>')
      .replace(/\bveth[0-9a-f]{8,11}\b/g, '<veth>')
  );
}

function recordCall(program: Program, options: CallOptions, { status, stdout }: Finished): void {
  const entry: RecordedCall = {
    test: currentTest,
    call: [program, options.command, options.containerId, options.ifname].filter(Boolean).join(' '),
    status,
    stdout: withoutChance(stdout),
  };
  const version = versionAsked(options);
  if (version !== undefined) asked.add(version);
  record(entry);
}
