/** DEL of a configuration that asks for rules of the packet filter. */

import type { Sys } from '../../linux/sys.ts';
import { runDel } from '../del.ts';
import { deleteParts } from '../parts.ts';
import type { CniRequest } from '../spec/request.ts';

export const deleteWithExtras = (sys: Sys, request: CniRequest): undefined => runDel(sys, request, deleteParts);
