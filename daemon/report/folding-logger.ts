/**
 * Folds equal lines: if another program undoes the same thing again and again, the log gets some lines and then a count,
 * not two lines per second for days.
 */

import type { LogFields, Logger } from './log.ts';

/**
 * The first lines with the same sentence are written as they come: people who try something see each repair. A fight
 * uses them up within seconds.
 */
export const linesInFull = 60;
/** Then one line with a count at most this often. */
const foldedMs = 10 * 60_000;
/** After this much quiet a sentence counts as new. */
const forgottenMs = 60 * 60_000;
/** Sentences remembered; the oldest is forgotten first. */
const sentencesAtMost = 1000;

interface Sentence {
  lines: number;
  /** Held back since the last line. */
  held: number;
  lineMs: number;
  lastMs: number;
}

/**
 * The same logger, with `info` folded. A line that stands for several has the field `times`.
 * @param now milliseconds on a clock that does not go back
 */
export function foldRepeats(logger: Logger, now: () => number): Logger {
  const known = new Map<string, Sentence>();

  function remember(message: string, nowMs: number): Sentence {
    const oldest = known.size < sentencesAtMost ? undefined : known.keys().next().value;
    if (oldest !== undefined) known.delete(oldest);
    const sentence = { lines: 0, held: 0, lineMs: nowMs, lastMs: nowMs };
    known.set(message, sentence);
    return sentence;
  }

  function info(message: string, fields: LogFields = {}): void {
    const nowMs = now();
    const sentence = known.get(message) ?? remember(message, nowMs);
    if (nowMs - sentence.lastMs > forgottenMs) sentence.lines = 0;
    sentence.lastMs = nowMs;
    if (sentence.lines >= linesInFull && nowMs - sentence.lineMs < foldedMs) {
      sentence.held++;
      return;
    }
    logger.info(message, sentence.held > 0 ? { ...fields, times: sentence.held + 1 } : fields);
    sentence.lines++;
    sentence.held = 0;
    sentence.lineMs = nowMs;
  }

  return {
    ...(logger.tellsDebug === undefined ? {} : { tellsDebug: logger.tellsDebug }),
    debug: (message, fields) => logger.debug(message, fields),
    info,
    warn: (message, fields) => logger.warn(message, fields),
    error: (message, fields) => logger.error(message, fields),
  };
}
