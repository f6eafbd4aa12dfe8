/** `weft`, called for DEL. */

import type { Sys } from '../../linux/sys.ts';
import { runDel } from '../del.ts';
import { asksForFilters } from '../extras.ts';
import { runPlugin } from './run-plugin.ts';

export const run = (sys: Sys): Promise<number> =>
  runPlugin(sys, async (request) => {
    if (!asksForFilters(request)) return () => runDel(sys, request);
    const { deleteWithExtras } = await import('./del-extras.ts');
    return () => deleteWithExtras(sys, request);
  });
