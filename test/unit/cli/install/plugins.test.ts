/** Versions of the plugins, and what is done for each name. */

import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { findSources, isLater, isOwn, planPlugins, putPlugins, tellPlugins } from '../../../../cli/install/plugins.ts';

const test = suite('cli/install/plugins');
let folder = '';
const host = { random: () => 0.25, nowMs: () => 0 };

/** A program that has the mark of Weft's executable, and tells this version. */
function writeOwn(path: string, version: string): void {
  writeFileSync(path, `#!/bin/sh\necho "CNI weft plugin v${version}"; exit\nWEFTARC1`, { mode: 0o755 });
  chmodSync(path, 0o755);
}

const planned = (force = false) =>
  planPlugins({ folder: join(folder, 'bin'), sources: findSources('', join(folder, 'from'))!, force });
const doing = (force = false) =>
  planned(force).steps.map(({ name, does, reason }) => `${name} ${does} ${reason ?? ''}`.trim());

test.before.each(() => {
  folder = mkdtempSync(join(tmpdir(), 'weft-plugins-'));
  mkdirSync(join(folder, 'from'));
  mkdirSync(join(folder, 'bin'));
  writeOwn(join(folder, 'from/weft'), '0.2.0');
});
test.after.each(() => rmSync(folder, { recursive: true, force: true }));

test('versions are compared by their numbers', () => {
  assert.ok(isLater('0.10.0', '0.9.9'));
  assert.ok(isLater('1.0.0', '0.99.99'));
  assert.ok(isLater('1.0.0', '1.0.0-rc.1'));
  assert.not(isLater('1.0.0-rc.1', '1.0.0'));
  assert.not(isLater('0.2.0', '0.2.0'));
  assert.not(isLater('0.2.0', '0.2.1'));
});

test('an older version is replaced, a newer one is left with the reason', () => {
  writeOwn(join(folder, 'bin/weft'), '0.1.0');
  writeOwn(join(folder, 'bin/loopback'), '0.10.0');
  assert.equal(doing(), [
    'weft put',
    'weft-ipam put',
    'flannel put',
    'loopback leave it is newer (0.10.0); --force replaces it',
  ]);
  assert.equal(doing(true), ['weft put', 'weft-ipam put', 'flannel put', 'loopback put']);
});

test("another package's flannel, loopback and portmap are left", () => {
  for (const name of ['flannel', 'loopback', 'portmap']) writeFileSync(join(folder, 'bin', name), 'other');
  writeFileSync(join(folder, 'from/portmap'), 'the reference');
  assert.equal(doing(), [
    'weft put',
    'weft-ipam put',
    "flannel leave it is another package's; --force replaces it",
    "loopback leave it is another package's; --force replaces it",
    'portmap leave there is one; --force replaces it',
  ]);
});

test('a link is replaced, and the file that it leads to stays', () => {
  writeOwn(join(folder, 'elsewhere'), '0.1.0');
  symlinkSync('../elsewhere', join(folder, 'bin/weft'));
  symlinkSync('nowhere', join(folder, 'bin/flannel'));
  const before = readFileSync(join(folder, 'elsewhere'), 'utf8');
  assert.equal(doing().slice(0, 3), ['weft put', 'weft-ipam put', 'flannel put']);
  putPlugins(planned(), host);
  assert.is(readFileSync(join(folder, 'elsewhere'), 'utf8'), before);
  assert.ok(isOwn(join(folder, 'bin/flannel')));
  assert.equal(doing(), ['weft same', 'weft-ipam same', 'flannel same', 'loopback same']);
});

test('a file that others may write is put anew', () => {
  putPlugins(planned(), host);
  chmodSync(join(folder, 'bin/weft'), 0o777);
  assert.is(doing()[0], 'weft put');
});

test('a missing portmap is told with where it comes from', () => {
  const lines = tellPlugins(planned(), false);
  assert.match(lines.at(-1)!, /^no portmap in .* the package "containernetworking-plugins"/);
  writeFileSync(join(folder, 'bin/portmap'), '');
  assert.is(tellPlugins(planned(), false).length, 1);
});

test('a source for another kind of machine is refused', () => {
  writeFileSync(join(folder, 'from/weft'), '\x7fELF garbage WEFTARC1', { mode: 0o755 });
  assert.throws(() => planned(), /^Cannot run ".*weft": is it built for another kind of machine\?$/);
});

test.run();
