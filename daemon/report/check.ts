/**
 * A check: a possible problem, how to detect it, and what to do about it.
 *
 * weftd's own problems have the same head and the same findings (problem-catalogue.ts, problems.ts). Problems of checks are
 * reported together with them. `weftctl doctor` has its checks in cli/doctor/checks/.
 */

/** error: containers cannot start, or packets may not arrive. warning: it may get worse, or is not as requested. */
export type Severity = 'warning' | 'error';

/** The constant part of a check or a problem. */
export interface CheckHead {
  /** Stable: programs may depend on it. Lower case, words joined by hyphens. */
  readonly code: string;
  /** For a list of all checks. */
  readonly title: string;
  readonly severity: Severity;
}

export interface Finding {
  /** The peer, the device or the file in question; empty if the check has only one subject. */
  readonly subject: string;
  readonly facts: Readonly<Record<string, string | number | boolean>>;
  /** On a clock that does not go back; absent: just now. */
  readonly sinceMs?: number;
}

export interface Check extends CheckHead {
  /** Approximate duration of a run: long ones run rarely, or on demand only. */
  readonly costMs: number;
  /** @returns an empty list if all is well */
  run(signal: AbortSignal): readonly Finding[] | Promise<readonly Finding[]>;
  /** One line: what is wrong, and the command or the setting that repairs it. */
  advice(finding: Finding): string;
  readonly fix?: {
    /** Whether it is safe without a question: it harms no packet, container or foreign setting. */
    readonly safe: boolean;
    run(finding: Finding, signal: AbortSignal): Promise<void>;
  };
}
