/** The two network namespaces of an attachment. */

import { errno, hasCode } from '../linux/errors.ts';
import { type NetlinkConnection, openNetlink } from '../linux/netlink/connection.ts';
import { inNamespace, openCurrentNamespace, openNamespace, sameNamespace } from '../linux/netns.ts';
import type { Sys } from '../linux/sys.ts';
import { CniError, errorCodes, ownNamespaceError } from './spec/errors.ts';
import type { CniRequest } from './spec/request.ts';

/** Descriptors; the caller closes both. */
export interface Namespaces {
  readonly host: number;
  readonly container: number;
}

/** The error of a CNI_NETNS that is not what it should be. */
const namespaceError = (path: string, cause: unknown): unknown =>
  hasCode(cause, 'ENOENT', 'ENOTDIR', 'EINVAL', 'EISDIR', 'ELOOP', 'ENXIO')
    ? new CniError(errorCodes.badNamespace, `CNI_NETNS "${path}" is not a network namespace that is there`, { cause })
    : cause;

/**
 * @throws CniError 8 where CNI_NETNS cannot be opened, or is the plugin's own without CNI_NETNS_OVERRIDE
 */
export function openNamespaces(sys: Sys, request: Pick<CniRequest, 'netns' | 'netnsOverride'>): Namespaces {
  const { netns } = request;
  const host = openCurrentNamespace(sys);
  let container = -errno.EBADF;
  try {
    container = openNamespace(sys, netns);
    if (!request.netnsOverride && sameNamespace(sys, host, container)) {
      throw ownNamespaceError(netns);
    }
  } catch (error) {
    sys.close(host);
    if (container >= 0) sys.close(container);
    throw namespaceError(netns, error);
  }
  return { host, container };
}

/** A netlink socket of the container's namespace. @throws CniError 8 where it is no network namespace */
export function openContainerNetlink(sys: Sys, { host, container }: Namespaces, netns: string): NetlinkConnection {
  try {
    return inNamespace(sys, { from: host, to: container }, () => openNetlink(sys));
  } catch (error) {
    throw namespaceError(netns, error);
  }
}
