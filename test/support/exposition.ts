/** A strict reader of Prometheus' text format 0.0.4: it refuses at least everything that Prometheus refuses. */

export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface MetricFamily {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  readonly samples: Sample[];
}

const namePattern = '[a-zA-Z_:][a-zA-Z0-9_:]*';

function parseLabels(text: string, line: string): Record<string, string> {
  const labels: Record<string, string> = {};
  const pattern = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)/y;
  while (pattern.lastIndex < text.length) {
    const match = pattern.exec(text);
    if (!match) throw new Error(`labels: ${line}`);
    const [, name, value] = match;
    if (name! in labels) throw new Error(`label "${name}" twice: ${line}`);
    labels[name!] = value!.replace(/\\(.)/g, (_all, character: string) => (character === 'n' ? '\n' : character));
  }
  return labels;
}

function parseValue(text: string, line: string): number {
  const special = { '+Inf': Number.POSITIVE_INFINITY, '-Inf': Number.NEGATIVE_INFINITY, NaN: Number.NaN }[text];
  if (special !== undefined) return special;
  if (!/^-?\d+(\.\d+)?(e[+-]?\d+)?$/.test(text)) throw new Error(`value: ${line}`);
  return Number(text);
}

/** Checks a histogram: its buckets grow up to the count, and the last has no bound. */
function checkHistogram({ name, samples }: MetricFamily): void {
  const groups = new Map<string, Sample[]>();
  for (const sample of samples) {
    const { le: _le, ...labels } = sample.labels;
    const key = JSON.stringify(labels);
    groups.set(key, [...(groups.get(key) ?? []), sample]);
  }
  for (const [key, group] of groups) {
    const buckets = group.filter((sample) => sample.name === `${name}_bucket`);
    const count = group.find((sample) => sample.name === `${name}_count`)?.value;
    const bounds = buckets.map(({ labels }) => parseValue(labels['le'] ?? '', `${name}${key}`));
    if (bounds.at(-1) !== Number.POSITIVE_INFINITY) throw new Error(`${name}${key}: no last bucket`);
    if (bounds.some((bound, i) => i > 0 && bound <= bounds[i - 1]!)) throw new Error(`${name}${key}: bounds`);
    if (buckets.some(({ value }, i) => i > 0 && value < buckets[i - 1]!.value))
      throw new Error(`${name}${key}: buckets`);
    if (buckets.at(-1)?.value !== count) throw new Error(`${name}${key}: count`);
    if (!group.some((sample) => sample.name === `${name}_sum`)) throw new Error(`${name}${key}: no sum`);
  }
}

/** @throws Error with the line that is wrong */
export function parseExposition(text: string): MetricFamily[] {
  if (!text.endsWith('\n')) throw new Error('no newline at the end');
  const families: MetricFamily[] = [];
  const seen = new Set<string>();
  let help: RegExpExecArray | null = null;
  for (const line of text.slice(0, -1).split('\n')) {
    const helped = new RegExp(`^# HELP (${namePattern}) ((?:[^\\\\]|\\\\[\\\\n])*)$`).exec(line);
    if (helped) {
      help = helped;
      continue;
    }
    const typed = new RegExp(`^# TYPE (${namePattern}) (counter|gauge|histogram)$`).exec(line);
    if (typed) {
      const [, name, type] = typed as unknown as [string, string, string];
      if (help?.[1] !== name) throw new Error(`no HELP before: ${line}`);
      if (families.some((family) => family.name === name)) throw new Error(`family twice: ${line}`);
      families.push({ name, type, help: help[2]!, samples: [] });
      continue;
    }
    const match = new RegExp(`^(${namePattern})(?:\\{(.*)\\})? (\\S+)$`).exec(line);
    const family = families.at(-1);
    if (!match || !family) throw new Error(`line: ${line}`);
    const [, name, labels = '', value] = match as unknown as [string, string, string | undefined, string];
    const names =
      family.type === 'histogram' ? ['_bucket', '_sum', '_count'].map((end) => family.name + end) : [family.name];
    if (!names.includes(name)) throw new Error(`not of "${family.name}": ${line}`);
    const sample = { name, labels: parseLabels(labels, line), value: parseValue(value, line) };
    const key = name + JSON.stringify(Object.entries(sample.labels).sort());
    if (seen.has(key)) throw new Error(`series twice: ${line}`);
    seen.add(key);
    if (family.type === 'counter' && !(sample.value >= 0)) throw new Error(`counter: ${line}`);
    family.samples.push(sample);
  }
  for (const family of families) {
    if (family.samples.length === 0) throw new Error(`"${family.name}" has no samples`);
    if (family.type === 'histogram') checkHistogram(family);
  }
  return families;
}
