import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { FolderBusyError, lockFolders } from '../../../../daemon/host/folder-lock.ts';
import type { Sys } from '../../../../linux/sys.ts';
import { sys } from '../../../../linux/sys-bun.ts';
import { fixture } from '../../../support/fixture.ts';

const test = suite('daemon/host/folder-lock');

const folder = fixture(
  test,
  () => mkdtempSync(join(tmpdir(), 'weft-folder-lock-')),
  (path) => rmSync(path, { recursive: true }),
);

const foldersOf = (name: string) => ({ runDir: join(folder(), name, 'run'), stateDir: join(folder(), name, 'state') });

function busy(work: () => unknown): FolderBusyError {
  try {
    work();
  } catch (error) {
    assert.instance(error, FolderBusyError);
    return error as FolderBusyError;
  }
  throw new Error('it should have been refused');
}

test('the folders have one holder, who is named', () => {
  const folders = foldersOf('d');
  const lock = lockFolders(sys, folders);
  assert.is(readFileSync(join(folders.runDir, 'weftd.pid'), 'utf8'), `${process.pid}\n`);
  // What a weftd in a container wrote there is not a number of this host's.
  writeFileSync(join(folders.runDir, 'weftd.pid'), '1\n');
  assert.is(busy(() => lockFolders(sys, folders)).pid, process.pid);
  lock.release();
  lockFolders(sys, folders).release();
});

test('two weftd with a run folder each do not share a state folder', () => {
  const folders = foldersOf('s');
  const lock = lockFolders(sys, folders);
  const other = { ...folders, runDir: join(folder(), 's', 'other') };
  assert.match(
    busy(() => lockFolders(sys, other)).message,
    /s\/state"; stop it first, or give another .* --state-dir$/,
  );
  lock.release();
  lockFolders(sys, other).release();
});

test('a leftover of another mode is no obstacle', () => {
  const folders = foldersOf('e');
  const path = join(folders.runDir, 'weftd.pid');
  lockFolders(sys, folders).release();
  chmodSync(path, 0o600);
  writeFileSync(path, '123456789\n');
  lockFolders(sys, folders).release();
  assert.is(readFileSync(path, 'utf8'), `${process.pid}\n`);
});

/** A program that is no weftd holds a lock on the file while `body` runs. */
async function whileLocked(path: string, body: (pid: number) => void): Promise<void> {
  const holder = spawn('flock', ['--no-fork', path, 'sh', '-c', 'echo locked; exec sleep 60'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    await new Promise((resolve, reject) => holder.stdout.once('data', resolve).once('end', reject));
    body(holder.pid!);
  } finally {
    holder.kill('SIGKILL');
    await once(holder, 'exit');
  }
}

test('a process is no holder because its file has the same inode number on another file system', async () => {
  const folders = foldersOf('n');
  const lock = lockFolders(sys, folders);
  const other = join(folder(), 'other');
  await whileLocked(other, () => {
    // Our file as it were on another file system, with the other's number.
    const { ino } = statSync(other);
    const elsewhere: Sys = {
      ...sys,
      fstat: (fd) => {
        const status = sys.fstat(fd);
        return typeof status === 'number' ? status : { ...status, dev: status.dev + 1, ino };
      },
    };
    assert.match(readFileSync('/proc/locks', 'utf8'), new RegExp(`FLOCK.*:${ino} `));
    const error = busy(() => lockFolders(elsewhere, folders));
    assert.is(error.pid, undefined);
    assert.match(error.message, /^Another weftd uses ".*\/n\/run"; stop it first/);
  });
  lock.release();
});

test('a process that is no weftd is named as such, so that nobody ends it', async () => {
  const folders = foldersOf('p');
  mkdirSync(folders.runDir, { recursive: true });
  await whileLocked(join(folders.runDir, 'weftd.pid'), (pid) => {
    const error = busy(() => lockFolders(sys, folders));
    assert.is(error.pid, undefined);
    assert.ok(error.message.startsWith(`Process ${pid}, which is no weftd, has locked "${folders.runDir}"; `));
  });
  lockFolders(sys, folders).release();
});

test.run();
