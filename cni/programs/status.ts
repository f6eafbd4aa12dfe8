/** `weft`, called for STATUS. */

import { runPlugin } from '../../ipam/run-plugin.ts';
import type { Sys } from '../../linux/sys.ts';
import { runStatus } from '../status.ts';

export const run = (sys: Sys): Promise<number> => runPlugin(sys, async () => (request) => runStatus(sys, request));
