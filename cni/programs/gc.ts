/** `weft`, called for GC. */

import { runPlugin } from '../../ipam/run-plugin.ts';
import type { Sys } from '../../linux/sys.ts';
import { runGc } from '../gc.ts';

export const run = (sys: Sys): Promise<number> => runPlugin(sys, async () => (request) => runGc(sys, request));
