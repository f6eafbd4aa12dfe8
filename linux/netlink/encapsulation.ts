/** Routes that have packets wrapped: RTA_ENCAP of include/uapi/linux/rtnetlink.h. A file of its own: ADD does not load it. */

import type { Address } from '../../net/address.ts';
import { type Route, rta } from './route.ts';
import { NetlinkReader, NetlinkWriter, NLA_F_NESTED, NLA_TYPE_MASK, type RawAttribute } from './wire.ts';

/** include/uapi/linux/lwtunnel.h: LWTUNNEL_IP_* and LWTUNNEL_IP6_* have the same numbers; TUNNEL_KEY of if_tunnel.h. */
const lwtunnel = {
  LWTUNNEL_ENCAP_IP: 2,
  LWTUNNEL_ENCAP_IP6: 4,
  LWTUNNEL_IP_ID: 1,
  LWTUNNEL_IP_DST: 2,
  LWTUNNEL_IP_SRC: 3,
  LWTUNNEL_IP_FLAGS: 6,
  TUNNEL_KEY: 4,
} as const;

/** How an `external` tunnel device is to wrap the packets that take the route. */
export interface Encapsulation {
  readonly source: Address;
  readonly destination: Address;
  /** The tunnel's id: a key, or a VNI. Absent: packets carry none. */
  readonly key?: number;
}

/** The attributes of a route that has packets wrapped so. */
export function encapsulationAttributes({ source, destination, key }: Encapsulation): RawAttribute[] {
  const type = source.family === 4 ? lwtunnel.LWTUNNEL_ENCAP_IP : lwtunnel.LWTUNNEL_ENCAP_IP6;
  const writer = new NetlinkWriter(128);
  if (key !== undefined) {
    writer.attributeU64be(lwtunnel.LWTUNNEL_IP_ID, key);
    writer.attributeU16be(lwtunnel.LWTUNNEL_IP_FLAGS, lwtunnel.TUNNEL_KEY);
  }
  writer.attributeBytes(lwtunnel.LWTUNNEL_IP_DST, destination.bytes);
  writer.attributeBytes(lwtunnel.LWTUNNEL_IP_SRC, source.bytes);
  return [
    { type: rta.RTA_ENCAP_TYPE, value: Uint8Array.of(type, 0) },
    { type: rta.RTA_ENCAP | NLA_F_NESTED, value: new Uint8Array(writer.buffer, 0, writer.length).slice() },
  ];
}

/** How the route has packets wrapped; undefined where it does not, or in anything but IPv4 and IPv6. */
export function encapsulationOf({ unknown = [] }: Route): Encapsulation | undefined {
  const nest = unknown.find(({ type }) => (type & NLA_TYPE_MASK) === rta.RTA_ENCAP);
  const kind = nest && unknown.find(({ type }) => type === rta.RTA_ENCAP_TYPE)?.value[0];
  const family = kind === lwtunnel.LWTUNNEL_ENCAP_IP ? 4 : kind === lwtunnel.LWTUNNEL_ENCAP_IP6 ? 6 : undefined;
  if (!nest || !family) return undefined;
  const size = family === 4 ? 4 : 16;
  let source: Address | undefined;
  let destination: Address | undefined;
  let [key, flags] = [0, 0];
  const r = NetlinkReader.of('encapsulation', nest.value).nested();
  while (r.next()) {
    if (r.type === lwtunnel.LWTUNNEL_IP_ID) key = r.u64be();
    else if (r.type === lwtunnel.LWTUNNEL_IP_FLAGS) flags = r.u16be();
    else if (r.type === lwtunnel.LWTUNNEL_IP_DST) destination = { family, bytes: r.bytes(0, size) };
    else if (r.type === lwtunnel.LWTUNNEL_IP_SRC) source = { family, bytes: r.bytes(0, size) };
  }
  return source && destination && { source, destination, ...(flags & lwtunnel.TUNNEL_KEY ? { key } : {}) };
}
