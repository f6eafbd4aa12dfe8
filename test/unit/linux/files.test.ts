import { execFileSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { errno } from '../../../linux/errors.ts';
import { ensureDirectory, readAll, readFile, readText, writeAll, writeFileAtomic } from '../../../linux/files.ts';
import { withLock } from '../../../linux/lock.ts';
import type { Sys } from '../../../linux/sys.ts';
import { sys } from '../../../linux/sys-bun.ts';
import { ensureSysctl, readSysctl, setNewSysctl } from '../../../linux/sysctl.ts';
import { fixture } from '../../support/fixture.ts';

const test = suite('files');
const folder = fixture(
  test,
  () => mkdtempSync(join(tmpdir(), 'weft-files-')),
  (path) => rmSync(path, { recursive: true }),
);

test('reading gives the whole file, an empty one, none, or an error for a folder', () => {
  const path = join(folder(), 'file');
  for (const length of [0, 1, 4095, 4096, 4097, 100_000]) {
    const bytes = Uint8Array.from({ length }, (_, i) => i % 251);
    writeFileSync(path, bytes);
    assert.equal([...readFile(sys, path)!], [...bytes]);
  }
  writeFileSync(path, 'wäft\n');
  assert.is(readText(sys, path), 'wäft\n');
  assert.is(readText(sys, join(folder(), 'absent')), undefined);
  assert.is(readText(sys, join(path, 'below')), undefined);
  assert.throws(() => readText(sys, folder()), /Cannot read ".*": EISDIR/);
});

test('reading stops at the limit', () => {
  const path = join(folder(), 'large');
  writeFileSync(path, 'x'.repeat(5000));
  const read = (limitBytes: number): number => {
    const fd = sys.open(path, 0, 0);
    try {
      return readAll(sys, fd, limitBytes, ['read', 'large']).length;
    } finally {
      sys.close(fd);
    }
  };
  assert.is(read(5000), 5000);
  for (const limit of [0, 1, 4096, 4999]) {
    assert.throws(() => read(limit), new RegExp(`Cannot read "large" of more than ${limit} bytes: EFBIG`));
  }
});

test('reading and writing cope with non-blocking files and short pieces', () => {
  const input = [-errno.EAGAIN, 2, -errno.EAGAIN, 1, 0];
  let polls = 0;
  const output: number[] = [];
  const slow = {
    ...sys,
    read: (_fd: number, buffer: ArrayBuffer, offset: number) => {
      const next = input.shift()!;
      for (let i = 0; i < next; i++) new Uint8Array(buffer)[offset + i] = 65 + input.length;
      return next;
    },
    write: (_fd: number, buffer: ArrayBuffer, offset: number) => {
      if (output.length === 1 && polls === 2) return -errno.EAGAIN;
      output.push(new Uint8Array(buffer)[offset]!);
      return 1;
    },
    poll: () => {
      polls++;
      return 1;
    },
  };
  assert.equal([...readAll(slow, 0, 10)], [68, 68, 66]);
  assert.is(polls, 2);
  writeAll(slow, 1, new Uint8Array([9, 1, 2, 3]).subarray(1));
  assert.equal(output, [1, 2, 3]);
});

test('a file is replaced as a whole, or not at all', () => {
  const path = join(folder(), 'state');
  writeFileAtomic(sys, path, 'one', 0o600);
  writeFileAtomic(sys, path, 'two', 0o644);
  assert.is(readFileSync(path, 'utf8'), 'two');
  assert.is(statSync(path).mode & 0o777, 0o644);
  const calls = ['open', 'write', 'fsync', 'close', 'rename'] as const;
  for (const call of calls) {
    let closes = 0;
    const failing: Sys = {
      ...sys,
      [call]: (...args: number[]) => {
        if (call === 'close' && closes++ === 0) sys.close(args[0]!);
        return -errno.ENOSPC;
      },
    };
    assert.throws(() => writeFileAtomic(failing, path, 'three', 0o644), /Cannot .*: ENOSPC/, call);
    assert.is(readFileSync(path, 'utf8'), 'two', call);
    assert.equal(
      readdirSync(folder()).filter((name) => name.endsWith('.tmp')),
      [],
      call,
    );
  }
});

test('folders are made with their parents', () => {
  const path = join(folder(), 'a/b/c');
  ensureDirectory(sys, path, 0o750);
  ensureDirectory(sys, path, 0o750);
  ensureDirectory(sys, `${path}/d/`, 0o750);
  assert.is(statSync(`${path}/d`).mode & 0o777, 0o750);
  symlinkSync(path, join(folder(), 'link'));
  ensureDirectory(sys, join(folder(), 'link'), 0o755);
  writeFileSync(join(folder(), 'plain'), '');
  assert.throws(() => ensureDirectory(sys, join(folder(), 'plain'), 0o755), /Cannot make folder ".*plain": ENOTDIR/);
  assert.throws(() => ensureDirectory(sys, join(folder(), 'plain/below'), 0o755), /ENOTDIR/);
  const readOnly: Sys = { ...sys, mkdir: () => -errno.EROFS };
  ensureDirectory(readOnly, path, 0o755);
  assert.throws(() => ensureDirectory(readOnly, join(folder(), 'new'), 0o755), /EROFS/);
  mkdirSync(join(folder(), 'relative'));
  assert.throws(() => ensureDirectory({ ...sys, mkdir: () => -errno.ENOENT }, 'relative', 0o755), /ENOENT/);
});

test('a lock is held while the body runs, and released whatever happens in it', () => {
  const path = join(folder(), 'lock');
  const isFree = (): boolean => {
    const fd = sys.open(path, 2, 0);
    const got = sys.flock(fd, 2 | 4);
    sys.close(fd);
    return got === 0;
  };
  const result = withLock(sys, path, () => {
    assert.not(isFree());
    return 7;
  });
  assert.is(result, 7);
  assert.ok(isFree());
  assert.is(statSync(path).mode & 0o777, 0o600);
  const fails = () => {
    throw new Error('mine');
  };
  assert.throws(() => withLock(sys, path, fails), /mine/);
  assert.ok(isFree());
  assert.throws(() => withLock(sys, join(folder(), 'no/lock'), () => 1), /Cannot open lock ".*": ENOENT/);
  assert.throws(() => withLock({ ...sys, flock: () => -errno.EIO }, path, () => 1), /Cannot lock ".*": EIO/);
});

test('a lock that another process keeps is waited for with a limit, and its holder is named', () => {
  const path = join(folder(), 'kept');
  const holder = sys.open(path, 2 | 0o100, 0o600);
  assert.is(sys.flock(holder, 2), 0);
  let nowMs = 0;
  let pauses = 0;
  let freeAfter = Number.POSITIVE_INFINITY;
  const waiting: Sys = {
    ...sys,
    clock_gettime: () => nowMs,
    poll: (_fd, timeoutMs) => {
      nowMs += timeoutMs;
      if (++pauses === freeAfter) sys.flock(holder, 8);
      return 0;
    },
  };
  const never = () => assert.unreachable();
  assert.throws(
    () => withLock(waiting, path, never),
    new RegExp(`Cannot lock ".*kept": ETIMEDOUT \\(process ${process.pid} \\(".+"\\) has held it for 30 s\\)`),
  );
  assert.ok(nowMs >= 30_000 && nowMs < 30_100, `${nowMs} ms`);
  assert.throws(() => withLock(waiting, path, never, 50), /for 0\.05 s/);
  [pauses, freeAfter] = [0, 3];
  assert.is(
    withLock(waiting, path, () => 'mine'),
    'mine',
  );
  assert.is(pauses, 3);
  sys.close(holder);
});

test('no file is written that is too long to be read again', () => {
  const path = join(folder(), 'long');
  writeFileAtomic(sys, path, 'one', 0o600);
  const limit = 16 * 1024 * 1024;
  const long = 'x'.repeat(limit + 1);
  assert.throws(
    () => writeFileAtomic(sys, path, long, 0o600),
    /^Cannot write ".*long": EFBIG \(it would have 16777217 bytes, and at most 16777216 are read\)$/,
  );
  assert.is(readText(sys, path), 'one');
  writeFileAtomic(sys, path, long.slice(1), 0o600);
  assert.is(readText(sys, path)?.length, limit);
});

test('only regular files and /dev/null are read, and nothing waits for a FIFO', () => {
  const fifo = join(folder(), 'fifo');
  execFileSync('mkfifo', [fifo]);
  assert.throws(() => readText(sys, fifo), /Cannot read ".*fifo": EINVAL \(it is a FIFO\)/);
  assert.throws(() => readText(sys, folder()), /EISDIR/);
  assert.is(readText(sys, '/dev/null'), '');
  const silent: Sys = { ...sys, read: () => -errno.EAGAIN };
  assert.throws(() => readText(silent, '/dev/null'), /Cannot read "\/dev\/null": EAGAIN/);
});

test('a setting is written only if it differs, and only inside /proc/sys', () => {
  const opened: [string, number][] = [];
  let value = '0\n';
  const fake: Sys = {
    ...sys,
    open: (path, flags) => {
      opened.push([path, flags]);
      return path.endsWith('absent') ? -errno.ENOENT : 99;
    },
    close: () => 0,
    read: (() => {
      let end = false;
      return (_fd: number, buffer: ArrayBuffer, offset: number) => {
        end = !end;
        if (!end) return 0;
        new Uint8Array(buffer).set(Buffer.from(value), offset);
        return value.length;
      };
    })(),
    write: (_fd, buffer, offset, length) => {
      value = `${Buffer.from(buffer, offset, length)}\n`;
      return length;
    },
  };
  const name = ['net', 'ipv4', 'conf', 'eth0.5', 'forwarding'];
  assert.is(ensureSysctl(fake, name, '1'), true);
  assert.is(ensureSysctl(fake, name, '1'), false);
  assert.is(value, '1\n');
  assert.is(opened.filter(([, flags]) => flags === 1).length, 1);
  assert.is(opened[0]![0], '/proc/sys/net/ipv4/conf/eth0.5/forwarding');
  value = '0\n';
  assert.is(ensureSysctl(fake, name, '1', '/host/sys'), true);
  assert.is(value, '1\n');
  assert.equal(
    new Set(opened.splice(0).map(([path]) => path.slice(0, path.indexOf('/net/')))),
    new Set(['/proc/sys', '/host/sys']),
  );
  value = '0\n';
  setNewSysctl(fake, name, '1');
  assert.is(value, '1\n');
  assert.equal(
    opened.splice(0).map(([, flags]) => flags),
    [1],
    'it is not read',
  );
  const readOnly: Sys = {
    ...fake,
    open: (path, flags, mode) => (flags === 1 ? -errno.EROFS : fake.open(path, flags, mode)),
  };
  setNewSysctl(readOnly, name, '1');
  assert.throws(() => setNewSysctl(readOnly, name, '0'), /Cannot set ".*forwarding" to "0": EROFS/);
  assert.throws(() => setNewSysctl(fake, ['absent'], '1'), /Cannot set "\/proc\/sys\/absent" to "1": ENOENT/);
  assert.is(readSysctl(fake, ['absent']), undefined);
  assert.throws(() => ensureSysctl(fake, ['absent'], '1'), /Cannot set "\/proc\/sys\/absent" to "1": ENOENT/);
  for (const bad of ['..', '.', '', 'a/b', 'a\0b']) assert.throws(() => readSysctl(fake, ['net', bad]), RangeError);
  assert.match(readSysctl(sys, ['kernel', 'ostype'])!, /^Linux$/);
});

test.run();
