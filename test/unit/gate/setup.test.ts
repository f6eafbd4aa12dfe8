import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { root } from '../../import-graph.mjs';

const test = suite('gate/setup');

test('packages are installed without their install scripts, which would run as root', () => {
  const paths = ['setup.mjs', 'build.mjs', '.ci/run', 'test/gate.mjs', 'package.json', 'README.md', 'CONTRIBUTING.md'];
  paths.push(...readdirSync(join(root, 'test/gate')).map((name) => `test/gate/${name}`));
  let installs = 0;
  for (const path of paths) {
    for (const line of readFileSync(join(root, path), 'utf8').split('\n')) {
      if (!/npm'?,? \[?'?(ci|i|install|add)\b/.test(line)) continue;
      installs++;
      assert.match(line, /--ignore-scripts/, `${path}: ${line}`);
    }
  }
  assert.ok(installs >= 2);
});

test.run();
