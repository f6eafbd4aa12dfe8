/** `/etc/default/weftd`: an EnvironmentFile of systemd, changed line by line. Pure. */

import { CliError } from '../host.ts';

/** The variable of one of weftd's options. */
export const variableOf = (option: string): string => `WEFTD_${option.toUpperCase().replaceAll('-', '_')}`;

/** A value as systemd reads it, and the shell. @throws CliError */
function formatValue(variable: string, value: string): string {
  if (/^[\w.,:/@%+=[\]-]*$/.test(value)) return value;
  if (/[\p{Cc}'\\]/u.test(value)) {
    throw new CliError(
      `Cannot write ${variable} into the settings of weftd: its value has a quote, a backslash or a control character`,
    );
  }
  return `'${value}'`;
}

const head = '# Settings of weftd, made by "weftctl install". "weftd --help" lists them all.\n';

/**
 * Sets variables, and leaves all other lines as they are.
 * @param text undefined: there is no file yet
 * @throws CliError
 */
export function withSettings(text: string | undefined, wanted: ReadonlyMap<string, string>): string {
  const left = new Map(wanted);
  const lines = (text ?? head).replace(/\n$/, '').split('\n');
  const kept = lines.map((line) => {
    const variable = /^\s*(\w+)=/.exec(line)?.[1];
    const value = variable === undefined ? undefined : left.get(variable);
    if (value === undefined) return line;
    left.delete(variable!);
    return `${variable}=${formatValue(variable!, value)}`;
  });
  const added = [...left].map(([variable, value]) => `${variable}=${formatValue(variable, value)}`);
  return `${[...kept, ...added].filter((line, i) => i > 0 || line !== '').join('\n')}\n`;
}

/** The value of each variable; the last line counts. */
export function readSettings(text: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const line of text.split('\n')) {
    const [, variable, value = ''] = /^\s*(\w+)=(.*)$/.exec(line) ?? [];
    if (variable === undefined) continue;
    const trimmed = value.trim();
    const isQuoted = trimmed.length > 1 && /^['"]/.test(trimmed) && trimmed.endsWith(trimmed[0]!);
    found.set(variable, isQuoted ? trimmed.slice(1, -1) : trimmed);
  }
  return found;
}
