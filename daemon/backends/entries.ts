/**
 * The part of the kernel's network state that weftd looks after, in the daemon's own words: devices by name, entries
 * by what they say. `desired.ts` derives it from the cluster, `kernel.ts` reads it, `plan.ts` compares the two.
 */

import type { Encapsulation } from '../../linux/netlink/route.ts';
import { type Address, formatAddress, sameAddress } from '../../net/address.ts';
import { formatMac, type Mac } from '../../net/mac.ts';
import { formatPrefix, networkOf, type Prefix } from '../../net/prefix.ts';

/** A tunnel device of a kind that linux/netlink/tunnel.ts knows, with one tunnel endpoint. */
export interface TunnelDevice<Data = unknown> {
  readonly name: string;
  /** IFLA_INFO_KIND: `vxlan`, … */
  readonly kind: string;
  /** Source address of the tunnel's packets. */
  readonly local: Address;
  /** Absent where the kind has none. */
  readonly mac?: Mac;
  readonly mtuBytes: number;
  /** What only this kind has, as its codec takes it. */
  readonly data: Data;
  /** The same object for all devices of a kind. */
  readonly rules: DeviceRules<Data>;
}

/** How a device of ours stands to those that are there. */
export interface DeviceRules<Data = unknown> {
  /** Why the device of this name and kind has to be made anew, if it has. */
  difference(wanted: TunnelDevice<Data>, actual: ActualDevice<Data>): string | undefined;
  /** Why the kernel makes no such device while the other is there, and what to do; undefined where it does. */
  clash(wanted: TunnelDevice<Data>, other: ActualDevice<Data>): string | undefined;
}

export interface DeviceAddress {
  readonly device: string;
  readonly prefix: Prefix;
}

/** The tunnel's ARP or NDP: which inner MAC answers for a peer's subnet address; or which host, on an IP tunnel. */
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

/** A unicast route with a gateway or with an encapsulation, in the main table. */
export interface RouteEntry {
  readonly destination: Prefix;
  readonly gateway?: Address;
  readonly device: string;
  /** The gateway is taken to be on the link although no address says so. */
  readonly onlink: boolean;
  /** Where the device is told by the route how to wrap its packets. */
  readonly encapsulation?: Encapsulation;
}

/** What should be. */
export interface DesiredState {
  readonly devices: readonly TunnelDevice[];
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
export interface ActualDevice<Data = unknown> {
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
  /** What only its kind has; absent where linux/netlink/tunnel.ts does not know the kind. */
  readonly data?: Data | undefined;
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
  /** Unicast routes with one gateway, or with an encapsulation, in the main table, anyone's. */
  readonly routes: readonly ActualRoute[];
}

/**
 * RTPROT_*, include/uapi/linux/rtnetlink.h; the numbers from 5 on are for user space to choose. Routes that weftd adds
 * are marked with its own, so that it knows them again; flannel's carry RTPROT_BOOT.
 */
export const routeProtocol = { RTPROT_BOOT: 3, RTPROT_WEFT: 87 } as const;

/** Metric of a route that was added without one. */
export const defaultMetric = { 4: 0, 6: 1024 } as const;

/** A MAC, or the address of the host that an IP tunnel leads to. */
const formatLinkAddress = (bytes: Mac): string =>
  bytes.length === 6 ? formatMac(bytes) : formatAddress({ family: bytes.length === 4 ? 4 : 6, bytes });

export const formatNeighbour = (entry: NeighbourEntry): string =>
  `neighbour "${formatAddress(entry.address)}" (${formatLinkAddress(entry.mac)}) on "${entry.device}"`;

export const formatFdbEntry = (entry: FdbEntry): string =>
  `FDB entry "${formatMac(entry.mac)}" to "${formatAddress(entry.destination)}" on "${entry.device}"`;

export function formatRoute({ destination, gateway, device, encapsulation }: RouteEntry): string {
  const way = gateway ?? encapsulation?.destination;
  return `route "${formatPrefix(networkOf(destination))}"${way ? ` via "${formatAddress(way)}"` : ''} on "${device}"`;
}

const sameEncapsulation = (a: Encapsulation, b: Encapsulation): boolean =>
  sameAddress(a.source, b.source) && sameAddress(a.destination, b.destination) && a.key === b.key;

/** Whether two routes lead the same way; both are to one destination. */
export const sameWay = (a: RouteEntry, b: RouteEntry): boolean =>
  a.device === b.device &&
  (a.gateway && b.gateway ? sameAddress(a.gateway, b.gateway) : a.gateway === b.gateway) &&
  (a.encapsulation && b.encapsulation
    ? sameEncapsulation(a.encapsulation, b.encapsulation)
    : a.encapsulation === b.encapsulation);

/** Why a device's local address is not the wanted one. */
export function addressDifference(is: Address | undefined, wanted: Address): string | undefined {
  if (is && sameAddress(is, wanted)) return undefined;
  return `its local address is ${is ? `"${formatAddress(is)}"` : 'unset'}, not "${formatAddress(wanted)}"`;
}

/** Where else an FDB entry leads than its destination says. The kernel tells only what is not the device's own. */
export function fdbOddity({ port, vni, lower }: Pick<ActualFdbEntry, 'port' | 'vni' | 'lower'>): string | undefined {
  if (port !== undefined) return `port ${port}`;
  if (vni !== undefined) return `VNI ${vni}`;
  return lower === undefined ? undefined : 'another interface';
}
