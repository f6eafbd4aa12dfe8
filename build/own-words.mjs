/**
 * The Bun inside weftd and weftctl must not be visible. Two things of it come before or beside all JavaScript, so that no code
 * of ours could change them, and are changed in the executable itself, each to a text of the same length:
 *
 * - Variables by which Bun takes options, becomes Bun itself or opens a debugger: they get another name, which nobody sets
 *   by accident. (BUN_JSC_… is spelled in Bun's machine code, and stays.)
 * - Bun's last words when it cannot start or crashes. They blame Bun and send people to its issues; ours are the first to look.
 *
 * A text that is no longer there fails the build: then Bun has changed, and this file must follow.
 */

import { BuildError } from './tools.mjs';

const blame = 'Bun has crashed. This indicates a bug in Bun, not your code.';
const reports = "To send a redacted crash report to Bun's team,\nplease file a GitHub issue using the link below:";
const deleted =
  "The current working directory was deleted, so that command didn't work. Please cd into a different directory and try again.";

/** Bun's text → ours, which is filled up with blanks. */
const words = [
  ['BUN_OPTIONS', '_UN_OPTIONS'],
  ['BUN_BE_BUN', '_UN_BE_BUN'],
  ['BUN_INSPECT', '_UN_INSPECT'],
  [blame, 'Weft has crashed. Is /proc mounted? Is there enough memory?'],
  ['Bun has run out of memory.', 'Memory has run out.'],
  ['Bun ran out of memory', 'out of memory'],
  [reports, 'If neither is the cause: please report this to Weft,\nwith all of these lines and the code:'],
  ['https://bun.report', 'weft crash code:'],
  [deleted, 'The current folder was deleted. Change to another folder (cd /), and try again.'],
  ['bun ran out of file descriptors', 'too few file descriptors'],
].map(([from, to]) => ({ from: Buffer.from(from), to: Buffer.from(to.padEnd(from.length)) }));

/** The banner of a crash. Its numbers are needed to read the code. */
const banner = /Bun v(?=\d+\.\d+\.\d+ \([0-9a-f]+\) Linux )/g;

/** Part of what a carrier was made from. */
export const ownWordsKey = JSON.stringify(words.map(({ from, to }) => [`${from}`, `${to}`]));

/** @param {Buffer} executable changed in place @returns {Buffer} */
export function putOwnWords(executable) {
  for (const { from, to } of words) {
    if (from.length !== to.length) throw new BuildError(`"${to}" is longer than Bun's own "${from}"`);
    let count = 0;
    for (let at = executable.indexOf(from); at >= 0; at = executable.indexOf(from, at + to.length)) {
      to.copy(executable, at);
      count++;
    }
    if (count === 0) throw new BuildError(`Bun no longer says "${from}": build/own-words.mjs must follow`);
  }
  for (const { index } of executable.toString('latin1').matchAll(banner)) executable.write('JS  v', index, 'latin1');
  return executable;
}
