/**
 * The results that libcni keeps between ADD and DEL: a file `<cache folder>/results/<network>-<container>-<interface>` for
 * each attachment (libcni/api.go, cachedInfo). Runtimes read and remove these files, too, so the format is theirs. The key
 * `weft` is ours; libcni ignores it.
 */

import { interfaceNameProblem, isIdentifier } from '../cni/spec/environment.ts';
import type { AttachmentName, JsonObject } from '../cni/spec/request.ts';
import { SyscallError } from '../linux/errors.ts';
import { ensureDirectory, readText, writeFileAtomic } from '../linux/files.ts';
import type { Sys } from '../linux/sys.ts';

/** The container of an interface that `weftctl attach` made. */
export interface AttachedBy {
  /** `docker`, `podman`, `cri`, or `pid` for a process. */
  readonly runtime: string;
  /** The container's name; '' for none. */
  readonly name: string;
  readonly pid: number;
  /** Tells the process from a later one with the same number. */
  readonly startTime: string;
  /** ISO 8601. */
  readonly since: string;
}

export interface CachedResult extends AttachmentName {
  readonly network: string;
  /** The path of the container's namespace; '' for none. */
  readonly netns: string;
  /** CNI_ARGS. */
  readonly args: readonly (readonly [string, string])[];
  readonly capabilityArgs: JsonObject;
  /** The list of plugins as it was at the ADD. */
  readonly config: string;
  readonly result: JsonObject;
  readonly attachedBy?: AttachedBy;
}

const kind = 'cniCacheV1';
const fileLimitBytes = 4 * 1024 * 1024;

const folderOf = (cacheDir: string): string => `${cacheDir}/results`;

export const cachedResultPath = (
  cacheDir: string,
  { network, containerId, ifname }: Pick<CachedResult, 'network' | 'containerId' | 'ifname'>,
): string => `${folderOf(cacheDir)}/${network}-${containerId}-${ifname}`;

export function formatCachedResult(entry: CachedResult): string {
  const { network, containerId, ifname, netns, args, capabilityArgs, config, result, attachedBy } = entry;
  return JSON.stringify({
    kind,
    containerId,
    config: Buffer.from(config).toString('base64'),
    ifName: ifname,
    networkName: network,
    ...(netns === '' ? {} : { netns }),
    ...(args.length === 0 ? {} : { cniArgs: args }),
    ...(Object.keys(capabilityArgs).length === 0 ? {} : { capabilityArgs }),
    result,
    ...(attachedBy ? { weft: attachedBy } : {}),
  });
}

const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function parseAttachedBy(value: unknown): AttachedBy | undefined {
  if (!isObject(value)) return undefined;
  const { runtime, name, pid, startTime, since } = value;
  if (typeof runtime !== 'string' || typeof name !== 'string' || typeof startTime !== 'string') return undefined;
  if (!Number.isSafeInteger(pid) || typeof since !== 'string') return undefined;
  return { runtime, name, pid: pid as number, startTime, since };
}

/** @returns undefined for a text that is no such entry */
export function parseCachedResult(text: string): CachedResult | undefined {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isObject(document) || document['kind'] !== kind) return undefined;
  const { containerId, ifName, networkName, netns, cniArgs, capabilityArgs, config, result } = document;
  if (typeof containerId !== 'string' || typeof ifName !== 'string' || typeof networkName !== 'string')
    return undefined;
  // They become parts of paths.
  if (!isIdentifier(containerId) || !isIdentifier(networkName) || interfaceNameProblem(ifName) !== undefined) {
    return undefined;
  }
  const pairs = Array.isArray(cniArgs) ? cniArgs : [];
  const attachedBy = parseAttachedBy(document['weft']);
  return {
    network: networkName,
    containerId,
    ifname: ifName,
    netns: typeof netns === 'string' ? netns : '',
    args: pairs.filter(
      (pair): pair is [string, string] => Array.isArray(pair) && pair.every((each) => typeof each === 'string'),
    ),
    capabilityArgs: isObject(capabilityArgs) ? capabilityArgs : {},
    config: typeof config === 'string' ? Buffer.from(config, 'base64').toString('utf8') : '',
    result: isObject(result) ? result : {},
    ...(attachedBy ? { attachedBy } : {}),
  };
}

export interface CachedResults {
  readonly entries: readonly CachedResult[];
  /** Files that hold no result, such as empty ones after a power cut: their names. */
  readonly unreadable: readonly string[];
}

/** A missing folder counts as empty. @throws SyscallError: the folder cannot be read */
export function readCachedResults(sys: Sys, cacheDir: string): CachedResults {
  const folder = folderOf(cacheDir);
  const names = sys.getdents(folder);
  if (typeof names === 'number') {
    const error = new SyscallError(['read folder', folder], names);
    if (error.code !== 'ENOENT') throw error;
    return { entries: [], unreadable: [] };
  }
  const entries: CachedResult[] = [];
  const unreadable: string[] = [];
  for (const name of names.sort()) {
    try {
      const text = readText(sys, `${folder}/${name}`, fileLimitBytes);
      if (text === undefined) continue;
      const entry = parseCachedResult(text);
      if (entry) entries.push(entry);
      else unreadable.push(name);
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      unreadable.push(name);
    }
  }
  return { entries, unreadable };
}

/** @throws SyscallError */
export function writeCachedResult(sys: Sys, cacheDir: string, entry: CachedResult): void {
  ensureDirectory(sys, folderOf(cacheDir), 0o700);
  writeFileAtomic(sys, cachedResultPath(cacheDir, entry), formatCachedResult(entry), 0o600);
}

export function removeCachedResult(sys: Sys, cacheDir: string, entry: CachedResult): void {
  sys.unlink(cachedResultPath(cacheDir, entry));
}
