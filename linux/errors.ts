/** Errors below the CNI edge: a failed system call, a refused netlink operation, bytes that cannot be decoded. */

/**
 * include/uapi/asm-generic/errno-base.h and errno.h: the numbers that Weft's code distinguishes or that users often
 * see.
 */
export const errno = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  ECHILD: 10,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENFILE: 23,
  EMFILE: 24,
  ENOTTY: 25,
  EFBIG: 27,
  ENOSPC: 28,
  EROFS: 30,
  EMLINK: 31,
  EPIPE: 32,
  ERANGE: 34,
  ENAMETOOLONG: 36,
  ENOSYS: 38,
  ENOTEMPTY: 39,
  ELOOP: 40,
  EXFULL: 54,
  EPROTO: 71,
  EMSGSIZE: 90,
  EPROTONOSUPPORT: 93,
  ESOCKTNOSUPPORT: 94,
  EOPNOTSUPP: 95,
  EAFNOSUPPORT: 97,
  EADDRINUSE: 98,
  EADDRNOTAVAIL: 99,
  ENETDOWN: 100,
  ENETUNREACH: 101,
  ENOBUFS: 105,
  ENOTCONN: 107,
  ETIMEDOUT: 110,
  ECONNREFUSED: 111,
  EHOSTUNREACH: 113,
  EALREADY: 114,
  EDQUOT: 122,
} as const;

export type ErrnoName = keyof typeof errno;

const names = new Map<number, string>(Object.entries(errno).map(([name, number]) => [number, name]));

/** `ENOENT` for 2 (or −2); `errno 200` for a number without a name here. */
const errnoName = (number: number): string => names.get(Math.abs(number)) ?? `errno ${Math.abs(number)}`;

/**
 * An operation and its subject: `['open', '/run/x']` reads `open "/run/x"`. A number stands without quotes. A third
 * part follows the subject as it is: `['rename', '/run/x', 'to "/run/y"']`. An action without a subject is a text.
 */
export type Action = string | readonly [op: string, subject: string | number, rest?: string | undefined];

export const formatAction = (action: Action): string => {
  if (typeof action === 'string') return action;
  const [op, subject, rest] = action;
  const words = `${op} ${typeof subject === 'number' ? subject : `"${subject}"`}`;
  return rest === undefined ? words : `${words} ${rest}`;
};

/**
 * A failed call of the kernel. `layer` identifies the kind of error. `instanceof` cannot, because each bundle has its
 * own copy of the classes.
 */
abstract class KernelError extends Error {
  abstract readonly layer: 'syscall' | 'netlink';
  readonly op: string;
  /** The object of the operation; undefined if the action names none. */
  readonly subject: string | number | undefined;
  /** Positive errno. */
  readonly errno: number;
  /** Its name, `ENOENT`. */
  readonly code: string;

  constructor(action: Action, number: number, explanation: string) {
    super(`Cannot ${formatAction(action)}: ${errnoName(number)}${explanation}`);
    [this.op, this.subject] = typeof action === 'string' ? [action, undefined] : action;
    this.errno = Math.abs(number);
    this.code = errnoName(number);
  }
}

/** A system call failed. `message` reads: Cannot open "/run/x": ENOENT */
export class SyscallError extends KernelError {
  override readonly name = 'SyscallError';
  readonly layer = 'syscall';
  /** What the errno does not say; '' for nothing. */
  readonly explanation: string;

  /** @param number errno, of either sign */
  constructor(action: Action, number: number, explanation = '') {
    super(action, number, explanation && ` (${explanation})`);
    this.explanation = explanation;
  }
}

/** The kernel's extended acknowledgement of a netlink request. */
export interface ExtendedAck {
  /** The kernel's own words. */
  readonly text?: string | undefined;
  /** Offset in the message of the attribute that is wrong. */
  readonly offset?: number | undefined;
}

/** If the kernel gives no text, the offset of the attribute helps. */
function explain({ text, offset }: ExtendedAck): string {
  if (text) return ` (${text})`;
  return offset === undefined ? '' : ` (attribute at byte ${offset} of the message)`;
}

/** The kernel refused a netlink request. `message` reads: Cannot add route "10.1.0.0/24": EEXIST (kernel text) */
export class NetlinkError extends KernelError {
  override readonly name = 'NetlinkError';
  readonly layer = 'netlink';
  readonly text: string | undefined;
  readonly offset: number | undefined;

  constructor(action: Action, number: number, extendedAck: ExtendedAck = {}) {
    super(action, number, explain(extendedAck));
    this.text = extendedAck.text;
    this.offset = extendedAck.offset;
  }
}

/** Bytes from the kernel do not have the expected format. */
export class DecodeError extends Error {
  override readonly name = 'DecodeError';
  readonly layer = 'decode';
  constructor(what: string, offset: number, need: number, have: number) {
    super(`Cannot decode ${what} at byte ${offset}: needs ${need} bytes, has ${have}`);
  }
}

/** Returns `result` unless it is an error; then throws the SyscallError of `action`. */
export function check<T>(result: T | number, action: Action): T {
  if (typeof result === 'number' && result < 0) throw new SyscallError(action, result);
  return result as T;
}

/** Whether `error` is a failed system call or netlink request with one of these errno names. */
export const hasCode = (error: unknown, ...codes: ErrnoName[]): boolean =>
  (error instanceof SyscallError || error instanceof NetlinkError) && (codes as string[]).includes(error.code);
