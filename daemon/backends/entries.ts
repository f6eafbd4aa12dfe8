/**
 * The part of the kernel's network state that weftd looks after, in the daemon's own words: devices by name, entries
 * by what they say. `desired.ts` derives it from the cluster, `kernel.ts` reads it, `plan.ts` compares the two.
 */

import { type Address, formatAddress } from '../../net/address.ts';
import { formatMac, type Mac } from '../../net/mac.ts';
import { formatPrefix, networkOf, type Prefix } from '../../net/prefix.ts';

/** A VXLAN device (RFC 7348) with one tunnel endpoint. */
export interface VxlanDevice {
  readonly name: string;
  readonly vni: number;
  /** UDP port. */
  readonly port: number;
  /** Source address of the tunnel's packets. */
  readonly local: Address;
  /** Index of the interface that carries the tunnel. */
  readonly lower: number;
  readonly mac: Mac;
  readonly mtuBytes: number;
  readonly learning: boolean;
  readonly gbp: boolean;
}

export interface DeviceAddress {
  readonly device: string;
  readonly prefix: Prefix;
}

/** The tunnel's ARP or NDP: which inner MAC answers for a peer's subnet address. */
export interface NeighbourEntry {
  readonly device: string;
  readonly address: Address;
  readonly mac: Mac;
}

/** Behind which host an inner MAC is. */
export interface FdbEntry {
  readonly device: string;
  readonly mac: Mac;
  readonly destination: Address;
}

/** A unicast route with a gateway, in the main table. */
export interface RouteEntry {
  readonly destination: Prefix;
  readonly gateway: Address;
  readonly device: string;
  /** The gateway is taken to be on the link although no address says so. */
  readonly onlink: boolean;
}

/** What should be. */
export interface DesiredState {
  readonly devices: readonly VxlanDevice[];
  readonly addresses: readonly DeviceAddress[];
  readonly neighbours: readonly NeighbourEntry[];
  readonly fdb: readonly FdbEntry[];
  readonly routes: readonly RouteEntry[];
  /** Devices that an earlier configuration had; they go. */
  readonly formerDevices: readonly string[];
  /** The cluster's networks, present and past: on other devices, no route outside them is ever touched. */
  readonly networks: readonly Prefix[];
  /** Addresses of hosts that are or were peers: routes by way of them inside `networks` are the cluster's. */
  readonly peerAddresses: readonly Address[];
}

/** A link as it is. */
export interface ActualDevice {
  readonly name: string;
  readonly index: number;
  readonly kind: string | undefined;
  readonly up: boolean;
  readonly mac: Mac | undefined;
  readonly mtuBytes: number;
  /** IFF_NOARP: neighbours' MACs are not asked for, nor used. */
  readonly noArp?: boolean;
  /** Somebody has taken its carrier. */
  readonly protoDown?: boolean;
  /** Index of the bridge (bond, VRF) that it is a port of. */
  readonly master?: number | undefined;
  readonly vxlan:
    | {
        readonly vni: number;
        readonly port: number;
        readonly local: Address | undefined;
        readonly lower: number | undefined;
        readonly learning: boolean;
        readonly gbp: boolean;
        readonly oddity?: string | undefined;
      }
    | undefined;
}

/** An entry as it is. `oddity`: what is wrong with it besides what it says, see oddities.ts; it counts as another one. */
interface Actual {
  readonly oddity?: string | undefined;
}

export interface ActualAddress extends DeviceAddress, Actual {
  /** The device's own address, where `prefix` is the far end's. */
  readonly local?: Address | undefined;
}

export interface ActualFdbEntry extends FdbEntry, Actual {
  /** As far as they are not the device's own. */
  readonly port?: number | undefined;
  readonly vni?: number | undefined;
  readonly lower?: number | undefined;
}

export interface ActualRoute extends RouteEntry, Actual {
  /** RTPROT_* */
  readonly protocol: number;
  readonly metric: number;
}

/** What is. Addresses, neighbours and FDB entries are those of the devices in question only. */
export interface ActualState {
  readonly devices: readonly ActualDevice[];
  /** Without link-local ones: those are the kernel's. */
  readonly addresses: readonly ActualAddress[];
  /** Permanent ones: others come and go by themselves. */
  readonly neighbours: readonly NeighbourEntry[];
  /** Permanent ones with a destination. */
  readonly fdb: readonly ActualFdbEntry[];
  /** Unicast routes with one gateway in the main table, anyone's. */
  readonly routes: readonly ActualRoute[];
}

/**
 * RTPROT_*, include/uapi/linux/rtnetlink.h; the numbers from 5 on are for user space to choose. Routes that weftd adds
 * are marked with its own, so that it knows them again; flannel's carry RTPROT_BOOT.
 */
export const routeProtocol = { RTPROT_BOOT: 3, RTPROT_WEFT: 87 } as const;

/** Metric of a route that was added without one. */
export const defaultMetric = { 4: 0, 6: 1024 } as const;

export const formatNeighbour = (entry: NeighbourEntry): string =>
  `neighbour "${formatAddress(entry.address)}" (${formatMac(entry.mac)}) on "${entry.device}"`;

export const formatFdbEntry = (entry: FdbEntry): string =>
  `FDB entry "${formatMac(entry.mac)}" to "${formatAddress(entry.destination)}" on "${entry.device}"`;

export const formatRoute = (route: RouteEntry): string =>
  `route "${formatPrefix(networkOf(route.destination))}" via "${formatAddress(route.gateway)}" on "${route.device}"`;
