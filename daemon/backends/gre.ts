/**
 * Layer-3 GRE (RFC 2784, with the key of RFC 2890): IP packets in GRE, without Ethernet frames. So it does not interoperate
 * with Open vSwitch's GRE ports. Each family has a device over the same family, without a remote address.
 *
 * Over IPv4 the neighbour table gives the host of a peer's subnet address. Over IPv6 the kernel sends nothing through a
 * device without a remote address (ip6_tnl_xmit_ctl in ip6_tunnel.c) unless the route contains the outer header. So that
 * device is under external control. It accepts packets with any key; the peer lock drops those of strangers.
 */

import type { IpTunnelData } from '../../linux/netlink/ip-tunnel.ts';
import { greOverheadBytes } from '../../net/mtu.ts';
import type { Backend, BackendConfig } from './backend.ts';
import { ipTunnelRules } from './ip-tunnel.ts';

export interface GreConfig extends BackendConfig {
  readonly type: 'gre';
  /** 32 bits; absent: packets carry none. */
  readonly key?: number;
}

const greatestKey = 0xffffffff;
const deviceNames = { 4: 'weft-gre', 6: 'weft-gre6' } as const;
const rules = ipTunnelRules('give the network another Backend.Key');

export const gre: Backend<GreConfig> = {
  name: 'gre',
  families: [4, 6],
  apart: 'give one of the networks another backend',
  warning: 'flannel has no backend "gre": flanneld exits on this config',
  parseConfig(section) {
    const key = section.integer('Key', 0, greatestKey);
    return { type: 'gre', ...(key === undefined ? {} : { key }) };
  },
  formatConfig: ({ key }) => (key === undefined ? {} : { Key: key }),

  isDeviceName: (name) => name === deviceNames[4] || name === deviceNames[6],
  deviceName: (_, family) => deviceNames[family],
  device({ config: { key }, external }, family, mtuBytes) {
    const name = deviceNames[family];
    const local = external.addresses[family]!;
    if (family === 6) return { name, kind: 'ip6gre', local, mtuBytes, data: { external: true }, rules };
    const data: IpTunnelData = { local, ...(key === undefined ? {} : { key }), external: false };
    return { name, kind: 'gre', local, mtuBytes, data, rules };
  },
  overheadBytes: ({ key }, family) => greOverheadBytes(family, key !== undefined),

  entries({ config: { key }, external }, { subnet, host }) {
    const { address: endpoint } = subnet;
    const device = deviceNames[endpoint.family];
    if (endpoint.family === 6) {
      const source = external.addresses[6]!;
      const encapsulation = { source, destination: host, ...(key === undefined ? {} : { key }) };
      return { path: 'tunnel', routes: [{ destination: subnet, device, onlink: false, encapsulation }] };
    }
    return {
      path: 'tunnel',
      neighbours: [{ device, address: endpoint, mac: host.bytes }],
      routes: [{ destination: subnet, gateway: endpoint, device, onlink: true }],
    };
  },
  routesDirectly: () => false,
  outer({ key }, family) {
    if (family === 6) return { ipProtocol: 47, key: 'any' };
    return { ipProtocol: 47, ...(key === undefined ? {} : { key }) };
  },
};
