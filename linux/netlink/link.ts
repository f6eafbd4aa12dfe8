/**
 * Links (network interfaces): RTM_NEWLINK and its kin, include/uapi/linux/if_link.h, `struct ifinfomsg` in
 * rtnetlink.h. Tunnel devices are in tunnel.ts.
 *
 * The file is long because all requests about links and their decoder share one table of attributes.
 */

import type { Mac } from '../../net/mac.ts';
import { makeQuery, makeRequest, type NetlinkQuery, type NetlinkRequest } from './connection.ts';
import { type NetlinkReader, type NetlinkWriter, nlmsg, type RawAttribute } from './wire.ts';

/** include/uapi/linux/rtnetlink.h */
export const rtmLink = { RTM_NEWLINK: 16, RTM_DELLINK: 17, RTM_GETLINK: 18 } as const;

/** include/uapi/linux/if_link.h: enum IFLA_*, the IFLA_INFO_* inside IFLA_LINKINFO, IFLA_BRPORT_*, IFLA_BR_* */
const ifla = {
  IFLA_ADDRESS: 1,
  IFLA_IFNAME: 3,
  IFLA_MTU: 4,
  IFLA_LINK: 5,
  IFLA_MASTER: 10,
  IFLA_PROTINFO: 12,
  IFLA_TXQLEN: 13,
  IFLA_OPERSTATE: 16,
  IFLA_LINKINFO: 18,
  IFLA_IFALIAS: 20,
  IFLA_NET_NS_FD: 28,
  IFLA_EXT_MASK: 29,
  IFLA_PROMISCUITY: 30,
  IFLA_NUM_TX_QUEUES: 31,
  IFLA_NUM_RX_QUEUES: 32,
  IFLA_LINK_NETNSID: 37,
  IFLA_PROTO_DOWN: 39,
  IFLA_PROP_LIST: 52,
  IFLA_ALT_IFNAME: 53,
  IFLA_INFO_KIND: 1,
  IFLA_INFO_DATA: 2,
  IFLA_INFO_SLAVE_KIND: 4,
  IFLA_INFO_SLAVE_DATA: 5,
  IFLA_BRPORT_STATE: 1,
  IFLA_BRPORT_MODE: 4,
  IFLA_BRPORT_LEARNING: 8,
  IFLA_BRPORT_ISOLATED: 33,
  IFLA_BR_VLAN_FILTERING: 7,
  VETH_INFO_PEER: 1,
  /** RTEXT_FILTER_SKIP_STATS of IFLA_EXT_MASK: without counters an answer is half as large and takes half the time. */
  RTEXT_FILTER_SKIP_STATS: 8,
} as const;

/** include/uapi/linux/if.h: flags, and the states of RFC 2863 */
export const iff = {
  IFF_UP: 0x1,
  IFF_LOOPBACK: 0x8,
  IFF_RUNNING: 0x40,
  IFF_NOARP: 0x80,
  IFF_PROMISC: 0x100,
  IFF_LOWER_UP: 0x10000,
  IF_OPER_UNKNOWN: 0,
  IF_OPER_DOWN: 2,
  IF_OPER_LOWERLAYERDOWN: 3,
  IF_OPER_UP: 6,
} as const;

const ifinfomsgBytes = 16;
const vethQueues = 1;
const AF_BRIDGE = 7;

export interface BridgePort {
  /** BR_STATE_*: 0 disabled, 1 listening, 2 learning, 3 forwarding, 4 blocking. */
  readonly state: number;
  /** Whether a frame may leave through the port by which it came in. */
  readonly hairpin: boolean;
  readonly learning: boolean;
  /** Isolated ports exchange no frames with each other. */
  readonly isolated: boolean;
}

