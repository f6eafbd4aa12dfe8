/** doctor's report: text for people, JSON for programs, and the exit status. */

import { printable } from '../../command/printable.ts';
import type { Severity } from '../../daemon/report/check.ts';
import { count, type Style } from '../text.ts';
import type { Result } from './examination.ts';
import { type BoundCheck, type HostFinding, isSafe, plain } from './host-check.ts';

/** A finding with all that is known about it. */
export interface Row {
  readonly check: BoundCheck;
  readonly finding: HostFinding;
  readonly code: string;
  readonly severity: Severity;
  /** Set where `--fix` ran the command. */
  readonly fixed?: boolean;
  readonly fixFailure?: string;
}

export const rowsOf = (results: readonly Result[]): Row[] =>
  results.flatMap(({ check, findings }) =>
    findings.map((finding) => ({
      check,
      finding,
      code: finding.code ?? check.code,
      severity: finding.severity ?? check.severity,
    })),
  );

/** Errors first; otherwise in the order of the checks. */
const bySeverity = (rows: readonly Row[]): Row[] => [
  ...rows.filter(({ severity }) => severity === 'error'),
  ...rows.filter(({ severity }) => severity !== 'error'),
];

const isOpen = ({ fixed }: Row): boolean => fixed !== true;

export const exitStatus = { well: 0, warnings: 3, errors: 4 } as const;

/** A check without a result counts as a warning: nobody knows. */
export function statusOf(rows: readonly Row[], results: readonly Result[]): number {
  const open = rows.filter(isOpen);
  if (open.some(({ severity }) => severity === 'error')) return exitStatus.errors;
  return open.length > 0 || results.some(({ failure }) => failure !== undefined)
    ? exitStatus.warnings
    : exitStatus.well;
}

function formatRow({ finding, check, code, severity, fixed, fixFailure }: Row, style: Style): string {
  const colour = severity === 'error' ? style.red : style.yellow;
  const lines = [`${colour(severity)}  ${style.bold(code)}: ${printable(finding.what)}`];
  // weftd's own lines say what to do.
  if (finding.code === undefined) lines.push(`  ${style.dim('why:')} ${check.why}`);
  if (finding.command !== undefined) lines.push(`  ${style.dim('run:')} ${printable(finding.command)}`);
  else if (finding.code === undefined) lines.push(`  ${style.dim('do:')}  ${plain(check.remedy)}`);
  if (fixed) lines.push(`  ${style.green('mended')}`);
  if (fixFailure !== undefined) lines.push(`  ${style.red(`not mended: ${printable(fixFailure)}`)}`);
  return `${lines.join('\n')}\n`;
}

function summary(rows: readonly Row[], results: readonly Result[], style: Style): string {
  const failed = results.filter(({ failure }) => failure !== undefined).length;
  const checked = `${count(results.length, 'check')}${failed > 0 ? `, of which ${failed} could not run` : ''}`;
  const open = rows.filter(isOpen);
  if (open.length === 0) return style.green(`Nothing to mend: ${checked}\n`);
  const errors = open.filter(({ severity }) => severity === 'error').length;
  const numbers = [
    ...(errors > 0 ? [count(errors, 'error')] : []),
    ...(open.length > errors ? [count(open.length - errors, 'warning')] : []),
  ];
  const safe = open.filter(({ check, finding }) => isSafe(check, finding)).length;
  const mends = safe > 0 ? `; "weftctl doctor --fix" mends ${safe} of them` : '';
  return `${numbers.join(', ')} by ${checked}${mends}\n`;
}

export function formatReport(rows: readonly Row[], results: readonly Result[], style: Style): string {
  const failures = results.flatMap(({ check, failure }) =>
    failure === undefined
      ? []
      : `${style.yellow('unknown')}  ${style.bold(check.code)}: This check could not run: ${printable(failure)}\n`,
  );
  return [...bySeverity(rows).map((row) => formatRow(row, style)), ...failures, summary(rows, results, style)].join('');
}

/** JSON leaves DEL and the C1 controls as they are, and a terminal would obey them. */
const withoutControls = (json: string): string =>
  json.replace(/[\u007f-\u009f]/g, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);

export function formatJson(rows: readonly Row[], results: readonly Result[]): string {
  const document = {
    findings: bySeverity(rows).map(({ check, finding, code, severity, fixed, fixFailure }) => ({
      code,
      severity,
      title: check.title,
      subject: finding.subject,
      facts: finding.facts,
      what: finding.what,
      why: check.why,
      ...(finding.command === undefined ? { advice: plain(check.remedy) } : { command: finding.command }),
      safe: isSafe(check, finding),
      ...(finding.sinceMs === undefined ? {} : { since: new Date(finding.sinceMs).toISOString() }),
      ...(fixed === undefined ? {} : { fixed }),
      ...(fixFailure === undefined ? {} : { fixFailure }),
    })),
    failed: results.flatMap(({ check, failure }) =>
      failure === undefined ? [] : { code: check.code, reason: failure },
    ),
    checks: results.map(({ check }) => check.code),
  };
  return `${withoutControls(JSON.stringify(document, null, 2))}\n`;
}
