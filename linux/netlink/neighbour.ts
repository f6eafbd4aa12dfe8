/**
 * Neighbours (ARP, NDP) and bridge or VXLAN forwarding entries (FDB), which netlink has as neighbours of family
 * AF_BRIDGE: RTM_NEWNEIGH and its kin, include/uapi/linux/neighbour.h.
 */

import { type Address, type Family, formatAddress } from '../../net/address.ts';
import { formatMac, type Mac } from '../../net/mac.ts';
import { familyNumber, familyOf } from './address.ts';
import { makeQuery, makeRequest, type NetlinkQuery, type NetlinkRequest } from './connection.ts';
import { encodeRawAttributes, type NetlinkReader, type NetlinkWriter, nlmsg, type RawAttribute } from './wire.ts';

/** include/uapi/linux/rtnetlink.h */
export const rtmNeighbour = { RTM_NEWNEIGH: 28, RTM_DELNEIGH: 29, RTM_GETNEIGH: 30 } as const;

/** include/uapi/linux/neighbour.h: attributes, states, flags */
export const nda = {
  NDA_DST: 1,
  NDA_LLADDR: 2,
  NDA_CACHEINFO: 3,
  NDA_PROBES: 4,
  NDA_VLAN: 5,
  NDA_PORT: 6,
  NDA_VNI: 7,
  NDA_IFINDEX: 8,
  NDA_MASTER: 9,
  NUD_REACHABLE: 0x02,
  NUD_STALE: 0x04,
  NUD_NOARP: 0x40,
  NUD_PERMANENT: 0x80,
  NTF_SELF: 0x02,
  NTF_MASTER: 0x04,
  NTF_EXT_LEARNED: 0x10,
} as const;

const ndmsgBytes = 12;
const AF_BRIDGE = 7;

export interface Neighbour {
  /** 4 or 6; 'bridge' for an FDB entry, whose `address` is the remote host of a VXLAN device. */
  readonly family: Family | 'bridge';
  readonly index: number;
  readonly address?: Address;
  /** On a device that is no Ethernet the link address is another one: on a tunnel, the remote host's. */
  readonly mac?: Mac;
  /** NUD_* bits. */
  readonly state: number;
  /** NTF_* bits. */
  readonly flags: number;
  /** ndm_type: RTN_*, as the kernel tells it. */
  readonly type: number;
  /** FDB: the bridge that the entry's interface is a port of. */
  readonly master?: number;
  /** FDB: VLAN; VXLAN's UDP port, VNI and outgoing interface where they differ from the device's. */
  readonly vlan?: number;
  readonly port?: number;
  readonly vni?: number;
  readonly lower?: number;
  /** Other attributes (NDA_CACHEINFO, …), undecoded; not in lists, which have two of them for each of thousands. */
  readonly unknown?: readonly RawAttribute[];
}

const permanent = { state: nda.NUD_PERMANENT, flags: 0, type: 0 } as const;

export interface NewNeighbour {
  readonly index: number;
  readonly address: Address;
  readonly mac: Mac;
}
/** Sets a permanent neighbour: adds it, or replaces the present one. */
export const newNeighbour = ({ index, address, mac }: NewNeighbour): NetlinkRequest =>
  makeRequest(
    rtmNeighbour.RTM_NEWNEIGH,
    nlmsg.NLM_F_CREATE | nlmsg.NLM_F_REPLACE,
    () => ['set neighbour', formatAddress(address), `to "${formatMac(mac)}" on interface ${index}`],
    (writer) => encodeNeighbour(writer, { family: address.family, index, address, mac, ...permanent }),
  );

/** Deletes a neighbour; ENOENT where there is none. */
export const deleteNeighbour = ({ index, address }: { index: number; address: Address }): NetlinkRequest =>
  makeRequest(
    rtmNeighbour.RTM_DELNEIGH,
    0,
    () => ['delete neighbour', formatAddress(address), `on interface ${index}`],
    (writer) => encodeNeighbour(writer, { family: address.family, index, address, state: 0, flags: 0, type: 0 }),
  );

export interface NewFdbEntry {
  /** The VXLAN device. */
  readonly index: number;
  readonly mac: Mac;
  /** The host to which frames for `mac` are sent. */
  readonly destination: Address;
}
/** Sets where a VXLAN device sends frames for a MAC, and replaces the present entry. */
export const newFdbEntry = ({ index, mac, destination }: NewFdbEntry): NetlinkRequest =>
  makeRequest(
    rtmNeighbour.RTM_NEWNEIGH,
    nlmsg.NLM_F_CREATE | nlmsg.NLM_F_REPLACE,
    () => ['set FDB entry', formatMac(mac), `to ${formatAddress(destination)} on interface ${index}`],
    (writer) =>
      encodeNeighbour(writer, {
        family: 'bridge',
        index,
        mac,
        address: destination,
        ...permanent,
        flags: nda.NTF_SELF,
      }),
  );

/**
 * Deletes an FDB entry of a VXLAN device; ENOENT where there is none. `destination` picks one of several; where it has
 * a port, VNI or outgoing interface of its own, these belong to it.
 */