export interface Link {
  readonly index: number;
  readonly name: string;
  /** Further names (`altname` of `ip link`), such as `enp1s0`; absent if there are none. */
  readonly altNames?: readonly string[];
  readonly mtuBytes: number;
  /** IFF_* bits. */
  readonly flags: number;
  /** IFF_UP: set up by the administrator, whatever the carrier does. */
  readonly up: boolean;
  /** IF_OPER_* number. */
  readonly operstate: number;
  /** ARPHRD_*: 1 is Ethernet, 772 loopback. */
  readonly hardwareType: number;
  /** Absent where the address is not an Ethernet one. */
  readonly mac?: Mac;
  /** Index of the bridge (bond, VRF) that this link is a port of. */
  readonly master?: number;
  /** `veth`, `bridge`, `vxlan`, …; absent for hardware and loopback. */
  readonly kind?: string;
  /** IFLA_INFO_DATA, undecoded: the attributes of the link's kind. `tunnelOf` decodes a tunnel's. */
  readonly kindData?: Uint8Array;
  readonly alias?: string;
  /** IFLA_LINK: a veth's peer, a VLAN's or VXLAN's lower device; an index in `peerNamespaceId` if that is set. */
  readonly peerIndex?: number;
  /** IFLA_LINK_NETNSID: the peer's namespace as the link's own namespace numbers it. */
  readonly peerNamespaceId?: number;
  /** Some program keeps the link without a carrier. */
  readonly protoDown?: boolean;
  /** The number of users that want promiscuous mode; it is on above 0. */
  readonly promiscuity: number;
  readonly bridgePort?: BridgePort;
  /** Attributes that are not decoded here, if they were asked for. */
  readonly unknown?: readonly RawAttribute[];
}

export type LinkTarget = { readonly index: number } | { readonly name: string };

export interface VethSettings {
  readonly name: string;
  readonly mac: Mac;
  readonly mtuBytes?: number;
  /** Index of the bridge of which the host's end becomes a port. */
  readonly master?: number;
  readonly up?: boolean;
  readonly peer: {
    readonly name: string;
    readonly mac: Mac;
    readonly mtuBytes?: number;
    /** Descriptor of the network namespace in which the peer is created. */
    readonly namespace: number;
  };
}

export interface BridgeSettings {
  readonly name: string;
  /** The kernel chooses one if it is absent. */
  readonly mac?: Mac;
  readonly mtuBytes?: number;
  readonly up?: boolean;
  readonly vlanFiltering?: boolean;
}

export interface LinkChange {
  readonly up?: boolean;
  readonly mtuBytes?: number;
  readonly mac?: Mac;
  /** Index of the new master; 0 removes the link from its master. */
  readonly master?: number;
  readonly alias?: string;
  readonly promiscuous?: boolean;
  readonly arp?: boolean;
  readonly protoDown?: boolean;
  /** RFC 2863's state, `iff.IF_OPER_UP`: the kernel takes it only where it is unknown, dormant or testing before. */
  readonly operstate?: number;
  /** Only for a link that is a port of a bridge by the time the kernel handles this message. */
  readonly bridgePort?: { readonly hairpin?: boolean; readonly isolated?: boolean };
  /** A new name; the target must be an index. */
  readonly name?: string;
}

const subjectOf = (target: LinkTarget): string | number => ('name' in target ? target.name : target.index);

/** `struct ifinfomsg`: all interface families, any type. */
function encodeHeader(writer: NetlinkWriter, index: number, flags: number, change: number): void {
  writer.u32(0);
  writer.i32(index);
  writer.u32(flags);
  writer.u32(change);
}

function encodeTarget(writer: NetlinkWriter, target: LinkTarget, flags = 0, change = 0): void {
  if ('index' in target) {
    encodeHeader(writer, target.index, flags, change);
  } else {
    encodeHeader(writer, 0, flags, change);
    writer.attributeText(ifla.IFLA_IFNAME, target.name);
  }
}

/** Settings that every new link can be given. */
export interface NewLink {
  readonly name: string;
  readonly mac?: Mac;
  readonly mtuBytes?: number;
  readonly master?: number;
  readonly up?: boolean;
  /** How many queues the link has for each direction; the driver's default if it is absent. */
  readonly queues?: number;
}

function encodeQueues(writer: NetlinkWriter, queues: number): void {
  writer.attributeU32(ifla.IFLA_NUM_TX_QUEUES, queues);
  writer.attributeU32(ifla.IFLA_NUM_RX_QUEUES, queues);
}

/** A request that makes a link; `encodeData` writes the content of IFLA_INFO_DATA. */
export const createLink = (kind: string, link: NewLink, encodeData?: (writer: NetlinkWriter) => void): NetlinkRequest =>
  makeRequest(
    rtmLink.RTM_NEWLINK,
    nlmsg.NLM_F_CREATE | nlmsg.NLM_F_EXCL,
    () => [`create ${kind}`, link.name],
    (writer) => {
      const up = link.up ? iff.IFF_UP : 0;
      encodeHeader(writer, 0, up, up);
      writer.attributeText(ifla.IFLA_IFNAME, link.name);
      if (link.mac) writer.attributeBytes(ifla.IFLA_ADDRESS, link.mac);
      if (link.mtuBytes !== undefined) writer.attributeU32(ifla.IFLA_MTU, link.mtuBytes);
      if (link.master !== undefined) writer.attributeU32(ifla.IFLA_MASTER, link.master);
      if (link.queues !== undefined) encodeQueues(writer, link.queues);
      const info = writer.begin(ifla.IFLA_LINKINFO);
      writer.attributeText(ifla.IFLA_INFO_KIND, kind);
      if (encodeData) {
        const data = writer.begin(ifla.IFLA_INFO_DATA);
        encodeData(writer);
        writer.end(data);
      }
      writer.end(info);
    },
  );

