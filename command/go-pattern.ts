/**
 * Regular expressions in Go's syntax (RE2), as flanneld's options have them.
 *
 * JavaScript's syntax is another one: it lacks `(?i)`, `[[:digit:]]`, `\z`, `\Q..\E` and `(?P<name>x)`, and reads some of
 * them as something else. So a pattern is parsed here by Go's rules (`regexp/syntax`, flags `Perl`), and what Go refuses is
 * refused: lookaround, backreferences, possessive repetition. All states of the pattern advance together, character by
 * character, as in RE2: the time is at most the text's length times the pattern's, whatever the pattern. Only JavaScript's
 * test of a single character is used, for Unicode classes and for upper and lower case.
 *
 * A match may stand anywhere in the text, as with Go's `MatchString`. Nobody asks for its place, so greediness and
 * captures have no effect.
 */

import {
  type CharacterTest,
  compilePattern,
  type Edge,
  type Pattern,
  PatternError,
  type PatternNode,
} from './pattern-program.ts';

interface Flags {
  /** `i` */
  readonly foldsCase: boolean;
  /** `m` */
  readonly byLine: boolean;
  /** `s` */
  readonly dotIsAll: boolean;
}

/** Go's own limits. */
const maxRepeat = 1000;
const maxDepth = 1000;

const categories = /^(?:C[cfnos]?|L[CClmotu]?|M[cen]?|N[dlo]?|P[cdefios]?|S[ckmo]?|Z[lps]?|Any)$/;

