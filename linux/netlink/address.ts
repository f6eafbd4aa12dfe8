/** Interface addresses: RTM_NEWADDR and its kin, include/uapi/linux/if_addr.h. */

import { type Address, type Family, formatAddress } from '../../net/address.ts';
import { formatPrefix, type Prefix } from '../../net/prefix.ts';
import { makeQuery, makeRequest, type NetlinkQuery, type NetlinkRequest } from './connection.ts';
import { encodeRawAttributes, type NetlinkReader, type NetlinkWriter, nlmsg, type RawAttribute } from './wire.ts';

/** include/uapi/linux/rtnetlink.h */
const rtmAddress = { RTM_NEWADDR: 20, RTM_DELADDR: 21, RTM_GETADDR: 22 } as const;

/** include/uapi/linux/if_addr.h: attributes and flags */
export const ifa = {
  IFA_ADDRESS: 1,
  IFA_LOCAL: 2,
  IFA_LABEL: 3,
  IFA_BROADCAST: 4,
  IFA_CACHEINFO: 6,
  IFA_FLAGS: 8,
  IFA_F_SECONDARY: 0x01,
  IFA_F_NODAD: 0x02,
  IFA_F_DADFAILED: 0x08,
  IFA_F_DEPRECATED: 0x20,
  IFA_F_TENTATIVE: 0x40,
  IFA_F_PERMANENT: 0x80,
  IFA_F_NOPREFIXROUTE: 0x200,
} as const;

const ifaddrmsgBytes = 8;
/** AF_INET and AF_INET6. */
export const familyNumber = (family: Family): number => (family === 4 ? 2 : 10);
export const familyOf = (number: number): Family | undefined => (number === 2 ? 4 : number === 10 ? 6 : undefined);

export interface InterfaceAddress {
  readonly index: number;
  /** The address with its host bits and the length of its subnet; on a point-to-point link the remote address. */
  readonly prefix: Prefix;
  /** The link's own address if it differs from `prefix.address` (point-to-point). */
  readonly local?: Address;
  readonly broadcast?: Address;
  /** The label of an IPv4 address: the interface's name, maybe with a suffix. */
  readonly label?: string;
  /** RT_SCOPE_*: 0 universe, 253 link, 254 host. */
  readonly scope: number;
  /** IFA_F_* bits. */
  readonly flags: number;
  /** Seconds; absent if unlimited. */
  readonly validSeconds?: number;
  readonly preferredSeconds?: number;
  /** Other attributes, undecoded. */
  readonly unknown?: readonly RawAttribute[];
}

export interface NewAddress {
  readonly index: number;
  readonly prefix: Prefix;
  readonly broadcast?: Address;
  /** IPv6: use the address at once, without duplicate address detection. */
  readonly noDad?: boolean;
  /** Default 0, universe. */
  readonly scope?: number;
  /** Adds no route to the subnet. */
  readonly noPrefixRoute?: boolean;
}

/** Adds an address; EEXIST if the interface has it already. */
export const newAddress = (address: NewAddress): NetlinkRequest =>
  makeRequest(
    rtmAddress.RTM_NEWADDR,
    nlmsg.NLM_F_CREATE | nlmsg.NLM_F_EXCL,
    () => ['add address', formatPrefix(address.prefix), `to interface ${address.index}`],
    (writer) => {
      const flags = (address.noDad ? ifa.IFA_F_NODAD : 0) | (address.noPrefixRoute ? ifa.IFA_F_NOPREFIXROUTE : 0);
      const { index, prefix, broadcast, scope = 0 } = address;
      encodeAddress(writer, { index, prefix, scope, flags, ...(broadcast ? { broadcast } : {}) });
    },
  );

/** Removes an address; EADDRNOTAVAIL if the interface does not have it. `local` as in `InterfaceAddress`. */
export const deleteAddress = ({
  index,
  prefix,
  local,
}: {
  index: number;
  prefix: Prefix;
  local?: Address | undefined;
}): NetlinkRequest =>
  makeRequest(
    rtmAddress.RTM_DELADDR,
    0,
    () => ['delete address', formatPrefix(prefix), `from interface ${index}`],
    (writer) => encodeAddress(writer, { index, prefix, scope: 0, flags: 0, ...(local ? { local } : {}) }),
  );

