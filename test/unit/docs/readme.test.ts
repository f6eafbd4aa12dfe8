import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { errorTexts } from '../../../cni/spec/error-texts.ts';
import { helpText } from '../../../daemon/options.ts';
import { Metrics } from '../../../daemon/report/metrics.ts';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const readme = readFileSync(`${root}README.md`, 'utf8');

test('every error code of ours is in the README, as the code means it', () => {
  const table = errorTexts.map(([code, text]) => `| ${code} | ${text} |`).join('\n');
  const begin = '<!-- errors: begin -->';
  const section = readme.slice(readme.indexOf(begin) + begin.length, readme.indexOf('<!-- errors: end -->')).trim();
  assert.is(section, `| code | meaning |\n| --- | --- |\n${table}`);
});

test('every option of weftd that the README names is one', () => {
  const section = readme.slice(readme.indexOf('### The daemon'), readme.indexOf('### The plugins'));
  const named = [...section.matchAll(/`--([a-z0-9-]+)`/g)].map((match) => match[1]!);
  assert.ok(named.length > 10);
  for (const name of named) assert.match(helpText(), new RegExp(`^ {2}--${name}\\b`, 'm'), name);
});

test("every metric of weftd's is in the README, and no other", () => {
  const { descriptions } = new Metrics({ version: '', runtime: '', monotonic: () => 0 });
  const own = descriptions.map(({ name }) => name).filter((name) => name.startsWith('weftd_'));
  const named = [...readme.matchAll(/`(weftd_[a-z_]+)`/g)].map((match) => match[1]!);
  assert.equal([...named].sort(), [...own].sort());
});

test('every file that the README names is there', () => {
  for (const [, path] of readme.matchAll(/\b(examples\/[\w.-]+)/g)) readFileSync(`${root}${path}`);
  for (const [, path] of readme.matchAll(/\]\(([\w/.-]+\.md)\)/g)) readFileSync(`${root}${path}`);
});

test.run();
