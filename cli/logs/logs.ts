/** `weftctl logs`: the lines of its log that weftd keeps in memory. */

import type { LogEntry, RecentLog } from '../../cluster/status.ts';
import { formatLogLine } from '../../command/log-line.ts';
import { UsageError } from '../../command/options.ts';
import { printable } from '../../command/printable.ts';
import { CliError } from '../host.ts';
import type { Style } from '../text.ts';
import type { VerbContext } from '../verb.ts';

const levels = ['debug', 'info', 'warn', 'error'];
const defaultLines = 100;
const defaultTimeoutSeconds = 3600;
const pauseMs = 500;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

function colourOf(level: string, style: Style): (text: string) => string {
  if (level === 'error') return style.red;
  return level === 'warn' ? style.yellow : (text) => text;
}

function formatEntry({ time, level, message, fields }: LogEntry, style: Style): string {
  const line = formatLogLine(time, level, message, Object.entries(fields));
  return `${colourOf(level, style)(line.trimEnd())}\n`;
}

export async function run({ host, options, source, style }: VerbContext): Promise<number> {
  const level = options.text('level');
  const lowest = level === undefined ? 0 : levels.indexOf(level);
  if (lowest < 0) throw new UsageError(`"${level}" (--level) is none of ${levels.join(', ')}`);
  const show = (entries: readonly LogEntry[]): void => {
    for (const entry of entries) {
      host.stdout(options.flag('json') ? `${printable(JSON.stringify(entry))}\n` : formatEntry(entry, style));
    }
  };
  const wanted = (log: RecentLog): LogEntry[] => log.entries.filter((entry) => levels.indexOf(entry.level) >= lowest);
  let log = await source.logs(0);
  const lines = options.integer('lines') ?? defaultLines;
  show(lines === 0 ? [] : wanted(log).slice(-lines));
  if (!options.flag('follow')) return 0;
  const timeoutMs = (options.integer('timeout') ?? defaultTimeoutSeconds) * 1000;
  let last = log.entries.at(-1)?.number ?? 0;
  let isTold = false;
  for (let waitedMs = 0; timeoutMs === 0 || waitedMs < timeoutMs; waitedMs += pauseMs) {
    await pause(pauseMs);
    let next: RecentLog;
    try {
      next = await source.logs(last);
      // Another weftd counts from 1 again.
      if (next.startedAt !== log.startedAt) next = await source.logs(0);
    } catch (error) {
      if (!(error instanceof CliError)) throw error;
      if (!isTold) host.stderr(`weftctl: waiting: ${error.message}\n`);
      isTold = true;
      continue;
    }
    isTold = false;
    show(wanted(next));
    last = next.entries.at(-1)?.number ?? (next.startedAt === log.startedAt ? last : 0);
    log = next;
  }
  return 0;
}
