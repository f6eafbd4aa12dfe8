/**
 * The CNI programs under Bun: the same bundle as in `dist/bin/weft`, on the Bun adapter of `Sys`. For comparison in tests,
 * and for machines where the native runtime cannot be built.
 */

import { sys } from './linux/sys-bun.ts';

(globalThis as { Sys?: unknown }).Sys = sys;

import('./main-cni.ts').catch((error: unknown) => {
  const { message, stack } = error instanceof Error ? error : { message: String(error), stack: undefined };
  const document = { cniVersion: '1.1.0', code: 999, msg: `Uncaught: ${message}`, details: stack };
  const text = sys.encodeUtf8(`${JSON.stringify(document)}\n`);
  sys.write(1, text, 0, text.byteLength);
  sys.exit(1);
});
