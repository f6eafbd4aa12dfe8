/**
 * DEL: the link first, the address after it, so that no address is given out again while packets still go to its old
 * holder. Missing parts are no error.
 */

import { removeAddresses } from '../ipam/attachments.ts';
import { hasCode } from '../linux/errors.ts';
import { type NetlinkConnection, openNetlink } from '../linux/netlink/connection.ts';
import { getLink } from '../linux/netlink/link.ts';
import type { Sys } from '../linux/sys.ts';
import { hostVethAlias, hostVethName, isHostVethAlias } from '../reservations/host-end.ts';
import { type AttachmentPart, forEachPart } from './attachment-part.ts';
import { callPlugin } from './delegate.ts';
import { weftKeys } from './keys.ts';
import { removeLink } from './links.ts';
import { openContainerNetlink, openNamespaces } from './namespaces.ts';
import { ipamTypeOf, ownIpamType } from './settings.ts';
import { CniError, errorCodes } from './spec/errors.ts';
import { foldKeys } from './spec/keys.ts';
import type { CniRequest } from './spec/request.ts';

/**
 * Deletes the container's end if the reference plugin or an older Weft made it, with another name for the host's end. A
 * DEL may come late, when the same namespace path already belongs to the container's replacement. Interfaces of other
 * attachments stay.
 */
function removeForeignLink(request: CniRequest, host: NetlinkConnection, container: NetlinkConnection): void {
  const link = container.get(getLink({ name: request.ifname }));
  if (link?.kind !== 'veth') return;
  const peer = link.peerIndex === undefined ? undefined : host.get(getLink({ index: link.peerIndex }));
  const alias = peer?.alias;
  if (alias !== undefined && isHostVethAlias(alias) && alias !== hostVethAlias(request)) return;
  removeLink(container, { index: link.index });
}

/** @returns an error if CNI_NETNS is no namespace; it cannot hold an interface of ours */
function removeLinks(sys: Sys, request: CniRequest): CniError | undefined {
  const host = openNetlink(sys);
  try {
    const removed = removeLink(host, { name: hostVethName(request) });
    if (request.netns === '') return undefined;
    const namespaces = openNamespaces(sys, request);
    try {
      const container = openContainerNetlink(sys, namespaces, request.netns);
      try {
        if (!removed) removeForeignLink(request, host, container);
      } finally {
        container.close();
      }
    } finally {
      sys.close(namespaces.host);
      sys.close(namespaces.container);
    }
    return undefined;
  } catch (error) {
    if (!(error instanceof CniError) || error.code !== errorCodes.badNamespace) throw error;
    return hasCode(error.cause, 'ENOENT', 'ENOTDIR') ? undefined : error;
  } finally {
    host.close();
  }
}

/**
 * @param parts the parts that the configuration may have asked for
 * @throws the first error, after everything that can be removed is removed
 */
export function runDel(sys: Sys, request: CniRequest, parts: readonly AttachmentPart[] = []): undefined {
  foldKeys(request.configuration, weftKeys);
  const namespaceFault = removeLinks(sys, request);
  const faults = forEachPart(parts, (part) => part.beforeRelease?.(sys, request));
  const type = ipamTypeOf(request.configuration);
  if (type === ownIpamType) removeAddresses(sys, request);
  else if (type !== '') callPlugin(sys, request, type, 'DEL');
  if (namespaceFault) throw namespaceFault;
  if (faults.length > 0) throw faults[0];
  return undefined;
}
