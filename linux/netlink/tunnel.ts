/** Tunnel devices: which codec and which module go with a kind of link. */

import type { NetlinkRequest } from './connection.ts';
import { decodeGreData, decodeIpipData, encodeGre6Data, encodeGreData, encodeIpipData } from './ip-tunnel.ts';
import { createLink, type Link, type NewLink } from './link.ts';
import { decodeVxlanData, encodeVxlanData } from './vxlan.ts';
import { NetlinkReader, type NetlinkWriter } from './wire.ts';

interface TunnelKind {
  /** The kernel module that makes such devices. */
  readonly module: string;
  /** The content of IFLA_INFO_DATA. */
  encode(writer: NetlinkWriter, data: unknown): void;
  decode(r: NetlinkReader): unknown;
}

/** By IFLA_INFO_KIND. */
const kinds: Readonly<Record<string, TunnelKind>> = {
  vxlan: { module: 'vxlan', encode: encodeVxlanData, decode: decodeVxlanData },
  ipip: { module: 'ipip', encode: encodeIpipData, decode: decodeIpipData },
  gre: { module: 'ip_gre', encode: encodeGreData, decode: decodeGreData },
  ip6gre: { module: 'ip6_gre', encode: encodeGre6Data, decode: decodeGreData },
};

export const isTunnelKind = (kind: string | undefined): boolean => kind !== undefined && Object.hasOwn(kinds, kind);

/** The kernel module that makes such devices. */
export const moduleOf = (kind: string): string => kinds[kind]?.module ?? kind;

/** Makes a tunnel device. EEXIST where the name, or what tells it from others, is taken. */
export function createTunnel(kind: string, link: NewLink, data: unknown): NetlinkRequest {
  const codec = kinds[kind];
  if (!codec) throw new TypeError(`"${kind}" is no tunnel's kind`);
  return createLink(kind, link, (writer) => codec.encode(writer, data));
}

/** The settings of the link's kind; undefined if it is no tunnel. */
export const tunnelOf = ({ kind, kindData }: Link): unknown =>
  kindData && isTunnelKind(kind)
    ? kinds[kind!]!.decode(NetlinkReader.of(`${kind} data`, kindData).nested())
    : undefined;
