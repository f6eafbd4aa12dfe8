/** Samples, their quantiles, and tables of them. */

/** The value below which `fraction` of the samples lie (nearest rank). */
export function quantile(samples: readonly number[], fraction: number): number {
  const sorted = [...samples].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(fraction * sorted.length))]!;
}

export const median = (samples: readonly number[]): number => quantile(samples, 0.5);

/** One line of a comparison: a figure of Weft's, the reference's, and their ratio. */
export interface Row {
  readonly what: string;
  readonly unit: string;
  readonly weft: number;
  readonly reference: number;
  /** The lowest and the highest ratio among the rounds. */
  readonly spread?: readonly [number, number];
}

/** The samples of two contenders, round by round: in each round both were measured under the same conditions. */
export interface Rounds {
  readonly weft: readonly (readonly number[])[];
  readonly reference: readonly (readonly number[])[];
}

/** A figure of all samples, with the spread of its ratio among the rounds. */
export function rowOf(
  what: string,
  unit: string,
  { weft, reference }: Rounds,
  figure: (samples: readonly number[]) => number,
): Row {
  const ratios = weft.map((samples, round) => figure(samples) / figure(reference[round]!));
  return {
    what,
    unit,
    weft: figure(weft.flat()),
    reference: figure(reference.flat()),
    ...(ratios.length > 1 ? { spread: [Math.min(...ratios), Math.max(...ratios)] as const } : {}),
  };
}

/** In fewer samples one in twenty is the slowest of all, whose ratio says nothing. */
const tailSamples = 40;

/** The median, and how long the slowest five and one in a hundred take. */
export function timeRows(what: string, rounds: Rounds): Row[] {
  const hasTail = rounds.weft.every((samples) => samples.length >= tailSamples);
  return (
    [
      ['median', 0.5],
      ['p95', 0.95],
      ['p99', 0.99],
    ] as const
  ).map(([name, fraction]) => {
    const row = rowOf(`${what}, ${name}`, 'ms', rounds, (samples) => quantile(samples, fraction));
    if (fraction === 0.5 || hasTail) return row;
    const { spread: _, ...alone } = row;
    return alone;
  });
}

/** Contenders in the order A B, B A, A B, …: what grows or shrinks with time favours neither. */
export const inTurn = <T>(round: number, contenders: readonly T[]): readonly T[] =>
  round % 2 === 0 ? contenders : [...contenders].reverse();

/** Everything that was reported, for `--json`. */
export const reported: { readonly title: string; readonly beside: string; readonly rows: readonly Row[] }[] = [];

const digits = (value: number): string =>
  value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);

/** The rows as a table: what, Weft, the one beside it, ratio. */
export function formatRows(title: string, rows: readonly Row[], beside = 'reference'): string {
  reported.push({ title, beside, rows });
  const width = Math.max(...rows.map((row) => row.what.length), title.length);
  const cell = (value: number, unit: string): string => `${digits(value)} ${unit}`.padStart(12);
  const ratio = (row: Row): string => {
    const spread = row.spread ? `  ${row.spread.map((value) => value.toFixed(2)).join(' to ')}` : '';
    return `${(row.weft / row.reference).toFixed(2).padStart(8)}${spread}`;
  };
  const lines = rows.map(
    (row) => `${row.what.padEnd(width)}${cell(row.weft, row.unit)}${cell(row.reference, row.unit)}${ratio(row)}`,
  );
  return [`${title.padEnd(width)}${'weft'.padStart(12)}${beside.padStart(12)}${'ratio'.padStart(8)}`, ...lines].join(
    '\n',
  );
}
