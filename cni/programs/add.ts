/** `weft`, called for ADD. */

import { runPlugin } from '../../ipam/run-plugin.ts';
import type { Sys } from '../../linux/sys.ts';
import { runAdd } from '../add.ts';
import { asksForExtras } from './extras.ts';

export const run = (sys: Sys): Promise<number> =>
  runPlugin(sys, async (request) => {
    if (!asksForExtras(request)) return () => runAdd(sys, request);
    const { addWithExtras } = await import('./add-extras.ts');
    return () => addWithExtras(sys, request);
  });