/**
 * Makes a veth pair: one end here, its peer directly in another namespace. The same message can set the host's end up
 * and make it a port. It cannot set the peer up (the kernel answers ENOTCONN). An alias and a port's flags need
 * `changeLink` by name, which may follow in the same batch.
 *
 * Each end gets one queue. Without a number the kernel allocates one for each processor, and then uses one of them: to
 * change the number it waits twice while it holds the lock of all interfaces.
 */
export const createVeth = (veth: VethSettings): NetlinkRequest =>
  createLink('veth', { ...veth, queues: vethQueues }, (writer) => {
    const { peer } = veth;
    const start = writer.begin(ifla.VETH_INFO_PEER);
    encodeHeader(writer, 0, 0, 0);
    writer.attributeText(ifla.IFLA_IFNAME, peer.name);
    writer.attributeBytes(ifla.IFLA_ADDRESS, peer.mac);
    if (peer.mtuBytes !== undefined) writer.attributeU32(ifla.IFLA_MTU, peer.mtuBytes);
    writer.attributeU32(ifla.IFLA_NET_NS_FD, peer.namespace);
    encodeQueues(writer, vethQueues);
    writer.end(start);
  });

/** Makes a bridge. A bridge with a given MAC keeps it when ports come and go. */
export const createBridge = (bridge: BridgeSettings): NetlinkRequest =>
  createLink('bridge', bridge, (writer) => {
    if (bridge.vlanFiltering !== undefined) {
      writer.attributeU8(ifla.IFLA_BR_VLAN_FILTERING, bridge.vlanFiltering ? 1 : 0);
    }
  });

/** Changes the given settings and no others. */
export function changeLink(target: LinkTarget, change: LinkChange): NetlinkRequest {
  if (change.name !== undefined && 'name' in target) {
    throw new RangeError('A link that is to be renamed has to be given by its index');
  }
  return makeRequest(
    rtmLink.RTM_NEWLINK,
    0,
    () => ['change link', subjectOf(target)],
    (writer) => {
      let flags = 0;
      let mask = 0;
      if (change.up !== undefined) {
        mask |= iff.IFF_UP;
        if (change.up) flags |= iff.IFF_UP;
      }
      if (change.promiscuous !== undefined) {
        mask |= iff.IFF_PROMISC;
        if (change.promiscuous) flags |= iff.IFF_PROMISC;
      }
      if (change.arp !== undefined) {
        mask |= iff.IFF_NOARP;
        if (!change.arp) flags |= iff.IFF_NOARP;
      }
      encodeTarget(writer, target, flags, mask);
      if (change.name !== undefined) writer.attributeText(ifla.IFLA_IFNAME, change.name);
      if (change.mac) writer.attributeBytes(ifla.IFLA_ADDRESS, change.mac);
      if (change.mtuBytes !== undefined) writer.attributeU32(ifla.IFLA_MTU, change.mtuBytes);
      if (change.master !== undefined) writer.attributeU32(ifla.IFLA_MASTER, change.master);
      if (change.protoDown !== undefined) writer.attributeU8(ifla.IFLA_PROTO_DOWN, change.protoDown ? 1 : 0);
      if (change.operstate !== undefined) writer.attributeU8(ifla.IFLA_OPERSTATE, change.operstate);
      if (change.alias !== undefined) writer.attributeText(ifla.IFLA_IFALIAS, change.alias);
      if (change.bridgePort) {
        const { hairpin, isolated } = change.bridgePort;
        const info = writer.begin(ifla.IFLA_LINKINFO);
        writer.attributeText(ifla.IFLA_INFO_SLAVE_KIND, 'bridge');
        const data = writer.begin(ifla.IFLA_INFO_SLAVE_DATA);
        if (hairpin !== undefined) writer.attributeU8(ifla.IFLA_BRPORT_MODE, hairpin ? 1 : 0);
        if (isolated !== undefined) writer.attributeU8(ifla.IFLA_BRPORT_ISOLATED, isolated ? 1 : 0);
        writer.end(data);
        writer.end(info);
      }
    },
  );
}

