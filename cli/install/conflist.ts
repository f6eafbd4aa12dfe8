/**
 * The runtime's folder of network configurations. Every runtime takes the first file by name; containerd and CRI-O then
 * use that network for all pods. So the order of names decides, and an old file must be out of the way. Pure but for
 * `listConflists`.
 */

import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { CliError } from '../host.ts';
import { kindOf, readSmallFile } from './files.ts';

/** What libcni and ocicni read. */
const isConfiguration = (name: string): boolean => /\.(conf|conflist|json)$/.test(name) && !name.startsWith('.');

/** A file that was set aside: no runtime reads such a name. */
export const asideSuffix = '.before-weft';

const limitBytes = 1024 * 1024;

export interface Conflist {
  /** The file's name. */
  readonly file: string;
  /** The network's name; undefined if the file cannot be read as a configuration. */
  readonly network?: string;
  /** The plugins' types, in order. */
  readonly types: readonly string[];
  /** Why it cannot be read. */
  readonly fault?: string;
}

/** One configuration: a list of plugins, or a single one. */
export function parseConflist(file: string, text: string): Conflist {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    return { file, types: [], fault: 'it is no JSON' };
  }
  if (typeof document !== 'object' || document === null || Array.isArray(document)) {
    return { file, types: [], fault: 'it is no JSON object' };
  }
  const { name, plugins, type } = document as Record<string, unknown>;
  if (typeof name !== 'string' || name === '') return { file, types: [], fault: 'it has no "name"' };
  const entries: unknown[] = Array.isArray(plugins) ? plugins : [{ type }];
  const types = entries.map((entry) => (entry as { type?: unknown } | null)?.type);
  if (types.length === 0 || !types.every((each) => typeof each === 'string' && each !== '')) {
    return { file, network: name, types: [], fault: 'a plugin in it has no "type"' };
  }
  return { file, network: name, types: types as string[] };
}

/** The configurations of a folder, in the order of runtimes; empty if there is no folder. @throws CliError */
export function listConflists(folder: string): Conflist[] {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return [];
    throw new CliError(`Cannot read the folder "${folder}": ${code}`, [], error);
  }
  return inOrder(names.filter(isConfiguration)).flatMap((file) => {
    const path = join(folder, file);
    if (kindOf(path) === 'folder') return [];
    try {
      const text = readSmallFile(path, limitBytes);
      return text === undefined ? [] : [parseConflist(file, text)];
    } catch (error) {
      if (error instanceof CliError) return [{ file, types: [], fault: error.message }];
      throw error;
    }
  });
}

/** The order of Go's sort.Strings, which compares bytes. */
export const inOrder = (names: readonly string[]): string[] =>
  [...names].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));

/** Weft attaches the containers of this network. */
export const isWefts = ({ types }: Conflist): boolean => types.includes('weft');

/** The file that runtimes use: the first by name, whatever its content. */
export const firstOf = (files: readonly Conflist[]): Conflist | undefined => files[0];

/**
 * A name that comes before all others, as near to the usual one as possible. "-" is less than "0", so that `0-weft.conflist`
 * comes before `00-cilium.conf`. Undefined if none does, as beside a file whose name begins with "!".
 */
export function firstName(others: readonly string[], usual = '10-weft.conflist'): string | undefined {
  const first = inOrder(others)[0];
  const rest = usual.replace(/^\d+-/, '');
  const names = [usual, `05-${rest}`, `00-${rest}`, `0-${rest}`, `0-0-${rest}`];
  return names.find((name) => first === undefined || inOrder([name, first])[0] === name);
}

/** Where a file goes that is set aside, and comes back from. */
export const asideName = (file: string): string => `${file}${asideSuffix}`;
export const nameBefore = (aside: string): string | undefined =>
  aside.endsWith(asideSuffix) ? aside.slice(0, -asideSuffix.length) : undefined;

/** Plugins that others chain behind the one that attaches the container; they keep what they have been told. */
const chainable = ['portmap', 'bandwidth', 'tuning', 'firewall', 'sbr'];

/** What CNI's lists are; `plugins` are objects with a type. */
interface ConflistDocument {
  readonly cniVersion?: unknown;
  readonly plugins?: unknown;
}

const spoken = ['0.3.1', '0.4.0', '1.0.0', '1.1.0'];

/**
 * The configuration of Weft's network, in the place of another: with its name, its version, and the plugins that it
 * chains, as far as they are in the folder of plugins.
 * @param before the text of the configuration that is there; undefined if there is none
 * @param hasPlugin whether the folder of plugins has this one
 */
export function formatConflist(before: string | undefined, hasPlugin: (type: string) => boolean): string {
  const named = before === undefined ? undefined : parseConflist('', before);
  const old: ConflistDocument = named?.fault === undefined && before !== undefined ? JSON.parse(before) : {};
  const entries = Array.isArray(old.plugins) ? (old.plugins as { type: string }[]).slice(1) : [];
  const kept = entries.filter(({ type }) => chainable.includes(type) && hasPlugin(type));
  const portmap = { type: 'portmap', capabilities: { portMappings: true } };
  const isMissing = hasPlugin('portmap') && !kept.some(({ type }) => type === 'portmap');
  const { cniVersion } = old;
  const document = {
    cniVersion: typeof cniVersion === 'string' && spoken.includes(cniVersion) ? cniVersion : '1.0.0',
    name: named?.network ?? 'weft',
    plugins: [{ type: 'weft', ipam: { type: 'weft-ipam' } }, ...(isMissing ? [portmap] : []), ...kept],
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}
