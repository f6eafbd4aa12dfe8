/** `weft`, called for DEL. */

import { runPlugin } from '../../ipam/run-plugin.ts';
import type { Sys } from '../../linux/sys.ts';
import { runDel } from '../del.ts';

export const run = (sys: Sys): Promise<number> => runPlugin(sys, async () => (request) => runDel(sys, request));
