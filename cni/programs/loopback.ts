/** `loopback`, called for any command. */

import type { Sys } from '../../linux/sys.ts';
import { loopbackVerb } from '../loopback.ts';
import { runPlugin } from './run-plugin.ts';

export const run = (sys: Sys): Promise<number> => runPlugin(sys, async ({ command }) => loopbackVerb(sys, command));
