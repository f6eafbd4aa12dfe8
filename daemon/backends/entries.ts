/**
 * The part of the kernel's network state that weftd manages, in the daemon's own terms: devices by name, entries by
 * content. `desired.ts` derives it from the cluster, `kernel.ts` reads it, `plan.ts` compares the two.
 */

import type { Encapsulation } from '../../linux/netlink/encapsulation.ts';
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
  /** Absent if the kind has none. */
  readonly mac?: Mac;
  readonly mtuBytes: number;
  /** Attributes of this kind only, in its codec's form. */
  readonly data: Data;
  /** The same object for all devices of a kind. */
  readonly rules: DeviceRules<Data>;
}

/** Compares a device of ours with existing ones. */
export interface DeviceRules<Data = unknown> {
  /** Why the device of this name and kind must be recreated, if it must. */
  difference(wanted: TunnelDevice<Data>, actual: ActualDevice<Data>): string | undefined;
  /** Why the kernel refuses the device while the other exists, and what to do; undefined if it does not. */
  clash(wanted: TunnelDevice<Data>, other: ActualDevice<Data>): string | undefined;
}

export interface DeviceAddress {
  readonly device: string;
  readonly prefix: Prefix;
}

/** The tunnel's ARP or NDP: the inner MAC of a peer's subnet address; on an IP tunnel, the peer's host. */
export interface NeighbourEntry {
  readonly device: string;
  readonly address: Address;
  readonly mac: Mac;
}

/** The host of an inner MAC. */
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
  /** The gateway counts as on the link, even without an address in its network. */
  readonly onlink: boolean;
  /** For devices that take the outer header from the route. */
  readonly encapsulation?: Encapsulation;
}

/** The desired state. */
export interface DesiredState {
  readonly devices: readonly TunnelDevice[];
  readonly addresses: readonly DeviceAddress[];
  readonly neighbours: readonly NeighbourEntry[];
  readonly fdb: readonly FdbEntry[];
  readonly routes: readonly RouteEntry[];
  /** Devices of an earlier configuration, to be removed. */
  readonly formerDevices: readonly string[];
  /** The cluster's networks, current and former: on other devices, routes outside them are never touched. */
  readonly networks: readonly Prefix[];
  /** Peers through which flannel has made routes, by flannel-routes.ts: those inside `networks` are the cluster's. */
  readonly flannelGateways: readonly Address[];
}

/** An actual link. */
export interface ActualDevice<Data = unknown> {
  readonly name: string;
  readonly index: number;
  readonly kind: string | undefined;
  readonly up: boolean;
  readonly mac: Mac | undefined;
  readonly mtuBytes: number;
  /** IFF_NOARP: the device uses no neighbours' MACs. */
  readonly noArp?: boolean;
  /** Somebody has switched off its carrier. */
  readonly protoDown?: boolean;
  /** Index of the bridge (bond, VRF) that it is a port of. */
  readonly master?: number | undefined;
  /** Attributes of its kind; absent if linux/netlink/tunnel.ts does not know the kind. */
  readonly data?: Data | undefined;
}

/** An actual entry. `oddity`: a foreign attribute, see oddities.ts; such an entry counts as a different one. */
interface Actual {
  readonly oddity?: string | undefined;
}

export interface ActualAddress extends DeviceAddress, Actual {
  /** The device's own address, if `prefix` is the far end's. */
  readonly local?: Address | undefined;
}

export interface ActualFdbEntry extends FdbEntry, Actual {
  /** Only if they differ from the device's own. */
  readonly port?: number | undefined;
  readonly vni?: number | undefined;
  readonly lower?: number | undefined;
}

export interface ActualRoute extends RouteEntry, Actual {
  /** RTPROT_* */
  readonly protocol: number;
  readonly metric: number;
}

/** The actual state. Addresses, neighbours and FDB entries only of the devices in question. */
export interface ActualState {
  readonly devices: readonly ActualDevice[];
  /** Without link-local ones, which are the kernel's. */
  readonly addresses: readonly ActualAddress[];
  /** Permanent ones: others appear and disappear by themselves. */
  readonly neighbours: readonly NeighbourEntry[];
  /** Permanent ones with a destination. */
  readonly fdb: readonly ActualFdbEntry[];
  /** Unicast routes with one gateway, or with an encapsulation, in the main table, anyone's. */
  readonly routes: readonly ActualRoute[];
}

/**
 * RTPROT_*, include/uapi/linux/rtnetlink.h; user space chooses numbers from 5 on. weftd marks its routes with its own, to
 * recognise them; flannel's carry RTPROT_BOOT.
 */
export const routeProtocol = { RTPROT_BOOT: 3, RTPROT_WEFT: 87 } as const;

/** Metric of a route that was added without one. */
export const defaultMetric = { 4: 0, 6: 1024 } as const;

/** A MAC, or for an IP tunnel the address of the peer's host. */
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

/** Whether two routes to one destination lead the same way. */
export const sameWay = (a: RouteEntry, b: RouteEntry): boolean =>
  a.device === b.device &&
  (a.gateway && b.gateway ? sameAddress(a.gateway, b.gateway) : a.gateway === b.gateway) &&
  (a.encapsulation && b.encapsulation
    ? sameEncapsulation(a.encapsulation, b.encapsulation)
    : a.encapsulation === b.encapsulation);

/** Why a device's local address differs from the desired one. */
export function addressDifference(is: Address | undefined, wanted: Address): string | undefined {
  if (is && sameAddress(is, wanted)) return undefined;
  return `its local address is ${is ? `"${formatAddress(is)}"` : 'unset'}, not "${formatAddress(wanted)}"`;
}

/** An FDB entry's own port or VNI. The kernel reports only values that differ from the device's. */
export function fdbOddity({ port, vni, lower }: Pick<ActualFdbEntry, 'port' | 'vni' | 'lower'>): string | undefined {
  if (port !== undefined) return `port ${port}`;
  if (vni !== undefined) return `VNI ${vni}`;
  return lower === undefined ? undefined : 'another interface';
}
