/** The process, handed in by the entry point, and the error that ends weftctl. */

import type { Sys } from '../linux/sys.ts';

export interface CliHost {
  /** Without the program's name. */
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly version: string;
  /** The path of weftctl's own file. */
  readonly program: string;
  readonly stdout: (text: string) => void;
  readonly stderr: (text: string) => void;
  readonly stdoutIsTerminal: boolean;
  /** The width of the terminal on stdout; undefined if it is none, or does not say. */
  readonly stdoutColumns?: number | undefined;
  readonly stdinIsTerminal: boolean;
  readonly readStdin: () => Promise<string>;
  /** Asks the person at the terminal one question; absent if there is none. */
  readonly askLine?: ((question: string) => Promise<string>) | undefined;
  /** The adapter to the operating system; loaded when a verb asks the kernel. */
  readonly loadSys: () => Promise<Sys>;
  /** Milliseconds since the epoch. */
  readonly nowMs: () => number;
  /** From [0, 1). */
  readonly random: () => number;
}

/** A verb failed: one line for the user, and further lines. Exit status 1. */
export class CliError extends Error {
  override readonly name = 'CliError';
  readonly details: readonly string[];

  constructor(message: string, details: readonly string[] = [], cause?: unknown) {
    super(message, { cause });
    this.details = details;
  }
}
