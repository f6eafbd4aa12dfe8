/** Leases, overlays and addresses for the daemon's tests: host `n` is 192.0.2.n with 10.1.n.0/24. */

import type { Lease } from '../../../../cluster/lease.ts';
import type { GreConfig } from '../../../../daemon/backends/gre.ts';
import type { HostGatewayConfig } from '../../../../daemon/backends/host-gw.ts';
import type { IpipConfig } from '../../../../daemon/backends/ipip.ts';
import { backends } from '../../../../daemon/backends/map.ts';
import type { VxlanConfig } from '../../../../daemon/backends/vxlan.ts';
import type { Overlay } from '../../../../daemon/overlay/desired.ts';
import { type Address, parseAddress } from '../../../../net/address.ts';
import { type Mac, parseMac } from '../../../../net/mac.ts';
import { type Prefix, parsePrefix } from '../../../../net/prefix.ts';

export const address = (text: string): Address => parseAddress(text)!;
export const prefix = (text: string): Prefix => parsePrefix(text)!;
export const mac = (last: number): Mac => parseMac(`02:00:00:00:00:${last.toString(16).padStart(2, '0')}`)!;
export const macs = (v4: number, v6: number): Lease['backendData'] => ({
  4: { vni: 1, vtepMac: mac(v4) },
  6: { vni: 1, vtepMac: mac(v6) },
});

export const vxlan: VxlanConfig = {
  type: 'vxlan',
  vni: 1,
  port: 8472,
  learning: false,
  gbp: false,
  directRouting: false,
};

/** Host `n` of the cluster: 192.0.2.n and 2001:db8::n, subnets 10.1.n.0/24 and fd00:0:0:n::/64. */
export const peer = (n: number, changes: Partial<Lease> = {}): Lease => ({
  ownerId: `/p/subnets/10.1.${n}.0-24`,
  backendType: 'vxlan',
  subnets: { 4: prefix(`10.1.${n}.0/24`), 6: prefix(`fd00:0:0:${n}::/64`) },
  publicAddresses: { 4: address(`192.0.2.${n}`), 6: address(`2001:db8::${n}`) },
  backendData: macs(n, n + 100),
  node: `h${n}`,
  reservation: false,
  ofFlannel: false,
  seniority: '1',
  handle: undefined,
  ...changes,
});

/** The config of any backend that weftd runs. */
export type OwnBackend = VxlanConfig | HostGatewayConfig | IpipConfig | GreConfig;

/** An overlay's own values. */
export type Changes = Partial<Omit<Overlay, 'backend'>> & { readonly backend?: OwnBackend };

/** A host with nothing to lose. */
export const surroundings: Overlay['surroundings'] = { ownAddresses: new Set(), networks: [], lifelines: [] };

/** What host 1 has to do with hosts 2 and 3. */
export const overlay = (changes: Changes = {}): Overlay => ({
  networks: { 4: prefix('10.1.0.0/16') },
  subnetLengths: { 4: 24, 6: 64 },
  backend: vxlan,
  backends,
  subnets: { 4: prefix('10.1.1.0/24'), 6: prefix('fd00:0:0:1::/64') },
  age: { ownerId: '/p/subnets/10.1.1.0-24', seniority: '1' },
  leaseData: macs(1, 101),
  external: {
    index: 2,
    name: 'eth0',
    mtuBytes: 1500,
    addresses: { 4: address('192.0.2.1'), 6: address('2001:db8::1') },
    publicAddresses: { 4: address('192.0.2.1'), 6: address('2001:db8::1') },
  },
  surroundings,
  peers: [peer(2), peer(3)],
  isNeighbour: () => true,
  formerDevices: [],
  formerNetworks: [],
  formerSubnets: [],
  flannelGateways: () => [],
  ...changes,
});

export const dualStack = { networks: { 4: prefix('10.1.0.0/16'), 6: prefix('fd00::/48') } };
