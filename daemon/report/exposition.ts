/**
 * Prometheus' text format 0.0.4: counters, gauges, histograms and their text.
 *
 * https://prometheus.io/docs/instrumenting/exposition_formats/. A label has few values, or values known beforehand. A
 * family with too many series counts further ones under `other`, so that memory stays bounded.
 *
 * The format is written by our own code: `prom-client` gives the same lines, but costs 10 MB of memory and 0.1 s of every
 * start. `promtool check metrics` and a strict reader in the tests check the lines.
 */

export const expositionContentType = 'text/plain; version=0.0.4; charset=utf-8';

const seriesAtMost = 64;
const overflow = 'other';

/** Values of the family's labels, in the order of their names. */
export type LabelValues = readonly string[];

interface FamilyOptions {
  /** Ends with the unit (`_seconds`, `_bytes`), a counter with `_total`. */
  readonly name: string;
  /** One sentence. */
  readonly help: string;
  readonly labels?: readonly string[];
}

const escapeHelp = (text: string): string => text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
const escapeValue = (text: string): string => escapeHelp(text).replaceAll('"', '\\"');

/** As Go's `strconv.ParseFloat` reads it. */
function formatNumber(value: number): string {
  if (Number.isFinite(value)) return String(value);
  return Number.isNaN(value) ? 'NaN' : value > 0 ? '+Inf' : '-Inf';
}

function formatLabels(names: readonly string[], values: LabelValues): string {
  if (names.length === 0) return '';
  return `{${names.map((name, i) => `${name}="${escapeValue(values[i] ?? '')}"`).join(',')}}`;
}

/** Series of one name, each with a state of type `S`, by their labels' values. */
class SeriesMap<S> {
  readonly labels: readonly string[];
  readonly #series = new Map<string, { readonly values: LabelValues; readonly state: S }>();
  readonly #make: () => S;

  constructor(labels: readonly string[], make: () => S) {
    this.labels = labels;
    this.#make = make;
  }

  /** The state of the series; created on first use. */
  at(values: LabelValues): S {
    // No label value contains this character; one that did would be counted with another.
    const key = values.join('\0');
    let found = this.#series.get(key);
    if (!found) {
      if (this.#series.size >= seriesAtMost && values.some((value) => value !== overflow)) {
        return this.at(this.labels.map(() => overflow));
      }
      found = { values, state: this.#make() };
      this.#series.set(key, found);
    }
    return found.state;
  }

  clear(): void {
    this.#series.clear();
  }

  list(): { readonly values: LabelValues; readonly state: S }[] {
    return [...this.#series.values()];
  }
}

interface Family extends FamilyOptions {
  readonly type: 'counter' | 'gauge' | 'histogram';
  /** Lines without the head; may be empty. */
  samples(): string[];
}

/** Only grows. */
export class Counter {
  readonly #series: SeriesMap<{ value: number }>;

  constructor(series: SeriesMap<{ value: number }>) {
    this.#series = series;
  }

  add(amount: number, ...labels: LabelValues): void {
    if (amount > 0) this.#series.at(labels).value += amount;
  }

  /** For a count kept elsewhere, which may restart at 0. */
  raiseTo(value: number, ...labels: LabelValues): void {
    this.#series.at(labels).value = value;
  }

  value(...labels: LabelValues): number {
    return this.#series.at(labels).value;
  }
}

/** The current value. */
export class Gauge {
  readonly #series: SeriesMap<{ value: number }>;

  constructor(series: SeriesMap<{ value: number }>) {
    this.#series = series;
  }

  /** @param value undefined: unknown, not shown */
  set(value: number | undefined, ...labels: LabelValues): void {
    if (value !== undefined) this.#series.at(labels).value = value;
  }

  /** Forgets every series. */
  clear(): void {
    this.#series.clear();
  }
}

interface HistogramState {
  /** Counts per bucket, not cumulative; the last is above every bound. */
  readonly counts: number[];
  sum: number;
}

/** Counts observations below each bound. */
export class Histogram {
  readonly #bounds: readonly number[];
  readonly #series: SeriesMap<HistogramState>;

  constructor(bounds: readonly number[], series: SeriesMap<HistogramState>) {
    this.#bounds = bounds;
    this.#series = series;
  }

  observe(value: number, ...labels: LabelValues): void {
    const state = this.#series.at(labels);
    const bucket = this.#bounds.findIndex((bound) => value <= bound);
    state.counts[bucket < 0 ? this.#bounds.length : bucket]! += 1;
    state.sum += value;
  }

  /** Of all series together. */
  get count(): number {
    return sumOf(this.#series.list().map(({ state }) => sumOf(state.counts)));
  }

  get sum(): number {
    return sumOf(this.#series.list().map(({ state }) => state.sum));
  }
}

const sumOf = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);

function histogramLines(name: string, labels: readonly string[], bounds: readonly number[]) {
  return ({ values, state: { counts, sum } }: { values: LabelValues; state: HistogramState }): string[] => {
    let below = 0;
    const buckets = counts.map((count, i) => {
      below += count;
      const bound = formatNumber(bounds[i] ?? Number.POSITIVE_INFINITY);
      return `${name}_bucket${formatLabels([...labels, 'le'], [...values, bound])} ${below}`;
    });
    const all = formatLabels(labels, values);
    return [...buckets, `${name}_sum${all} ${formatNumber(sum)}`, `${name}_count${all} ${below}`];
  };
}

/** All metrics of a process. */
export class Registry {
  readonly #families: Family[] = [];

  #series(options: FamilyOptions, type: 'counter' | 'gauge'): SeriesMap<{ value: number }> {
    const series = new SeriesMap(options.labels ?? [], () => ({ value: 0 }));
    const samples = (): string[] =>
      series
        .list()
        .map(
          ({ values, state: { value } }) =>
            `${options.name}${formatLabels(series.labels, values)} ${formatNumber(value)}`,
        );
    this.#families.push({ ...options, type, samples });
    return series;
  }

  /** @param initial series that exist from the start, with 0 */
  counter(options: FamilyOptions, initial: readonly LabelValues[] = options.labels ? [] : [[]]): Counter {
    const series = this.#series(options, 'counter');
    for (const values of initial) series.at(values);
    return new Counter(series);
  }

  gauge(options: FamilyOptions): Gauge {
    return new Gauge(this.#series(options, 'gauge'));
  }

  /** @param bounds upper bounds, ascending; a last bucket without a bound is added */
  histogram(options: FamilyOptions, bounds: readonly number[]): Histogram {
    const labels = options.labels ?? [];
    const series = new SeriesMap<HistogramState>(labels, () => ({ counts: Array(bounds.length + 1).fill(0), sum: 0 }));
    if (labels.length === 0) series.at([]);
    const lines = histogramLines(options.name, labels, bounds);
    this.#families.push({ ...options, type: 'histogram', samples: () => series.list().flatMap(lines) });
    return new Histogram(bounds, series);
  }

  /** Name, type and help of each metric, for the documentation. */
  get descriptions(): readonly { readonly name: string; readonly type: string; readonly help: string }[] {
    return this.#families.map(({ name, type, help }) => ({ name, type, help }));
  }

  format(): string {
    return this.#families
      .map((family) => ({ family, lines: family.samples() }))
      .filter(({ lines }) => lines.length > 0)
      .map(({ family: { name, help, type }, lines }) =>
        [`# HELP ${name} ${escapeHelp(help)}`, `# TYPE ${name} ${type}`, ...lines, ''].join('\n'),
      )
      .join('');
  }
}
