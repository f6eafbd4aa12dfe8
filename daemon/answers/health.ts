/**
 * Whether weftd's loop is alive: every piece of its work begins when it is due, and ends.
 *
 * An answer of the server itself would not say so. Work that waits for what never comes, such as an answer of the store
 * without a deadline, leaves everything else running; work that blocks holds up everything, the answers of `/healthz` and
 * the service manager's watchdog with it.
 */

/** A piece of work that runs again and again. */
export interface Activity {
  readonly name: string;
  /** The longest that a run may take. */
  readonly deadlineMs: number;
  /** Start of the run that is under way; undefined: none is. */
  readonly runningSinceMs: number | undefined;
  /** When the next run should have begun; infinite where none is asked for. */
  readonly dueMs: number;
}

/** How late a run may begin. */
const lateAtMostMs = 30_000;

/** @returns the piece of work that is stuck, in words; undefined where all is well */
export function stuckActivity(
  activities: readonly Activity[],
  nowMs: number,
  lateMs: number = lateAtMostMs,
): string | undefined {
  const seconds = (ms: number): string => `${Math.round(ms / 1000)} s`;
  for (const { name, deadlineMs, runningSinceMs, dueMs } of activities) {
    if (runningSinceMs !== undefined) {
      const spentMs = nowMs - runningSinceMs;
      if (spentMs > deadlineMs) return `"${name}" has not come to its end for ${seconds(spentMs)}`;
    } else if (nowMs - dueMs > lateMs) {
      return `"${name}" should have begun ${seconds(nowMs - dueMs)} ago`;
    }
  }
  return undefined;
}
