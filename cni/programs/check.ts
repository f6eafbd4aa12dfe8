/** `weft`, called for CHECK. */

import type { Sys } from '../../linux/sys.ts';
import { runCheck } from '../check.ts';
import { runPlugin } from './run-plugin.ts';

export const run = (sys: Sys): Promise<number> => runPlugin(sys, async () => (request) => runCheck(sys, request));