const posixClasses: Readonly<Record<string, string>> = {
  alnum: '0-9A-Za-z',
  alpha: 'A-Za-z',
  ascii: '\\x00-\\x7f',
  blank: '\\t ',
  cntrl: '\\x00-\\x1f\\x7f',
  digit: '0-9',
  graph: '!-~',
  lower: 'a-z',
  print: ' -~',
  punct: '!-\\/:-@\\[-`{-~',
  space: '\\t\\n\\v\\f\\r ',
  upper: 'A-Z',
  word: '0-9A-Za-z_',
  xdigit: '0-9A-Fa-f',
};
const perlClasses: Readonly<Record<string, string>> = { d: '0-9', s: '\\t\\n\\f\\r ', w: '0-9A-Za-z_' };
const controls: Readonly<Record<string, string>> = { a: '\x07', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' };

const isHex = (text: string): boolean => /^[0-9A-Fa-f]+$/.test(text);
const codeOf = (character: string): number => character.codePointAt(0)!;

class Parser {
  readonly #pattern: string;
  /** By code points, as Go reads it. */
  readonly #characters: readonly string[];
  #at = 0;
  #depth = 0;
  #flags: Flags = { foldsCase: false, byLine: false, dotIsAll: false };

  constructor(pattern: string) {
    this.#pattern = pattern;
    this.#characters = [...pattern];
  }

  parse(): PatternNode {
    const node = this.#choice();
    if (this.#at < this.#characters.length) this.#fail('unexpected )', this.#pattern);
    return node;
  }

  #fail(what: string, where: string): never {
    throw new PatternError(`error parsing regexp: ${what}: \`${where}\``);
  }

  #take(character: string): boolean {
    const found = this.#characters[this.#at] === character;
    if (found) this.#at++;
    return found;
  }

  #from(start: number): string {
    return this.#characters.slice(start, this.#at).join('');
  }

  #startsWith(text: string): boolean {
    return [...text].every((character, i) => this.#characters[this.#at + i] === character);
  }

  #choice(): PatternNode {
    const items = [this.#sequence()];
    while (this.#take('|')) items.push(this.#sequence());
    return items.length === 1 ? items[0]! : { kind: 'choice', items };
  }

  #sequence(): PatternNode {
    const items: PatternNode[] = [];
    /** The last repetition operator, if the last item is a repetition. */
    let lastOperator = '';
    while (this.#at < this.#characters.length && !this.#startsWith('|') && !this.#startsWith(')')) {
      const start = this.#at;
      const bounds = this.#repetition();
      if (!bounds) {
        lastOperator = '';
        for (const item of this.#item()) items.push(item);
        continue;
      }
      this.#take('?'); // Lazy: there is no difference, because nobody asks where the match is.
      const operator = this.#from(start);
      if (lastOperator !== '') this.#fail('invalid nested repetition operator', lastOperator + operator);
      const item = items.pop();
      if (!item) this.#fail('missing argument to repetition operator', operator);
      const repeated = { kind: 'repeat', item, ...bounds } as const;
      if (!isWithin(repeated, maxRepeat)) this.#fail('invalid repeat count', operator);
      items.push(repeated);
      lastOperator = operator;
    }
    return { kind: 'sequence', items };
  }

  /** `*`, `+`, `?`, `{n}`, `{n,}` or `{n,m}`. A brace that begins none of these is a character. */
  #repetition(): { min: number; max: number } | undefined {
    const infinite = Number.POSITIVE_INFINITY;
    if (this.#take('*')) return { min: 0, max: infinite };
    if (this.#take('+')) return { min: 1, max: infinite };
    if (this.#take('?')) return { min: 0, max: 1 };
    if (!this.#startsWith('{')) return undefined;
    const end = this.#characters.indexOf('}', this.#at);
    const text = end < 0 ? '' : this.#characters.slice(this.#at, end + 1).join('');
    const found = /^\{(0|[1-9]\d*)(?:(,)(0|[1-9]\d*)?)?\}$/.exec(text);
    if (!found) return undefined;
    this.#at = end + 1;
    const min = Number(found[1]);
    const max = found[2] === undefined ? min : found[3] === undefined ? infinite : Number(found[3]);
    if (min > maxRepeat || (max !== infinite && max > maxRepeat) || max < min) this.#fail('invalid repeat count', text);
    return { min, max };
  }

  /** One character, class, edge or group; several for `\Q…\E`, none for flags. */
  #item(): PatternNode[] {
    const { byLine, dotIsAll } = this.#flags;
    if (this.#take('(')) return this.#group();
    if (this.#take('[')) return [{ kind: 'character', test: this.#class() }];
    if (this.#take('.')) return [{ kind: 'character', test: (character) => dotIsAll || character !== '\n' }];
    if (this.#take('^')) return [{ kind: 'edge', edge: byLine ? 'line-start' : 'text-start' }];
    if (this.#take('$')) return [{ kind: 'edge', edge: byLine ? 'line-end' : 'text-end' }];
    if (this.#startsWith('\\')) return this.#escaped();
    return [this.#literal(this.#characters[this.#at++]!)];
  }

  #literal(character: string): PatternNode {
    return { kind: 'character', test: this.#range(codeOf(character), codeOf(character)) };
  }

  #escaped(): PatternNode[] {
    const next = this.#characters[this.#at + 1] ?? '';
    const edges: Readonly<Record<string, Edge>> = {
      A: 'text-start',
      z: 'text-end',
      b: 'word-edge',
      B: 'no-word-edge',
    };
    const edge = edges[next];
    if (edge) {
      this.#at += 2;
      return [{ kind: 'edge', edge }];
    }
    if (next === 'Q') {
      this.#at += 2;
      const quoted: PatternNode[] = [];
      while (this.#at < this.#characters.length && !this.#startsWith('\\E')) {
        quoted.push(this.#literal(this.#characters[this.#at++]!));
      }
      if (this.#at < this.#characters.length) this.#at += 2;
      return quoted;
    }
    const found = this.#namedClass();
    if (found) return [{ kind: 'character', test: found }];
    const code = this.#escapedCode();
    return [{ kind: 'character', test: this.#range(code, code) }];
  }

  #group(): PatternNode[] {
    const start = this.#at - 1;
    const before = this.#flags;
    if (this.#startsWith('?') && !this.#opening(start)) return []; // `(?i)`: the flags hold until the group's end.
    if (++this.#depth > maxDepth) throw new PatternError('error parsing regexp: expression nests too deeply');
    const node = this.#choice();
    this.#depth--;
    if (!this.#take(')')) this.#fail('missing closing )', this.#pattern);
    this.#flags = before;
    return [node];
  }

  /** What follows `(?`: a name or flags. @returns whether a group is open */
  #opening(start: number): boolean {
    const rest = this.#characters.slice(this.#at);
    const [, isNamed, name] = /^\?(P?<)([^>]*)>?/.exec(rest.join('')) ?? [];
    const isLookbehind = name !== undefined && isNamed === '<' && /^[=!]/.test(name);
    if (isNamed && !isLookbehind) {
      const whole = `(?${isNamed}${name}`;
      const isClosed = rest[isNamed.length + 1 + [...name!].length] === '>';
      if (!isClosed) this.#fail('invalid named capture', `(${rest.join('')}`);
      if (!/^[0-9A-Za-z_]+$/.test(name!)) this.#fail('invalid named capture', `${whole}>`);
      this.#at += isNamed.length + name!.length + 2;
      return true;
    }
    this.#at++;
    if (isLookbehind) this.#at++;
    let isOff = false;
    let hasLetter = false;
    while (this.#at < this.#characters.length) {
      const character = this.#characters[this.#at++]!;
      const isOn = !isOff;
      if (character === 'i') this.#flags = { ...this.#flags, foldsCase: isOn };
      else if (character === 'm') this.#flags = { ...this.#flags, byLine: isOn };
      else if (character === 's') this.#flags = { ...this.#flags, dotIsAll: isOn };
      else if (character === '-' && !isOff) {
        isOff = true;
        hasLetter = false;
        continue;
      } else if ((character === ':' || character === ')') && (!isOff || hasLetter)) return character === ':';
      else if (character !== 'U') break;
      hasLetter = true;
    }
    return this.#fail('invalid or unsupported Perl syntax', this.#from(start));
  }

  /** A bracket expression, after its `[`. */
  #class(): CharacterTest {
    const start = this.#at - 1;
    const isNegated = this.#take('^');
    const tests: CharacterTest[] = [];
    for (let isFirst = true; isFirst || !this.#startsWith(']'); isFirst = false) {
      if (this.#at >= this.#characters.length) this.#fail('missing closing ]', this.#from(start));
      const named = this.#posixClass() ?? this.#namedClass();
      if (named) {
        tests.push(named);
        continue;
      }
      const from = this.#at;
      const low = this.#classCode(start);
      let high = low;
      if (
        this.#startsWith('-') &&
        this.#characters[this.#at + 1] !== undefined &&
        this.#characters[this.#at + 1] !== ']'
      ) {
        this.#at++;
        high = this.#classCode(start);
        if (high < low) this.#fail('invalid character class range', this.#from(from));
      }
      tests.push(this.#range(low, high));
    }
    this.#at++;
    return (character) => tests.some((test) => test(character)) !== isNegated;
  }

  #classCode(start: number): number {
    if (this.#at >= this.#characters.length) this.#fail('missing closing ]', this.#from(start));
    return this.#startsWith('\\') ? this.#escapedCode() : codeOf(this.#characters[this.#at++]!);
  }

  /** `[:digit:]` inside of brackets. */
  #posixClass(): CharacterTest | undefined {
    if (!this.#startsWith('[:')) return undefined;
    const text = this.#characters.slice(this.#at).join('');
    const end = text.indexOf(':]', 2);
    if (end < 0) return undefined;
    const whole = text.slice(0, end + 2);
    const isNegated = text[2] === '^';
    const members = Object.entries(posixClasses).find(([name]) => name === text.slice(isNegated ? 3 : 2, end))?.[1];
    if (members === undefined) this.#fail('invalid character class range', whole);
    this.#at += [...whole].length;
    return this.#members(`[${members}]`, isNegated);
  }

  /** `\d`, `\pL`, `\p{Greek}` and their opposites. */
  #namedClass(): CharacterTest | undefined {
    if (!this.#startsWith('\\')) return undefined;
    const letter = this.#characters[this.#at + 1] ?? '';
    const perl = perlClasses[letter.toLowerCase()];
    if (perl !== undefined) {
      this.#at += 2;
      return this.#members(`[${perl}]`, letter !== letter.toLowerCase());
    }
    if (letter !== 'p' && letter !== 'P') return undefined;
    const start = this.#at;
    this.#at += 2;
    let name = this.#characters[this.#at++] ?? '';
    if (name === '{') {
      const end = this.#characters.indexOf('}', this.#at);
      if (end < 0) this.#fail('invalid character class range', this.#characters.slice(start).join(''));
      name = this.#characters.slice(this.#at, end).join('');
      this.#at = end + 1;
    }
    const isNegated = name.startsWith('^');
    const plain = isNegated ? name.slice(1) : name;
    const property = categories.test(plain) ? plain : /^[A-Z][A-Za-z_]+$/.test(plain) ? `Script=${plain}` : '';
    try {
      return this.#members(`\\p{${property}}`, isNegated !== (letter === 'P'));
    } catch {
      return this.#fail('invalid character class range', this.#from(start));
    }
  }

  /** A backslash and what follows, as a code point. */
  #escapedCode(): number {
    const start = this.#at++;
    const character = this.#characters[this.#at++];
    if (character === undefined) this.#fail('trailing backslash at end of expression', '');
    const following = this.#characters[this.#at] ?? '';
    if (/^[1-7]$/.test(character) ? /^[0-7]$/.test(following) : character === '0') {
      let code = Number(character);
      for (let digits = 1; digits < 3 && /^[0-7]$/.test(this.#characters[this.#at] ?? ''); digits++) {
        code = code * 8 + Number(this.#characters[this.#at++]);
      }
      return code;
    }
    if (character === 'x') {
      const isBraced = this.#take('{');
      const end = isBraced ? this.#characters.indexOf('}', this.#at) : this.#at + 2;
      const digits = this.#characters.slice(this.#at, end < 0 ? undefined : end).join('');
      const isWhole = isBraced ? end > 0 : digits.length === 2;
      this.#at = Math.min(this.#at + digits.length + (isBraced && isWhole ? 1 : 0), this.#characters.length);
      const code = isWhole && isHex(digits) ? Number.parseInt(digits, 16) : -1;
      if (code >= 0 && code <= 0x10_ff_ff) return code;
      this.#fail('invalid escape sequence', this.#from(start));
    }
    const control = controls[character];
    if (control !== undefined) return codeOf(control);
    // ASCII's punctuation stands for itself.
    if (codeOf(character) < 0x80 && !/^[0-9A-Za-z]$/.test(character)) return codeOf(character);
    return this.#fail('invalid escape sequence', this.#from(start));
  }

  #range(low: number, high: number): CharacterTest {
    if (!this.#flags.foldsCase) {
      return (character) => codeOf(character) >= low && codeOf(character) <= high;
    }
    return this.#members(`[\\u{${low.toString(16)}}-\\u{${high.toString(16)}}]`, false);
  }

  /** @param members a class of JavaScript's syntax that is not negated, so that case is folded before the negation */
  #members(members: string, isNegated: boolean): CharacterTest {
    const expression = new RegExp(`^${members}$`, this.#flags.foldsCase ? 'iu' : 'u');
    return (character) => expression.test(character) !== isNegated;
  }
}

/** Whether nested repetitions together repeat no more often than this. */
function isWithin(node: PatternNode, limit: number): boolean {
  if (node.kind === 'character' || node.kind === 'edge') return true;
  if (node.kind !== 'repeat') return node.items.every((item) => isWithin(item, limit));
  const isCounted = node.min > 1 || (Number.isFinite(node.max) && node.max > 1);
  const count = Number.isFinite(node.max) ? node.max : node.min;
  if (!isCounted) return isWithin(node.item, limit);
  return count <= limit && isWithin(node.item, Math.floor(limit / count));
}

/**
 * @param pattern in Go's syntax
 * @throws PatternError in Go's words
 */
export const parseGoPattern = (pattern: string): Pattern => compilePattern(new Parser(pattern).parse());
