/**
 * VLANs of bridges' ports: messages of family AF_BRIDGE with IFLA_AF_SPEC, include/uapi/linux/if_bridge.h. They take
 * effect on a bridge that filters by VLAN (`createBridge`'s vlanFiltering). EOPNOTSUPP: the kernel was built without
 * VLAN filtering.
 */

import type { Action } from '../errors.ts';
import { makeQuery, makeRequest, type NetlinkQuery, type NetlinkRequest } from './connection.ts';
import { rtmLink } from './link.ts';
import type { NetlinkReader, NetlinkWriter } from './wire.ts';

const AF_BRIDGE = 7;
const RTM_SETLINK = 19;
const ifinfomsgBytes = 16;
/** enum IFLA_*, IFLA_BRIDGE_* inside IFLA_AF_SPEC, RTEXT_FILTER_BRVLAN of IFLA_EXT_MASK */
const attribute = { IFLA_AF_SPEC: 26, IFLA_EXT_MASK: 29, IFLA_BRIDGE_VLAN_INFO: 2, RTEXT_FILTER_BRVLAN: 2 } as const;
/** BRIDGE_VLAN_INFO_* of `struct bridge_vlan_info` */
const info = { PVID: 2, UNTAGGED: 4, RANGE_BEGIN: 8, RANGE_END: 16 } as const;

/** The VLAN of every new port. */
export const defaultVlan = 1;

export interface PortVlan {
  readonly vlan: number;
  /** Untagged frames that come in belong to this VLAN; its frames leave untagged. */
  readonly native: boolean;
}

function encodePort(writer: NetlinkWriter, index: number): void {
  writer.u8(AF_BRIDGE);
  writer.zeros(3);
  writer.i32(index);
  writer.zeros(8);
}

function encodeVlan(writer: NetlinkWriter, vlan: number, flags: number): void {
  const start = writer.beginValue(attribute.IFLA_BRIDGE_VLAN_INFO);
  writer.u16(flags);
  writer.u16(vlan);
  writer.end(start);
}

function changeVlans(type: number, action: () => Action, index: number, encode: (writer: NetlinkWriter) => void) {
  return makeRequest(type, 0, action, (writer) => {
    encodePort(writer, index);
    const start = writer.beginValue(attribute.IFLA_AF_SPEC);
    encode(writer);
    writer.end(start);
  });
}

/** Adds the port to the VLANs, or updates its flags in them. Consecutive numbers are sent as one range. */
export const addPortVlans = (index: number, vlans: readonly PortVlan[]): NetlinkRequest =>
  changeVlans(
    RTM_SETLINK,
    () => ['put port', index, `into the VLANs ${vlans.map(({ vlan }) => vlan).join(', ')}`],
    index,
    (writer) => {
      const tagged = vlans.filter(({ native }) => !native).map(({ vlan }) => vlan);
      tagged.sort((a, b) => a - b);
      for (let from = 0; from < tagged.length; ) {
        let to = from;
        while (tagged[to + 1] === tagged[to]! + 1) to++;
        if (from === to) encodeVlan(writer, tagged[from]!, 0);
        else {
          encodeVlan(writer, tagged[from]!, info.RANGE_BEGIN);
          encodeVlan(writer, tagged[to]!, info.RANGE_END);
        }
        from = to + 1;
      }
      for (const { vlan, native } of vlans) if (native) encodeVlan(writer, vlan, info.PVID | info.UNTAGGED);
    },
  );

/** Removes the port from a VLAN. It is no error if it is not a member. */
export const removePortVlan = (index: number, vlan: number): NetlinkRequest =>
  changeVlans(
    rtmLink.RTM_DELLINK,
    () => ['take port', index, `out of VLAN ${vlan}`],
    index,
    (writer) => encodeVlan(writer, vlan, 0),
  );

/** The VLANs in an answer of family AF_BRIDGE. */
export function decodePortVlans(body: NetlinkReader): { index: number; vlans: PortVlan[] } {
  const vlans: PortVlan[] = [];
  const r = body.attributes(ifinfomsgBytes, 'bridge port');
  while (r.next()) {
    if (r.type !== attribute.IFLA_AF_SPEC) continue;
    const spec = r.nested();
    let begin = 0;
    while (spec.next()) {
      if (spec.type !== attribute.IFLA_BRIDGE_VLAN_INFO) continue;
      const flags = spec.u16(0);
      const vlan = spec.u16(2);
      if (flags & info.RANGE_BEGIN) begin = vlan;
      else
        for (let each = flags & info.RANGE_END ? begin : vlan; each <= vlan; each++) {
          vlans.push({ vlan: each, native: (flags & info.PVID) !== 0 });
        }
    }
  }
  return { index: body.i32(4), vlans };
}

/** The VLANs of all ports of all bridges. */
export const dumpPortVlans = (): NetlinkQuery<{ index: number; vlans: PortVlan[] }> =>
  makeQuery(
    rtmLink.RTM_GETLINK,
    () => "list the VLANs of bridges' ports",
    (writer) => {
      encodePort(writer, 0);
      writer.attributeU32(attribute.IFLA_EXT_MASK, attribute.RTEXT_FILTER_BRVLAN);
    },
    (_type, body) => decodePortVlans(body),
  );
