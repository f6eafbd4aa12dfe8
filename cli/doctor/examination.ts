/**
 * Runs checks. They run beside each other, each within a time. One that fails or hangs is a line of the report, and the
 * others go on.
 */

import type { BoundCheck, HostFinding } from './host-check.ts';

export interface Result {
  readonly check: BoundCheck;
  readonly findings: readonly HostFinding[];
  /** Why the check has no result. */
  readonly failure?: string;
}

/** @throws Error when the time is over, whatever the work does then */
export async function within<T>(deadlineMs: number, work: (signal: AbortSignal) => T | Promise<T>): Promise<T> {
  const controller = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`it did not end within ${deadlineMs / 1000} s`));
      controller.abort();
    }, deadlineMs);
  });
  try {
    return await Promise.race([Promise.resolve().then(() => work(controller.signal)), late]);
  } finally {
    clearTimeout(timer);
  }
}

async function examine(check: BoundCheck, deadlineMs: number): Promise<Result> {
  try {
    return { check, findings: await within(deadlineMs, (signal) => check.run(signal)) };
  } catch (error) {
    return { check, findings: [], failure: error instanceof Error ? error.message : String(error) };
  }
}

/** Two checks may find the same: the first counts, and one with a command before one without. */
function withoutRepeats(results: readonly Result[]): Result[] {
  const repaired = new Set<string>();
  for (const { check, findings } of results)
    for (const finding of findings) if (finding.command !== undefined) repaired.add(finding.code ?? check.code);
  return results.map((result) => ({
    ...result,
    findings: result.findings.filter(
      ({ code, command }) => code === undefined || command !== undefined || !repaired.has(code),
    ),
  }));
}

export const runChecks = async (checks: readonly BoundCheck[], deadlineMs: number): Promise<Result[]> =>
  withoutRepeats(await Promise.all(checks.map((check) => examine(check, deadlineMs))));
