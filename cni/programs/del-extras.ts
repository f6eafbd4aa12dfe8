/** DEL of a configuration that asks for all that there is. */

import type { Sys } from '../../linux/sys.ts';
import { runDel } from '../del.ts';
import { removeFilters } from '../filters.ts';
import type { CniRequest } from '../spec/request.ts';

export const deleteWithExtras = (sys: Sys, request: CniRequest): undefined => runDel(sys, request, removeFilters);
