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
}

const digits = (value: number): string =>
  value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);

/** The rows as a table: what, Weft, the one beside it, ratio. */
export function formatRows(title: string, rows: readonly Row[], beside = 'reference'): string {
  const width = Math.max(...rows.map((row) => row.what.length), title.length);
  const cell = (value: number, unit: string): string => `${digits(value)} ${unit}`.padStart(12);
  const lines = rows.map(
    (row) =>
      `${row.what.padEnd(width)}${cell(row.weft, row.unit)}${cell(row.reference, row.unit)}${(row.weft / row.reference).toFixed(2).padStart(8)}`,
  );
  return [`${title.padEnd(width)}${'weft'.padStart(12)}${beside.padStart(12)}${'ratio'.padStart(8)}`, ...lines].join(
    '\n',
  );
}
