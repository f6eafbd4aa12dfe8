import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { findLiveFlanneld } from '../../../../daemon/host/live-flanneld.ts';
import { sys } from '../../../../linux/sys-bun.ts';
import { waitFor } from '../../../lab/wait.ts';

const test = suite('daemon/host/live-flanneld');

/** Runs a program with the name of flanneld. */
async function withFlanneld(wrap: readonly string[], work: (child: ChildProcess) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'weft-flanneld-'));
  const program = join(folder, 'flanneld');
  chmodSync(folder, 0o755);
  copyFileSync('/bin/sleep', program);
  const [command, ...args] = [...wrap, program, '60'];
  const child = spawn(command!, args, { stdio: 'ignore' });
  try {
    await waitFor('the program to run', () => readFileSync(`/proc/${child.pid}/comm`, 'utf8') === 'flanneld\n');
    await work(child);
  } finally {
    child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  }
}

test('a flanneld in this network namespace is found, until it ends', async () => {
  assert.is(findLiveFlanneld(sys), undefined);
  await withFlanneld([], async (child) => {
    assert.is(findLiveFlanneld(sys), child.pid);
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill();
    await ended;
    assert.is(findLiveFlanneld(sys), undefined);
  });
});

test('a flanneld in another network namespace, or of a user, does not count', async () => {
  await withFlanneld(['unshare', '--net'], async () => assert.is(findLiveFlanneld(sys), undefined));
  await withFlanneld(['setpriv', '--reuid=65534', '--clear-groups'], async () =>
    assert.is(findLiveFlanneld(sys), undefined),
  );
});

test.run();
