/** docs/troubleshooting.md is what the checks of `weftctl doctor` say. `WEFT_WRITE_DOCS=1` writes it again. */

import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { checks } from '../../../cli/doctor/checks/all.ts';
import { formatPage } from '../../../cli/doctor/page.ts';

const path = fileURLToPath(new URL('../../../docs/troubleshooting.md', import.meta.url));

test('docs/troubleshooting.md is made of the checks (WEFT_WRITE_DOCS=1 writes it)', () => {
  if (process.env['WEFT_WRITE_DOCS']) writeFileSync(path, formatPage());
  assert.is(readFileSync(path, 'utf8'), formatPage());
});

test('each check has a code of its own, and texts that end without a full stop', () => {
  assert.is(new Set(checks.map(({ code }) => code)).size, checks.length);
  for (const { code, title, why, remedy } of checks) {
    assert.match(code, /^[a-z]+(-[a-z]+)*$/);
    for (const text of [title, why, remedy]) assert.not.match(text, /\.$|^\s|\s$/, code);
  }
});

test.run();
