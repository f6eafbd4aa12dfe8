/**
 * flannel's ipip backend (RFC 2003): IPv4 in IPv4, with flannel's device. The device has no remote address: the packets
 * go to the gateway of the route that they take, which is the peer's public address. A lease carries no data.
 */

import type { IpTunnelData } from '../../linux/netlink/ip-tunnel.ts';
import { ipipOverheadBytes } from '../../net/mtu.ts';
import { type Backend, type BackendConfig, directRoute } from './backend.ts';
import { ipTunnelRules } from './ip-tunnel.ts';

export interface IpipConfig extends BackendConfig {
  readonly type: 'ipip';
  /** Peers that need no gateway get a plain route instead of the tunnel. */
  readonly directRouting: boolean;
}

const deviceName = 'flannel.ipip';
const apart = 'give one of the networks another backend';
const rules = ipTunnelRules(apart);

export const ipip: Backend<IpipConfig> = {
  name: 'ipip',
  families: [4],
  apart,
  parseConfig: (section) => ({ type: 'ipip', directRouting: section.boolean('DirectRouting', false) }),
  formatConfig: ({ directRouting }) => ({ DirectRouting: directRouting }),

  isDeviceName: (name) => name === deviceName,
  deviceName: () => deviceName,
  device({ external }, family, mtuBytes) {
    const local = external.addresses[family]!;
    const data: IpTunnelData = { local, external: false };
    return { name: deviceName, kind: 'ipip', local, mtuBytes, data, rules };
  },
  overheadBytes: () => ipipOverheadBytes,

  entries(node, peer) {
    if (node.config.directRouting && peer.isNeighbour) return directRoute(node, peer);
    return {
      path: 'tunnel',
      routes: [{ destination: peer.subnet, gateway: peer.host, device: deviceName, onlink: true }],
    };
  },
  routesDirectly: ({ directRouting }) => directRouting,
  outer: () => ({ ipProtocol: 4 }),
};
