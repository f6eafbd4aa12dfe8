/** Weft's own code, where it does the work for `flannel`. */

import { removeAddresses } from '../../ipam/attachments.ts';
import { ipamKeys } from '../../ipam/keys.ts';
import { runAdd } from '../add.ts';
import { forEachPart } from '../attachment-part.ts';
import { runCheck } from '../check.ts';
import { runDel } from '../del.ts';
import { ipamPlugins } from '../delegate.ts';
import type { OwnVerbs } from '../flannel/verbs.ts';
import { runGc } from '../gc.ts';
import { weftKeys } from '../keys.ts';
import { addParts, deleteParts } from '../parts.ts';
import { foldKeys } from '../spec/keys.ts';
import { runStatus } from '../status.ts';

export const ownVerbs: OwnVerbs = {
  add: (sys, request, deliver) => void runAdd(sys, request, addParts, deliver, ipamPlugins),
  delete: (sys, request) => runDel(sys, request, deleteParts),
  check: runCheck,
  status: runStatus,
  collect: runGc,
  removeAddresses: (sys, request) => {
    foldKeys(request.configuration, ipamKeys);
    removeAddresses(sys, request);
  },
  removeRules: (sys, request) => {
    foldKeys(request.configuration, weftKeys);
    const faults = forEachPart(deleteParts, (part) => part.beforeRelease?.(sys, request));
    if (faults.length > 0) throw faults[0];
  },
};
