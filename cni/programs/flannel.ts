/** `flannel`, called for any command. */

import type { Sys } from '../../linux/sys.ts';
import { flannelVerb } from '../flannel/verbs.ts';
import { runPlugin } from './run-plugin.ts';

export const run = (sys: Sys): Promise<number> =>
  runPlugin(sys, (request) => flannelVerb(sys, request, async () => (await import('./flannel-own.ts')).ownVerbs));
