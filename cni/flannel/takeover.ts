/**
 * DEL by `weft` of a container that flannel's chain has attached, before its conflist named `weft`. flannel's record says
 * under which network's name, and with which rules.
 */

import { removeAddresses } from '../../ipam/attachments.ts';
import type { Sys } from '../../linux/sys.ts';
import { defaultPaths } from '../../net/paths.ts';
import { forEachPart } from '../attachment-part.ts';
import { weftKeys } from '../keys.ts';
import { deleteParts } from '../parts.ts';
import { foldKeys } from '../spec/keys.ts';
import type { CniRequest } from '../spec/request.ts';
import { findRecord, removeRecord } from './record.ts';

/** Removes rules, addresses and the record. The interface is gone already. @throws the first error, after everything */
export function removeFormerAttachment(sys: Sys, request: CniRequest): void {
  const record = findRecord(sys, defaultPaths.flannelDataDir, request);
  // A damaged record may be another attachment's.
  if (!record?.configuration) return;
  const { configuration } = record;
  foldKeys(configuration, weftKeys);
  const former: CniRequest = { ...request, network: configuration['name'] as string, configuration };
  const faults = forEachPart(deleteParts, (part) => part.beforeRelease?.(sys, former));
  removeAddresses(sys, former);
  if (faults.length > 0) throw faults[0];
  removeRecord(sys, record.path);
}
