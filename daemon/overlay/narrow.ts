/** The states of changed peers alone, for a plan that does not look at thousands of others. */

import {
  type ActualDevice,
  type ActualState,
  type DesiredState,
  defaultMetric,
  routeProtocol,
  type TunnelDevice,
} from '../backends/entries.ts';
import type { PeerChanges } from './desired.ts';

/** A device in the desired state. */
const asWanted = ({ name, kind, mac, mtuBytes, data }: TunnelDevice): ActualDevice => ({
  name,
  index: 0,
  kind,
  up: true,
  mac,
  mtuBytes,
  data,
});

/**
 * Desired and actual state of changed peers only, if everything was right before. Their comparison gives the same steps
 * for these peers as a full one.
 */
export function narrowToPeers(
  state: DesiredState,
  { removed, added }: PeerChanges,
): { desired: DesiredState; actual: ActualState } {
  const routes = removed.flatMap((peer) => peer.routes);
  return {
    desired: {
      devices: state.devices,
      networks: state.networks,
      formerDevices: [],
      addresses: [],
      neighbours: added.flatMap((peer) => peer.neighbours),
      fdb: added.flatMap((peer) => peer.fdb),
      routes: added.flatMap((peer) => peer.routes),
      // The routes to remove are known to be ours.
      flannelGateways: [],
    },
    actual: {
      devices: state.devices.map(asWanted),
      addresses: [],
      neighbours: removed.flatMap((peer) => peer.neighbours),
      fdb: removed.flatMap((peer) => peer.fdb),
      routes: routes.map((route) => ({
        ...route,
        protocol: routeProtocol.RTPROT_WEFT,
        metric: defaultMetric[route.destination.address.family],
      })),
    },
  };
}
