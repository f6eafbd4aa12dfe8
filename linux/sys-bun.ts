/**
 * The Bun adapter of `Sys`: plain descriptors and paths by `node:fs`, the rest by FFI into the C library.
 *
 * errno is read directly after the call, on the same thread, before anything else can run. `setns` moves only the
 * calling thread, which is the main one. All code between a `setns` and the one that returns must be synchronous.
 */

import { dlopen, type Pointer, ptr, read } from 'bun:ffi';
import fs from 'node:fs';
import { constants } from 'node:os';
import { errno } from './errors.ts';
import type { FileStatus, SpawnResult, Sys } from './sys.ts';

/** Bun's own global, as far as it is used here. */
declare const Bun: {
  gc(synchronous: boolean): void;
  spawnSync(options: {
    cmd: readonly string[];
    argv0?: string;
    env: Record<string, string>;
    stdin: Uint8Array;
    stdout: 'pipe';
    stderr: 'pipe';
    timeout?: number;
    killSignal?: 'SIGKILL';
  }): {
    exitCode: number | null;
    signalCode?: string;
    exitedDueToTimeout?: boolean;
    stdout: Uint8Array;
    stderr: Uint8Array;
  };
};

/** include/uapi/asm-generic/fcntl.h */
const O_CLOEXEC = 0o2000000;
/** include/linux/net.h */
const SOCK_CLOEXEC = 0o2000000;
/** include/uapi/asm-generic/poll.h */
const POLLIN = 1;

const { symbols: libc } = dlopen('libc.so.6', {
  __errno_location: { args: [], returns: 'ptr' },
  close: { args: ['i32'], returns: 'i32' },
  fsync: { args: ['i32'], returns: 'i32' },
  ftruncate: { args: ['i32', 'i64'], returns: 'i32' },
  flock: { args: ['i32', 'i32'], returns: 'i32' },
  poll: { args: ['ptr', 'u64', 'i32'], returns: 'i32' },
  socket: { args: ['i32', 'i32', 'i32'], returns: 'i32' },
  bind: { args: ['i32', 'ptr', 'i32'], returns: 'i32' },
  setsockopt: { args: ['i32', 'i32', 'i32', 'ptr', 'i32'], returns: 'i32' },
  sendto: { args: ['i32', 'ptr', 'u64', 'i32', 'ptr', 'i32'], returns: 'i32' },
  recv: { args: ['i32', 'ptr', 'u64', 'i32'], returns: 'i32' },
  recvfrom: { args: ['i32', 'ptr', 'u64', 'i32', 'ptr', 'ptr'], returns: 'i32' },
  setns: { args: ['i32', 'i32'], returns: 'i32' },
  clock_gettime: { args: ['i32', 'ptr'], returns: 'i32' },
  getrandom: { args: ['ptr', 'u64', 'i32'], returns: 'i32' },
  madvise: { args: ['ptr', 'u64', 'i32'], returns: 'i32' },
  utimensat: { args: ['i32', 'ptr', 'ptr', 'i32'], returns: 'i32' },
  _exit: { args: ['i32'], returns: 'void' },
});

type LibcCall = (...args: (number | Pointer | null)[]) => number;

/** Repeats a libc call while it is interrupted; −1 becomes the negative errno. */
function call(run: LibcCall, ...args: (number | Pointer | null)[]): number {
  for (;;) {
    const result = run(...args);
    if (result !== -1) return result;
    const number = read.i32(libc.__errno_location(), 0);
    if (number !== errno.EINTR) return -number;
  }
}

/** Never repeated: the descriptor is closed even if the call was interrupted. */
function close(fd: number): number {
  if (libc.close(fd) !== -1) return 0;
  const number = read.i32(libc.__errno_location(), 0);
  return number === errno.EINTR ? 0 : -number;
}

/**
 * Runs a function of Node's API; its error becomes the negative errno (EINVAL for a text with a NUL byte, which Node
 * refuses before the system call). Other errors are rethrown.
 */
function attempt<T>(run: () => T): T | number {
  for (;;) {
    try {
      return run();
    } catch (error) {
      const { errno: number, code } = error as { errno?: unknown; code?: unknown };
      if (code === 'ERR_INVALID_ARG_VALUE') return -errno.EINVAL;
      if (typeof number !== 'number') throw error;
      if (Math.abs(number) !== errno.EINTR) return -Math.abs(number);
    }
  }
}

/** `attempt` for functions that return nothing: the result is 0. */
function attemptVoid(run: () => void): number {
  return attempt(() => {
    run();
    return 0;
  });
}

