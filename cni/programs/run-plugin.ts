/** One call of a plugin, with this process's environment, stdin and stdout. */

import { readAll, writeAll } from '../../linux/files.ts';
import type { Sys } from '../../linux/sys.ts';
import { dispatch, type LoadVerb } from '../spec/dispatch.ts';

/** More than any network configuration should ever be. */
const stdinLimitBytes = 16 * 1024 * 1024;

/** @returns the exit status */
export const runPlugin = (sys: Sys, loadVerb: LoadVerb): Promise<number> =>
  dispatch(
    sys.environ(),
    {
      readStdin: () => readAll(sys, 0, stdinLimitBytes, 'read stdin'),
      decodeUtf8: (bytes) => sys.decodeUtf8(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength),
      writeStdout: (text) => writeAll(sys, 1, new Uint8Array(sys.encodeUtf8(text)), 'write stdout'),
    },
    loadVerb,
  );
