/**
 * A check of `weftctl doctor`, in the form of daemon/report/check.ts, and the texts that the documentation needs besides.
 *
 * The list of checks is a constant, so that docs/troubleshooting.md is made of it. Each check gets the host when it runs.
 */

import type { Check, CheckHead, Finding, Severity } from '../../daemon/report/check.ts';
import type { HostView } from './host-view.ts';

export interface HostFinding extends Finding {
  /** One line: what is wrong. */
  readonly what: string;
  /** For the shell: it repairs it. Absent where no command on this host does. */
  readonly command?: string;
  /** Where they differ from the check's: problems of weftd's own have theirs. */
  readonly code?: string;
  readonly severity?: Severity;
  /** Whether this command is as safe as the check's others. */
  readonly safe?: boolean;
}

export interface HostCheck extends CheckHead {
  readonly costMs: number;
  /** What happens to containers and packets. One sentence, without a full stop. */
  readonly why: string;
  /** What repairs it, in general, in Markdown: a command in backticks, or what to look at. */
  readonly remedy: string;
  /** Whether `--fix` may run the command: it harms no packet, container or foreign setting. */
  readonly safe: boolean;
  find(host: HostView, signal: AbortSignal): readonly HostFinding[] | Promise<readonly HostFinding[]>;
}

/** A check whose host is known. */
export interface BoundCheck extends Check {
  readonly why: string;
  readonly remedy: string;
  run(signal: AbortSignal): readonly HostFinding[] | Promise<readonly HostFinding[]>;
}

/** Without the marks of Markdown, for a terminal. */
export const plain = (remedy: string): string => remedy.replaceAll('`', '');

/** Whether `--fix` runs the finding's command. */
export const isSafe = ({ fix }: Check, { command, safe = true }: HostFinding): boolean =>
  fix?.safe === true && command !== undefined && safe;

const adviceOf = ({ what, command }: HostFinding, remedy: string): string =>
  `${what}; ${command === undefined ? plain(remedy) : `run: ${command}`}`;

export function bindCheck(check: HostCheck, host: HostView): BoundCheck {
  const { code, title, severity, costMs, why, remedy, safe } = check;
  return {
    ...{ code, title, severity, costMs, why, remedy },
    run: (signal) => check.find(host, signal),
    advice: (finding) => adviceOf(finding as HostFinding, remedy),
    fix: {
      safe,
      async run(finding, signal) {
        const { command } = finding as HostFinding;
        if (command === undefined) throw new Error(`There is no command: ${plain(remedy)}`);
        const { status, stderr } = await host.runProgram('/bin/sh', ['-c', command], {
          signal,
          timeoutMs: fixTimeoutMs,
        });
        if (status !== 0) throw new Error(stderr.trim().split('\n')[0] || `status ${status}`);
      },
    },
  };
}

const fixTimeoutMs = 20_000;

/** A word for the shell. */
export const quote = (word: string): string =>
  /^[\w./:@%+,=-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;

/** Words for the shell. */
export const command = (...words: readonly string[]): string => words.map(quote).join(' ');

export const all = (...commands: readonly string[]): string => commands.join(' && ');
