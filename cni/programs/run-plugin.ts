/** One call of a plugin, with this process's environment, stdin and stdout. */

import { readAll, sayOnStderr, writeAll } from '../../linux/files.ts';
import type { Sys } from '../../linux/sys.ts';
import { dispatch, type LoadVerb } from '../spec/dispatch.ts';
import type { CniRequest } from '../spec/request.ts';

const isTraced = ({ configuration, all }: CniRequest): boolean =>
  configuration['trace'] === true || all.includes('WEFT_TRACE=1');

/** @returns the exit status */
export const runPlugin = (sys: Sys, loadVerb: LoadVerb): Promise<number> =>
  dispatch(
    sys.environ(),
    {
      readStdin: (limitBytes) => readAll(sys, 0, limitBytes, 'read stdin'),
      decodeUtf8: (bytes) => sys.decodeUtf8(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength),
      writeStdout: (text) => writeAll(sys, 1, new Uint8Array(sys.encodeUtf8(text)), 'write stdout'),
      writeStderr: (text) => sayOnStderr(sys, text.trimEnd()),
    },
    async (request) => {
      if (isTraced(request)) (await import('../trace.ts')).startTrace(sys, request);
      return loadVerb(request);
    },
  );
