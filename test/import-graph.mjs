/** The project's import graph: the imports of a file, and the files that a file reaches. */

import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** A file's text without its comments. String literals stay, because the names of modules are among them. */
export function withoutComments(source) {
  const commentOrText = /\/\*[\s\S]*?\*\/|\/\/[^\n]*|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`/g;
  return source.replace(commentOrText, (found) => (found.startsWith('/') ? '' : found));
}

/** The modules that code imports, by the names it uses. */
export function importsOf(code) {
  const importing = /(?:(?<!')\bfrom\s*|\bimport\s*\(?\s*|\brequire\s*\(\s*)'([^'$\n]+)'/g;
  return [...code.matchAll(importing)].map((found) => found[1]);
}

const read = new Map();

/** The project's files that a file imports by itself. Both are paths from the project's folder. */
export function filesImportedBy(path) {
  let found = read.get(path);
  if (!found) {
    const names = importsOf(withoutComments(readFileSync(join(root, path), 'utf8')));
    found = names
      .filter((name) => name.startsWith('.'))
      .map((name) => join(dirname(path), name.replace(/\?\w+$/, '')))
      .filter((target) => existsSync(join(root, target)));
    read.set(path, found);
  }
  return found;
}

/** The file itself and every file that it reaches by imports. @returns {Set<string>} */
export function filesReachedFrom(path) {
  const reached = new Set([path]);
  for (const next of reached) {
    if (/\.(ts|mjs|js)$/.test(next)) for (const target of filesImportedBy(next)) reached.add(target);
  }
  return reached;
}

/**
 * The circles of a graph: sets of nodes that reach each other (Tarjan's strongly connected components).
 * @param {ReadonlyMap<string, Iterable<string>>} graph each node with those that it leads to
 * @returns {string[][]} each in the order of its names; empty where there is none
 */
export function circlesOf(graph) {
  const state = new Map();
  const stack = [];
  const circles = [];
  const visit = (node) => {
    const own = { index: state.size, low: state.size, isOpen: true };
    state.set(node, own);
    stack.push(node);
    for (const next of graph.get(node) ?? []) {
      const other = state.get(next) ?? visit(next);
      if (other.isOpen) own.low = Math.min(own.low, other.low);
    }
    if (own.low < own.index) return own;
    const circle = [];
    for (let member; member !== node; ) {
      member = stack.pop();
      state.get(member).isOpen = false;
      circle.push(member);
    }
    if (circle.length > 1 || [...(graph.get(node) ?? [])].includes(node)) circles.push(circle.sort());
    return own;
  };
  for (const node of graph.keys()) if (!state.has(node)) visit(node);
  return circles;
}
