/**
 * The parts of an attachment besides its links, addresses and routes: VLANs, rules of the packet filter, checks. A part has
 * a hook for each verb that concerns it; every hook looks at the configuration itself and returns when it was not asked
 * for. `parts.ts` lists the parts. ADD of a plain configuration loads none of them.
 *
 * Later capabilities (policy, a fast path) are further parts.
 */

import type { NetlinkConnection } from '../linux/netlink/connection.ts';
import type { Link } from '../linux/netlink/link.ts';
import type { Sys } from '../linux/sys.ts';
import type { NodeNetwork } from '../net/node-file.ts';
import type { Namespaces } from './namespaces.ts';
import type { AttachmentPlan } from './plan.ts';
import type { Settings } from './settings.ts';
import type { AttachmentName, CniRequest } from './spec/request.ts';
import type { ResultInterface } from './spec/results.ts';
import type { UndoStack } from './undo.ts';

/** Netlink sockets of the two namespaces. */
export interface Connections {
  readonly host: NetlinkConnection;
  readonly container: NetlinkConnection;
}

/** Where ADD makes an attachment, and the steps to undo if it fails. */
export interface Workplace {
  readonly sys: Sys;
  readonly request: CniRequest;
  readonly settings: Settings;
  readonly namespaces: Namespaces;
  readonly connections: Connections;
  readonly undo: UndoStack;
  readonly parts: readonly AttachmentPart[];
  /** Reads the node's network, once: to be called for an attachment of the overlay alone. */
  readonly node: () => NodeNetwork;
}

/** The findings of CHECK so far. */
export interface CheckPlace {
  readonly sys: Sys;
  readonly request: CniRequest;
  readonly settings: Settings;
  readonly host: NetlinkConnection;
  /** The container's port of the bridge; undefined where the result names none. */
  readonly port: Link | undefined;
  /** How many addresses the result has. */
  readonly addresses: number;
}

export interface AttachmentPart {
  /**
   * ADD, when the pair is connected. It may run twice: without addresses and with them, around another IPAM plugin.
   * @returns further interfaces for the result
   */
  readonly afterConnect?: (place: Workplace, plan: AttachmentPlan, bridge: Link) => ResultInterface[];
  /**
   * ADD, when all the rest is done. A part registers its undo before it changes anything, because a change may be made
   * although its answer is lost.
   */
  readonly afterAttach?: (place: Workplace, plan: AttachmentPlan) => void;
  /**
   * DEL, when the links are gone and before the addresses are released. The configuration is the one of ADD as far as
   * it says, and may be invalid by now. It is no error if there is nothing to remove.
   */
  readonly beforeRelease?: (sys: Sys, request: CniRequest) => void;
  /** CHECK. @throws CniError 110 where the part is not as ADD made it */
  readonly check?: (place: CheckPlace) => void;
  /** GC: removes the leftovers of attachments of the network that are no longer valid. */
  readonly collect?: (sys: Sys, request: CniRequest, valid: readonly AttachmentName[]) => void;
}

/** Runs `work` for every part, and continues after errors. @returns the errors */
export function forEachPart(parts: readonly AttachmentPart[], work: (part: AttachmentPart) => void): unknown[] {
  const errors: unknown[] = [];
  for (const part of parts) {
    try {
      work(part);
    } catch (error) {
      errors.push(error);
    }
  }
  return errors;
}
