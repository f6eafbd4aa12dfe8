/**
 * A check: something that may be wrong, how to find out, and what to do about it.
 *
 * weftd's own problems have the same head and the same findings (problem-catalogue.ts, problems.ts): what a check finds
 * is reported with them. `weftctl doctor` plugs its checks in here: peers through the real tunnel, the runtime's folders,
 * sysctls, other programs' rules.
 */

/** error: containers cannot start, or packets may not arrive. warning: something may become worse, or is not as asked for. */
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
  /** The peer, the device, the file that it is about; empty where the check is about one thing only. */
  readonly subject: string;
  readonly facts: Readonly<Record<string, string | number | boolean>>;
  /** On a clock that does not go back; absent: found just now. */
  readonly sinceMs?: number;
}

export interface Check extends CheckHead {
  /** How long a run takes, about: dear ones run seldom, or on demand only. */
  readonly costMs: number;
  /** @returns nothing where all is well */
  run(signal: AbortSignal): readonly Finding[] | Promise<readonly Finding[]>;
  /** One line: what is wrong, and the command or the setting that mends it. */
  advice(finding: Finding): string;
  readonly fix?: {
    /** Whether it may be done without asking: no packet, container or foreign setting is harmed. */
    readonly safe: boolean;
    run(finding: Finding, signal: AbortSignal): Promise<void>;
  };
}
