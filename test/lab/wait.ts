/** Waiting for what happens elsewhere: never for a time, always for a condition, and never for ever. */

import { patience } from './guest.ts';

export interface WaitOptions {
  readonly deadlineMs?: number;
  readonly intervalMs?: number;
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Asks again and again until the answer is neither undefined, null nor false; gives the answer. What `probe` throws
 * counts as "not yet", and is named if time runs out.
 * @param what completes "Waited in vain for …"
 */
export async function waitFor<T>(
  what: string,
  probe: () => T | undefined | null | false | Promise<T | undefined | null | false>,
  options: WaitOptions = {},
): Promise<T> {
  const { intervalMs = 20 } = options;
  const deadlineMs = (options.deadlineMs ?? 10_000) * patience;
  const start = performance.now();
  let last: unknown = 'nothing was seen';
  for (;;) {
    try {
      const answer = await probe();
      if (answer !== undefined && answer !== null && answer !== false) return answer;
    } catch (error) {
      last = error;
    }
    if (performance.now() - start > deadlineMs) {
      throw new Error(`Waited in vain for ${what} (${deadlineMs} ms): ${last instanceof Error ? last.message : last}`);
    }
    await sleep(intervalMs);
  }
}

/** How long `work` takes, in milliseconds, and what it gives. */
export async function timed<T>(work: () => T | Promise<T>): Promise<{ result: T; ms: number }> {
  const start = performance.now();
  const result = await work();
  return { result, ms: performance.now() - start };
}
