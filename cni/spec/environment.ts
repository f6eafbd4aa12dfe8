/**
 * The environment of a plugin (CNI 1.1.0, "Parameters"): the variables, the commands that need them, and their valid
 * values.
 */

import { CniError, errorCodes } from './errors.ts';
import { quote } from './text.ts';

export const commands = ['ADD', 'DEL', 'CHECK', 'GC', 'STATUS'] as const;
/** The commands that take a configuration on stdin: all but VERSION. */
export type Command = (typeof commands)[number];

export const isCommand = (text: string): text is Command => (commands as readonly string[]).includes(text);

export interface Environment {
  /** Any text: it is checked after the configuration is read. */
  readonly command: string;
  /** These are '' if they are not set. */
  readonly containerId: string;
  readonly netns: string;
  readonly ifname: string;
  readonly args: string;
  readonly path: readonly string[];
  /** Whether the plugin's own namespace is allowed as the container's. */
  readonly netnsOverride: boolean;
  /** The whole environment, for another plugin. */
  readonly all: readonly string[];
}

/** The characters of container ids and network names (CNI 1.1.0). */
const identifierPattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;
export const isIdentifier = (text: string): boolean => identifierPattern.test(text);

/** IFNAMSIZ, include/uapi/linux/if.h, counts the terminator. */
const interfaceNameLimitBytes = 15;

const utf8Length = (text: string): number => {
  let length = 0;
  for (const character of text) {
    const code = character.codePointAt(0)!;
    length += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  }
  return length;
};

/** The fault of an interface's name, or undefined (dev_valid_name in net/core/dev.c). */
export function interfaceNameProblem(name: string): string | undefined {
  if (name === '') return 'is empty';
  if (utf8Length(name) > interfaceNameLimitBytes) return `is longer than ${interfaceNameLimitBytes} bytes`;
  if (name === '.' || name === '..') return 'is no name for an interface';
  // The kernel replaces "%d" by a number.
  if (/[/:%\s]/.test(name)) return 'holds a slash, a colon, a percent sign or white space';
  return undefined;
}

interface Variable {
  readonly name: string;
  readonly requiredFor: readonly Command[];
  readonly problem?: (value: string) => string | undefined;
}

const attachment: readonly Command[] = ['ADD', 'CHECK', 'DEL'];

const variables: readonly Variable[] = [
  {
    name: 'CNI_CONTAINERID',
    requiredFor: attachment,
    problem: (value) =>
      isIdentifier(value) ? undefined : 'is not letters, digits, ".", "_" and "-" after a letter or digit',
  },
  { name: 'CNI_NETNS', requiredFor: ['ADD', 'CHECK'] },
  { name: 'CNI_IFNAME', requiredFor: attachment, problem: interfaceNameProblem },
  { name: 'CNI_PATH', requiredFor: commands },
];

/**
 * @param all `K=V` entries
 * @throws CniError 4 for the first bad value, or else for all missing variables
 */
export function readEnvironment(all: readonly string[]): Environment {
  const values = new Map<string, string>();
  for (const entry of all) {
    if (!entry.startsWith('CNI_')) continue;
    const equals = entry.indexOf('=');
    if (equals > 0) values.set(entry.slice(0, equals), entry.slice(equals + 1));
  }
  const variable = (name: string): string => values.get(name) ?? '';
  const command = variable('CNI_COMMAND');
  const missing: string[] = [];
  for (const { name, requiredFor, problem } of variables) {
    if (!(requiredFor as readonly string[]).includes(command)) continue;
    const value = variable(name);
    if (value === '') {
      missing.push(name);
      continue;
    }
    const what = problem?.(value);
    if (what) throw new CniError(errorCodes.badEnvironment, `${name} ${quote(value)} ${what}`);
  }
  if (missing.length > 0) {
    throw new CniError(errorCodes.badEnvironment, `${command} needs ${missing.join(', ')} in the environment`, {
      details: `missing: ${missing.join(', ')}`,
    });
  }
  const override = variable('CNI_NETNS_OVERRIDE');
  return {
    command,
    containerId: variable('CNI_CONTAINERID'),
    netns: variable('CNI_NETNS'),
    ifname: variable('CNI_IFNAME'),
    args: variable('CNI_ARGS'),
    path: variable('CNI_PATH')
      .split(':')
      .filter((folder) => folder !== ''),
    netnsOverride: override === '1' || override.toLowerCase() === 'true',
    all,
  };
}

/** The keys of CNI_ARGS besides IgnoreUnknown. */
const knownArguments = ['IP', 'MAC'] as const;
export type Arguments = { readonly [name in (typeof knownArguments)[number]]?: string };

/**
 * CNI_ARGS: `K=V;K=V`, keys case-sensitive.
 * @throws CniError 4 for any other form, and for unknown keys unless `IgnoreUnknown=1`
 */
export function parseArguments(text: string): Arguments {
  if (text === '') return {};
  const found: Record<string, string> = {};
  const unknown: string[] = [];
  let ignoreUnknown = false;
  for (const pair of text.split(';')) {
    const parts = pair.split('=');
    if (parts.length !== 2) {
      throw new CniError(errorCodes.badEnvironment, `CNI_ARGS holds ${quote(pair)}, which is not "key=value"`);
    }
    const [key, value] = parts as [string, string];
    if (key === 'IgnoreUnknown') {
      if (!/^(1|0|true|false)$/i.test(value)) {
        throw new CniError(errorCodes.badEnvironment, `CNI_ARGS has IgnoreUnknown=${value}, which is not 1 or 0`);
      }
      ignoreUnknown = value === '1' || value.toLowerCase() === 'true';
    } else if ((knownArguments as readonly string[]).includes(key)) {
      found[key] = value;
    } else {
      unknown.push(key);
    }
  }
  if (unknown.length > 0 && !ignoreUnknown) {
    throw new CniError(
      errorCodes.badEnvironment,
      `CNI_ARGS holds ${unknown.map((key) => quote(key)).join(', ')}, which Weft does not know; ` +
        'add IgnoreUnknown=1 if that is meant for others',
    );
  }
  return found;
}
