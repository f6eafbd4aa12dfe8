/**
 * DEL: the link first, the address after it, so that no address is given out again while packets still go to its old
 * holder. Missing parts are no error. Neither is a CNI_NETNS that is no container's namespace (a plain file, the host's
 * own): it holds no interface of ours, and a runtime would repeat the DEL for ever.
 */

import { removeAddresses } from '../ipam/attachments.ts';
import { type NetlinkConnection, openNetlink } from '../linux/netlink/connection.ts';
import { getLink, type Link } from '../linux/netlink/link.ts';
import type { Sys } from '../linux/sys.ts';
import { hostVethAlias, hostVethName, isHostVethAlias, parseHostVethAlias } from '../reservations/host-end.ts';
import { type AttachmentPart, forEachPart } from './attachment-part.ts';
import { callPlugin } from './delegate.ts';
import { removeLinkEarly } from './early-removal.ts';
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
 * @returns the network's former name, where Weft made the interface by that
 */
function removeForeignLink(
  request: CniRequest,
  host: NetlinkConnection,
  container: NetlinkConnection,
): string | undefined {
  const link = container.get(getLink({ name: request.ifname }));
  if (link?.kind !== 'veth') return undefined;
  const peer = link.peerIndex === undefined ? undefined : host.get(getLink({ index: link.peerIndex }));
  const former = peer && formerNetwork(peer, request);
  if (peer && former === undefined && isOthers(peer, request)) return undefined;
  removeLink(container, { index: link.index });
  return former;
}

/** The network by whose name Weft made this very interface of the container, if its configuration was renamed since. */
function formerNetwork({ alias = '' }: Link, { network, containerId, ifname }: CniRequest): string | undefined {
  const made = parseHostVethAlias(alias);
  const isSame = made?.containerId === containerId && made.ifname === ifname;
  return isSame && made.network !== network ? made.network : undefined;
}

/** Whether the host's end belongs to another attachment, by its alias. One without an alias is from an ADD cut short. */
const isOthers = ({ alias = '' }: Link, request: CniRequest): boolean =>
  isHostVethAlias(alias) && alias !== hostVethAlias(request);

/** Deletes the host's end by its name. @returns whether it was there */
function removeOwnLink(sys: Sys, host: NetlinkConnection, request: CniRequest): boolean {
  const link = host.get(getLink({ name: hostVethName(request) }));
  // Names are hashes, and anybody can rename an interface: the alias decides.
  if (link?.kind !== 'veth' || isOthers(link, request)) return false;
  return removeLinkEarly(sys, host, link.index);
}

/** @returns as `removeForeignLink` */
function removeLinks(sys: Sys, request: CniRequest): string | undefined {
  const host = openNetlink(sys);
  try {
    const removed = removeOwnLink(sys, host, request);
    if (removed || request.netns === '') return undefined;
    const namespaces = openNamespaces(sys, request);
    try {
      const container = openContainerNetlink(sys, namespaces, request.netns);
      try {
        return removeForeignLink(request, host, container);
      } finally {
        container.close();
      }
    } finally {
      sys.close(namespaces.host);
      sys.close(namespaces.container);
    }
  } catch (error) {
    if (!(error instanceof CniError) || error.code !== errorCodes.badNamespace) throw error;
    return undefined;
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
  const former = removeLinks(sys, request);
  const faults = forEachPart(parts, (part) => part.beforeRelease?.(sys, request));
  const type = ipamTypeOf(request.configuration);
  if (type === ownIpamType) {
    removeAddresses(sys, request);
    if (former !== undefined) removeAddresses(sys, { ...request, network: former });
  } else if (type !== '') {
    callPlugin(sys, request, type, 'DEL');
  }
  if (faults.length > 0) throw faults[0];
  return undefined;
}
