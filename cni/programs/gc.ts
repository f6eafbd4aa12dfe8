/** `weft`, called for GC. */

import type { Sys } from '../../linux/sys.ts';
import { runGc } from '../gc.ts';
import { runPlugin } from './run-plugin.ts';

export const run = (sys: Sys): Promise<number> => runPlugin(sys, async () => (request) => runGc(sys, request));
