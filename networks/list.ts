/**
 * Lists of plugins (conflists) in a folder such as /etc/cni/net.d, as libcni reads them. A file of a single plugin counts
 * as a list of one.
 */

import { isIdentifier } from '../cni/spec/environment.ts';
import type { JsonObject } from '../cni/spec/request.ts';
import { quote } from '../cni/spec/text.ts';
import { type CniVersion, isAtLeast, isSupported } from '../cni/spec/versions.ts';
import { SyscallError } from '../linux/errors.ts';
import { readText } from '../linux/files.ts';
import type { Sys } from '../linux/sys.ts';

export interface PluginConfig extends JsonObject {
  readonly type: string;
}

export interface NetworkList {
  readonly name: string;
  readonly cniVersion: string;
  readonly plugins: readonly PluginConfig[];
  readonly disableCheck: boolean;
  /** The document itself, which libcni keeps beside each result. */
  readonly text: string;
}

/** A configuration, a plugin or a cached result is not usable: one line, and further ones. */
export class NetworkError extends Error {
  override readonly name = 'NetworkError';
  readonly details: readonly string[];

  constructor(message: string, details: readonly string[] = [], cause?: unknown) {
    super(message, { cause });
    this.details = details;
  }
}

const fileLimitBytes = 1024 * 1024;
const mostFiles = 256;

const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** The version to speak: the newest of those that the list offers, and that Weft knows. */
function versionOf(document: JsonObject): string {
  const { cniVersion, cniVersions } = document;
  const offered = [cniVersion, ...(Array.isArray(cniVersions) ? cniVersions : [])];
  const known = offered.filter((each): each is CniVersion => typeof each === 'string' && isSupported(each));
  const newest = known.reduce<CniVersion | undefined>((a, b) => (a && !isAtLeast(b, a) ? a : b), undefined);
  return newest ?? (typeof cniVersion === 'string' && cniVersion !== '' ? cniVersion : '0.1.0');
}

/** @param what names the document in errors @throws NetworkError */
export function parseNetworkList(text: string, what: string): NetworkList {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (error) {
    throw new NetworkError(`${what} is not JSON`, [], error);
  }
  if (!isObject(document)) throw new NetworkError(`${what} is not a JSON object`);
  const { name } = document;
  if (typeof name !== 'string' || !isIdentifier(name)) {
    throw new NetworkError(`${what} has the "name" ${quote(name)}, which is not a network's name`);
  }
  const plugins = document['plugins'] ?? [document];
  if (!Array.isArray(plugins) || plugins.length === 0) throw new NetworkError(`${what} lists no plugins`);
  for (const plugin of plugins) {
    if (isObject(plugin) && typeof plugin['type'] === 'string') continue;
    throw new NetworkError(`${what} lists ${quote(plugin)}, which names no plugin ("type")`);
  }
  const { disableCheck } = document;
  return {
    name,
    cniVersion: versionOf(document),
    plugins: plugins as PluginConfig[],
    disableCheck: disableCheck === true || disableCheck === 'true',
    text,
  };
}

export interface NetworkFolder {
  /** In the order of the files' names. */
  readonly lists: readonly NetworkList[];
  /** Files that cannot be used, one line each. */
  readonly problems: readonly string[];
}

/** @throws NetworkError: the folder cannot be read */
export function readNetworkFolder(sys: Sys, folder: string): NetworkFolder {
  const names = sys.getdents(folder);
  if (typeof names === 'number') {
    throw new NetworkError(new SyscallError(['read the network configurations in', folder], names).message);
  }
  const lists: NetworkList[] = [];
  const problems: string[] = [];
  const files = names.filter((name) => /\.(conflist|conf|json)$/.test(name)).sort();
  if (files.length > mostFiles) problems.push(`"${folder}" has ${files.length} files; only ${mostFiles} are read`);
  for (const name of files.slice(0, mostFiles)) {
    const path = `${folder}/${name}`;
    try {
      const text = readText(sys, path, fileLimitBytes);
      if (text !== undefined) lists.push(parseNetworkList(text, `"${path}"`));
    } catch (error) {
      if (!(error instanceof NetworkError) && !(error instanceof SyscallError)) throw error;
      problems.push(error.message);
    }
  }
  return { lists, problems };
}

/** @throws NetworkError, which says what networks there are */
export function findNetwork(sys: Sys, folder: string, name: string): NetworkList {
  const { lists, problems } = readNetworkFolder(sys, folder);
  const found = lists.find((list) => list.name === name);
  if (found) return found;
  const names = lists.map((list) => `"${list.name}"`).join(', ');
  throw new NetworkError(
    `There is no network ${quote(name)} in "${folder}"${names === '' ? '' : `; there are ${names}`}`,
    problems,
  );
}
