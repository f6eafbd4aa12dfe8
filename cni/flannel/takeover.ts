/**
 * DEL by `weft` of a container that flannel's chain has attached, before its conflist named `weft`. flannel's record says
 * under which network's name, and with which rules.
 */

import { removeAddresses } from '../../ipam/attachments.ts';
import { storeFolder } from '../../ipam/settings.ts';
import { withExistingDiskStore } from '../../ipam/store.ts';
import type { Sys } from '../../linux/sys.ts';
import { defaultPaths } from '../../net/paths.ts';
import { forEachPart } from '../attachment-part.ts';
import { weftKeys } from '../keys.ts';
import { deleteParts } from '../parts.ts';
import { foldKeys } from '../spec/keys.ts';
import type { CniRequest } from '../spec/request.ts';
import { findRecord, removeRecord } from './record.ts';

/** Whether the record is of this attachment: a container may have one by flannel, and one by `weft`. */
function isOfAttachment(sys: Sys, request: CniRequest, former: CniRequest): boolean {
  if (former.network === request.network) return true;
  const held = withExistingDiskStore(sys, storeFolder(former), (store) => store.find(former)) ?? [];
  return held.length > 0;
}

/** Removes rules, addresses and the record. The interface is gone already. @throws the first error, after everything */
export function removeFormerAttachment(sys: Sys, request: CniRequest): void {
  const record = findRecord(sys, defaultPaths.flannelDataDir, request);
  // A damaged record may be another attachment's.
  if (!record?.configuration) return;
  const { configuration } = record;
  foldKeys(configuration, weftKeys);
  const former: CniRequest = { ...request, network: configuration['name'] as string, configuration };
  if (!isOfAttachment(sys, request, former)) return;
  const faults = forEachPart(deleteParts, (part) => part.beforeRelease?.(sys, former));
  removeAddresses(sys, former);
  if (faults.length > 0) throw faults[0];
  removeRecord(sys, record);
}
