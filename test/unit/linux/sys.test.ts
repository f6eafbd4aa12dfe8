/** The two adapters of `Sys` do the same: one program, run on each, tells the same. */

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { sys } from '../../../linux/sys-bun.ts';
import { exercise } from './sys-program.ts';

const test = suite('linux/sys-native, linux/sys-bun');

const project = join(import.meta.dirname, '..', '..', '..');
const scratch = realpathSync(mkdtempSync(join(tmpdir(), 'weft-sys-')));
test.after(() => rmSync(scratch, { recursive: true, force: true }));

/** Makes an executable of the program, with the project's own build. */
function buildNative(): string {
  const steps = `
    const { assemble, buildRuntime, bundleCni } = await import('./build/cni.mjs');
    const { alone } = await import('./build/tools.mjs');
    const { ensureRust } = await import('./setup.mjs');
    const [entry, folder] = process.argv.slice(1);
    await alone(async () => {
      await bundleCni(entry, folder + '/modules');
      await buildRuntime(ensureRust(), process.arch);
      await assemble(process.arch, folder + '/weft', folder + '/modules');
    });`;
  const entry = join(import.meta.dirname, 'sys-program-native.ts');
  const args = ['--input-type=module', '--eval', steps, entry, scratch];
  const built = spawnSync('node', args, { cwd: project, encoding: 'utf8' });
  assert.is(built.status, 0, built.stderr);
  return join(scratch, 'weft');
}

const folder = (name: string) => {
  mkdirSync(join(scratch, name));
  return join(scratch, name);
};

test('one program prints the same on both', () => {
  process.env['WEFT_TEST'] = 'a=b';
  const underBun = JSON.parse(JSON.stringify(exercise(sys, folder('bun'))));
  const native = spawnSync(buildNative(), [folder('native')], { encoding: 'utf8' });
  assert.is(native.status, 0, native.stdout + native.stderr);
  assert.equal(JSON.parse(native.stdout), underBun);
  // And what it tells is what the system calls should do, not two times the same mistake.
  assert.equal(underBun['open'], ['open', -17, -20, -2, -22, -21, -2]);
  assert.equal(underBun['read'], [4, 'hél', 0, 0, -9, -9, -22, 1, 0]);
  assert.equal(underBun['utimensat'], [0, 1_600_000_000_250, -2, -22, -22]);
  assert.equal(underBun['poll waits'], true);
});

test.run();
