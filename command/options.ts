/**
 * Command line options, shared by weftd and weftctl: one dash or two, `--key value` and `--key=value`, and the same from
 * the environment: `WEFTD_ETCD_ENDPOINTS`, then flannel's `FLANNELD_ETCD_ENDPOINTS`. Pure.
 */

/** One option. Its name is without dashes. */
export interface OptionSpec {
  readonly name: string;
  /** flag: takes no value, or `=true` and `=false` as Go's flags do. list: may be given several times. */
  readonly kind: 'text' | 'flag' | 'integer' | 'list';
  /** The value's placeholder in the help, such as `FILE`. */
  readonly placeholder?: string;
  /** One line for the help. */
  readonly help: string;
  /** Shown in the help. The reader of the option applies the default. */
  readonly byDefault?: string;
  /** The environment's text of a list is one item, because a comma may be part of it. */
  readonly takesCommas?: boolean;
  /** Not read from the environment, such as `--version`. */
  readonly commandLineOnly?: boolean;
  /** Limits of an integer. */
  readonly lowest?: number;
  readonly highest?: number;
}

/** The command line, or the environment, is wrong: the message is one line for the person who wrote it. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** The given options, by name. */
export class ParsedOptions {
  readonly #values: ReadonlyMap<string, readonly string[]>;
  /** Words that are not options, in order. */
  readonly words: readonly string[];

  constructor(values: ReadonlyMap<string, readonly string[]>, words: readonly string[]) {
    this.#values = values;
    this.words = words;
  }

  has(name: string): boolean {
    return this.#values.has(name);
  }

  /** The last value given. */
  text(name: string): string | undefined {
    return this.#values.get(name)?.at(-1);
  }

  list(name: string): readonly string[] {
    return this.#values.get(name) ?? [];
  }

  flag(name: string): boolean {
    return this.text(name) === 'true';
  }

  /** A flag; undefined if it was not given. */
  optionalFlag(name: string): boolean | undefined {
    const text = this.text(name);
    return text === undefined ? undefined : text === 'true';
  }

  integer(name: string): number | undefined {
    const text = this.text(name);
    return text === undefined ? undefined : Number(text);
  }
}

/** Go's strconv.ParseBool, which flannel's flags go through. */
function parseFlag(text: string): boolean | undefined {
  if (/^(1|t|true)$/i.test(text)) return true;
  if (/^(0|f|false)$/i.test(text)) return false;
  return undefined;
}

/** @throws UsageError; `source` is how the option was written, for the message */
function checkedValue(spec: OptionSpec, text: string, source: string): string {
  if (spec.kind === 'flag') {
    const flag = parseFlag(text);
    if (flag === undefined) throw new UsageError(`Option ${source} is "${text}": it must be true or false`);
    return String(flag);
  }
  if (spec.kind === 'integer') {
    const { lowest = 0, highest = Number.MAX_SAFE_INTEGER } = spec;
    const value = /^-?\d+$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= lowest && value <= highest)) {
      const range = spec.highest === undefined ? `of at least ${lowest}` : `from ${lowest} to ${highest}`;
      throw new UsageError(`Option ${source} is "${text}": it must be a whole number ${range}`);
    }
  }
  return text;
}

/** The edit distance of two words, for "did you mean". */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length]!;
}

/** `; did you mean "…"?` if one of the names is similar, else an empty text. */
export function suggestion(word: string, names: readonly string[], dashes = ''): string {
  const near = names
    .map((name) => ({ name, distance: editDistance(word, name) }))
    .filter(({ name, distance }) => distance <= Math.max(1, Math.floor(name.length / 4)))
    .sort((a, b) => a.distance - b.distance)[0];
  return near ? `; did you mean "${dashes}${near.name}"?` : '';
}

/** The environment variables of an option; the first that is set counts. */
const environmentNames = (name: string): readonly string[] => {
  const upper = name.toUpperCase().replaceAll('-', '_');
  return [`WEFTD_${upper}`, `FLANNELD_${upper}`];
};

/**
 * Parses a command line. `--` ends the options. The command line overrides the environment.
 * @param args without the program's name
 * @throws UsageError
 */
export function parseOptions(
  specs: readonly OptionSpec[],
  args: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): ParsedOptions {
  const byName = new Map(specs.map((spec) => [spec.name, spec]));
  const values = new Map<string, string[]>();
  const words: string[] = [];
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]!;
    if (arg === '--') {
      words.push(...args.slice(i + 1));
      break;
    }
    const match = /^--?([^-=][^=]*)(?:=([\s\S]*))?$/.exec(arg);
    if (!match) {
      words.push(arg);
      continue;
    }
    const name = match[1]!;
    const spec = byName.get(name);
    if (!spec) throw new UsageError(`Unknown option "${arg}"${suggestion(name, [...byName.keys()], '--')}`);
    let text = match[2];
    if (text === undefined) {
      // As in Go, a flag takes its value after "=" only, never from the next word.
      text = spec.kind === 'flag' ? 'true' : args[++i];
      if (text === undefined) throw new UsageError(`Option "${arg}" needs a value`);
    }
    const checked = checkedValue(spec, text, `--${name}`);
    const given = values.get(name);
    if (given && spec.kind === 'list') given.push(checked);
    else values.set(name, [checked]);
  }
  for (const spec of specs) {
    if (spec.commandLineOnly || values.has(spec.name)) continue;
    for (const variable of environmentNames(spec.name)) {
      const text = environment[variable];
      if (text === undefined || text === '') continue;
      const parts = spec.kind === 'list' && !spec.takesCommas ? text.split(',').filter((part) => part !== '') : [text];
      values.set(
        spec.name,
        parts.map((part) => checkedValue(spec, part, variable)),
      );
      break;
    }
  }
  return new ParsedOptions(values, words);
}

/** The options' part of a help text: one aligned line per option. */
export function formatOptions(specs: readonly OptionSpec[]): string {
  const left = specs.map(
    (spec) =>
      `  ${spec.name.length === 1 ? '-' : '--'}${spec.name}${spec.kind === 'flag' ? '' : ` ${spec.placeholder ?? (spec.kind === 'integer' ? 'N' : 'TEXT')}`}`,
  );
  const width = Math.max(...left.map((text) => text.length));
  return specs
    .map((spec, i) => {
      const byDefault = spec.byDefault === undefined ? '' : ` (${spec.byDefault})`;
      return `${left[i]!.padEnd(width)}  ${spec.help}${byDefault}`;
    })
    .join('\n');
}
