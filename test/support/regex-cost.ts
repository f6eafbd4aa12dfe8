/**
 * Counts the steps of a regular expression, to find those whose cost grows faster than the text.
 *
 * Time would say the same, but not reliably on a busy machine. So a small backtracking matcher runs the expression and
 * counts. The engines of both runtimes (QuickJS's and Bun's) backtrack in the same order, so their cost grows alike.
 */

type Node =
  | { readonly kind: 'set'; readonly has: (character: string) => boolean; readonly samples: readonly string[] }
  | { readonly kind: 'sequence' | 'choice'; readonly items: readonly Node[] }
  | { readonly kind: 'repeat'; readonly item: Node; readonly min: number; readonly max: number; readonly lazy: boolean }
  | { readonly kind: 'capture'; readonly item: Node; readonly number: number }
  | { readonly kind: 'reference'; readonly number: number }
  | { readonly kind: 'look'; readonly item: Node; readonly negated: boolean }
  | { readonly kind: 'edge'; readonly holds: (text: string, at: number) => boolean };

/** Characters that an attack is made of; the first that a set has are its samples. */
const alphabet = [
  ' ',
  'a',
  '0',
  '/',
  '"',
  '\t',
  ...Array.from({ length: 127 }, (_, code) => String.fromCharCode(code)),
];
const samplesOfSet = 3;

const isWord = (character: string | undefined): boolean => character !== undefined && /^\w$/.test(character);

class Parser {
  readonly #source: string;
  readonly #flags: string;
  #at = 0;
  #captures = 0;

  constructor(source: string, flags: string) {
    this.#source = source;
    this.#flags = flags;
  }

