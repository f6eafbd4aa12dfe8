/** `weft-ipam`, called for whatever it is. */

import type { Sys } from '../linux/sys.ts';
import { runPlugin } from './run-plugin.ts';
import { ipamVerb } from './verbs.ts';

export const run = (sys: Sys): Promise<number> => runPlugin(sys, async ({ command }) => ipamVerb(sys, command));
