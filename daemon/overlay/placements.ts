/** The subnets of peers, with the hosts that their packets come from: by the routes that peers have. */

import type { Lease } from '../../cluster/lease.ts';
import type { RouteEntry } from '../backends/entries.ts';
import type { Placement } from '../filter/part.ts';

interface RoutedPeer {
  readonly peer: Lease;
  readonly routes: readonly RouteEntry[];
}

export const placementsOf = (peers: readonly RoutedPeer[]): Placement[] =>
  peers.flatMap(({ peer, routes }) =>
    routes.map(({ destination }) => ({ subnet: destination, host: peer.publicAddresses[destination.address.family]! })),
  );

/** The leases' own objects, one for each placement: as long as they are the same ones, so are the placements. */
export const placementSourceOf = (peers: readonly RoutedPeer[]): readonly unknown[] =>
  peers.flatMap(({ peer, routes }) => routes.map(({ destination }) => peer.subnets[destination.address.family]));
