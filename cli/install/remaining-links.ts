/** Interfaces of Weft's plugins that stay: the bridge when its last container is gone, and those of containers that live. */

import { openNetlink } from '../../linux/netlink/connection.ts';
import { deleteLink, dumpLinks, type Link } from '../../linux/netlink/link.ts';
import type { Sys } from '../../linux/sys.ts';
import { isHostVethAlias } from '../../reservations/host-end.ts';

/** The plugin's default, which an installed configuration has. */
const ownBridge = 'cni0';

function withLinks<T>(sys: Sys, work: (links: readonly Link[], remove: (link: Link) => void) => T): T {
  const connection = openNetlink(sys);
  try {
    return work(connection.dump(dumpLinks()), ({ index }) => connection.execute([deleteLink({ index })]));
  } finally {
    connection.close();
  }
}

/** Ends the containers' connection: for a removal that does not wait for them. @returns how many */
export const removeContainerEnds = (sys: Sys): number =>
  withLinks(sys, (links, remove) => {
    const ends = links.filter(({ alias = '' }) => isHostVethAlias(alias));
    for (const link of ends) remove(link);
    return ends.length;
  });

/**
 * Removes the bridge of Weft's network, if nothing is on it.
 * @param before the interfaces that were there before Weft
 * @returns its name if it is gone
 */
export const removeBridges = (sys: Sys, before: readonly string[]): string[] =>
  withLinks(sys, (links, remove) => {
    const bridge = links.find(({ kind, name }) => kind === 'bridge' && name === ownBridge && !before.includes(name));
    if (!bridge || links.some(({ master }) => master === bridge.index)) return [];
    remove(bridge);
    return [bridge.name];
  });

/** Bridges of others: their containers and machines need a host that forwards. */
export const otherBridges = (sys: Sys): string[] =>
  withLinks(sys, (links) => links.filter(({ kind }) => kind === 'bridge').map(({ name }) => name));

/** The interfaces on a bridge; none if there is no such bridge. */
export const portsOf = (sys: Sys, bridgeName: string): string[] =>
  withLinks(sys, (links) => {
    const bridge = links.find(({ kind, name }) => kind === 'bridge' && name === bridgeName);
    return links.filter(({ master }) => bridge !== undefined && master === bridge.index).map(({ name }) => name);
  });
