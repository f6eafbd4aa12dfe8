import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { parseGoPattern } from '../../../command/go-pattern.ts';
import { PatternError } from '../../../command/pattern-program.ts';

const test = suite('command/go-pattern');

const texts = [
  '',
  'eth0',
  'ETH0',
  'enp3s0f0',
  'wlan0',
  'br-4f',
  '10.0.0.1',
  '192.168.1.10',
  'fd00::1',
  'a\nb',
  'É',
  'K',
  'x_y',
  'a.b',
  'aab',
  '-',
];

/** Captured from Go 1.26: `regexp.Compile`'s error, or an x for each of the texts for which `MatchString` is true. */
const captured: readonly (readonly [pattern: string, answer: string])[] = [
  ['eth', '.x..............'],
  ['^eth0$', '.x..............'],
  ['(?i)eth', '.xx.............'],
  ['(?i:E)th', '.x..............'],
  ['e(?i)TH', '.x..............'],
  ['(?i)eth|WLAN', '.xx.x...........'],
  ['(?-i)eth', '.x..............'],
  ['[[:digit:]]', '.xxxxxxxx.......'],
  ['^[[:alpha:]]+[[:digit:]]+\\z', '.xx.x...........'],
  ['[[:^alnum:]]', '.....xxxxxx.xx.x'],
  ['^[[:^digit:]]+$', '.........xxxxxxx'],
  ['\\Aeth', '.x..............'],
  ['0\\z', '.xxxx..x........'],
  ['\\d{3}', '.......x........'],
  ['^(?P<a>10|192)\\.', '......xx........'],
  ['(?<a>wlan)', '....x...........'],
  ['\\Qa.b\\E', '.............x..'],
  ['^\\Q10.\\E\\d', '......x.........'],
  ['\\Q', 'xxxxxxxxxxxxxxxx'],
  ['a.b', '.............xx.'],
  ['(?s)a.b', '.........x...xx.'],
  ['(?m)^b$', '.........x......'],
  ['^b$', '................'],
  ['[^a]', '.xxxxxxxxxxxxxxx'],
  ['^[^:]+$', '.xxxxxxx.xxxxxxx'],
  ['\\pL', '.xxxxx..xxxxxxx.'],
  ['^\\pL+$', '..........xx..x.'],
  ['\\p{Lu}', '..x.......xx....'],
  ['(?i)\\p{Lu}', '.xxxxx..xxxxxxx.'],
  ['\\P{L}', '.xxxxxxxxx..xx.x'],
  ['\\p{^L}', '.xxxxxxxxx..xx.x'],
  ['\\p{Greek}', '................'],
  ['(?i)k', '...........x....'],
  ['(?i)[é]', '..........x.....'],
  ['\\w+_\\w', '............x...'],
  ['\\bb\\b', '.........x...x..'],
  ['\\Ba', '....x.........x.'],
  ['a{2}', '..............x.'],
  ['a{2,}b', '..............x.'],
  ['a{,2}', '................'],
  ['e{0}', 'xxxxxxxxxxxxxxxx'],
  ['x*', 'xxxxxxxxxxxxxxxx'],
  ['(a+)+$', '................'],
  ['(?U)a+', '....x....x...xx.'],
  ['[]a-]', '....xx...x...xxx'],
  ['[a-]', '....xx...x...xxx'],
  ['\\x41|\\x{45}', '..x.............'],
  ['\\101|\\105', '..x.............'],
  ['\\.', '......xx.....x..'],
  ['\\-', '.....x.........x'],
  ['br-[0-9a-f]{2}', '.....x..........'],
  ['(?i-s:WLAN)', '....x...........'],
  ['eth?+', 'invalid nested repetition operator: `?+`'],
  ['a++', 'invalid nested repetition operator: `++`'],
  ['a*+', 'invalid nested repetition operator: `*+`'],
  ['a**', 'invalid nested repetition operator: `**`'],
  ['a{2}{3}', 'invalid nested repetition operator: `{2}{3}`'],
  ['a{3,2}', 'invalid repeat count: `{3,2}`'],
  ['a{1001}', 'invalid repeat count: `{1001}`'],
  ['(a{100}){11}', 'invalid repeat count: `{11}`'],
  ['*a', 'missing argument to repetition operator: `*`'],
  ['(', 'missing closing ): `(`'],
  [')', 'unexpected ): `)`'],
  ['[', 'missing closing ]: `[`'],
  ['[z-a]', 'invalid character class range: `z-a`'],
  ['[a', 'missing closing ]: `[a`'],
  ['[[:foo:]]', 'invalid character class range: `[:foo:]`'],
  ['[a-\\d]', 'invalid escape sequence: `\\d`'],
  ['\\', 'trailing backslash at end of expression: ``'],
  ['\\Z', 'invalid escape sequence: `\\Z`'],
  ['\\G', 'invalid escape sequence: `\\G`'],
  ['\\1', 'invalid escape sequence: `\\1`'],
  ['\\C', 'invalid escape sequence: `\\C`'],
  ['\\y', 'invalid escape sequence: `\\y`'],
  ['\\x{110000', 'invalid escape sequence: `\\x{110000`'],
  ['\\x4', 'invalid escape sequence: `\\x4`'],
  ['\\p{Foo}', 'invalid character class range: `\\p{Foo}`'],
  ['\\pX', 'invalid character class range: `\\pX`'],
  ['(?=a)', 'invalid or unsupported Perl syntax: `(?=`'],
  ['(?!a)', 'invalid or unsupported Perl syntax: `(?!`'],
  ['(?>a)', 'invalid or unsupported Perl syntax: `(?>`'],
  ['(?#x)', 'invalid or unsupported Perl syntax: `(?#`'],
  ['(?x)a', 'invalid or unsupported Perl syntax: `(?x`'],
  ['(?P=a)', 'invalid or unsupported Perl syntax: `(?P`'],
  ['(?P<a', 'invalid named capture: `(?P<a`'],
  ['(?P<>a)', 'invalid named capture: `(?P<>`'],
  ['(?P<a b>c)', 'invalid named capture: `(?P<a b>`'],
  ['(?', 'invalid or unsupported Perl syntax: `(?`'],
  ['(?i', 'invalid or unsupported Perl syntax: `(?i`'],
  ['(?i-)a', 'invalid or unsupported Perl syntax: `(?i-)`'],
];

