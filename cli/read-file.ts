/** Reads a file that somebody names on the command line. */

import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { CliError } from './host.ts';

/** A FIFO would wait for a writer, and a device may never end. @throws CliError */
export async function readBoundedFile(path: string, mostBytes: number): Promise<string> {
  const fail = (reason: string, cause?: unknown): CliError =>
    new CliError(`Cannot read "${path}": ${reason}`, [], cause);
  try {
    await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const status = await file.stat();
    if (!status.isFile()) throw fail('it is no regular file');
    if (status.size > mostBytes) throw fail(`it has more than ${mostBytes >> 20} MiB`);
    return await file.readFile('utf8');
  } catch (error) {
    if (error instanceof CliError) throw error;
    throw fail(error instanceof Error && 'code' in error ? String(error.code) : String(error), error);
  }
}
