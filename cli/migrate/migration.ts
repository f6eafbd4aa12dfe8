/** What `weftctl migrate` has taken from flannel, so that `--back` gives it back. Root alone can write the file. */

import { dirname } from 'node:path';
import { CliError, type CliHost } from '../host.ts';
import { ensureFolder, putFile, readSmallFile } from '../install/files.ts';

export interface Migration {
  readonly format: 1;
  /** flanneld's service. */
  readonly unit: string;
  /** Whether it starts with the host. */
  readonly enabled: boolean;
  readonly subnetFile: string;
  /** Whether the take-over has ended. */
  readonly done: boolean;
  /** The folder of flannel's network configuration, and its name; undefined if there was none. */
  readonly conflist?: { readonly folder: string; readonly file: string };
}

const migrationPath = '/var/lib/weft/migration.json';
const limitBytes = 64 * 1024;

const isPath = (value: unknown): value is string =>
  typeof value === 'string' && value.length < 4096 && /^\/[^\p{Cc}]*$/u.test(value) && !value.split('/').includes('..');

export function parseMigration(text: string): Migration | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const { format, unit, enabled, subnetFile, done, conflist } = value as Record<string, unknown>;
  if (format !== 1 || typeof unit !== 'string' || !/^[\w.@:\\-]+\.service$/.test(unit)) return undefined;
  if (typeof enabled !== 'boolean' || typeof done !== 'boolean' || !isPath(subnetFile)) return undefined;
  const migration = { format, unit, enabled, subnetFile, done } as const;
  if (conflist === undefined) return migration;
  const { folder, file } = (conflist ?? {}) as Record<string, unknown>;
  if (!isPath(folder) || typeof file !== 'string' || !/^[^/\p{Cc}]{1,255}$/u.test(file)) return undefined;
  return { ...migration, conflist: { folder, file } };
}

/** Undefined if flannel was not here. @throws CliError */
export function readMigration(): Migration | undefined {
  const text = readSmallFile(migrationPath, limitBytes);
  if (text === undefined) return undefined;
  const migration = parseMigration(text);
  if (!migration) throw new CliError(`Cannot use "${migrationPath}": somebody has changed it`);
  return migration;
}

export function writeMigration(migration: Migration, host: Pick<CliHost, 'random'>): void {
  ensureFolder(dirname(migrationPath));
  putFile(migrationPath, Buffer.from(`${JSON.stringify(migration, null, 1)}\n`), 0o600, host);
}
