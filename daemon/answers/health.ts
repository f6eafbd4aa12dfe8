/**
 * Whether weftd is alive: every task starts when it is due, and ends.
 *
 * An answer of the server alone does not prove that. A task that waits for ever, such as for an answer of the store
 * without a deadline, leaves everything else running. A task that blocks holds up everything, including the answers of
 * `/healthz` and the service manager's watchdog.
 */

/** A task, as its schedule sees it. */
export interface Activity {
  readonly name: string;
  /** The longest duration of a run. */
  readonly deadlineMs: number;
  /** Start of the current run; undefined if none runs. */
  readonly runningSinceMs: number | undefined;
  /** When the next run is due; infinite if none was requested. */
  readonly dueMs: number;
}

/** How late a run may start. */
const lateAtMostMs = 30_000;

/** @returns the stuck task, in words; undefined if all is well */
export function stuckActivity(
  activities: readonly Activity[],
  nowMs: number,
  lateMs: number = lateAtMostMs,
): string | undefined {
  const seconds = (ms: number): string => `${Math.round(ms / 1000)} s`;
  for (const { name, deadlineMs, runningSinceMs, dueMs } of activities) {
    if (runningSinceMs !== undefined) {
      const spentMs = nowMs - runningSinceMs;
      if (spentMs > deadlineMs) return `"${name}" has not ended for ${seconds(spentMs)}`;
    } else if (nowMs - dueMs > lateMs) {
      return `"${name}" should have begun ${seconds(nowMs - dueMs)} ago`;
    }
  }
  return undefined;
}
