/**
 * IP tunnels: `ipip` (RFC 2003, IFLA_IPTUN_* of include/uapi/linux/if_tunnel.h), `gre` and `ip6gre` (RFC 2784 and 2890,
 * IFLA_GRE_*). The attributes differ in their numbers only.
 */

import { type Address, isUnspecified } from '../../net/address.ts';
import { encodeRawAttributes, type NetlinkReader, type NetlinkWriter, type RawAttribute } from './wire.ts';

const iflaIptun = {
  IFLA_IPTUN_LINK: 1,
  IFLA_IPTUN_LOCAL: 2,
  IFLA_IPTUN_REMOTE: 3,
  IFLA_IPTUN_TTL: 4,
  IFLA_IPTUN_TOS: 5,
  IFLA_IPTUN_PMTUDISC: 10,
  IFLA_IPTUN_ENCAP_TYPE: 15,
  IFLA_IPTUN_COLLECT_METADATA: 19,
} as const;

const iflaGre = {
  IFLA_GRE_LINK: 1,
  IFLA_GRE_IFLAGS: 2,
  IFLA_GRE_OFLAGS: 3,
  IFLA_GRE_IKEY: 4,
  IFLA_GRE_OKEY: 5,
  IFLA_GRE_LOCAL: 6,
  IFLA_GRE_REMOTE: 7,
  IFLA_GRE_TTL: 8,
  IFLA_GRE_TOS: 9,
  IFLA_GRE_PMTUDISC: 10,
  IFLA_GRE_FLAGS: 13,
  IFLA_GRE_ENCAP_TYPE: 14,
  IFLA_GRE_COLLECT_METADATA: 18,
  /** Of IFLA_GRE_IFLAGS and IFLA_GRE_OFLAGS; big-endian, as in the packet. */
  GRE_KEY: 0x2000,
  /** Of IFLA_GRE_FLAGS (include/uapi/linux/ip6_tunnel.h): no destination option against endless nesting. */
  IP6_TNL_F_IGN_ENCAP_LIMIT: 1,
} as const;

export interface IpTunnelData {
  /** Source address of the outer packets; absent: the route's, or the packet's own. */
  readonly local?: Address;
  /** Absent: the neighbour, the route's gateway or the route's encapsulation says. */
  readonly remote?: Address;
  /** GRE: of packets both sent and received. */
  readonly key?: number;
  /** Addresses and key come with each packet (`external` of `ip`). */
  readonly external: boolean;
  /** Index of the interface that the outer packets leave by. */
  readonly lower?: number;
  /** TTL, TOS and encapsulation in UDP where they are not 0, in words. */
  readonly settings?: readonly string[];
  /** Other attributes, undecoded. */
  readonly unknown?: readonly RawAttribute[];
}

/** The numbers of a kind's attributes. */
interface Numbers {
  readonly link: number;
  readonly local: number;
  readonly remote: number;
  readonly pmtuDiscovery: number;
  readonly external: number;
  readonly settings: Readonly<Record<number, string>>;
}

const iptun: Numbers = {
  link: iflaIptun.IFLA_IPTUN_LINK,
  local: iflaIptun.IFLA_IPTUN_LOCAL,
  remote: iflaIptun.IFLA_IPTUN_REMOTE,
  pmtuDiscovery: iflaIptun.IFLA_IPTUN_PMTUDISC,
  external: iflaIptun.IFLA_IPTUN_COLLECT_METADATA,
  settings: {
    [iflaIptun.IFLA_IPTUN_TTL]: 'a TTL',
    [iflaIptun.IFLA_IPTUN_TOS]: 'a TOS',
    [iflaIptun.IFLA_IPTUN_ENCAP_TYPE]: 'an encapsulation in UDP',
  },
};

const gre: Numbers = {
  link: iflaGre.IFLA_GRE_LINK,
  local: iflaGre.IFLA_GRE_LOCAL,
  remote: iflaGre.IFLA_GRE_REMOTE,
  pmtuDiscovery: iflaGre.IFLA_GRE_PMTUDISC,
  external: iflaGre.IFLA_GRE_COLLECT_METADATA,
  settings: {
    [iflaGre.IFLA_GRE_TTL]: 'a TTL',
    [iflaGre.IFLA_GRE_TOS]: 'a TOS',
    [iflaGre.IFLA_GRE_ENCAP_TYPE]: 'an encapsulation in UDP',
  },
};

/** Without discovery of the path's MTU, as flannel has it: a packet that may be fragmented still may when it is wrapped. */
function encode(writer: NetlinkWriter, numbers: Numbers, data: IpTunnelData): void {
  if (data.lower !== undefined) writer.attributeU32(numbers.link, data.lower);
  if (data.local) writer.attributeBytes(numbers.local, data.local.bytes);
  if (data.remote) writer.attributeBytes(numbers.remote, data.remote.bytes);
  writer.attributeU8(numbers.pmtuDiscovery, 0);
  // A flag: that it is there is its value.
  if (data.external) writer.attributeBytes(numbers.external, new Uint8Array(0));
  encodeRawAttributes(writer, data.unknown);
}

function decode(r: NetlinkReader, numbers: Numbers): IpTunnelData {
  const unknown: RawAttribute[] = [];
  const settings: string[] = [];
  const data: { -readonly [K in keyof IpTunnelData]: IpTunnelData[K] } = { external: false, settings, unknown };
  const address = (): Address => ({ family: r.length === 4 ? 4 : 6, bytes: r.bytes(0, r.length === 4 ? 4 : 16) });
  let [flags, key] = [0, 0];
  while (r.next()) {
    const setting = numbers.settings[r.type];
    if (setting !== undefined) {
      if (r.bytes().some((byte) => byte !== 0)) settings.push(setting);
    } else if (r.type === numbers.link) {
      if (r.u32() !== 0) data.lower = r.u32();
    } else if (r.type === numbers.local) {
      if (!isUnspecified(address())) data.local = address();
    } else if (r.type === numbers.remote) {
      if (!isUnspecified(address())) data.remote = address();
    } else if (r.type === numbers.external) data.external = true;
    else if (numbers === gre && r.type === iflaGre.IFLA_GRE_IFLAGS) flags = r.u16be();
    else if (numbers === gre && r.type === iflaGre.IFLA_GRE_IKEY) key = r.u32be();
    else unknown.push(r.raw());
  }
  if (flags & iflaGre.GRE_KEY) data.key = key;
  return data;
}

export const encodeIpipData = (writer: NetlinkWriter, data: IpTunnelData): void => encode(writer, iptun, data);
export const decodeIpipData = (r: NetlinkReader): IpTunnelData => decode(r, iptun);

export function encodeGreData(writer: NetlinkWriter, data: IpTunnelData): void {
  if (data.key !== undefined) {
    writer.attributeU16be(iflaGre.IFLA_GRE_IFLAGS, iflaGre.GRE_KEY);
    writer.attributeU16be(iflaGre.IFLA_GRE_OFLAGS, iflaGre.GRE_KEY);
    writer.attributeU32be(iflaGre.IFLA_GRE_IKEY, data.key);
    writer.attributeU32be(iflaGre.IFLA_GRE_OKEY, data.key);
  }
  encode(writer, gre, data);
}
export const decodeGreData = (r: NetlinkReader): IpTunnelData => decode(r, gre);

export function encodeGre6Data(writer: NetlinkWriter, data: IpTunnelData): void {
  encodeGreData(writer, data);
  writer.attributeU32(iflaGre.IFLA_GRE_FLAGS, iflaGre.IP6_TNL_F_IGN_ENCAP_LIMIT);
}
