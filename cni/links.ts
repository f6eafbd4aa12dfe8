/** Removing links, for several verbs. */

import { hasCode } from '../linux/errors.ts';
import type { NetlinkConnection } from '../linux/netlink/connection.ts';
import { deleteLink, type LinkTarget } from '../linux/netlink/link.ts';

/** Deletes the link and returns whether it existed. */
export function removeLink(connection: NetlinkConnection, target: LinkTarget): boolean {
  const [error] = connection.executeEach([deleteLink(target)]);
  if (!error) return true;
  if (hasCode(error, 'ENODEV', 'ENOENT', 'ESRCH')) return false;
  throw error;
}
