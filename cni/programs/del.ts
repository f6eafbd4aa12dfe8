/** `weft`, called for DEL. */

import type { Sys } from '../../linux/sys.ts';
import { defaultPaths } from '../../net/paths.ts';
import { runDel } from '../del.ts';
import { asksForFilters } from '../extras.ts';
import type { CniRequest } from '../spec/request.ts';
import { runPlugin } from './run-plugin.ts';

/** Whether flannel's plugin has kept a record of the container. This costs every DEL one system call. */
const hasRecord = (sys: Sys, { containerId }: CniRequest): boolean =>
  typeof sys.stat(`${defaultPaths.flannelDataDir}/${containerId}`) !== 'number';

export const run = (sys: Sys): Promise<number> =>
  runPlugin(sys, async (request) => {
    if (hasRecord(sys, request)) {
      const { deleteFormer } = await import('./del-former.ts');
      return () => deleteFormer(sys, request);
    }
    if (!asksForFilters(request)) return () => runDel(sys, request);
    const { deleteWithExtras } = await import('./del-extras.ts');
    return () => deleteWithExtras(sys, request);
  });