const refusal = (pattern: string): string => {
  try {
    parseGoPattern(pattern);
  } catch (error) {
    assert.instance(error, PatternError);
    return (error as Error).message;
  }
  return 'valid';
};

const answerOf = (pattern: string): string => {
  const refused = refusal(pattern);
  if (refused !== 'valid') return refused.replace(/^error parsing regexp: /, '');
  const matches = parseGoPattern(pattern);
  return texts.map((text) => (matches(text) ? 'x' : '.')).join('');
};

test("patterns match as Go's do, and those that Go refuses are refused in its words", () => {
  for (const [pattern, answer] of captured) assert.is(answerOf(pattern), answer, pattern);
});

test('a group of flags ends with its group', () => {
  assert.ok(parseGoPattern('((?i)a)b')('Ab'));
  assert.not.ok(parseGoPattern('((?i)a)b')('AB'));
  assert.not.ok(parseGoPattern('(?i:a)b')('aB'));
});

test('lookbehind is refused like lookahead', () => {
  assert.is(refusal('(?<=a)b'), 'error parsing regexp: invalid or unsupported Perl syntax: `(?<=`');
  assert.is(refusal('(?<!a)b'), 'error parsing regexp: invalid or unsupported Perl syntax: `(?<!`');
});

test('a pattern that stops a backtracking engine takes steps in proportion to the text', () => {
  const stepsOn = (pattern: string, text: string): number => {
    let steps = 0;
    assert.is(
      parseGoPattern(pattern)(text, () => steps++),
      false,
    );
    return steps;
  };
  for (const pattern of ['^(a+)+$', '(a|a)*b', '(a*)*b', '(.*)(.*)(.*)x', '(?:a?){30}a{30}b', '\\s*\\n\\s*x']) {
    const [low, middle, high] = [100, 200, 400].map((size) => stepsOn(pattern, `${'a '.repeat(size)}!`)) as [
      number,
      number,
      number,
    ];
    assert.ok(high - middle <= 2.1 * (middle - low), `${pattern}: ${low}, ${middle}, ${high}`);
  }
});

test('neither a deep nor a large pattern harms', () => {
  assert.is(refusal(`${'('.repeat(2000)}${')'.repeat(2000)}`), 'error parsing regexp: expression nests too deeply');
  assert.is(refusal('(a{1000}){1000}'), 'error parsing regexp: invalid repeat count: `{1000}`');
  assert.is(refusal('a{1000}'.repeat(200)), 'error parsing regexp: expression too large');
});

test.run();
