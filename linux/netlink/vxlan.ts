/** VXLAN devices (RFC 7348): IFLA_VXLAN_* of include/uapi/linux/if_link.h. */

import type { Address } from '../../net/address.ts';
import { encodeRawAttributes, type NetlinkReader, type NetlinkWriter, type RawAttribute } from './wire.ts';

/** include/uapi/linux/if_link.h: enum IFLA_VXLAN_* */
export const iflaVxlan = {
  IFLA_VXLAN_ID: 1,
  IFLA_VXLAN_GROUP: 2,
  IFLA_VXLAN_LINK: 3,
  IFLA_VXLAN_LOCAL: 4,
  IFLA_VXLAN_TTL: 5,
  IFLA_VXLAN_TOS: 6,
  IFLA_VXLAN_LEARNING: 7,
  IFLA_VXLAN_LIMIT: 9,
  IFLA_VXLAN_PROXY: 11,
  IFLA_VXLAN_RSC: 12,
  IFLA_VXLAN_PORT: 15,
  IFLA_VXLAN_GROUP6: 16,
  IFLA_VXLAN_LOCAL6: 17,
  IFLA_VXLAN_REMCSUM_TX: 21,
  IFLA_VXLAN_REMCSUM_RX: 22,
  IFLA_VXLAN_GBP: 23,
  IFLA_VXLAN_COLLECT_METADATA: 25,
  IFLA_VXLAN_GPE: 27,
  IFLA_VXLAN_TTL_INHERIT: 28,
  IFLA_VXLAN_DF: 29,
} as const;

/** Most settings cannot be changed later. To change them, delete the device and make it again. */
export interface VxlanData {
  /** VXLAN network identifier, 24 bits. */
  readonly vni: number;
  /** UDP destination port. */
  readonly port: number;
  /** Source address of the outer packets. */
  readonly local?: Address;
  /** Index of the outgoing interface of the outer packets. */
  readonly lower?: number;
  /** Whether the device learns remote hosts from what it receives. */
  readonly learning: boolean;
  /** The group policy extension. */
  readonly gbp: boolean;
  /** Other attributes, undecoded. */
  readonly unknown?: readonly RawAttribute[];
}

/** The content of IFLA_INFO_DATA. */
export function encodeVxlanData(writer: NetlinkWriter, vxlan: VxlanData): void {
  writer.attributeU32(iflaVxlan.IFLA_VXLAN_ID, vxlan.vni);
  if (vxlan.lower !== undefined) writer.attributeU32(iflaVxlan.IFLA_VXLAN_LINK, vxlan.lower);
  if (vxlan.local) {
    const type = vxlan.local.family === 4 ? iflaVxlan.IFLA_VXLAN_LOCAL : iflaVxlan.IFLA_VXLAN_LOCAL6;
    writer.attributeBytes(type, vxlan.local.bytes);
  }
  writer.attributeU8(iflaVxlan.IFLA_VXLAN_LEARNING, vxlan.learning ? 1 : 0);
  writer.attributeU16be(iflaVxlan.IFLA_VXLAN_PORT, vxlan.port);
  // A flag: its presence is its value.
  if (vxlan.gbp) writer.attributeBytes(iflaVxlan.IFLA_VXLAN_GBP, new Uint8Array(0));
  encodeRawAttributes(writer, vxlan.unknown);
}

export function decodeVxlanData(r: NetlinkReader): VxlanData {
  const unknown: RawAttribute[] = [];
  const data: { -readonly [K in keyof VxlanData]: VxlanData[K] } = {
    vni: 0,
    port: 0,
    learning: false,
    gbp: false,
    unknown,
  };
  while (r.next()) {
    switch (r.type) {
      case iflaVxlan.IFLA_VXLAN_ID:
        data.vni = r.u32();
        break;
      case iflaVxlan.IFLA_VXLAN_LINK:
        // 0 means "none"; then the attribute is left out.
        if (r.u32() !== 0) data.lower = r.u32();
        break;
      case iflaVxlan.IFLA_VXLAN_LOCAL:
        data.local = { family: 4, bytes: r.bytes(0, 4) };
        break;
      case iflaVxlan.IFLA_VXLAN_LOCAL6:
        data.local = { family: 6, bytes: r.bytes(0, 16) };
        break;
      case iflaVxlan.IFLA_VXLAN_LEARNING:
        data.learning = r.u8() !== 0;
        break;
      case iflaVxlan.IFLA_VXLAN_PORT:
        data.port = r.u16be();
        break;
      case iflaVxlan.IFLA_VXLAN_GBP:
        data.gbp = true;
        break;
      default:
        unknown.push(r.raw());
    }
  }
  return data;
}
