/**
 * What `weftctl install` has done to the host, so that `weftctl uninstall` undoes exactly that. An entry is written before
 * the deed: an installation that was killed can be undone, too. Root alone can write the file, and it is checked when it
 * is read, because uninstall removes and restores what it names.
 */

import { createHash } from 'node:crypto';
import { lstatSync } from 'node:fs';
import { dirname } from 'node:path';
import { CliError, type CliHost } from '../host.ts';
import { ensureFolder, kindOf, putFile, readBytes } from './files.ts';
import type { Root } from './rooted.ts';

export interface RecordedFile {
  readonly path: string;
  /** Of the content that was put there. */
  readonly sha256: string;
}

export interface Installation {
  readonly format: 1;
  readonly version: string;
  /** Files that were put there. */
  readonly files: readonly RecordedFile[];
  /** Files that were there before at these paths, and where their content is kept. */
  readonly saved: readonly { readonly path: string; readonly copy: string; readonly mode: number }[];
  /** Files that were set aside. */
  readonly moved: readonly { readonly from: string; readonly to: string }[];
  /** Folders that were missing, outermost first. */
  readonly folders: readonly string[];
  /** Kernel settings before weftd first ran: `net/ipv4/ip_forward` → `0`. */
  readonly sysctls: Readonly<Record<string, string>>;
  /** The interfaces that were there before. */
  readonly interfaces: readonly string[];
  /** The plugins' tables of nf_tables that were there before. */
  readonly tables: readonly string[];
  /** Whether the service was enabled by this. */
  readonly enabled: boolean;
  /** The network of the configuration. */
  readonly network?: string;
}

export const recordPath = '/var/lib/weft/install.json';
/** Where the content of replaced files is kept. */
export const savedFolder = '/var/lib/weft/before-install';

const limitBytes = 1024 * 1024;
const mostEntries = 10_000;

export const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

export const emptyRecord = (version: string): Installation => ({
  format: 1,
  version,
  files: [],
  saved: [],
  moved: [],
  folders: [],
  sysctls: {},
  interfaces: [],
  tables: [],
  enabled: false,
});

const isPath = (value: unknown): value is string =>
  typeof value === 'string' &&
  value.length < 4096 &&
  /^(\/[^/\p{Cc}]+)+$/u.test(value) &&
  !value.split('/').some((part) => part === '.' || part === '..');

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const isList = <T>(value: unknown, isItem: (item: unknown) => item is T): value is T[] =>
  Array.isArray(value) && value.length <= mostEntries && value.every(isItem);

const isFile = (item: unknown): item is RecordedFile =>
  isObject(item) && isPath(item['path']) && typeof item['sha256'] === 'string' && /^[0-9a-f]{64}$/.test(item['sha256']);

const isSaved = (item: unknown): item is Installation['saved'][number] =>
  isObject(item) &&
  isPath(item['path']) &&
  isPath(item['copy']) &&
  dirname(item['copy']) === savedFolder &&
  Number.isInteger(item['mode']) &&
  (item['mode'] as number) >= 0 &&
  (item['mode'] as number) <= 0o777;

const isMoved = (item: unknown): item is Installation['moved'][number] =>
  isObject(item) && isPath(item['from']) && isPath(item['to']) && dirname(item['from']) === dirname(item['to']);

const isInterface = (item: unknown): item is string => typeof item === 'string' && /^[^/\s\p{Cc}]{1,15}$/u.test(item);

const isText = (item: unknown): item is string => typeof item === 'string' && item.length < 100;

/** The settings that weftd changes, with the values that they can have. */
const isSysctl = ([name, value]: [string, unknown]): boolean =>
  /^net\/(ipv4|ipv6)\/[\w./-]{1,80}$/.test(name) &&
  !name.split('/').some((part) => part === '' || part === '.' || part === '..') &&
  typeof value === 'string' &&
  /^-?\d{1,4}$/.test(value);

/** @returns undefined if the text is no record of an installation */
export function parseRecord(text: string): Installation | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isObject(value) || value['format'] !== 1 || typeof value['version'] !== 'string') return undefined;
  const { version, files, saved, moved, folders, sysctls, interfaces, tables, enabled, network } = value;
  if (!isList(files, isFile) || !isList(saved, isSaved) || !isList(moved, isMoved)) return undefined;
  if (!isList(folders, isPath) || !isList(interfaces, isInterface) || typeof enabled !== 'boolean') return undefined;
  if (!isObject(sysctls) || !Object.entries(sysctls).every(isSysctl)) return undefined;
  if (!isList(tables, isText)) return undefined;
  if (network !== undefined && typeof network !== 'string') return undefined;
  return {
    ...{ format: 1, version: version as string, files, saved, moved, folders },
    ...{ sysctls: sysctls as Record<string, string>, interfaces, tables, enabled },
    ...(network === undefined ? {} : { network }),
  };
}

/** @returns undefined if there is none @throws CliError for a file that root alone did not write, or that is damaged */
export function readRecord(root: Root): Installation | undefined {
  const path = root.at(recordPath);
  const kind = kindOf(path);
  if (kind === 'missing') return undefined;
  const refuse = (why: string): CliError =>
    new CliError(`Cannot use the record of the installation, "${path}": ${why}; nothing was changed`);
  if (kind !== 'file') throw refuse('it is no regular file');
  const { uid, mode } = lstatSync(path);
  const own = process.geteuid?.() ?? 0;
  if (uid === 0 && own !== 0) throw refuse('permission denied; run it as root');
  if (uid !== own) throw refuse('another user owns it');
  if ((mode & 0o022) !== 0) throw refuse('others may write it');
  const record = parseRecord(readBytes(path, limitBytes)?.toString('utf8') ?? '');
  if (!record) throw refuse('it is damaged');
  return record;
}

/** The record of an installation that goes on. */
export class Recorder {
  readonly #root: Root;
  readonly #host: Pick<CliHost, 'random'>;
  #record: Installation;

  constructor(root: Root, host: Pick<CliHost, 'random'>, record: Installation) {
    this.#root = root;
    this.#host = host;
    this.#record = record;
  }

  get current(): Installation {
    return this.#record;
  }

  /** @throws CliError */
  update(change: Partial<Installation>): void {
    this.#record = { ...this.#record, ...change };
    const path = this.#root.at(recordPath);
    const made = ensureFolder(dirname(path)).map((folder) => this.#root.told(folder));
    if (made.length > 0) this.#record = { ...this.#record, folders: [...this.#record.folders, ...made] };
    putFile(path, Buffer.from(`${JSON.stringify(this.#record, null, 1)}\n`), 0o600, this.#host);
  }

  isOurs(path: string, bytes: Uint8Array): boolean {
    return this.#record.files.some((file) => file.path === path && file.sha256 === sha256(bytes));
  }

  has(path: string): boolean {
    return this.#record.files.some((file) => file.path === path);
  }

  addFile(path: string, bytes: Uint8Array): void {
    const others = this.#record.files.filter((file) => file.path !== path);
    this.update({ files: [...others, { path, sha256: sha256(bytes) }] });
  }

  addFolders(made: readonly string[]): void {
    if (made.length > 0) this.update({ folders: [...this.#record.folders, ...made] });
  }
}
