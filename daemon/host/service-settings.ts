/** The settings of weftd's service, from the file that its unit names as EnvironmentFile (systemd.exec(5)). */

import { SyscallError } from '../../linux/errors.ts';
import { readText } from '../../linux/files.ts';
import type { Sys } from '../../linux/sys.ts';

const limitBytes = 256 * 1024;

const unquoted = (text: string): string => {
  const quote = text[0];
  const isQuoted = text.length > 1 && (quote === '"' || quote === "'") && text.endsWith(quote);
  return isQuoted ? text.slice(1, -1) : text;
};

/** weftd's and flanneld's variables; later lines count. Comments begin with "#" or ";". */
export function parseServiceSettings(text: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const line of text.split('\n')) {
    const match = /^((?:WEFTD|FLANNELD)_[A-Z0-9_]+)=(.*)$/.exec(line.trim());
    if (match) found[match[1]!] = unquoted(match[2]!.trim());
  }
  return found;
}

/** Nothing of a file that is missing or cannot be read: the person who leaves can give every option. */
export function readServiceSettings(sys: Sys, path: string): Record<string, string> {
  try {
    return parseServiceSettings(readText(sys, path, limitBytes) ?? '');
  } catch (error) {
    if (error instanceof SyscallError) return {};
    throw error;
  }
}
