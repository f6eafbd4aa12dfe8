/**
 * The parts of an attachment, by verb: each program carries the hooks that it calls and no others. Their order is that in
 * which they run.
 */

import type { AttachmentPart } from './attachment-part.ts';
import * as duplicateDetection from './duplicate-detection.ts';
import * as masquerade from './masquerade.ts';
import * as spoofCheck from './spoof-check.ts';
import * as vlan from './vlan.ts';

export const addParts: readonly AttachmentPart[] = [
  { afterConnect: vlan.afterConnect },
  { afterAttach: duplicateDetection.afterAttach },
  { afterAttach: spoofCheck.afterAttach },
  { afterAttach: masquerade.afterAttach },
];

export const deleteParts: readonly AttachmentPart[] = [
  { beforeRelease: spoofCheck.beforeRelease },
  { beforeRelease: masquerade.beforeRelease },
];

export const checkParts: readonly AttachmentPart[] = [
  { check: vlan.check },
  { check: spoofCheck.check },
  { check: masquerade.check },
];

export const collectParts: readonly AttachmentPart[] = [
  { collect: masquerade.collect },
  { collect: spoofCheck.collect },
];
