/** GC: removes links, and then addresses, that belong to no valid attachment. Continues after errors. */

import { collectAddresses } from '../ipam/attachments.ts';
import { openNetlink } from '../linux/netlink/connection.ts';
import { dumpLinks } from '../linux/netlink/link.ts';
import type { Sys } from '../linux/sys.ts';
import { aliasPrefix, hostVethAlias, hostVethName } from '../reservations/host-end.ts';
import { forEachPart } from './attachment-part.ts';
import { callPlugin } from './delegate.ts';
import { weftKeys } from './keys.ts';
import { removeLink } from './links.ts';
import { collectParts } from './parts.ts';
import { ipamTypeOf, ownIpamType } from './settings.ts';
import { throwCollected, validAttachments } from './spec/attachments.ts';
import { foldKeys } from './spec/keys.ts';
import type { AttachmentName, CniRequest } from './spec/request.ts';

function attempt(errors: unknown[], run: () => void): void {
  try {
    run();
  } catch (error) {
    errors.push(error);
  }
}

/**
 * Only Weft's own links: their alias names the network. A link of a valid attachment that somebody has renamed is known by
 * its alias.
 */
function collectLinks(sys: Sys, { network }: CniRequest, valid: readonly AttachmentName[], errors: unknown[]): void {
  const ids = valid.map(({ containerId, ifname }) => ({ network, containerId, ifname }));
  const keep = new Set(ids.map(hostVethName));
  const keepAliases = new Set(ids.map(hostVethAlias));
  const prefix = aliasPrefix(network);
  const connection = openNetlink(sys);
  try {
    for (const { name, index, alias } of connection.dump(dumpLinks({ kind: 'veth' }))) {
      if (!alias?.startsWith(prefix) || keep.has(name) || keepAliases.has(alias)) continue;
      attempt(errors, () => removeLink(connection, { index }));
    }
  } finally {
    connection.close();
  }
}

/** @throws CniError 112 with all failures */
export function runGc(sys: Sys, request: CniRequest): undefined {
  const { configuration } = request;
  foldKeys(configuration, weftKeys);
  const valid = validAttachments(configuration);
  const errors: unknown[] = [];
  attempt(errors, () => collectLinks(sys, request, valid, errors));
  errors.push(...forEachPart(collectParts, (part) => part.collect?.(sys, request, valid)));
  const type = ipamTypeOf(configuration);
  if (type === ownIpamType) attempt(errors, () => errors.push(...collectAddresses(sys, request, valid).errors));
  else if (type !== '') attempt(errors, () => callPlugin(sys, request, type, 'GC'));
  throwCollected(errors);
  return undefined;
}
