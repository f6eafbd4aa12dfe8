/** Words on the screen: colours where a terminal shows them, columns where they are counted. */

import { stripVTControlCharacters } from 'node:util';

const colourful = process.stdout.isTTY === true && !process.env['NO_COLOR'] && process.env['TERM'] !== 'dumb';

const paint =
  (code: number) =>
  (text: string): string =>
    colourful ? `\x1b[${code}m${text}\x1b[0m` : text;

export const bold = paint(1);
export const dim = paint(2);
export const red = paint(31);
export const green = paint(32);
export const yellow = paint(33);
export const blue = paint(34);
export const cyan = paint(36);

/** Columns that a text takes, colours aside. */
const widthOf = (text: string): number => stripVTControlCharacters(text).length;

export const padEnd = (text: string, width: number): string => text + ' '.repeat(Math.max(0, width - widthOf(text)));
export const padStart = (text: string, width: number): string => ' '.repeat(Math.max(0, width - widthOf(text))) + text;

export const print = (text = ''): void => console.log(text);

let chapters = 0;

export function chapter(title: string): void {
  print(`\n${cyan(`${++chapters}`)}  ${bold(title)}`);
}

/** A step, its outcome, and its time. */
export function fact(what: string, outcome: string, ms?: number): void {
  const time =
    ms === undefined ? '' : dim(padStart(ms < 1000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(1)} s`, 8));
  print(`   ${padEnd(what, 22)} ${padEnd(outcome, 60)} ${time}`.trimEnd());
}

export const note = (text: string): void => print(`   ${dim(text)}`);
