/** Takes the help texts of weftd and weftctl apart: manual pages and completions are made from them and from nothing else. */

import { run } from '../tools.mjs';

/**
 * @typedef {{ name: string; value: string; help: string }} HelpOption value: '' for a flag
 * @typedef {{ name: string; summary: string; usage: string; paragraphs: string[]; options: HelpOption[]; ownsArguments: boolean }} HelpPage
 */

const optionPattern = /^ {2}--?([a-z][a-z0-9-]*)(?: (\S+))? +(.*)$/;

/** @param {string} text @returns {HelpPage} */
export function parseHelp(text) {
  const [head = '', ...rest] = text.trimEnd().split('\n\n');
  const [, name = '', summary = ''] = /^(\S+(?: [a-z-]+)*): (.*)$/s.exec(head) ?? [];
  const options = [];
  const paragraphs = [];
  let usage = '';
  let ownsArguments = true;
  for (const part of rest) {
    if (part.startsWith('Usage: ')) {
      usage = part.slice('Usage: '.length);
      continue;
    }
    const lines = part.split('\n').filter((line) => line !== 'Options:');
    const found = lines.map((line) => optionPattern.exec(line));
    if (found.every(Boolean) && found.length > 0) {
      ownsArguments = false;
      for (const [, option, value = '', help] of found) options.push({ name: option, value, help });
    } else if (!part.startsWith('Verbs:')) paragraphs.push(part);
  }
  return { name, summary, usage, paragraphs, options, ownsArguments };
}

/** The verbs in weftctl's help. @param {string} text */
const verbsOf = (text) =>
  [...(/^Verbs:\n((?: {2}.*\n)+)/m.exec(text)?.[1] ?? '').matchAll(/^ {2}([a-z-]+(?: [a-z-]+)*) {2,}/gm)].map(
    ([, verb]) => verb,
  );

/** Asks executables of this machine. @param {string} folder of weftd and weftctl */
export function readHelp(folder) {
  const ask = (program, ...words) => run(`${folder}/${program}`, [...words, '--help']);
  const weftctl = ask('weftctl');
  return {
    weftd: parseHelp(ask('weftd')),
    weftctl: parseHelp(weftctl),
    verbs: verbsOf(weftctl).map((verb) => parseHelp(ask('weftctl', ...verb.split(' ')))),
  };
}
