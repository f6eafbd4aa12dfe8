/** The folder of network configurations: the order of names, what is read, and the names that come first. */

import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  asideName,
  firstName,
  firstOf,
  inOrder,
  isWefts,
  listConflists,
  nameBefore,
  parseConflist,
} from '../../../../cli/install/conflist.ts';

const test = suite('cli/install/conflist');
let folder = '';
test.before.each(() => {
  folder = mkdtempSync(join(tmpdir(), 'weft-conflist-'));
});
test.after.each(() => rmSync(folder, { recursive: true, force: true }));

test('files are read in the order of their bytes, and only those that a runtime reads', () => {
  const text = (name: string): string => JSON.stringify({ name, plugins: [{ type: 'weft' }] });
  for (const name of ['9-b.conflist', '10-a.conf', 'Z.json', 'é.conf', 'x.conflist.before-weft', '.h.conf', 'README'])
    writeFileSync(join(folder, name), text(name));
  mkdirSync(join(folder, '00-folder.conf'));
  symlinkSync('nowhere', join(folder, '01-dangling.conf'));
  const found = listConflists(folder);
  assert.equal(
    found.map(({ file }) => file),
    ['10-a.conf', '9-b.conflist', 'Z.json', 'é.conf'],
  );
  assert.is(firstOf(found)?.network, '10-a.conf');
  assert.ok(found.every(isWefts));
  assert.equal(listConflists(join(folder, 'missing')), []);
});

test('damaged files are named with their fault', () => {
  for (const [text, fault] of [
    ['{', 'it is no JSON'],
    ['[]', 'it is no JSON object'],
    ['null', 'it is no JSON object'],
    ['{}', 'it has no "name"'],
    ['{"name":7}', 'it has no "name"'],
    ['{"name":"a"}', 'a plugin in it has no "type"'],
    ['{"name":"a","plugins":[]}', 'a plugin in it has no "type"'],
    ['{"name":"a","plugins":[null]}', 'a plugin in it has no "type"'],
    ['{"name":"a","plugins":[{"type":""}]}', 'a plugin in it has no "type"'],
  ] as const) {
    assert.is(parseConflist('x', text).fault, fault, text);
  }
  assert.equal(parseConflist('x', '{"name":"a","type":"bridge"}'), { file: 'x', network: 'a', types: ['bridge'] });
});

test('a file that is too large stops nothing', () => {
  writeFileSync(join(folder, '10-large.conf'), ' '.repeat(1024 * 1024 + 1));
  writeFileSync(join(folder, '20.conf'), '{"name":"a","type":"bridge"}');
  const [large, other] = listConflists(folder);
  assert.match(large!.fault!, /has more than 1048576 bytes$/);
  assert.is(other!.network, 'a');
});

test('the name comes before all others, and is the usual one where that does', () => {
  assert.is(firstName([]), '10-weft.conflist');
  assert.is(firstName(['87-podman-bridge.conflist']), '10-weft.conflist');
  assert.is(firstName(['10-weft.conflist']), '10-weft.conflist');
  assert.is(firstName(['10-flannel.conflist']), '05-weft.conflist');
  assert.is(firstName(['05-cilium.conflist', '10-a.conf']), '00-weft.conflist');
  assert.is(firstName(['00-a.conf']), '0-weft.conflist');
  assert.is(firstName(['0-cilium.conf']), '0-0-weft.conflist');
  assert.is(firstName(['!.conf']), undefined);
  assert.is(firstName(['10-flannel.conflist'], '10-a.conflist'), '10-a.conflist');
});

test('the order is that of bytes, not of letters', () => {
  assert.equal(inOrder(['a', 'B', '10', '9', '\u{ff5e}', '\u{1f600}']), ['10', '9', 'B', 'a', '\u{ff5e}', '\u{1f600}']);
});

test('a file that is set aside comes back under its name', () => {
  assert.is(nameBefore(asideName('10-flannel.conflist')), '10-flannel.conflist');
  assert.is(nameBefore('10-flannel.conflist'), undefined);
});

test.run();
