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
}

const sgr =
  (code: number) =>
  (text: string): string =>
    text === '' ? '' : `\x1b[${code}m${text}\x1b[0m`;
const plain = (text: string): string => text;

export const styleFor = (colours: boolean): Style =>
  colours
    ? { bold: sgr(1), dim: sgr(2), red: sgr(31), green: sgr(32), yellow: sgr(33) }
    : { bold: plain, dim: plain, red: plain, green: plain, yellow: plain };

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

/**
 * Left-aligned columns, two spaces apart, without trailing spaces. The title is dimmed. A cell may have several lines.
 */
export function formatTable(titles: readonly string[], tall: readonly (readonly string[])[], style: Style): string {
  const rows = tall.flatMap(splitRow);
  const widths = titles.map((title, i) => Math.max(title.length, ...rows.map((row) => widthOf(row[i] ?? ''))));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, i) => cell + ' '.repeat(widths[i]! - widthOf(cell)))
      .join('  ')
      .trimEnd();
  return [style.dim(line(titles)), ...rows.map(line)].map((text) => `${text}\n`).join('');
}

/** `label value` lines. Further lines of a value are indented below it. */
export function formatFacts(facts: readonly (readonly [label: string, value: string])[], style: Style): string {
  const width = Math.max(...facts.map(([label]) => label.length));
  return facts
    .map(
      ([label, value]) =>
        `  ${style.dim(label.padEnd(width))}  ${value.replaceAll('\n', `\n${' '.repeat(width + 4)}`)}\n`,
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
