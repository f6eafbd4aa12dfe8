/** DEL of a container of which flannel's plugin has kept a record. */

import type { Sys } from '../../linux/sys.ts';
import { runDel } from '../del.ts';
import { removeFormerAttachment } from '../flannel/takeover.ts';
import { deleteParts } from '../parts.ts';
import type { CniRequest } from '../spec/request.ts';

export const deleteFormer = (sys: Sys, request: CniRequest): undefined => {
  runDel(sys, request, deleteParts);
  removeFormerAttachment(sys, request);
  return undefined;
};
