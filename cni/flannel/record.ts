/**
 * The records of flannel's plugin: `<dataDir>/<container id>` (0600) holds the configuration by which the container was
 * attached. DEL needs it, because subnet.env may differ by then.
 *
 * A container may be attached twice, by two networks. With flannel, the second record replaces the first, and the first
 * attachment is never deleted. So the record is `<container id>@<interface>` here, and `<container id>` is a second name
 * of the same file, for flannel. No container id has an `@`.
 */

import { check, errno, SyscallError } from '../../linux/errors.ts';
import { ensureDirectory, readText, sayOnStderr, writeFileAtomic } from '../../linux/files.ts';
import { type Sys, stat } from '../../linux/sys.ts';
import { isIdentifier } from '../spec/environment.ts';
import { CniError, causeText, errorCodes } from '../spec/errors.ts';
import type { AttachmentName, JsonObject } from '../spec/request.ts';
import { isObject } from './configuration.ts';

/** Larger than any configuration that a plugin takes. */
const limitBytes = 2 * 1024 * 1024;

export interface FlannelRecord {
  /** Undefined where the file cannot be used; it has been named on stderr. */
  readonly configuration: JsonObject | undefined;
  /** The names of the file. */
  readonly paths: readonly string[];
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

function isSameFile(sys: Sys, one: string, other: string): boolean {
  const [a, b] = [sys.stat(one), sys.stat(other)];
  return typeof a !== 'number' && typeof b !== 'number' && a.dev === b.dev && a.ino === b.ino;
}

/** @throws CniError 103; nothing is left then */
export function writeRecord(sys: Sys, dataDir: string, name: AttachmentName, text: string): void {
  const own = ownPath(dataDir, name);
  const shared = sharedPath(dataDir, name.containerId);
  try {
    ensureDirectory(sys, dataDir, 0o700);
    writeFileAtomic(sys, own, text, 0o600);
    const linked = sys.link(own, shared);
    // The record of another attachment, or what a killed ADD of flannel has left.
    if (linked === -errno.EEXIST) return;
    if (linked < 0) sys.unlink(own);
    check(linked, ['link', own, `as "${shared}"`]);
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

/** Whether flannel's name of the record is that of another attachment of the container, made by us. */
function isOthers(sys: Sys, dataDir: string, containerId: string): boolean {
  const names = sys.getdents(dataDir);
  const shared = sharedPath(dataDir, containerId);
  return (
    typeof names !== 'number' &&
    names.some((name) => name.startsWith(`${containerId}@`) && isSameFile(sys, `${dataDir}/${name}`, shared))
  );
}

/** Undefined if there is none. A file that cannot be used is named on stderr. */
export function findRecord(sys: Sys, dataDir: string, name: AttachmentName): FlannelRecord | undefined {
  const own = ownPath(dataDir, name);
  const shared = sharedPath(dataDir, name.containerId);
  const ofOwn = readRecord(sys, own);
  const found = ofOwn ?? readRecord(sys, shared);
  if (!found || (!ofOwn && isOthers(sys, dataDir, name.containerId))) return undefined;
  const path = ofOwn ? own : shared;
  const paths = ofOwn && isSameFile(sys, own, shared) ? [own, shared] : [path];
  const { configuration, problem } = found;
  if (!configuration) {
    sayOnStderr(sys, `"${path}" is no record of a container: ${problem}. Links and addresses are removed without it`);
  }
  return { configuration, paths };
}

/** A file that cannot be removed is named on stderr: the container itself is gone. */
export function removeRecord(sys: Sys, { paths }: FlannelRecord): void {
  for (const path of paths) {
    const removed = sys.unlink(path);
    if (removed < 0 && removed !== -errno.ENOENT) {
      const status = sys.stat(path);
      const isFolder = typeof status !== 'number' && (status.mode & stat.S_IFMT) === stat.S_IFDIR;
      const why = isFolder ? 'it is a folder' : new SyscallError(['remove', path], -removed).message;
      sayOnStderr(sys, `"${path}" stays: ${why}; remove it by hand`);
    }
  }
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
    if (found?.['name'] === network) removeRecord(sys, { configuration: undefined, paths: [path] });
  }
}
