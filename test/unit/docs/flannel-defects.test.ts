/** Every defect of flannel's that Weft must not have is shown by a test that says so. */

import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { defects } from '../../cluster/defects.ts';

test('each has a test that names it', () => {
  const named = new Set<number>();
  for (const folder of ['cluster', 'conformance']) {
    const path = fileURLToPath(new URL(`../../${folder}/`, import.meta.url));
    for (const name of readdirSync(path)) {
      if (!name.endsWith('.test.ts')) continue;
      const text = readFileSync(`${path}${name}`, 'utf8');
      for (const [, number] of text.matchAll(/\btest\(\s*['"`][^\n]*\bdefect (\d+)\b/g)) named.add(Number(number));
    }
  }
  assert.equal(
    [...named].sort((a, b) => a - b),
    Object.keys(defects).map(Number),
  );
});

test.run();
