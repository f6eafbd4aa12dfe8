/**
 * `npm run rooms`: the import graph of `daemon/`. Prints its rooms with the arrows between them, the circles, the longest
 * files, and every class with what its constructor takes and does not use. `npm run rooms -- FOLDER` prints another
 * folder's.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { circlesOf, filesImportedBy, root, withoutComments } from './import-graph.mjs';

const longestShown = 12;

/** A file's room is its folder. */
const roomOf = (path) => dirname(path);

/** The TypeScript files below a folder, by their paths from the project's folder. */
function filesBelow(folder) {
  const names = readdirSync(join(root, folder), { recursive: true }).filter((name) => name.endsWith('.ts'));
  return names.map((name) => join(folder, name)).sort();
}

/** The rooms' graph, with how many imports each arrow stands for. @returns {Map<string, Map<string, number>>} */
function arrowsBetween(files) {
  const arrows = new Map([...new Set(files.map(roomOf))].map((room) => [room, new Map()]));
  for (const path of files) {
    const own = arrows.get(roomOf(path));
    for (const target of filesImportedBy(path)) {
      const other = roomOf(target);
      if (other !== roomOf(path) && arrows.has(other)) own.set(other, (own.get(other) ?? 0) + 1);
    }
  }
  return arrows;
}

/** The index behind the bracket that closes the one at `at`. */
function closing(code, at) {
  const pairs = { '(': ')', '{': '}', '[': ']' };
  const open = [];
  for (let i = at; i < code.length; i++) {
    const character = code[i];
    if (pairs[character]) open.push(pairs[character]);
    else if (character === open.at(-1)) open.pop();
    if (open.length === 0) return i + 1;
  }
  return code.length;
}

/** Splits at commas that are in no bracket. */
function splitParameters(text) {
  const parts = [''];
  let depth = 0;
  for (const character of text.replaceAll('=>', '  ')) {
    if ('([{<'.includes(character)) depth++;
    if (')]}>'.includes(character)) depth--;
    if (character === ',' && depth === 0) parts.push('');
    else parts[parts.length - 1] += character;
  }
  return parts.map((part) => part.trim()).filter((part) => part !== '');
}

/** Every interface that the files declare, by name: its own fields, and those it picks from others. */
function interfacesIn(codes) {
  const found = new Map();
  for (const code of codes.values()) {
    for (const match of code.matchAll(/\binterface (\w+)([^{]*)\{/g)) {
      const start = match.index + match[0].length - 1;
      const body = code.slice(start + 1, closing(code, start) - 1);
      let depth = 0;
      const own = body.split('\n').flatMap((line) => {
        const field = depth === 0 ? /^\s*(?:readonly )?(?:get )?(\w+)\??\s*[:(]/.exec(line)?.[1] : undefined;
        for (const character of line) depth += '({['.includes(character) ? 1 : ')}]'.includes(character) ? -1 : 0;
        return field ?? [];
      });
      const picked = [...match[2].matchAll(/'(\w+)'/g)].map((name) => name[1]);
      found.set(match[1], [...own, ...picked]);
    }
  }
  return found;
}

/** The classes of a file, each with its constructor's parameters and those of their fields that the class does not use. */
function classesIn(code, interfaces) {
  return [...code.matchAll(/\bclass (\w+)[^{]*\{/g)].map((match) => {
    const start = match.index + match[0].length - 1;
    const body = code.slice(start, closing(code, start));
    const at = body.search(/\bconstructor\(/);
    if (at < 0) return { name: match[1], parameters: 0, fields: 0, unused: [] };
    const list = at + 'constructor'.length;
    const end = closing(body, list);
    const parameters = splitParameters(body.slice(list + 1, end - 1));
    const rest = body.slice(0, at) + body.slice(end);
    const uses = (name) => new RegExp(`\\b${name}\\b`).test(rest);
    const unused = [];
    let fields = 0;
    for (const parameter of parameters) {
      const [name, type = ''] = parameter.replace(/^(?:(?:private|readonly) )+/, '').split(/:\s*(?=\w+$)/);
      // Another part is used by its methods; options are the constructor's own list.
      const known = type.endsWith('Options') ? interfaces.get(type) : undefined;
      if (!known) {
        if (/^\w+$/.test(name) && !uses(name)) unused.push(name);
        continue;
      }
      fields += known.length;
      // Options that are handed on as a whole are used as a whole.
      const isHandedOn = /^\w+$/.test(name) && new RegExp(`\\.\\.\\.(this\\.)?#?${name}\\b|\\(${name}\\)`).test(rest);
      if (!isHandedOn) unused.push(...known.filter((field) => !uses(field)));
    }
    return { name: match[1], parameters: parameters.length, fields, unused };
  });
}

function table(rows) {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  for (const row of rows)
    console.log(`  ${row.map((cell, column) => cell.padEnd(widths[column])).join('  ')}`.trimEnd());
}

const folder = process.argv[2] ?? 'daemon';
const files = filesBelow(folder);
const linesOf = new Map(files.map((path) => [path, readFileSync(join(root, path), 'utf8').split('\n').length - 1]));
const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);

const arrows = arrowsBetween(files);
console.log(`Rooms of ${folder}/: files, lines, and the rooms that they import from (imports)`);
table(
  [...arrows].map(([room, targets]) => {
    const own = files.filter((path) => roomOf(path) === room);
    const told = [...targets].map(([target, count]) => `${target.replace(`${folder}/`, '')} ${count}`);
    return [room, `${own.length}`, `${sum(own.map((path) => linesOf.get(path)))}`, `→ ${told.join(', ') || 'none'}`];
  }),
);

const inFolder = new Map(files.map((path) => [path, filesImportedBy(path).filter((target) => linesOf.has(target))]));
const roomGraph = new Map([...arrows].map(([room, targets]) => [room, [...targets.keys()]]));
for (const [what, graph] of [
  ['rooms', roomGraph],
  ['files', inFolder],
]) {
  const circles = circlesOf(graph);
  console.log(`\nCircles of ${what}: ${circles.length === 0 ? 'none' : ''}`);
  for (const circle of circles) console.log(`  ${circle.join(' ↔ ')}`);
}

console.log('\nThe longest files');
const byLength = [...linesOf].sort(([, a], [, b]) => b - a).slice(0, longestShown);
table(byLength.map(([path, lines]) => [`${lines}`, path]));

console.log('\nConstructors: parameters, fields of their options, and those that the class does not use');
const codes = new Map(files.map((path) => [path, withoutComments(readFileSync(join(root, path), 'utf8'))]));
const interfaces = interfacesIn(codes);
const classes = files
  .flatMap((path) => classesIn(codes.get(path), interfaces).map((found) => ({ path, ...found })))
  .sort((a, b) => b.parameters + b.fields - (a.parameters + a.fields));
table(
  classes.map(({ path, name, parameters, fields, unused }) => [
    name,
    `${parameters}`,
    `${fields}`,
    unused.length === 0 ? '' : `unused: ${unused.join(', ')}`,
    path,
  ]),
);
