/** Links below another root stay below it. */

import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Root } from '../../../../cli/install/rooted.ts';

const test = suite('cli/install/rooted');
let folder = '';
test.before.each(() => {
  folder = mkdtempSync(join(tmpdir(), 'weft-root-'));
  mkdirSync(join(folder, 'usr/lib/cni'), { recursive: true });
  mkdirSync(join(folder, 'opt/cni'), { recursive: true });
});
test.after.each(() => rmSync(folder, { recursive: true, force: true }));

test('a link with an absolute target is followed below the root', () => {
  symlinkSync('/usr/lib/cni', join(folder, 'opt/cni/bin'));
  const root = new Root(`${folder}/`);
  assert.is(root.folder('/opt/cni/bin'), `${folder}/usr/lib/cni`);
  assert.is(root.at('/opt/cni/bin/weft'), `${folder}/usr/lib/cni/weft`);
  assert.is(root.at('/opt/cni/bin'), `${folder}/opt/cni/bin`);
});

test('no number of ".." leaves the root', () => {
  symlinkSync('../../../../../../../etc', join(folder, 'opt/up'));
  assert.is(new Root(folder).folder('/opt/up/passwd'), `${folder}/etc/passwd`);
  assert.is(new Root(folder).at('/../../etc'), `${folder}/etc`);
});

test('missing parts stay as they are', () => {
  assert.is(new Root(folder).folder('/var/lib/weft//x/'), `${folder}/var/lib/weft/x`);
});

test('links in a circle are an error', () => {
  symlinkSync('b', join(folder, 'a'));
  symlinkSync('a', join(folder, 'b'));
  assert.throws(() => new Root(folder).folder('/a/x'), /its links lead in a circle/);
});

test('the host itself has an empty root', () => {
  assert.is(new Root('/').path, '');
  assert.is(new Root(undefined).at('/nowhere/x'), '/nowhere/x');
});

test.run();
