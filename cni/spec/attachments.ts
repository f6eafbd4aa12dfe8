/** GC's list of what is still in use (CNI 1.1.0, "GC"). */

import { CniError, causeText, errorCodes } from './errors.ts';
import type { AttachmentName, JsonObject } from './request.ts';
import { quote } from './text.ts';

/**
 * `cni.dev/valid-attachments`, or `cni.dev/attachments` as older libraries spell it. Null or absent (as cnitool sends
 * it) says that nothing is in use.
 * @param configuration with canonical keys
 * @throws CniError 7
 */
export function validAttachments(configuration: JsonObject): AttachmentName[] {
  const key = 'cni.dev/valid-attachments';
  const list = configuration[key] ?? configuration['cni.dev/attachments'] ?? [];
  const wrong = (what: string) => new CniError(errorCodes.invalidConfiguration, `The configuration's "${key}" ${what}`);
  // A list that cannot be read must never be taken for an empty one: all attachments would be torn down.
  if (!Array.isArray(list)) throw wrong('is not a list');
  return list.map((item: unknown) => {
    const { containerID, ifname } = (item ?? {}) as JsonObject;
    if (typeof containerID !== 'string' || typeof ifname !== 'string') {
      throw wrong(`holds ${quote(item)}, which is not {"containerID", "ifname"}`);
    }
    return { containerId: containerID, ifname };
  });
}

/** One error of several. @throws CniError 112 where there are any */
export function throwCollected(errors: readonly unknown[]): void {
  if (errors.length === 0) return;
  throw new CniError(
    errorCodes.collectionIncomplete,
    `GC could not remove all that is stale: ${errors.length} failed`,
    {
      details: errors.map(causeText).join('; '),
    },
  );
}
