/** Weft's own code, where it does the work for `flannel`. */

import { removeAddresses } from '../../ipam/attachments.ts';
import { ipamKeys } from '../../ipam/keys.ts';
import type { Sys } from '../../linux/sys.ts';
import { runAdd } from '../add.ts';
import { forEachPart } from '../attachment-part.ts';
import { runCheck } from '../check.ts';
import { runDel } from '../del.ts';
import { ipamPlugins } from '../delegate.ts';
import type { OwnVerbs } from '../flannel/verbs.ts';
import { runGc } from '../gc.ts';
import { hasIptables } from '../iptables.ts';
import { weftKeys } from '../keys.ts';
import { addParts, deleteParts } from '../parts.ts';
import { foldKeys } from '../spec/keys.ts';
import type { CniRequest } from '../spec/request.ts';
import { runStatus } from '../status.ts';

/**
 * In the place of a bridge plugin it masquerades by iptables, where the host has it: the bridge plugin's DEL knows no other
 * rules, and fails without them. A host may go back to flannel's own plugin.
 */
function asBridge(sys: Sys, request: CniRequest): CniRequest {
  const { configuration } = request;
  foldKeys(configuration, weftKeys);
  const isChosen = configuration['ipMasqBackend'] !== undefined || configuration['type'] !== 'bridge';
  if (!isChosen && hasIptables(sys, request.all)) configuration['ipMasqBackend'] = 'iptables';
  return request;
}

export const ownVerbs: OwnVerbs = {
  add: (sys, request, deliver) => void runAdd(sys, asBridge(sys, request), addParts, deliver, ipamPlugins),
  delete: (sys, request) => runDel(sys, request, deleteParts),
  check: (sys, request) => runCheck(sys, asBridge(sys, request)),
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