/** `attempt` on a descriptor: Node's API throws for numbers that cannot be one. */
const attemptOn = <T>(fd: number, run: () => T): T | number => (fd < 0 ? -errno.EBADF : attempt(run));

/** buffer[offset, offset + length), or a RangeError: the same check as the native runtime's. */
function bytesOf(buffer: ArrayBuffer, offset: number, length: number): Uint8Array {
  return new Uint8Array(buffer, offset, length);
}

/** The address of these bytes; null where there are none (an empty buffer has no address). */
function addressOf(bytes: Uint8Array): Pointer | null {
  return bytes.length === 0 ? null : ptr(bytes);
}

const statusOf = (status: fs.Stats): FileStatus => ({
  dev: status.dev,
  ino: status.ino,
  mode: status.mode,
  size: status.size,
  mtimeMs: status.mtimeMs,
});

/** The bytes in an ArrayBuffer of their own. */
const copyOf = (bytes: Uint8Array): ArrayBuffer => new Uint8Array(bytes).buffer;

const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
const encoder = new TextEncoder();

const timespec = new BigInt64Array(2);
/** socklen_t, both ways */
const socketLength = new Uint32Array(1);

function clock_gettime(clock: number): number {
  const result = call(libc.clock_gettime, clock, ptr(timespec));
  return result < 0 ? result : Number(timespec[0]) * 1000 + Number(timespec[1]) / 1e6;
}

/** include/uapi/linux/fcntl.h, include/linux/stat.h */
const AT_FDCWD = -100;
const UTIME_OMIT = 0x3ffffffen;

function utimensat(path: string, mtimeMs: number): number {
  if (path.includes('\0') || !Number.isFinite(mtimeMs)) return -errno.EINVAL;
  const seconds = Math.floor(mtimeMs / 1000);
  /** struct timespec[2]: of the last access, of the last modification */
  const times = BigInt64Array.of(0n, UTIME_OMIT, BigInt(seconds), BigInt(Math.trunc((mtimeMs - seconds * 1000) * 1e6)));
  return call(libc.utimensat, AT_FDCWD, ptr(encoder.encode(`${path}\0`)), ptr(times), 0);
}

function poll(fd: number, timeoutMs: number): number {
  const deadline = clock_gettime(1) + timeoutMs;
  /** struct pollfd: int fd; short events; short revents (little-endian machines) */
  const pollfd = Int32Array.of(fd, POLLIN);
  for (;;) {
    const left = timeoutMs < 0 ? -1 : Math.max(0, Math.ceil(deadline - clock_gettime(1)));
    const result = libc.poll(ptr(pollfd), 1, left);
    if (result !== -1) return result;
    const number = read.i32(libc.__errno_location(), 0);
    if (number !== errno.EINTR) return -number;
  }
}

function spawn(
  path: string,
  argv: readonly string[],
  environment: readonly string[],
  stdin: ArrayBuffer,
  timeoutMs?: number,
): SpawnResult | number {
  const env: Record<string, string> = {};
  for (const entry of environment) {
    const at = entry.indexOf('=');
    if (at > 0) env[entry.slice(0, at)] = entry.slice(at + 1);
  }
  return attempt(() => {
    const child = Bun.spawnSync({
      cmd: [path, ...argv.slice(1)],
      argv0: argv[0] ?? path,
      env,
      stdin: new Uint8Array(stdin),
      stdout: 'pipe',
      stderr: 'pipe',
      ...(timeoutMs === undefined ? {} : { timeout: timeoutMs, killSignal: 'SIGKILL' }),
    });
    if (child.exitedDueToTimeout) return -errno.ETIMEDOUT;
    return { status: exitStatus(child), stdout: copyOf(child.stdout), stderr: copyOf(child.stderr) };
  });
}

function exitStatus(child: { exitCode: number | null; signalCode?: string }): number {
  if (!child.signalCode) return child.exitCode ?? 0;
  return 128 + (constants.signals[child.signalCode as NodeJS.Signals] ?? 0);
}

/** Frees the part of the heap that nothing refers to. */
export const collectGarbage = (): void => Bun.gc(true);

/** include/uapi/asm-generic/mman-common.h */
const MADV_DONTNEED = 4;

/** A mapping of proc_pid_smaps(5) that cannot be written: address range, permissions, offset, device, inode, path. */
const readOnlyMapping = /^([0-9a-f]+)-([0-9a-f]+) r-[x-]p (?:\S+ ){3} *(\/.*)$/m;

