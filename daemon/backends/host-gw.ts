/** flannel's host-gw backend: plain routes between hosts of one network, no tunnel. */

import { formatAddress } from '../../net/address.ts';
import { type Backend, type BackendConfig, directRoute } from './backend.ts';

export interface HostGatewayConfig extends BackendConfig {
  readonly type: 'host-gw';
}

export const hostGateway: Backend<HostGatewayConfig> = {
  name: 'host-gw',
  families: [4, 6],
  apart: 'give one of the networks another backend',
  parseConfig: () => ({ type: 'host-gw' }),
  formatConfig: () => ({}),
  isDeviceName: () => false,
  deviceName: () => undefined,
  overheadBytes: () => 0,
  entries: (node, peer) =>
    peer.isNeighbour
      ? directRoute(node, peer)
      : `its address "${formatAddress(peer.host)}" is on no network of this host, which host-gw needs`,
  routesDirectly: () => true,
  outer: () => undefined,
};