/** All addresses, or those of an interface or a family. */
export const dumpAddresses = (filter: { index?: number; family?: Family } = {}): NetlinkQuery<InterfaceAddress> =>
  makeQuery(
    rtmAddress.RTM_GETADDR,
    () => `list addresses${filter.index === undefined ? '' : ` of interface ${filter.index}`}`,
    (writer) => {
      writer.u32(filter.family === undefined ? 0 : familyNumber(filter.family));
      writer.u32(filter.index ?? 0);
    },
    (_type, body) => decodeAddress(body),
  );

/** The body of an RTM_NEWADDR or RTM_DELADDR message: `struct ifaddrmsg` and attributes. */
export function encodeAddress(writer: NetlinkWriter, address: InterfaceAddress): void {
  const { prefix, local = prefix.address, flags } = address;
  writer.u8(familyNumber(prefix.address.family));
  writer.u8(prefix.length);
  writer.u8(flags & 0xff);
  writer.u8(address.scope);
  writer.u32(address.index);
  writer.attributeBytes(ifa.IFA_ADDRESS, prefix.address.bytes);
  writer.attributeBytes(ifa.IFA_LOCAL, local.bytes);
  if (address.broadcast) writer.attributeBytes(ifa.IFA_BROADCAST, address.broadcast.bytes);
  if (address.label !== undefined) writer.attributeText(ifa.IFA_LABEL, address.label);
  if (flags !== 0) writer.attributeU32(ifa.IFA_FLAGS, flags);
  if (address.validSeconds !== undefined || address.preferredSeconds !== undefined) {
    const start = writer.beginValue(ifa.IFA_CACHEINFO);
    writer.u32(address.preferredSeconds ?? forEver);
    writer.u32(address.validSeconds ?? forEver);
    writer.zeros(8);
    writer.end(start);
  }
  encodeRawAttributes(writer, address.unknown);
}

/** INFINITY_LIFE_TIME */
const forEver = 0xffffffff;

/** The body of an RTM_NEWADDR or RTM_DELADDR message; undefined for a family other than IPv4 and IPv6. */
export function decodeAddress(body: NetlinkReader): InterfaceAddress | undefined {
  const family = familyOf(body.u8(0));
  if (family === undefined) return undefined;
  const size = family === 4 ? 4 : 16;
  const length = body.u8(1);
  let flags = body.u8(2);
  let address: Address | undefined;
  let local: Address | undefined;
  const unknown: RawAttribute[] = [];
  const rest: { -readonly [K in keyof InterfaceAddress]?: InterfaceAddress[K] } = {};
  const r = body.attributes(ifaddrmsgBytes, 'address');
  while (r.next()) {
    switch (r.type) {
      case ifa.IFA_ADDRESS:
        address = { family, bytes: r.bytes(0, size) };
        break;
      case ifa.IFA_LOCAL:
        local = { family, bytes: r.bytes(0, size) };
        break;
      case ifa.IFA_BROADCAST:
        rest.broadcast = { family, bytes: r.bytes(0, size) };
        break;
      case ifa.IFA_LABEL:
        rest.label = r.text();
        break;
      case ifa.IFA_FLAGS:
        flags = r.u32();
        break;
      case ifa.IFA_CACHEINFO:
        if (r.u32(0) !== forEver) rest.preferredSeconds = r.u32(0);
        if (r.u32(4) !== forEver) rest.validSeconds = r.u32(4);
        break;
      default:
        unknown.push(r.raw());
    }
  }
  address ??= local;
  if (!address) return undefined;
  if (local && formatAddress(local) !== formatAddress(address)) rest.local = local;
  if (unknown.length > 0) rest.unknown = unknown;
  return { index: body.u32(4), prefix: { address, length }, scope: body.u8(3), flags, ...rest };
}
