/** `weft`, called for ADD. */

import type { Sys } from '../../linux/sys.ts';
import { runAdd } from '../add.ts';
import { asksForExtras } from './extras.ts';
import { runPlugin } from './run-plugin.ts';

export const run = (sys: Sys): Promise<number> =>
  runPlugin(sys, async (request) => {
    if (!asksForExtras(request)) return () => runAdd(sys, request);
    const { addWithExtras } = await import('./add-extras.ts');
    return () => addWithExtras(sys, request);
  });
