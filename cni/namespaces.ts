/** The two network namespaces of an attachment. */

import { errno, hasCode } from '../linux/errors.ts';
import { writeAll } from '../linux/files.ts';
import { type NetlinkConnection, openNetlink } from '../linux/netlink/connection.ts';
import { inNamespace, openCurrentNamespace, openNamespace, sameNamespace } from '../linux/netns.ts';
import type { Sys } from '../linux/sys.ts';
import { CniError, errorCodes, formatError, ownNamespaceError } from './spec/errors.ts';
import type { CniRequest } from './spec/request.ts';
import type { CniVersion } from './spec/versions.ts';

export interface Namespaces {
  /** Descriptors; the caller closes both. */
  readonly host: number;
  readonly container: number;
  /** The version for an error document. */
  readonly cniVersion: CniVersion;
}

/** The error for a CNI_NETNS that is no network namespace. */
const namespaceError = (path: string, cause: unknown): unknown =>
  hasCode(cause, 'ENOENT', 'ENOTDIR', 'EINVAL', 'EISDIR', 'ELOOP', 'ENXIO', 'ENAMETOOLONG')
    ? new CniError(errorCodes.badNamespace, `CNI_NETNS "${path}" is not a network namespace that is there`, { cause })
    : cause;

/** @throws CniError 8 if CNI_NETNS cannot be opened, or is the plugin's own namespace without CNI_NETNS_OVERRIDE */
export function openNamespaces(
  sys: Sys,
  request: Pick<CniRequest, 'netns' | 'netnsOverride' | 'cniVersion'>,
): Namespaces {
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
  return { host, container, cniVersion: request.cniVersion };
}

/**
 * Runs `body`, which is synchronous and short, in the container's namespace. If returning fails, the process writes the
 * error document and exits.
 */
export const inContainer = <T>(sys: Sys, { host, container, cniVersion }: Namespaces, body: () => T): T =>
  inNamespace(sys, { from: host, to: container }, body, (_sys, { message, code }) => {
    const error = new CniError(errorCodes.systemCallFailed, `${message}; DEL removes everything made so far`, {
      details: code,
    });
    writeAll(sys, 1, new Uint8Array(sys.encodeUtf8(`${formatError(error, cniVersion)}\n`)));
  });

/** A netlink socket of the container's namespace. @throws CniError 8 if it is no network namespace */
export function openContainerNetlink(sys: Sys, namespaces: Namespaces, netns: string): NetlinkConnection {
  try {
    return inContainer(sys, namespaces, () => openNetlink(sys));
  } catch (error) {
    throw namespaceError(netns, error);
  }
}
