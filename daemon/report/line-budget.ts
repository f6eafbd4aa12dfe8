/**
 * Limits log lines that others can cause without end: every node may write into the cluster's store as often as it likes.
 * weftctl status shows the state at any time, so lines beyond the budget are only counted.
 */

import { Budget } from '../pace/budget.ts';
import type { LogFields, Logger } from './log.ts';

const minuteMs = 60_000;

export interface LineRate {
  /** So many lines at once. */
  readonly burst: number;
  readonly perMinute: number;
}

/** For lines about what this node does because somebody has written into the store. */
export const storeLines: LineRate = { burst: 8, perMinute: 3 };

/** Says for each line whether it may be written. */
export class LineBudget {
  readonly #budget: Budget;
  /** Lines were left out since the budget was full. */
  #isOver = false;

  /** @param now milliseconds on a clock that does not go back */
  constructor({ burst, perMinute }: LineRate, now: () => number) {
    this.#budget = new Budget(burst, perMinute / minuteMs, now);
  }

  /** Whether lines were left out, and the budget has not recovered since. */
  get isOver(): boolean {
    if (this.#budget.isFull) this.#isOver = false;
    return this.#isOver;
  }

  /** over: no, and it is the first one that is left out for a while. */
  take(): 'yes' | 'over' | 'no' {
    const wasOver = this.isOver;
    if (this.#budget.take()) return 'yes';
    if (wasOver) return 'no';
    this.#isOver = true;
    return 'over';
  }
}

/**
 * The same logger within a budget, for lines of info and warn together. The first line beyond it says so, and the next one
 * within it has the number of those left out.
 * @param what names the lines, in that message
 */
export function limitLines(logger: Logger, what: string, rate: LineRate, now: () => number): Logger {
  const budget = new LineBudget(rate, now);
  let leftOut = 0;
  const limited =
    (level: 'info' | 'warn') =>
    (message: string, fields: LogFields = {}): void => {
      const may = budget.take();
      if (may === 'yes') {
        logger[level](message, leftOut > 0 ? { ...fields, linesLeftOut: leftOut } : fields);
        leftOut = 0;
        return;
      }
      leftOut++;
      if (may === 'over') logger.warn(`${what}: too many changes to log all of them; weftctl status shows the state`);
    };
  return {
    ...(logger.tellsDebug === undefined ? {} : { tellsDebug: logger.tellsDebug }),
    debug: (message, fields) => logger.debug(message, fields),
    info: limited('info'),
    warn: limited('warn'),
    error: (message, fields) => logger.error(message, fields),
  };
}
