/**
 * The port to the operating system. Two adapters implement it: the native runtime (`runtime/`, as the global `Sys`;
 * `sys-native.ts`) and Bun's FFI (`sys-bun.ts`). Tests wrap it to make a chosen call fail.
 *
 * Every function is one system call, named after it. A call that fails returns the negative errno; one that succeeds
 * returns the system call's result, or 0 if it has none. The adapter retries on EINTR. No function throws for an error
 * of the operating system. Descriptors are opened close-on-exec.
 */

/** The result of stat(2). Times are milliseconds since the epoch, with a fraction. */
export interface FileStatus {
  /** Device and inode identify a file, and a namespace. Linux's values are exact as doubles. */
  readonly dev: number;
  readonly ino: number;
  /** Type and permission bits, st_mode. */
  readonly mode: number;
  readonly size: number;
  readonly mtimeMs: number;
}

/** The end of a process that `spawn` ran. */
export interface SpawnResult {
  /** Exit status, or 128 + the number of the signal that ended it. */
  readonly status: number;
  readonly stdout: ArrayBuffer;
  readonly stderr: ArrayBuffer;
}

export interface Sys {
  /** argv of this process; `[0]` is the name it was called by. */
  readonly argv: readonly string[];

  /** open(2); O_CLOEXEC is always added. Returns the descriptor. */
  open(path: string, flags: number, mode: number): number;
  /** close(2). */
  close(fd: number): number;
  /** read(2) into buffer[offset, offset + length). Returns the number of bytes, 0 at the end. */
  read(fd: number, buffer: ArrayBuffer, offset: number, length: number): number;
  /** write(2) of buffer[offset, offset + length). Returns the number of bytes written. */
  write(fd: number, buffer: ArrayBuffer, offset: number, length: number): number;
  /** fsync(2). */
  fsync(fd: number): number;
  /** ftruncate(2). */
  ftruncate(fd: number, length: number): number;
  /** flock(2); operation is a combination of LOCK_*. */
  flock(fd: number, operation: number): number;
  /** poll(2) on one descriptor for readability. 1 readable, 0 timed out; a negative timeout waits for ever. */
  poll(fd: number, timeoutMs: number): number;

  /** mkdir(2). */
  mkdir(path: string, mode: number): number;
  /** rmdir(2). */
  rmdir(path: string): number;
  /** unlink(2). */
  unlink(path: string): number;
  /** rename(2). */
  rename(from: string, to: string): number;
  /** link(2): fails with EEXIST where `to` exists. */
  link(from: string, to: string): number;
  /** utimensat(2): sets the time of the last modification alone, in milliseconds since the epoch. */
  utimensat(path: string, mtimeMs: number): number;
  /** readlink(2). */
  readlink(path: string): string | number;
  /** stat(2), following symbolic links. */
  stat(path: string): FileStatus | number;
  /** fstat(2). */
  fstat(fd: number): FileStatus | number;
  /** getdents64(2) until the end: the names in a folder, in no order, without `.` and `..`. */
  getdents(path: string): string[] | number;

  /** socket(2); SOCK_CLOEXEC is always added. */
  socket(domain: number, type: number, protocol: number): number;
  /** bind(2); the address is a raw struct sockaddr_*. */
  bind(fd: number, address: ArrayBuffer): number;
  /** setsockopt(2); the value is raw bytes (an int is four, in native byte order). */
  setsockopt(fd: number, level: number, option: number, value: ArrayBuffer): number;
  /** sendto(2); a null address sends to the peer. */
  sendto(
    fd: number,
    buffer: ArrayBuffer,
    offset: number,
    length: number,
    flags: number,
    address: ArrayBuffer | null,
  ): number;
  /** recv(2). With MSG_TRUNC the returned length may exceed the buffer. */
  recv(fd: number, buffer: ArrayBuffer, offset: number, length: number, flags: number): number;
  /** recvfrom(2): as `recv`; the sender's raw struct sockaddr_* is written to `address`, cut off if it is longer. */
  recvfrom(
    fd: number,
    buffer: ArrayBuffer,
    offset: number,
    length: number,
    flags: number,
    address: ArrayBuffer,
  ): number;

