/** The format of weftctl's output: tables, colours, time spans. */

import { stripVTControlCharacters } from 'node:util';
import { printable } from '../command/printable.ts';

/** Colours of a terminal (ECMA-48, SGR), or none. */
export interface Style {
  readonly bold: (text: string) => string;
  readonly dim: (text: string) => string;
  readonly red: (text: string) => string;
  readonly green: (text: string) => string;
  readonly yellow: (text: string) => string;
  /** The width of the terminal; undefined if nobody looks, or all is asked for: then tables are as wide as they are. */
  readonly columns?: number | undefined;
}

const sgr =
  (code: number) =>
  (text: string): string =>
    text === '' ? '' : `\x1b[${code}m${text}\x1b[0m`;
const plain = (text: string): string => text;

export const styleFor = (colours: boolean, columns?: number): Style => ({
  columns,
  ...(colours
    ? { bold: sgr(1), dim: sgr(2), red: sgr(31), green: sgr(32), yellow: sgr(33) }
    : { bold: plain, dim: plain, red: plain, green: plain, yellow: plain }),
});

/** Escapes the control characters in all texts of an answer, because other programs wrote many of them. */
export function forScreen<T>(answer: T): T {
  if (typeof answer === 'string') return printable(answer) as T;
  if (typeof answer !== 'object' || answer === null) return answer;
  if (Array.isArray(answer)) return answer.map(forScreen) as T;
  return Object.fromEntries(Object.entries(answer).map(([key, value]) => [key, forScreen(value)])) as T;
}

/** The width in columns. weftctl writes Latin characters only. */
const widthOf = (text: string): number => stripVTControlCharacters(text).length;

/** Splits a row whose cells have several lines into rows of one line. */
function splitRow(row: readonly string[]): string[][] {
  const cells = row.map((cell) => cell.split('\n'));
  const height = Math.max(...cells.map(({ length }) => length));
  return Array.from({ length: height }, (_, i) => cells.map((lines) => lines[i] ?? ''));
}

const gap = 2;
/** A column is not made narrower than this; its title may be cut. The last one has sentences, and is wrapped. */
const narrowest = 8;
const narrowestSentence = 20;

/** Cuts a text to a width, its colours untouched. */
function cut(text: string, width: number): string {
  if (widthOf(text) <= width) return text;
  let left = width - 1;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: our own colours
  return text.replace(/\x1b\[\d+m|[\s\S]/gu, (token) => {
    if (token.length > 1 && token.startsWith('\x1b')) return token;
    if (left < 0) return '';
    return left-- === 0 ? '…' : token;
  });
}

/** Wraps a text, which may have one colour, between its words. A word that is too long stays whole. */
function wrap(text: string, width: number): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: our own colours
  const [, begin = '', inner = '', end = ''] = /^(\x1b\[\d+m)?([\s\S]*?)(\x1b\[0m)?$/.exec(text) ?? [];
  const lines = inner.split('\n').flatMap((line) => {
    if (widthOf(line) <= width) return [line];
    const wrapped = [''];
    for (const word of line.split(' ')) {
      const last = wrapped.at(-1)!;
      if (last === '') wrapped[wrapped.length - 1] = word;
      else if (widthOf(last) + 1 + widthOf(word) <= width) wrapped[wrapped.length - 1] = `${last} ${word}`;
      else wrapped.push(word);
    }
    return wrapped;
  });
  return lines.map((line) => begin + line + end).join('\n');
}

const cellWidth = (cell: string): number => Math.max(...cell.split('\n').map(widthOf));

/** The columns' widths such that all fit, if they can. */
function fitWidths(natural: readonly number[], columns: number): number[] {
  const widths = [...natural];
  const excess = (): number => widths.reduce((a, b) => a + b, 0) + gap * (widths.length - 1) - columns;
  const last = widths.length - 1;
  widths[last] = Math.max(Math.min(widths[last]!, narrowestSentence), widths[last]! - Math.max(0, excess()));
  while (excess() > 0) {
    const able = widths.flatMap((width, i) => (i < last && width > narrowest ? i : []));
    if (able.length === 0) break;
    widths[able.reduce((a, b) => (widths[b]! > widths[a]! ? b : a))]!--;
  }
  return widths;
}

/**
 * Left-aligned columns, two spaces apart, without trailing spaces. The title is dimmed. A cell may have several lines. If
 * the style has a width, long cells are cut, and those of the last column are wrapped.
 */
export function formatTable(titles: readonly string[], tall: readonly (readonly string[])[], style: Style): string {
  const natural = titles.map((title, i) => Math.max(title.length, ...tall.map((row) => cellWidth(row[i] ?? ''))));
  const { columns } = style;
  const widths = columns === undefined ? natural : fitWidths(natural, columns);
  const last = titles.length - 1;
  const fitted = tall.map((row) =>
    row.map((cell, i) => (i === last && widths[i]! < natural[i]! ? wrap(cell, widths[i]!) : cell)),
  );
  const rows = fitted.flatMap(splitRow);
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, i) => (i === last ? cell : cut(cell, widths[i]!)))
      .map((cell, i) => (i === last ? cell : cell + ' '.repeat(widths[i]! - widthOf(cell))))
      .join(' '.repeat(gap))
      .trimEnd();
  return [style.dim(line(titles)), ...rows.map(line)].map((text) => `${text}\n`).join('');
}

/** `label value` lines. Further lines of a value are indented below it, and long ones wrapped. */
export function formatFacts(facts: readonly (readonly [label: string, value: string])[], style: Style): string {
  const width = Math.max(...facts.map(([label]) => label.length));
  const room = style.columns === undefined ? undefined : Math.max(narrowestSentence, style.columns - width - 4);
  const fitted = (value: string): string =>
    room === undefined
      ? value
      : value
          .split('\n')
          .map((line) => wrap(line, room))
          .join('\n');
  return facts
    .map(
      ([label, value]) =>
        `  ${style.dim(label.padEnd(width))}  ${fitted(value).replaceAll('\n', `\n${' '.repeat(width + 4)}`)}\n`,
    )
    .join('');
}

const units = [
  ['d', 86_400],
  ['h', 3600],
  ['min', 60],
  ['s', 1],
] as const;

/** A time span in its two largest units: `23 h 58 min`, `5 s`. */
export function formatSpan(spanMs: number): string {
  let seconds = Math.max(0, Math.round(spanMs / 1000));
  const parts: string[] = [];
  for (const [unit, length] of units) {
    const count = Math.floor(seconds / length);
    if (count > 0) parts.push(`${count} ${unit}`);
    else if (parts.length > 0) break;
    seconds -= count * length;
    if (parts.length === 2) break;
  }
  return parts.join(' ') || '0 s';
}

/** `1 node`, `2 nodes`, `0 entries`. */
export const count = (number: number, noun: string): string =>
  `${number} ${number === 1 ? noun : noun.endsWith('y') ? `${noun.slice(0, -1)}ies` : `${noun}s`}`;

/** Shortens ids that are hashes of 64 digits, as the runtimes' own tools do. */
export const shortId = (id: string): string => (/^[0-9a-f]{32,}$/.test(id) ? id.slice(0, 12) : id);