/** Deletes the link; a veth's peer goes with it. ENODEV where there is none. */
export const deleteLink = (target: LinkTarget): NetlinkRequest =>
  makeRequest(
    rtmLink.RTM_DELLINK,
    0,
    () => ['delete link', subjectOf(target)],
    (writer) => encodeTarget(writer, target),
  );

/** One link by name or index; undefined where there is none. */
export const getLink = (target: LinkTarget): NetlinkQuery<Link> =>
  makeQuery(
    rtmLink.RTM_GETLINK,
    () => ['get link', subjectOf(target)],
    (writer) => {
      encodeTarget(writer, target);
      writer.attributeU32(ifla.IFLA_EXT_MASK, ifla.RTEXT_FILTER_SKIP_STATS);
    },
    (_type, body) => decodeLink(body),
  );

/** The index alone, at half the cost of `getLink`; undefined where there is no such link. */
export const getLinkIndex = (name: string): NetlinkQuery<number> =>
  makeQuery(
    rtmLink.RTM_GETLINK,
    () => ['get link', name],
    (writer) => {
      encodeTarget(writer, { name });
      writer.attributeU32(ifla.IFLA_EXT_MASK, ifla.RTEXT_FILTER_SKIP_STATS);
    },
    (_type, body) => body.i32(4),
  );

/** What `LinkState` has of a link. */
export interface LinkState {
  readonly index: number;
  /** IFF_* bits. */
  readonly flags: number;
  /** IF_OPER_* number. */
  readonly operstate: number;
  /** BR_STATE_* number of a bridge's port. */
  readonly portState?: number;
}

/** One link's state alone, at a third of the cost of `getLink`; undefined where there is none. */
export const getLinkState = (target: LinkTarget): NetlinkQuery<LinkState> =>
  makeQuery(
    rtmLink.RTM_GETLINK,
    () => ['get link', subjectOf(target)],
    (writer) => {
      encodeTarget(writer, target);
      writer.attributeU32(ifla.IFLA_EXT_MASK, ifla.RTEXT_FILTER_SKIP_STATS);
    },
    (_type, body) => decodeLinkState(body),
  );

export function decodeLinkState(body: NetlinkReader): LinkState {
  const attributes = () => body.attributes(ifinfomsgBytes, 'link');
  const state = attributes();
  const operstate = state.find(ifla.IFLA_OPERSTATE) ? state.u8() : iff.IF_OPER_UNKNOWN;
  const portState = decodePortState(attributes());
  const link = { index: body.i32(4), flags: body.u32(8), operstate };
  return portState === undefined ? link : { ...link, portState };
}

/** Of a bridge's port: no other kind of master has a state there. */
function decodePortState(link: NetlinkReader): number | undefined {
  if (!link.find(ifla.IFLA_LINKINFO)) return undefined;
  const kind = link.nested();
  if (!kind.find(ifla.IFLA_INFO_SLAVE_KIND) || kind.text() !== 'bridge') return undefined;
  const data = link.nested();
  if (!data.find(ifla.IFLA_INFO_SLAVE_DATA)) return undefined;
  const port = data.nested();
  return port.find(ifla.IFLA_BRPORT_STATE) ? port.u8() : undefined;
}

interface LinkFilter {
  readonly kind?: string;
  readonly master?: number;
}

const linkList = <T>({ kind, master }: LinkFilter, decode: (body: NetlinkReader) => T): NetlinkQuery<T> =>
  makeQuery(
    rtmLink.RTM_GETLINK,
    () => 'list links',
    (writer) => {
      encodeHeader(writer, 0, 0, 0);
      writer.attributeU32(ifla.IFLA_EXT_MASK, ifla.RTEXT_FILTER_SKIP_STATS);
      if (master !== undefined) writer.attributeU32(ifla.IFLA_MASTER, master);
      if (kind !== undefined) {
        const info = writer.begin(ifla.IFLA_LINKINFO);
        writer.attributeText(ifla.IFLA_INFO_KIND, kind);
        writer.end(info);
      }
    },
    (_type, body) => decode(body),
  );

/** All links, or those of a kind (`veth`) or with a master. */
export const dumpLinks = (filter: LinkFilter = {}): NetlinkQuery<Link> => linkList(filter, decodeLink);

