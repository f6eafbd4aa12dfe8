/** What the documents name is there: files, folders, and the headings that links lead to. */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const documents = [
  ...readdirSync(root).filter((name) => name.endsWith('.md')),
  ...readdirSync(join(root, 'docs')).map((name) => `docs/${name}`),
  'examples/README.md',
];
const read = (name: string): string => readFileSync(join(root, name), 'utf8');

/** Made by the build, so a fresh clone lacks them. */
const isBuilt = (path: string): boolean => path.startsWith('dist/');

const folders = readdirSync(root, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name);

/** A path of this project: below one of its folders, or a source file of the project's own folder. */
const isOurs = (text: string): boolean =>
  folders.includes(text.split('/')[0]!) ? text.includes('/') : /^[\w.-]+\.(?:mjs|ts|md)$/.test(text);

/** The paths that a document names as code. A test's pattern such as `test/unit/cli/` names a folder. */
const namedPaths = (text: string): string[] =>
  [...text.matchAll(/`([\w.-]+(?:\/[\w.-]+)*\/?)`/g)].map((match) => match[1]!).filter(isOurs);

/** A heading's anchor, by GitHub's rule. */
const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replace(/[^\w\- ]/g, '')
    .replaceAll(' ', '-');

const anchorsOf = (text: string): string[] => [...text.matchAll(/^#+ (.*)$/gm)].map((match) => anchorOf(match[1]!));

for (const document of documents) {
  test(`every file that ${document} names as code exists`, () => {
    for (const path of namedPaths(read(document))) {
      const inRoot = existsSync(join(root, path));
      const beside = existsSync(join(root, dirname(document), path));
      assert.ok(inRoot || beside || isBuilt(path), `${document} names \`${path}\``);
    }
  });

  test(`every link of ${document} leads to a file and a heading that exist`, () => {
    for (const [, target] of read(document).matchAll(/\]\((?!https?:)([^)\s]+)\)/g)) {
      const [path = '', anchor] = target!.split('#');
      const file = path === '' ? document : join(dirname(document), path);
      assert.ok(existsSync(join(root, file)), `${document} links to ${target}`);
      if (anchor !== undefined) assert.ok(anchorsOf(read(file)).includes(anchor), `${document} links to ${target}`);
    }
  });
}

test('ARCHITECTURE.md answers where things are, by names of files', () => {
  const text = read('ARCHITECTURE.md');
  const rows = text.slice(text.indexOf('## Where is')).matchAll(/^\| (.*\?) \| (.*) \|$/gm);
  for (const [, question, answer] of rows) {
    const named = namedPaths(answer!).length > 0 || answer!.includes('](');
    assert.ok(named, question);
  }
});

test.run();
