/** `weft`, called for CHECK. */

import { runPlugin } from '../../ipam/run-plugin.ts';
import type { Sys } from '../../linux/sys.ts';
import { runCheck } from '../check.ts';

export const run = (sys: Sys): Promise<number> => runPlugin(sys, async () => (request) => runCheck(sys, request));
