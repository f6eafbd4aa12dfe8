/** The text of a log line, for weftd's log and for `weftctl logs`. */

import { printable } from './printable.ts';

export type LogValue = string | number | boolean;

/** The value in `key=value`: quoted if a space, a quote or an empty text would make it ambiguous. */
function formatValue(value: LogValue): string {
  const text = String(value);
  return printable(/^[^\s"=]+$/.test(text) ? text : JSON.stringify(text));
}

/**
 * @param time ISO 8601
 * @param message one line
 */
export function formatLogLine(
  time: string,
  level: string,
  message: string,
  fields: readonly (readonly [string, LogValue])[],
): string {
  const pairs = fields.map(([key, value]) => ` ${printable(key)}=${formatValue(value)}`).join('');
  return `${time} ${level.padEnd(5)} ${printable(message)}${pairs}\n`;
}
