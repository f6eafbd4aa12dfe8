/** Logs: one line per event. Text for people on a terminal, JSON otherwise. */

import { printable } from '../../command/printable.ts';
import { joinLines } from '../../net/text.ts';
import { Budget } from '../pace/budget.ts';

export const logLevels = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof logLevels)[number];

export const logFormats = ['text', 'json'] as const;
export type LogFormat = (typeof logFormats)[number];

/** Details of an event besides its sentence. An Error counts as its message; undefined is left out. */
export type LogFields = Readonly<Record<string, string | number | boolean | Error | undefined>>;

export interface Logger {
  /** Whether `debug` has an effect: some messages are expensive to format. */
  readonly tellsDebug?: boolean;
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
}

type LogAt = (message: string, fields?: LogFields) => void;

export interface LoggerOptions {
  /** Events below this level are dropped. */
  readonly level: LogLevel;
  readonly format: LogFormat;
  /** Takes one line, with its newline. */
  readonly write: (line: string) => void;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** The value in `key=value`: quoted if a space, a quote or an empty text would make it ambiguous. */
function formatValue(value: string | number | boolean): string {
  const text = String(value);
  return printable(/^[^\s"=]+$/.test(text) ? text : JSON.stringify(text));
}

function formatLine(options: LoggerOptions, level: LogLevel, message: string, fields: LogFields): string {
  const entries = Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => [key, value instanceof Error ? value.message : value!] as const);
  const time = new Date(options.now()).toISOString();
  if (options.format === 'json') {
    return `${printable(JSON.stringify({ time, level, message, ...Object.fromEntries(entries) }))}\n`;
  }
  const pairs = entries.map(([key, value]) => ` ${key}=${formatValue(value)}`).join('');
  // A message with a line break, such as a library's, still becomes one line.
  return `${time} ${level.padEnd(5)} ${printable(joinLines(message, ' '))}${pairs}\n`;
}

/** Limits `info`: if another program undoes weftd's changes again and again, the log must not fill the disk. */
const infoBurst = 2000;
const infoPerSecond = 10;

export function openLogger(options: LoggerOptions): Logger {
  const threshold = logLevels.indexOf(options.level);
  const budget = new Budget(infoBurst, infoPerSecond / 1000, options.now);
  let leftOut = 0;
  /** Reported with the next line that fits the budget. */
  const withLeftOut = (fields: LogFields): LogFields => {
    if (leftOut === 0) return fields;
    const told = { ...fields, linesLeftOut: leftOut };
    leftOut = 0;
    return told;
  };
  const logAt =
    (level: LogLevel) =>
    (message: string, fields: LogFields = {}): void => {
      if (logLevels.indexOf(level) < threshold) return;
      if (level === 'info' && !budget.take()) leftOut++;
      else options.write(formatLine(options, level, message, withLeftOut(fields)));
    };
  const [debug, info, warn, error] = logLevels.map(logAt) as [LogAt, LogAt, LogAt, LogAt];
  return { tellsDebug: threshold === 0, debug, info, warn, error };
}
