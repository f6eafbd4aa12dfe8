/** `weft`, called for ADD. */

import type { Sys } from '../../linux/sys.ts';
import { runAdd } from '../add.ts';
import { asksForExtras } from '../extras.ts';
import { runPlugin } from './run-plugin.ts';

export const run = (sys: Sys): Promise<number> =>
  runPlugin(sys, async (request) => {
    if (!asksForExtras(request)) return (_request, deliver) => void runAdd(sys, request, [], deliver);
    const { addWithExtras } = await import('./add-extras.ts');
    return (_request, deliver) => addWithExtras(sys, request, deliver);
  });
