/**
 * Calls the plugins of a network as libcni does: ADD in their order, each with the result before it; CHECK likewise; DEL from
 * the last. A plugin that does not answer in time is killed.
 */

import type { JsonObject } from '../cni/spec/request.ts';
import { isAtLeast } from '../cni/spec/versions.ts';
import { errno, SyscallError } from '../linux/errors.ts';
import { type Sys, stat } from '../linux/sys.ts';
import { NetworkError, type NetworkList, type PluginConfig } from './list.ts';

export interface ChainPlace {
  readonly sys: Sys;
  /** The environment of the plugins, without CNI's variables. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** The folders of the plugins: CNI_PATH. */
  readonly pluginFolders: readonly string[];
  /** Of one plugin. */
  readonly timeoutMs: number;
}

/** An attachment, as a runtime describes it to libcni. */
export interface ChainTarget {
  readonly containerId: string;
  readonly ifname: string;
  /** '' if the container's namespace is gone. */
  readonly netns: string;
  readonly args: readonly (readonly [string, string])[];
  /** By capability: `portMappings`, `ips`, `mac`, … */
  readonly capabilityArgs: JsonObject;
}

type Command = 'ADD' | 'DEL' | 'CHECK';

/** @throws NetworkError */
function findPlugin({ sys, pluginFolders }: ChainPlace, type: string): string {
  if (!/^[^/\0]+$/.test(type) || type === '.' || type === '..') {
    throw new NetworkError(`"${type}" is not the name of a plugin`);
  }
  for (const folder of pluginFolders) {
    const path = `${folder}/${type}`;
    const status = sys.stat(path);
    if (typeof status === 'number' || (status.mode & stat.S_IFMT) !== stat.S_IFREG) continue;
    if ((status.mode & 0o111) !== 0) return path;
  }
  throw new NetworkError(
    `There is no plugin "${type}" in ${pluginFolders.map((folder) => `"${folder}"`).join(', ')}; name its folder by --bin-dir`,
  );
}

/** The configuration of one plugin: its own, and what libcni adds (libcni/api.go, buildOneConfig). */
function configFor(
  list: NetworkList,
  plugin: PluginConfig,
  target: ChainTarget,
  prevResult: JsonObject | undefined,
): string {
  const { capabilities } = plugin as { capabilities?: unknown };
  const can = typeof capabilities === 'object' && capabilities !== null ? (capabilities as JsonObject) : {};
  const asked = Object.entries(target.capabilityArgs).filter(([key]) => can[key] === true);
  return JSON.stringify({
    ...plugin,
    name: list.name,
    cniVersion: list.cniVersion,
    ...(prevResult ? { prevResult } : {}),
    ...(asked.length > 0 ? { runtimeConfig: Object.fromEntries(asked) } : {}),
  });
}

function environmentFor({ environment, pluginFolders }: ChainPlace, command: Command, target: ChainTarget): string[] {
  const own = Object.entries(environment).filter(([name, value]) => value !== undefined && !/^(CNI|BUN)_/.test(name));
  return [
    ...own.map(([name, value]) => `${name}=${value}`),
    `CNI_COMMAND=${command}`,
    `CNI_CONTAINERID=${target.containerId}`,
    `CNI_NETNS=${target.netns}`,
    `CNI_IFNAME=${target.ifname}`,
    `CNI_ARGS=${target.args.map((pair) => pair.join('=')).join(';')}`,
    `CNI_PATH=${pluginFolders.join(':')}`,
  ];
}

function parseObject(text: string): JsonObject | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as JsonObject) : undefined;
  } catch {
    return undefined;
  }
}

/** The plugin's own words; the last line of stderr if it has none. */
function refusal(type: string, command: Command, status: number, stdout: string, stderr: string): NetworkError {
  const { msg, details } = parseObject(stdout) ?? {};
  const said = stderr.trim().split('\n').at(-1) ?? '';
  const cause = typeof msg === 'string' && msg !== '' ? msg : said || `it ended with status ${status}`;
  return new NetworkError(
    `The plugin "${type}" refuses ${command}: ${cause}`,
    typeof details === 'string' && details !== '' ? [details] : [],
  );
}

/** @returns its stdout @throws NetworkError */
function call(
  place: ChainPlace,
  list: NetworkList,
  plugin: PluginConfig,
  command: Command,
  target: ChainTarget,
  prevResult: JsonObject | undefined,
): string {
  const { sys, timeoutMs } = place;
  const path = findPlugin(place, plugin.type);
  const stdin = sys.encodeUtf8(configFor(list, plugin, target, prevResult));
  const ended = sys.spawn(path, [path], environmentFor(place, command, target), stdin, timeoutMs);
  if (ended === -errno.ETIMEDOUT) {
    throw new NetworkError(`The plugin "${plugin.type}" did not answer ${command} within ${timeoutMs / 1000} s`);
  }
  if (typeof ended === 'number') throw new NetworkError(new SyscallError(['run the plugin', path], ended).message);
  const text = (bytes: ArrayBuffer): string => sys.decodeUtf8(bytes, 0, bytes.byteLength);
  if (ended.status !== 0) throw refusal(plugin.type, command, ended.status, text(ended.stdout), text(ended.stderr));
  return text(ended.stdout);
}

/** @returns the last plugin's result @throws NetworkError: the caller calls `removeByChain` then */
export function addByChain(place: ChainPlace, list: NetworkList, target: ChainTarget): JsonObject {
  let result: JsonObject | undefined;
  for (const plugin of list.plugins) {
    const answer = call(place, list, plugin, 'ADD', target, result);
    result = parseObject(answer);
    if (!result) throw new NetworkError(`The plugin "${plugin.type}" answers ADD without a result`);
  }
  return result!;
}

/** Asks every plugin whether the attachment is as it should be. @throws NetworkError: it is not, or cannot be asked */
export function checkByChain(place: ChainPlace, list: NetworkList, target: ChainTarget, result: JsonObject): void {
  if (list.disableCheck) throw new NetworkError(`The network "${list.name}" has "disableCheck"`);
  if (!isAtLeast(list.cniVersion, '0.4.0')) {
    throw new NetworkError(
      `CHECK needs cniVersion 0.4.0 or later, and the network "${list.name}" has ${list.cniVersion}`,
    );
  }
  for (const plugin of list.plugins) call(place, list, plugin, 'CHECK', target, result);
}

/**
 * Unlike libcni it goes on after a plugin that fails, so that one faulty plugin keeps no address.
 * @returns the failures
 */
export function removeByChain(
  place: ChainPlace,
  list: NetworkList,
  target: ChainTarget,
  result: JsonObject | undefined,
): NetworkError[] {
  // libcni hands the result on since this version.
  const known = isAtLeast(list.cniVersion, '0.4.0') ? result : undefined;
  return list.plugins.toReversed().flatMap((plugin) => {
    try {
      call(place, list, plugin, 'DEL', target, known);
      return [];
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error;
      return [error];
    }
  });
}
