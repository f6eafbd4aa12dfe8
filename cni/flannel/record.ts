/**
 * The records of flannel's plugin: `<dataDir>/<container id>` (0600) holds the configuration by which the container was
 * attached. DEL needs it, because subnet.env may differ by then.
 *
 * A container may be attached twice, by two networks. With flannel, the second record replaces the first, and the first
 * attachment is never deleted. Here the second is `<container id>@<interface>`; no container id has an `@`. flannel's name
 * does not tell the interface: the record is another attachment's if it names another network, whose store has no address
 * of this one.
 */

import { storeFolder } from '../../ipam/settings.ts';
import { withExistingDiskStore } from '../../ipam/store.ts';
import { check, errno, SyscallError } from '../../linux/errors.ts';
import { ensureDirectory, readText, sayOnStderr, writeFileAtomic } from '../../linux/files.ts';
import { type Sys, stat } from '../../linux/sys.ts';
import { isIdentifier } from '../spec/environment.ts';
import { CniError, causeText, errorCodes } from '../spec/errors.ts';
import type { AttachmentName, CniRequest, JsonObject } from '../spec/request.ts';
import { isObject } from './configuration.ts';

/** Larger than any configuration that a plugin takes. */
const limitBytes = 2 * 1024 * 1024;

export interface FlannelRecord {
  /** Undefined where the file cannot be used; it has been named on stderr. */
  readonly configuration: JsonObject | undefined;
  readonly path: string;
}

const sharedPath = (dataDir: string, containerId: string): string => `${dataDir}/${containerId}`;
const ownPath = (dataDir: string, { containerId, ifname }: AttachmentName): string =>
  `${dataDir}/${containerId}@${ifname}`;

/** A name of a record: `ifname` is undefined in flannel's own. */
function parseName(name: string): { containerId: string; ifname: string | undefined } | undefined {
  const at = name.indexOf('@');
  const containerId = at < 0 ? name : name.slice(0, at);
  if (!isIdentifier(containerId)) return undefined;
  return { containerId, ifname: at < 0 ? undefined : name.slice(at + 1) };
}

/** @returns the path of the record @throws CniError 103; nothing is left then */
export function writeRecord(sys: Sys, dataDir: string, name: AttachmentName, text: string): string {
  const own = ownPath(dataDir, name);
  const shared = sharedPath(dataDir, name.containerId);
  try {
    ensureDirectory(sys, dataDir, 0o700);
    writeFileAtomic(sys, own, text, 0o600);
    const linked = sys.link(own, shared);
    // It is another attachment's, or what a killed ADD of flannel has left.
    if (linked === -errno.EEXIST) return own;
    const removed = sys.unlink(own);
    check(linked, ['link', own, `as "${shared}"`]);
    check(removed, ['remove', own]);
    return shared;
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    throw new CniError(
      errorCodes.storeFailed,
      `Cannot keep the container's configuration in "${dataDir}": see that the folder can be written`,
      { cause: error, details: causeText(error) },
    );
  }
}

function parseRecord(text: string): JsonObject {
  const value: unknown = JSON.parse(text);
  if (!isObject(value)) throw new SyntaxError('it is not a JSON object');
  const { type, name } = value;
  if (typeof type !== 'string' || typeof name !== 'string' || !isIdentifier(type) || !isIdentifier(name)) {
    throw new SyntaxError('it does not name a plugin and a network');
  }
  if (type === 'flannel') throw new SyntaxError('it names "flannel" as the plugin that attached the container');
  return value;
}

interface Found {
  readonly configuration: JsonObject | undefined;
  /** Why it cannot be used. */
  readonly problem: string;
}

/** Undefined if there is no such file. */
function readRecord(sys: Sys, path: string): Found | undefined {
  try {
    const text = readText(sys, path, limitBytes);
    return text === undefined ? undefined : { configuration: parseRecord(text), problem: '' };
  } catch (error) {
    return { configuration: undefined, problem: causeText(error) };
  }
}

/** Whether a network's store has an address of the attachment. */
function holdsAddress(sys: Sys, request: CniRequest, network: string, configuration: JsonObject): boolean {
  const folder = storeFolder({ network, configuration });
  return (withExistingDiskStore(sys, folder, (store) => store.find(request)) ?? []).length > 0;
}

/** Undefined if there is none. A file that cannot be used is named on stderr. */
export function findRecord(sys: Sys, dataDir: string, request: CniRequest): FlannelRecord | undefined {
  const own = ownPath(dataDir, request);
  const ofOwn = readRecord(sys, own);
  const path = ofOwn ? own : sharedPath(dataDir, request.containerId);
  const found = ofOwn ?? readRecord(sys, path);
  if (!found) return undefined;
  const { configuration, problem } = found;
  if (!configuration) {
    sayOnStderr(sys, `"${path}" is no record of a container: ${problem}. Links and addresses are removed without it`);
  } else if (!ofOwn) {
    const network = configuration['name'] as string;
    if (network !== request.network && !holdsAddress(sys, request, network, configuration)) return undefined;
  }
  return { configuration, path };
}

/** A file that cannot be removed is named on stderr: the container itself is gone. */
export function removeRecord(sys: Sys, path: string): void {
  const removed = sys.unlink(path);
  if (removed >= 0 || removed === -errno.ENOENT) return;
  const status = sys.stat(path);
  const isFolder = typeof status !== 'number' && (status.mode & stat.S_IFMT) === stat.S_IFDIR;
  const why = isFolder ? 'it is a folder' : new SyscallError(['remove', path], -removed).message;
  sayOnStderr(sys, `"${path}" stays: ${why}; remove it by hand`);
}

/** Removes the records of the network's attachments that are not valid. */
export function collectRecords(sys: Sys, dataDir: string, network: string, valid: readonly AttachmentName[]): void {
  const names = sys.getdents(dataDir);
  if (typeof names === 'number') return;
  const containers = new Set(valid.map(({ containerId }) => containerId));
  const keep = new Set(valid.map((name) => ownPath(dataDir, name)));
  for (const name of names) {
    const path = `${dataDir}/${name}`;
    const parsed = parseName(name);
    if (!parsed || keep.has(path) || (parsed.ifname === undefined && containers.has(parsed.containerId))) continue;
    const found = readRecord(sys, path)?.configuration;
    if (found?.['name'] === network) removeRecord(sys, path);
  }
}
