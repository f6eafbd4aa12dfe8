/** `weft`, called for ADD. */

import { runPlugin } from '../../ipam/run-plugin.ts';
import type { Sys } from '../../linux/sys.ts';
import { runAdd } from '../add.ts';

export const run = (sys: Sys): Promise<number> => runPlugin(sys, async () => (request) => runAdd(sys, request));
