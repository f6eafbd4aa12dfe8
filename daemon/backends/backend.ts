/**
 * The interface of a backend. A backend is a way for packets to travel from host to host. It describes the kernel's desired
 * state and never touches the kernel. overlay/plan.ts compares that state with the kernel, overlay/kernel.ts applies the
 * difference.
 *
 * A later backend may need more members here. WireGuard needs a secret beside the lease's data, and peer entries of generic
 * netlink. Others may need polling if the kernel sends no events, a source address for inner packets, or a target to probe.
 */

import type { BackendConfig, BackendFormat } from '../../cluster/backend-format.ts';
import type { PerFamily } from '../../cluster/network-config.ts';
import type { Neighbour } from '../../linux/netlink/neighbour.ts';
import type { Address, Family } from '../../net/address.ts';
import type { Mac } from '../../net/mac.ts';
import type { Prefix } from '../../net/prefix.ts';
import type { FdbEntry, NeighbourEntry, RouteEntry, TunnelDevice } from './entries.ts';

export type { BackendConfig } from '../../cluster/backend-format.ts';

/** The outer header of packets between hosts, by which the packet filter recognises them. */
export interface OuterHeader {
  /** IPPROTO_* of include/uapi/linux/in.h: 17 UDP, 4 IPIP, 41 IPV6, 47 GRE. */
  readonly ipProtocol: 17 | 4 | 41 | 47;
  /** Destination port, if the protocol is UDP. */
  readonly udpPort?: number;
  /** VXLAN network identifier. */
  readonly vni?: number;
  /** GRE key; absent if the packets carry none; 'any' if the device accepts packets with every key and without one. */
  readonly key?: number | 'any';
}

/** The interface that leads to the other hosts. */
export interface OuterInterface {
  readonly index: number;
  readonly name: string;
  readonly mtuBytes: number;
  readonly addresses: PerFamily<Address>;
}

/** This node, as far as its devices and entries depend on it. */
export interface NodeSide<Config, LeaseData> {
  readonly config: Config;
  readonly external: OuterInterface;
  /** Our own lease's data. */
  readonly leaseData: PerFamily<LeaseData>;
}

/** A peer's part of a family. */
export interface PeerSide<LeaseData> {
  /** The peer's public address. */
  readonly host: Address;
  /** Its subnet, without host bits. */
  readonly subnet: Prefix;
  readonly leaseData: LeaseData | undefined;
  /** Whether the peer is on a network that this host is connected to, so that it can be a gateway. */
  readonly isNeighbour: boolean;
}

/** How a peer is reached. */
export type PeerPath = 'tunnel' | 'direct';

/** Lists of entries by kind. The plan sets them in this order, and removes them in reverse. */
export interface Entries {
  readonly neighbours: readonly NeighbourEntry[];
  readonly fdb: readonly FdbEntry[];
  readonly routes: readonly RouteEntry[];
}

/** Tells something that only one host can have, such as a MAC, from others of the family. */
export type ClaimKey = number | string;

/** How peers' entries make claims. Several leases of one host share a claim and its entries. */
export interface Claims {
  /** Entries of this kind belong to the claim. */
  readonly kind: keyof Entries;
  /** The text of the claim that these entries make: `MAC "02:…"`. */
  format(entries: PeerEntries): string;
}

export interface PeerEntries extends Partial<Entries> {
  readonly path: PeerPath;
  readonly claim?: ClaimKey;
}

/** Data that this node already has for a device. */
export interface KnownData<LeaseData> {
  /** The most reliable first: this process's earlier data, then our lease. */
  readonly said: readonly (LeaseData | undefined)[];
  /** MACs of the device: the remembered one, then its current one. */
  readonly macs: readonly (Mac | undefined)[];
  /** Whether another host's lease has data like this. */
  readonly isTaken: (test: (others: LeaseData) => boolean) => boolean;
  readonly randomMacBytes: () => Uint8Array;
}

export interface Prepared<LeaseData> {
  readonly leaseData: LeaseData;
  /** Remembered across restarts, by the device's name. */
  readonly mac: Mac;
}

/** Methods take the config, the lease data and the device data that the same backend has made. */
export interface Backend<Config extends BackendConfig = BackendConfig, LeaseData = unknown> extends BackendFormat {
  parseConfig: (...args: Parameters<BackendFormat['parseConfig']>) => Config;
  formatConfig(config: Config): Readonly<Record<string, unknown>>;
  formatLeaseData?(data: LeaseData): unknown;

  /** How two networks of one host are kept apart, as advice. */
  readonly apart: string;
  /** Whether a device of this name is a tunnel of this backend: another network's, or flannel's. */
  isDeviceName(name: string): boolean;
  /** Undefined if it needs no device. */
  deviceName(config: Config, family: Family): string | undefined;
  /** Our lease's data for the device; absent if leases have no data. */
  prepare?(config: Config, known: KnownData<LeaseData>): Prepared<LeaseData>;
  /** The device for a family that `deviceName` names, with `mtuBytes` for packets inside. */
  device?(node: NodeSide<Config, LeaseData>, family: Family, mtuBytes: number): TunnelDevice;
  /** Bytes that it adds to a packet, over an outer network of the family. */
  overheadBytes(config: Config, family: Family): number;

  /** The address of a node's own tunnel device, by its subnet; absent if devices have none of the subnet. */
  tunnelAddress?(subnet: Prefix): Address;

  /** Present if peers' entries make claims. */
  readonly claims?: Claims;
  /** A peer's entries, or the reason why there are none. */
  entries(node: NodeSide<Config, LeaseData>, peer: PeerSide<LeaseData>): PeerEntries | string;
  /** Whether peers' packets may arrive without a tunnel, through the external interface. */
  routesDirectly(config: Config): boolean;
  /** Undefined if packets of this family travel without an outer header. */
  outer(config: Config, family: Family): OuterHeader | undefined;
  /**
   * Whether an event of the bridge family is about an entry in its desired state; the kernel does not name the author.
   * Absent: no such entry should exist.
   * @param hostOf the host that a claim's key leads to
   */
  expects?(entry: Neighbour, isThere: boolean, hostOf: (key: ClaimKey) => Address | undefined): boolean;
}

/** The plain route to a peer that is a neighbour. */
export const directRoute = <C, L>({ external }: NodeSide<C, L>, { subnet, host }: PeerSide<L>): PeerEntries => ({
  path: 'direct',
  routes: [{ destination: subnet, gateway: host, device: external.name, onlink: false }],
});
