/** weftd keeps working beside programs without rights, and with a log that cannot be written. As root. */

import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { program } from '../lab/project.ts';
import { Scratch } from '../lab/scratch.ts';
import { waitFor } from '../lab/wait.ts';
import { NodeFiles, weftdArguments } from '../lab/weftd.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('strangers');
const scratch = fixture(
  test,
  () => new Scratch('strangers'),
  (made) => made.remove(),
);
const started: ChildProcess[] = [];
test.after(() => {
  for (const child of started) child.kill('SIGKILL');
});

/** A weftd whose etcd never answers, with its log where `stderr` says. */
function startWeftd(name: string, stderr: number | 'pipe', extra: readonly string[] = []) {
  const files = new NodeFiles(join(scratch().folder, name));
  const socket = join(files.runDir, 'weftd.sock');
  const args = [...weftdArguments(files, name, 'http://127.0.0.1:9'), '--log-level=debug', ...extra];
  const child = spawn(program('weftd'), args, { stdio: ['ignore', 'ignore', stderr] });
  started.push(child);
  return {
    child,
    folder: files.folder,
    isUp: () => waitFor(`weftd ${name}`, () => child.exitCode === null && existsSync(socket)),
  };
}

const ended = (child: ChildProcess): Promise<number | null> =>
  new Promise((resolve) => void child.on('exit', (code) => resolve(code)));

test('a full disk under the log, or a log without a reader, does not end weftd', async () => {
  const full = openSync('/dev/full', 'w');
  const onDisk = startWeftd('full', full);
  closeSync(full);
  const toNobody = startWeftd('nobody', 'pipe');
  toNobody.child.stderr!.destroy();
  for (const each of [onDisk, toNobody]) {
    await each.isUp();
    const end = ended(each.child);
    // Each of these is told.
    for (let i = 0; i < 3; i++) each.child.kill('SIGHUP');
    each.child.kill('SIGTERM');
    assert.is(await end, 0);
  }
});

test('only root can take the locks of weftd’s folders', async () => {
  const { child, folder, isUp } = startWeftd('locks', 'pipe');
  await isUp();
  for (const file of ['run/weftd.pid', 'state/weftd.lock']) assert.is(statSync(join(folder, file)).mode & 0o777, 0o600);
  const end = ended(child);
  child.kill('SIGTERM');
  assert.is(await end, 0);
});

test.run();