/** Their indexes alone: a link has sixty attributes. */
export const dumpLinkIndexes = (filter: LinkFilter): NetlinkQuery<number> => linkList(filter, (body) => body.i32(4));

type MutableLink = { -readonly [K in keyof Link]: Link[K] };

/**
 * The decoder of each known attribute. It is a table, because most of the sixty attributes of a link are not decoded.
 */
const attributeDecoders: Readonly<Record<number, (r: NetlinkReader, link: MutableLink) => void>> = {
  [ifla.IFLA_IFNAME]: (r, link) => {
    link.name = r.text();
  },
  [ifla.IFLA_ADDRESS]: (r, link) => {
    if (r.length === 6) link.mac = r.bytes();
  },
  [ifla.IFLA_MTU]: (r, link) => {
    link.mtuBytes = r.u32();
  },
  [ifla.IFLA_LINK]: (r, link) => {
    link.peerIndex = r.i32();
  },
  [ifla.IFLA_MASTER]: (r, link) => {
    link.master = r.u32();
  },
  [ifla.IFLA_OPERSTATE]: (r, link) => {
    link.operstate = r.u8();
  },
  [ifla.IFLA_IFALIAS]: (r, link) => {
    link.alias = r.text();
  },
  [ifla.IFLA_PROP_LIST]: (r, link) => {
    const names: string[] = [];
    const list = r.nested();
    while (list.next()) if (list.type === ifla.IFLA_ALT_IFNAME) names.push(list.text());
    if (names.length > 0) link.altNames = names;
  },
  [ifla.IFLA_PROTO_DOWN]: (r, link) => {
    if (r.u8() !== 0) link.protoDown = true;
  },
  [ifla.IFLA_PROMISCUITY]: (r, link) => {
    link.promiscuity = r.u32();
  },
  [ifla.IFLA_LINK_NETNSID]: (r, link) => {
    link.peerNamespaceId = r.i32();
  },
  [ifla.IFLA_LINKINFO]: (r, link) => decodeLinkInfo(r.nested(), link),
};

/**
 * The body of an RTM_NEWLINK (or RTM_DELLINK) message. A link has some sixty attributes, of which a dozen are decoded.
 * Keeping the others would be most of the cost, so that is done only with `keepUnknown`.
 */
export function decodeLink(body: NetlinkReader, keepUnknown = false): Link {
  const flags = body.u32(8);
  const link: MutableLink = {
    index: body.i32(4),
    name: '',
    mtuBytes: 0,
    flags,
    up: (flags & iff.IFF_UP) !== 0,
    operstate: 0,
    hardwareType: body.u16(2),
    promiscuity: 0,
  };
  const unknown: RawAttribute[] = [];
  const r = body.attributes(ifinfomsgBytes, 'link');
  while (r.next()) {
    const decode = attributeDecoders[r.type];
    if (decode) decode(r, link);
    // A message of family AF_BRIDGE is about a port: its flags are in IFLA_PROTINFO.
    else if (r.type === ifla.IFLA_PROTINFO && body.u8(0) === AF_BRIDGE) link.bridgePort = decodeBridgePort(r.nested());
    else if (keepUnknown) unknown.push(r.raw());
  }
  if (keepUnknown) link.unknown = unknown;
  return link;
}

function decodeLinkInfo(r: NetlinkReader, link: MutableLink): void {
  let portKind = '';
  while (r.next()) {
    if (r.type === ifla.IFLA_INFO_KIND) link.kind = r.text();
    else if (r.type === ifla.IFLA_INFO_DATA) link.kindData = r.bytes();
    else if (r.type === ifla.IFLA_INFO_SLAVE_KIND) portKind = r.text();
    else if (r.type === ifla.IFLA_INFO_SLAVE_DATA && portKind === 'bridge') {
      link.bridgePort = decodeBridgePort(r.nested());
    }
  }
}

function decodeBridgePort(r: NetlinkReader): BridgePort {
  const port = { state: 0, hairpin: false, learning: false, isolated: false };
  while (r.next()) {
    if (r.type === ifla.IFLA_BRPORT_STATE) port.state = r.u8();
    else if (r.type === ifla.IFLA_BRPORT_MODE) port.hairpin = r.u8() !== 0;
    else if (r.type === ifla.IFLA_BRPORT_LEARNING) port.learning = r.u8() !== 0;
    else if (r.type === ifla.IFLA_BRPORT_ISOLATED) port.isolated = r.u8() !== 0;
  }
  return port;
}
