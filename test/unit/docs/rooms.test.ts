import { execFileSync } from 'node:child_process';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { circlesOf, root } from '../../import-graph.mjs';

const test = suite('docs/rooms');

test('circles of a graph are found, each once; a tree has none', () => {
  const graph = new Map([
    ['a', ['b', 'c']],
    ['b', ['d']],
    ['c', ['d', 'e']],
    ['d', []],
    ['e', ['f']],
    ['f', ['c', 'g']],
    ['g', ['g']],
  ]);
  assert.equal(circlesOf(graph), [['g'], ['c', 'e', 'f']]);
  graph.set('f', []);
  graph.set('g', []);
  assert.equal(circlesOf(graph), []);
});

test('the import graph of daemon/ is printed, and has no circle', () => {
  const printed = execFileSync('node', ['test/rooms.mjs'], { cwd: root, encoding: 'utf8' });
  for (const room of ['answers', 'filter', 'membership', 'overlay', 'pace', 'report', 'tasks']) {
    assert.match(printed, new RegExp(`^ {2}daemon/${room} +\\d+ +\\d+ +→ `, 'm'));
  }
  assert.match(printed, /^Circles of rooms: none$/m);
  assert.match(printed, /^Circles of files: none$/m);
  assert.match(printed, /^ {2}Loop +1 +\d+ .*daemon\/loop\.ts$/m);
});

test.run();
