/** `weft-ipam`, called for any command. */

import { ipamVerb } from '../../ipam/verbs.ts';
import type { Sys } from '../../linux/sys.ts';
import { runPlugin } from './run-plugin.ts';

export const run = (sys: Sys): Promise<number> => runPlugin(sys, async ({ command }) => ipamVerb(sys, command));
