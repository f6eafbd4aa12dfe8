/** GC's list of valid attachments (CNI 1.1.0, "GC"). */

import { CniError, causeText, errorCodes } from './errors.ts';
import type { AttachmentName, JsonObject } from './request.ts';
import { quote } from './text.ts';

/**
 * `cni.dev/valid-attachments`, or `cni.dev/attachments` as older libraries spell it. Null or absent (as cnitool sends
 * it) means that no attachment is valid.
 * @param configuration with canonical keys
 * @throws CniError 7
 */
export function validAttachments(configuration: JsonObject): AttachmentName[] {
  const key = 'cni.dev/valid-attachments';
  const list = configuration[key] ?? configuration['cni.dev/attachments'] ?? [];
  const wrong = (what: string) => new CniError(errorCodes.invalidConfiguration, `The configuration's "${key}" ${what}`);
  // An unreadable list must never count as empty, because GC would then remove all attachments.
  if (!Array.isArray(list)) throw wrong('is not a list');
  return list.map((item: unknown) => {
    const { containerID, ifname } = (item ?? {}) as JsonObject;
    if (typeof containerID !== 'string' || typeof ifname !== 'string') {
      throw wrong(`holds ${quote(item)}, which is not {"containerID", "ifname"}`);
    }
    return { containerId: containerID, ifname };
  });
}

/** Combines several errors into one. @throws CniError 112 if there are any */
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
