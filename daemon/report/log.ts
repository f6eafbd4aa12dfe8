/** Logs: one line per event. Text for people on a terminal, JSON otherwise. */

import { messageOf } from '../../command/fault.ts';
import { formatLogLine } from '../../command/log-line.ts';
import { printable } from '../../command/printable.ts';
import { joinLines } from '../../net/text.ts';
import { Budget } from '../pace/budget.ts';
import { RecentLines } from './recent-lines.ts';

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

/** The process's own logger. */
export interface OpenedLogger extends Logger {
  /** The lines that were written last. */
  readonly recent: Pick<RecentLines, 'after'>;
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

type Entries = readonly (readonly [string, string | number | boolean])[];

function formatLine(format: LogFormat, time: string, level: LogLevel, message: string, entries: Entries): string {
  if (format === 'json') {
    return `${printable(JSON.stringify({ time, level, message, ...Object.fromEntries(entries) }))}\n`;
  }
  // A message with a line break, such as a library's, still becomes one line.
  return formatLogLine(time, level, joinLines(message, ' '), entries);
}

/** Limits `info`: if another program undoes weftd's changes again and again, the log must not fill the disk. */
const infoBurst = 2000;
const infoPerSecond = 10;

export function openLogger(options: LoggerOptions): OpenedLogger {
  const recent = new RecentLines(new Date(options.now()).toISOString());
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
      if (level === 'info' && !budget.take()) {
        leftOut++;
        return;
      }
      const entries = Object.entries(withLeftOut(fields))
        .filter(([, value]) => value !== undefined)
        .map(([key, value]) => [key, value instanceof Error ? messageOf(value) : value!] as const);
      const time = new Date(options.now()).toISOString();
      options.write(formatLine(options.format, time, level, message, entries));
      recent.add({ time, level, message: joinLines(message, ' '), fields: Object.fromEntries(entries) });
    };
  const [debug, info, warn, error] = logLevels.map(logAt) as [LogAt, LogAt, LogAt, LogAt];
  return { tellsDebug: threshold === 0, debug, info, warn, error, recent };
}
