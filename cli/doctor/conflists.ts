/** The network configurations in a container runtime's folder, as libcni finds them. */

import { SyscallError } from '../../linux/errors.ts';
import { readText } from '../../linux/files.ts';
import type { Sys } from '../../linux/sys.ts';

export interface ConfigurationFile {
  readonly path: string;
  readonly name: string;
  /** The programs that an ADD runs, in their order; empty where it is broken. */
  readonly types: readonly string[];
  /** Whether containers get their addresses from Weft. */
  readonly isWeft: boolean;
  /** Why no runtime can use it. */
  readonly broken?: string;
}

const limitBytes = 1024 * 1024;
/** Files that a runtime takes. */
const isConfiguration = (name: string): boolean => /\.(conf|conflist|json)$/.test(name);

const textOf = (value: unknown): string => (typeof value === 'string' ? value : '');

interface Plugin {
  readonly type: string;
  readonly ipam: string;
}

function pluginOf(value: unknown): Plugin {
  const { type, ipam } = (value ?? {}) as { type?: unknown; ipam?: unknown };
  if (textOf(type) === '') throw new Error('a plugin has no "type"');
  return { type: textOf(type), ipam: textOf((ipam as { type?: unknown } | undefined)?.type) };
}

function parse(text: string): readonly Plugin[] {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    throw new Error('it is not JSON');
  }
  if (typeof document !== 'object' || document === null || Array.isArray(document))
    throw new Error('it is not a JSON object');
  const { plugins, name } = document as { plugins?: unknown; name?: unknown };
  if (textOf(name) === '') throw new Error('it has no "name"');
  if (plugins === undefined) return [pluginOf(document)];
  if (!Array.isArray(plugins) || plugins.length === 0) throw new Error('"plugins" is not a list of plugins');
  return plugins.map(pluginOf);
}

/** `weft` has `weft-ipam` within itself. */
const programsOf = ({ type, ipam }: Plugin): string[] =>
  ipam === '' || (type === 'weft' && ipam === 'weft-ipam') ? [type] : [type, ipam];

function read(sys: Sys, folder: string, name: string): ConfigurationFile | readonly never[] {
  const path = `${folder}/${name}`;
  const broken = (why: string): ConfigurationFile => ({
    path,
    name,
    types: [],
    isWeft: /weft/.test(name),
    broken: why,
  });
  try {
    const text = readText(sys, path, limitBytes);
    if (text === undefined) return [];
    const plugins = parse(text);
    return {
      path,
      name,
      types: [...new Set(plugins.flatMap(programsOf))],
      isWeft: plugins.some(({ type, ipam }) => type === 'weft' || type === 'flannel' || ipam === 'weft-ipam'),
    };
  } catch (error) {
    return broken(error instanceof SyscallError || error instanceof Error ? error.message : String(error));
  }
}

export function readConfigurations(sys: Sys, folder: string): ConfigurationFile[] {
  const names = sys.getdents(folder);
  if (typeof names === 'number') return [];
  // Runtimes sort by bytes.
  return names
    .filter(isConfiguration)
    .sort()
    .flatMap((name) => read(sys, folder, name));
}