export const deleteFdbEntry = (
  entry: { index: number; mac: Mac; destination?: Address } & {
    readonly [K in 'port' | 'vni' | 'lower']?: number | undefined;
  },
): NetlinkRequest =>
  makeRequest(
    rtmNeighbour.RTM_DELNEIGH,
    0,
    () => ['delete FDB entry', formatMac(entry.mac), `on interface ${entry.index}`],
    (writer) => {
      const { index, mac, destination, port, vni, lower } = entry;
      const base = { family: 'bridge', index, mac, state: 0, flags: nda.NTF_SELF, type: 0 } as const;
      const own = {
        ...(port === undefined ? {} : { port }),
        ...(vni === undefined ? {} : { vni }),
        ...(lower === undefined ? {} : { lower }),
      };
      encodeNeighbour(writer, destination ? { ...base, ...own, address: destination } : base);
    },
  );

const encodeFilter = (family: number, index: number | undefined) => (writer: NetlinkWriter) => {
  writer.u32(family);
  writer.zeros(ndmsgBytes - 4);
  if (index !== undefined) writer.attributeU32(nda.NDA_IFINDEX, index);
};

/** The neighbours of a family, or those of them on one interface. */
export const dumpNeighbours = (filter: { family: Family; index?: number }): NetlinkQuery<Neighbour> =>
  makeQuery(
    rtmNeighbour.RTM_GETNEIGH,
    () => `list IPv${filter.family} neighbours`,
    encodeFilter(familyNumber(filter.family), filter.index),
    (_type, body) => decodeNeighbour(body, false),
  );

/** All FDB entries, of bridges and VXLAN devices, or those of one interface. */
export const dumpFdb = (filter: { index?: number } = {}): NetlinkQuery<Neighbour> =>
  makeQuery(
    rtmNeighbour.RTM_GETNEIGH,
    () => 'list FDB entries',
    encodeFilter(AF_BRIDGE, filter.index),
    (_type, body) => decodeNeighbour(body, false),
  );

/** The body of an RTM_NEWNEIGH or RTM_DELNEIGH message: `struct ndmsg` and attributes. */
export function encodeNeighbour(writer: NetlinkWriter, neighbour: Neighbour): void {
  writer.u32(neighbour.family === 'bridge' ? AF_BRIDGE : familyNumber(neighbour.family));
  writer.i32(neighbour.index);
  writer.u16(neighbour.state);
  writer.u8(neighbour.flags);
  writer.u8(neighbour.type);
  if (neighbour.address) writer.attributeBytes(nda.NDA_DST, neighbour.address.bytes);
  if (neighbour.mac) writer.attributeBytes(nda.NDA_LLADDR, neighbour.mac);
  if (neighbour.master !== undefined) writer.attributeU32(nda.NDA_MASTER, neighbour.master);
  if (neighbour.vlan !== undefined) writer.attributeU16(nda.NDA_VLAN, neighbour.vlan);
  if (neighbour.port !== undefined) writer.attributeU16be(nda.NDA_PORT, neighbour.port);
  if (neighbour.vni !== undefined) writer.attributeU32(nda.NDA_VNI, neighbour.vni);
  if (neighbour.lower !== undefined) writer.attributeU32(nda.NDA_IFINDEX, neighbour.lower);
  encodeRawAttributes(writer, neighbour.unknown);
}

/**
 * The body of an RTM_NEWNEIGH or RTM_DELNEIGH message; undefined for a family that is none of the three.
 * @param keepsUnknown whether attributes that are not decoded are kept
 */
export function decodeNeighbour(body: NetlinkReader, keepsUnknown = true): Neighbour | undefined {
  const number = body.u8(0);
  const family = number === AF_BRIDGE ? 'bridge' : familyOf(number);
  if (family === undefined) return undefined;
  const unknown: RawAttribute[] = [];
  const neighbour: { -readonly [K in keyof Neighbour]: Neighbour[K] } = {
    family,
    index: body.i32(4),
    state: body.u16(8),
    flags: body.u8(10),
    type: body.u8(11),
  };
  const r = body.attributes(ndmsgBytes, 'neighbour');
  while (r.next()) {
    switch (r.type) {
      case nda.NDA_DST:
        neighbour.address = decodeDestination(r);
        break;
      case nda.NDA_LLADDR:
        if (r.length > 0) neighbour.mac = r.bytes();
        else if (keepsUnknown) unknown.push(r.raw());
        break;
      case nda.NDA_MASTER:
        neighbour.master = r.u32();
        break;
      case nda.NDA_VLAN:
        neighbour.vlan = r.u16();
        break;
      case nda.NDA_PORT:
        neighbour.port = r.u16be();
        break;
      case nda.NDA_VNI:
        neighbour.vni = r.u32();
        break;
      case nda.NDA_IFINDEX:
        neighbour.lower = r.u32();
        break;
      default:
        if (keepsUnknown) unknown.push(r.raw());
    }
  }
  if (unknown.length > 0) neighbour.unknown = unknown;
  return neighbour;
}

/** The length shows the family, because an FDB entry's header does not. */
function decodeDestination(r: NetlinkReader): Address {
  return r.length === 4 ? { family: 4, bytes: r.bytes() } : { family: 6, bytes: r.bytes(0, 16) };
}
