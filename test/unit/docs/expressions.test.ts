/**
 * The regular expressions of the programs meet text that others write: etcd's values, files, the configuration on stdin,
 * answers on the network. None may cost more than a constant per character.
 */

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { root } from '../../import-graph.mjs';
import { expressionsIn, findSlowText } from '../../support/regex-cost.ts';

const test = suite('docs/expressions');

const sources = execFileSync('git', ['ls-files', '*.ts'], { cwd: root, encoding: 'utf8' })
  .split('\n')
  .filter((path) => path !== '' && !/^(test|bench|examples)\//.test(path))
  .map((path) => ({ path, code: readFileSync(join(root, path), 'utf8') }));

test('expressions whose cost grows with the square of the text are found', () => {
  const slow = [
    /\s*\n\s*/g,
    /(.*?)\s*$/,
    /\/+$/,
    /ALERT_(\w*CERTIFICATE|UNKNOWN_CA)/i,
    /\.?\s*note:\s*$/,
    /^(a+)+$/,
    /(a|a)*$/,
  ];
  for (const expression of slow) assert.ok(findSlowText(expression), String(expression));
  const fast = [
    /\s+/g,
    /^\s*(\w+)=(.*)$/,
    /^\d+$/,
    /\p{Cc}/gu,
    /"((?:[^"\\]|\\.)*)"|\S+/g,
    /(?:[0-9a-f]{2}([:-])(?:[0-9a-f]{2}\1){4})/,
  ];
  for (const expression of fast) assert.is(findSlowText(expression), undefined, String(expression));
});

test('the expressions of a source are found beside strings, comments and divisions', () => {
  const code =
    "const a = /x\"y/g; // /no/\nconst b = 4 / 2 / 1; f('/no/', /[/']z/.test(c), `{d.replace(/q\\/$/, '')}/e/`);";
  assert.equal(expressionsIn(code).map(String), ['/x"y/g', "/[/']z/", '/q\\/$/']);
});

test('no regular expression of the programs costs more than its text is long', () => {
  const slow: string[] = [];
  let count = 0;
  for (const { path, code } of sources) {
    for (const expression of expressionsIn(code)) {
      count++;
      const text = findSlowText(expression);
      if (text !== undefined) slow.push(`${path}: ${expression}: ${text}`);
    }
  }
  assert.equal(slow, []);
  assert.ok(count > 80, `${count} expressions are found`);
});

test('expressions that are made while a program runs are known', () => {
  const makers = sources.filter(({ code }) => code.includes('new RegExp(')).map(({ path }) => path);
  // A single character of a pattern; the name of a line in /proc.
  assert.equal(makers, ['command/go-pattern.ts', 'daemon/answers/process-figures.ts']);
});

test.run();
