/**
 * The kernel's connection tracking, as far as Weft needs it: include/uapi/linux/netfilter/nfnetlink_conntrack.h.
 * Requests go over a netlink connection of protocol NETLINK_NETFILTER.
 */

import type { Address, Family } from '../net/address.ts';
import { makeQuery, makeRequest, type NetlinkQuery, type NetlinkRequest } from './netlink/connection.ts';
import { encodeRawAttributes, type NetlinkReader, type RawAttribute } from './netlink/wire.ts';
import { encodeNfgenmsg, nfgenmsgBytes, nfproto } from './nft/table.ts';

/** enum cntl_msg_types, with NFNL_SUBSYS_CTNETLINK in the upper byte */
const conntrackMessage = { IPCTNL_MSG_CT_GET: 0x0101, IPCTNL_MSG_CT_DELETE: 0x0102 } as const;

/** enum ctattr_type */
const cta = { TUPLE_ORIG: 1, TUPLE_REPLY: 2, STATUS: 3, ID: 12, ZONE: 18, STATUS_MASK: 26 } as const;
const CTA_TUPLE_IP = 1;
/** enum ctattr_ip */
const ctaIp = { 4: { source: 1, destination: 2 }, 6: { source: 3, destination: 4 } } as const;

/** include/uapi/linux/netfilter/nf_conntrack_common.h: enum ip_conntrack_status */
const IPS_SRC_NAT = 1 << 4;

/** The addresses of a connection's packets, in one direction. */
export interface Direction {
  readonly source: Address;
  readonly destination: Address;
}

export interface Connection {
  readonly family: Family;
  /** The addresses of its first packet. */
  readonly original: Direction;
  /** The addresses of answers, before they are translated back. */
  readonly reply: Direction;
  readonly isSourceTranslated: boolean;
  /** The attributes that identify the connection. */
  readonly identity: readonly RawAttribute[];
}

const protocolFamily = { 4: nfproto.ip, 6: nfproto.ip6 } as const;

function decodeDirection(tuple: NetlinkReader, family: Family): Direction | undefined {
  let source: Address | undefined;
  let destination: Address | undefined;
  while (tuple.next()) {
    if (tuple.type !== CTA_TUPLE_IP) continue;
    const ip = tuple.nested();
    while (ip.next()) {
      if (ip.type === ctaIp[family].source) source = { family, bytes: ip.bytes() };
      else if (ip.type === ctaIp[family].destination) destination = { family, bytes: ip.bytes() };
    }
  }
  return source && destination && { source, destination };
}

function decodeConnection(body: NetlinkReader, family: Family): Connection | undefined {
  let original: Direction | undefined;
  let reply: Direction | undefined;
  let status = 0;
  const identity: RawAttribute[] = [];
  const r = body.attributes(nfgenmsgBytes, 'connection');
  while (r.next()) {
    if (r.type === cta.TUPLE_ORIG || r.type === cta.ID || r.type === cta.ZONE) identity.push(r.raw());
    if (r.type === cta.TUPLE_ORIG) original = decodeDirection(r.nested(), family);
    else if (r.type === cta.TUPLE_REPLY) reply = decodeDirection(r.nested(), family);
    else if (r.type === cta.STATUS) status = r.u32be();
  }
  if (!original || !reply) return undefined;
  return { family, original, reply, isSourceTranslated: (status & IPS_SRC_NAT) !== 0, identity };
}

/**
 * The connections of a family whose source address is not translated. Newer kernels filter by that themselves.
 * @param wanted may be called for other connections as well; an exception ends the list
 */
export const dumpUntranslated = (
  family: Family,
  wanted: (connection: Connection) => boolean,
): NetlinkQuery<Connection> =>
  makeQuery(
    conntrackMessage.IPCTNL_MSG_CT_GET,
    () => `list the IPv${family} connections`,
    (writer) => {
      encodeNfgenmsg(writer, protocolFamily[family]);
      writer.attributeU32be(cta.STATUS, 0);
      writer.attributeU32be(cta.STATUS_MASK, IPS_SRC_NAT);
    },
    (_type, body) => {
      const connection = decodeConnection(body, family);
      return connection && wanted(connection) && !connection.isSourceTranslated ? connection : undefined;
    },
  );

/** Deletes the connection, so that its next packet starts a new one. ENOENT if it is gone. */
export const deleteConnection = ({ family, identity }: Connection): NetlinkRequest =>
  makeRequest(
    conntrackMessage.IPCTNL_MSG_CT_DELETE,
    0,
    () => 'forget a connection',
    (writer) => {
      encodeNfgenmsg(writer, protocolFamily[family]);
      encodeRawAttributes(writer, identity);
    },
  );