  parse(): Node {
    const node = this.#choice();
    if (this.#at < this.#source.length) throw new RangeError(`Unexpected ")" in /${this.#source}/`);
    return node;
  }

  #choice(): Node {
    const items = [this.#sequence()];
    while (this.#take('|')) items.push(this.#sequence());
    return items.length === 1 ? items[0]! : { kind: 'choice', items };
  }

  #sequence(): Node {
    const items: Node[] = [];
    while (this.#at < this.#source.length && !'|)'.includes(this.#source[this.#at]!)) items.push(this.#repeated());
    return { kind: 'sequence', items };
  }

  #repeated(): Node {
    const item = this.#atom();
    const found = /^(?:([*+?])|\{(\d+)(,?)(\d*)\})(\??)/.exec(this.#source.slice(this.#at));
    if (!found) return item;
    this.#at += found[0].length;
    const [, sign, low, comma, high, lazy] = found;
    const min = sign === undefined ? Number(low) : sign === '+' ? 1 : 0;
    const max =
      sign === '?' ? 1 : sign !== undefined || (comma && !high) ? Number.POSITIVE_INFINITY : Number(high || low);
    return { kind: 'repeat', item, min, max, lazy: lazy !== '' };
  }

  #atom(): Node {
    if (this.#take('(')) return this.#group();
    if (this.#take('^')) return this.#edge((text, at) => at === 0 || (this.#has('m') && text[at - 1] === '\n'));
    if (this.#take('$')) return this.#edge((text, at) => at === text.length || (this.#has('m') && text[at] === '\n'));
    const rest = this.#source.slice(this.#at);
    const [reference] = /^\\[1-9]/.exec(rest) ?? [];
    if (reference) {
      this.#at += 2;
      return { kind: 'reference', number: Number(reference[1]) };
    }
    if (/^\\[bB]/.test(rest)) {
      this.#at += 2;
      const wanted = rest[1] === 'b';
      return this.#edge((text, at) => (isWord(text[at - 1]) !== isWord(text[at])) === wanted);
    }
    const [set] = /^(?:\[(?:\\.|[^\]\\])*\]|\\[pP]\{\w+\}|\\x[\da-f]{2}|\\u[\da-f]{4}|\\.|.)/i.exec(rest)!;
    this.#at += set.length;
    return this.#set(set);
  }

  #group(): Node {
    const [kind = ''] = /^\?(?:[:=!]|<[=!])/.exec(this.#source.slice(this.#at)) ?? [];
    if (kind.startsWith('?<')) throw new RangeError(`No support for lookbehind: /${this.#source}/`);
    this.#at += kind.length;
    const number = kind === '' ? ++this.#captures : 0;
    const item = this.#choice();
    if (!this.#take(')')) throw new RangeError(`Missing ")" in /${this.#source}/`);
    if (kind === '') return { kind: 'capture', item, number };
    return kind === '?:' ? item : { kind: 'look', item, negated: kind === '?!' };
  }

  #set(source: string): Node {
    const known = new Map<string, boolean>();
    const expression = new RegExp(`^${source}$`, this.#flags.replace(/[gmy]/g, ''));
    const has = (character: string): boolean => {
      const found = known.get(character) ?? expression.test(character);
      known.set(character, found);
      return found;
    };
    return { kind: 'set', has, samples: alphabet.filter(has).slice(0, samplesOfSet) };
  }

  #edge(holds: (text: string, at: number) => boolean): Node {
    return { kind: 'edge', holds };
  }

  #has(flag: string): boolean {
    return this.#flags.includes(flag);
  }

  #take(character: string): boolean {
    const found = this.#source[this.#at] === character;
    if (found) this.#at++;
    return found;
  }
}

type Next = (at: number) => boolean;
const stepLimit = 500_000;

/** Steps that all matches of the expression in the text take, as `replace` with the flag `g` looks for them. */
function stepsOn(node: Node, text: string): number {
  let steps = 0;
  let captures: string[] = [];
  const run = (current: Node, at: number, next: Next): boolean => {
    if (++steps > stepLimit) throw new RangeError('Too many steps');
    switch (current.kind) {
      case 'set':
        return at < text.length && current.has(text[at]!) && next(at + 1);
      case 'edge':
        return current.holds(text, at) && next(at);
      case 'choice':
        return current.items.some((item) => run(item, at, next));
      case 'sequence': {
        const from = (index: number, here: number): boolean =>
          index === current.items.length ? next(here) : run(current.items[index]!, here, (to) => from(index + 1, to));
        return from(0, at);
      }
      case 'capture':
        return run(current.item, at, (to) => {
          captures[current.number] = text.slice(at, to);
          return next(to);
        });
      case 'reference': {
        const known = captures[current.number] ?? '';
        return text.startsWith(known, at) && next(at + known.length);
      }
      case 'look':
        return run(current.item, at, () => true) !== current.negated && next(at);
      case 'repeat': {
        const again = (count: number, here: number): boolean => {
          const more = (): boolean =>
            count < current.max && run(current.item, here, (to) => to > here && again(count + 1, to));
          const enough = (): boolean => count >= current.min && next(here);
          return current.lazy ? enough() || more() : more() || enough();
        };
        return again(0, at);
      }
    }
  };
  for (let start = 0; start <= text.length; ) {
    let end = -1;
    captures = [];
    run(node, start, (to) => {
      end = to;
      return true;
    });
    start = end > start ? end : start + 1;
  }
  return steps;
}

/** A short text that the node matches. */
function sampleOf(node: Node): string {
  switch (node.kind) {
    case 'set':
      return node.samples[0] ?? '';
    case 'sequence':
      return node.items.map(sampleOf).join('');
    case 'choice':
      return sampleOf(node.items[0]!);
    case 'capture':
      return sampleOf(node.item);
    case 'repeat':
      return sampleOf(node.item).repeat(Math.max(1, node.min));
    default:
      return '';
  }
}

interface Attack {
  readonly before: string;
  /** Is repeated. */
  readonly pump: string;
}

/** Every part of the expression as the one to repeat, alone and after what leads to it. */
function attacksOn(node: Node, before: string, attacks: Attack[]): void {
  const pumps = node.kind === 'set' ? node.samples : [sampleOf(node)];
  for (const pump of pumps) attacks.push({ before: '', pump }, { before, pump });
  if (node.kind === 'sequence') {
    let led = before;
    for (const item of node.items) {
      attacksOn(item, led, attacks);
      led += sampleOf(item);
      attacks.push({ before: '', pump: led });
    }
  } else if (node.kind === 'choice') {
    for (const item of node.items) attacksOn(item, before, attacks);
  } else if (node.kind === 'repeat' || node.kind === 'capture' || node.kind === 'look') {
    attacksOn(node.item, before, attacks);
  }
}

/** Texts of three lengths; the longer ones confirm, because a bounded repetition looks quadratic below its bound. */
const sizes = [48, 96, 192] as const;
const confirmingSizes = [400, 800, 1600] as const;
/** The growth's growth when the text doubles: 2 for a linear cost, 4 for a quadratic one. */
const linearGrowth = 2.6;
const longRepeat = 300;
/** What follows the repeated part, so that the whole does not match. */
const endings = ['', '\u0001', 'x', 'a/0 "=a'];

/** How the steps grow with the text, described; undefined if the cost is linear. */
function describeGrowth(node: Node, textOf: (size: number) => string, lengths: typeof sizes | typeof confirmingSizes) {
  try {
    const [low, middle, high] = lengths.map((size) => stepsOn(node, textOf(size))) as [number, number, number];
    return high - middle > linearGrowth * (middle - low) ? `${low}, ${middle}, ${high} steps` : undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** Without a long repetition, each place of the text costs a constant. */
function hasLongRepeat(node: Node): boolean {
  if (node.kind === 'sequence' || node.kind === 'choice') return node.items.some(hasLongRepeat);
  if (node.kind === 'repeat') return node.max > longRepeat || hasLongRepeat(node.item);
  return 'item' in node && hasLongRepeat(node.item);
}

/** A text on which the expression's cost grows faster than the text, described; undefined if none is found. */
export function findSlowText({ source, flags }: RegExp): string | undefined {
  const node = new Parser(source, flags).parse();
  if (!hasLongRepeat(node)) return undefined;
  const attacks: Attack[] = [];
  attacksOn(node, '', attacks);
  const tried = new Set<string>();
  for (const { before, pump } of attacks) {
    for (const after of endings) {
      const name = `${JSON.stringify(before)} + ${JSON.stringify(pump)} * n + ${JSON.stringify(after)}`;
      if (pump === '' || tried.has(name)) continue;
      tried.add(name);
      const textOf = (size: number): string => before + pump.repeat(size) + after;
      const growth = describeGrowth(node, textOf, sizes) && describeGrowth(node, textOf, confirmingSizes);
      if (growth) return `${name}: ${growth}`;
    }
  }
  return undefined;
}

/** The regular expressions that stand in a source text as literals. */
export function expressionsIn(code: string): RegExp[] {
  const token =
    /\/\*[\s\S]*?\*\/|(?<=(?:[(,=:[!?>{]|&&|\|\||return)\s*)\/(?![/*])((?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n[])+)\/([dgimsuvy]*)|\/\/[^\n]*|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"/g;
  return [...code.matchAll(token)].flatMap(([, source, flags]) =>
    source === undefined ? [] : [new RegExp(source, flags)],
  );
}
