/** The machine's clock, as what an entry point hands in. */

import type { Clock } from '../../cluster/clock.ts';

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  setTimer: (callback, delayMs) => {
    const timer = setTimeout(callback, delayMs);
    return { cancel: () => clearTimeout(timer) };
  },
};