  /** setns(2) for the calling thread; nstype is CLONE_NEWNET. */
  setns(fd: number, nstype: number): number;

  /**
   * posix_spawn(3) + waitpid(2): runs `path` with arguments (argv[0] included) and `K=V` environment, feeds it stdin,
   * collects stdout and stderr, waits for its end. Returns the negative errno if it cannot be started. In weftd it is
   * killed after `timeoutMs`, if given, and the errno is ETIMEDOUT.
   */
  spawn(
    path: string,
    argv: readonly string[],
    environment: readonly string[],
    stdin: ArrayBuffer,
    timeoutMs?: number,
  ): SpawnResult | number;
  /**
   * clone(2) with CLONE_VM: a child that sends buffer[offset, offset + length), at most 512 bytes, to the peer of `fd`
   * (sendto(2)) and ends. It has a session of its own (setsid(2)), the folder `/`, and no other descriptor
   * (close_range(2)). Returns its id. EBUSY for a second child, ENOSYS under Bun.
   */
  clone_sendto(fd: number, buffer: ArrayBuffer, offset: number, length: number): number;
  /** waitpid(2) of one child: its id when it has ended; with WNOHANG (1), 0 while it runs. Under Bun there is none. */
  waitpid(pid: number, options: number): number;
  /** environ(7): this process's environment as `K=V` strings. */
  environ(): string[];
  /** getpid(2). */
  getpid(): number;
  /** getppid(2). */
  getppid(): number;
  /** geteuid(2). */
  geteuid(): number;
  /**
   * clock_gettime(2): milliseconds, with a fraction, of CLOCK_REALTIME (0), CLOCK_MONOTONIC (1) or
   * CLOCK_PROCESS_CPUTIME_ID (2); in weftd of any clock.
   */
  clock_gettime(clock: number): number;
  /** getrandom(2) into buffer[offset, offset + length). */
  getrandom(buffer: ArrayBuffer, offset: number, length: number): number;
  /** _exit(2): ends at once. */
  exit(status: number): never;

  /** UTF-8 text of buffer[offset, offset + length); malformed bytes become U+FFFD. No system call. */
  decodeUtf8(buffer: ArrayBuffer, offset: number, length: number): string;
  /** The UTF-8 bytes of a text; unpaired surrogates become U+FFFD. No system call. */
  encodeUtf8(text: string): ArrayBuffer;
}

/** include/uapi/asm-generic/fcntl.h */
export const open = {
  O_RDONLY: 0,
  O_WRONLY: 1,
  O_RDWR: 2,
  O_CREAT: 0o100,
  O_EXCL: 0o200,
  O_TRUNC: 0o1000,
  O_APPEND: 0o2000,
  O_NONBLOCK: 0o4000,
  O_NOFOLLOW: 0o400000,
} as const;
/** include/uapi/asm-generic/fcntl.h */
export const flock = { LOCK_SH: 1, LOCK_EX: 2, LOCK_NB: 4, LOCK_UN: 8 } as const;
/** include/uapi/linux/sched.h */
export const CLONE_NEWNET = 0x40000000;
/** include/uapi/linux/stat.h */
export const stat = {
  S_IFMT: 0o170000,
  S_IFSOCK: 0o140000,
  S_IFREG: 0o100000,
  S_IFBLK: 0o060000,
  S_IFDIR: 0o040000,
  S_IFCHR: 0o020000,
  S_IFIFO: 0o010000,
} as const;
/** include/uapi/linux/time.h */
export const clock = {
  CLOCK_REALTIME: 0,
  CLOCK_MONOTONIC: 1,
  CLOCK_PROCESS_CPUTIME_ID: 2,
  CLOCK_THREAD_CPUTIME_ID: 3,
} as const;
