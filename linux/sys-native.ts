/** The native adapter: the object that `runtime/` puts in place before the bundle runs. */

import type { Sys } from './sys.ts';

export const sys: Sys = (globalThis as unknown as { Sys: Sys }).Sys;