/**
 * Returns memory that only the start needed: unused heap, and the pages of this executable's code and constants, most of
 * which only the start uses. Those pages stay in the page cache, and the kernel maps them again when they are needed. This
 * releases only mappings that cannot be written and of which nothing is anonymous, because they are identical to the file.
 */
export function releaseMemory(): void {
  collectGarbage();
  try {
    const executable = fs.readlinkSync('/proc/self/exe');
    for (const mapping of fs.readFileSync('/proc/self/smaps', 'latin1').split('VmFlags:')) {
      const match = readOnlyMapping.exec(mapping);
      if (match?.[3] !== executable || !/^Anonymous: +0 kB$/m.test(mapping)) continue;
      const [start, end] = [Number.parseInt(match[1]!, 16), Number.parseInt(match[2]!, 16)];
      libc.madvise(start as Pointer, end - start, MADV_DONTNEED);
    }
  } catch {
    // Without /proc the memory is not released, and nothing else is lost.
  }
}

/** See `Sys` for what each function does. */
export const sys: Sys = {
  argv: [process.argv0, ...process.argv.slice(2)],

  open: (path, flags, mode) => attempt(() => fs.openSync(path, flags | O_CLOEXEC, mode)),
  close,
  read: (fd, buffer, offset, length) => {
    const bytes = bytesOf(buffer, offset, length);
    return attemptOn(fd, () => fs.readSync(fd, bytes));
  },
  write: (fd, buffer, offset, length) => {
    const bytes = bytesOf(buffer, offset, length);
    return attemptOn(fd, () => fs.writeSync(fd, bytes));
  },
  fsync: (fd) => call(libc.fsync, fd),
  ftruncate: (fd, length) => call(libc.ftruncate, fd, length),
  flock: (fd, operation) => call(libc.flock, fd, operation),
  poll,

  mkdir: (path, mode) => attemptVoid(() => fs.mkdirSync(path, mode)),
  rmdir: (path) => attemptVoid(() => fs.rmdirSync(path)),
  unlink: (path) => attemptVoid(() => fs.unlinkSync(path)),
  rename: (from, to) => attemptVoid(() => fs.renameSync(from, to)),
  link: (from, to) => attemptVoid(() => fs.linkSync(from, to)),
  utimensat,
  readlink: (path) => attempt(() => fs.readlinkSync(path)),
  stat: (path) => attempt(() => statusOf(fs.statSync(path))),
  fstat: (fd) => attemptOn(fd, () => statusOf(fs.fstatSync(fd))),
  getdents: (path) => attempt(() => fs.readdirSync(path)),

  socket: (domain, type, protocol) => call(libc.socket, domain, type | SOCK_CLOEXEC, protocol),
  bind: (fd, address) => call(libc.bind, fd, addressOf(new Uint8Array(address)), address.byteLength),
  setsockopt: (fd, level, option, value) =>
    call(libc.setsockopt, fd, level, option, addressOf(new Uint8Array(value)), value.byteLength),
  sendto: (fd, buffer, offset, length, flags, address) =>
    call(
      libc.sendto,
      fd,
      addressOf(bytesOf(buffer, offset, length)),
      length,
      flags,
      address ? addressOf(new Uint8Array(address)) : null,
      address?.byteLength ?? 0,
    ),
  recv: (fd, buffer, offset, length, flags) =>
    call(libc.recv, fd, addressOf(bytesOf(buffer, offset, length)), length, flags),
  recvfrom: (fd, buffer, offset, length, flags, address) => {
    socketLength[0] = address.byteLength;
    const bytes = addressOf(bytesOf(buffer, offset, length));
    return call(libc.recvfrom, fd, bytes, length, flags, addressOf(new Uint8Array(address)), ptr(socketLength));
  },

  setns: (fd, nstype) => call(libc.setns, fd, nstype),

  spawn,
  environ: () => Object.entries(process.env).map(([name, value]) => `${name}=${value ?? ''}`),
  // Bun has threads, and the child would have their memory.
  clone_sendto: () => -errno.ENOSYS,
  waitpid: () => -errno.ECHILD,
  getpid: () => process.pid,
  getppid: () => process.ppid,
  geteuid: () => process.geteuid?.() ?? 0,
  clock_gettime,
  getrandom: (buffer, offset, length) => call(libc.getrandom, addressOf(bytesOf(buffer, offset, length)), length, 0),
  exit: (status) => {
    libc._exit(status);
    throw new Error('_exit returned');
  },

  decodeUtf8: (buffer, offset, length) => decoder.decode(bytesOf(buffer, offset, length)),
  encodeUtf8: (text) => copyOf(encoder.encode(text)),
};
