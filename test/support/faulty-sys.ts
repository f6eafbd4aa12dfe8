/** A `Sys` that fails where a test wants it to: before the call acts, as a system call that is refused does. */

import type { Sys } from '../../linux/sys.ts';

/** One call that is about to be made. */
export interface SysCall {
  readonly name: keyof Sys;
  /** 1 for the first call of the run. */
  readonly number: number;
  readonly args: readonly unknown[];
}

/** Thrown by every call of a process that is dead. */
export class Killed extends Error {
  override readonly name = 'Killed';
}

/** These act on the outside in no way that could fail; `close` is also what the kernel does for a dead process. */
const infallible: readonly (keyof Sys)[] = ['argv', 'close', 'decodeUtf8', 'encodeUtf8', 'environ', 'exit'];

/** @param before sees each call first: a positive errno makes it fail, undefined lets it through; it may throw */
export function wrapSys(sys: Sys, before: (call: SysCall) => number | undefined): Sys {
  let number = 0;
  const wrapped = { ...sys } as Record<string, unknown>;
  for (const name of Object.keys(sys) as (keyof Sys)[]) {
    const real = sys[name] as unknown;
    if (typeof real !== 'function' || infallible.includes(name)) continue;
    wrapped[name] = (...args: unknown[]): unknown => {
      const errno = before({ name, number: ++number, args });
      return errno === undefined ? real(...args) : -errno;
    };
  }
  return wrapped as unknown as Sys;
}

/** Call `n` fails with `errno`; all others go through. */
export const failAt = (sys: Sys, n: number, errno: number): Sys =>
  wrapSys(sys, ({ number }) => (number === n ? errno : undefined));

/** The process dies right before call `n`: that and what follows never happens, undo steps included. */
export const killAt = (sys: Sys, n: number): Sys =>
  wrapSys(sys, ({ number }) => {
    if (number >= n) throw new Killed(`killed before call ${n}`);
    return undefined;
  });
