/** `weft`, called for STATUS. */

import type { Sys } from '../../linux/sys.ts';
import { runStatus } from '../status.ts';
import { runPlugin } from './run-plugin.ts';

export const run = (sys: Sys): Promise<number> => runPlugin(sys, async () => (request) => runStatus(sys, request));
