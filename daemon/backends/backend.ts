/**
 * The seam that a backend plugs into: a backend is a way for packets to travel from host to host. It says what the
 * kernel should have, and never touches it: the plan compares, the kernel adapter applies, healing and problems follow.
 *
 * Left for those that need it: secrets beside the lease's data, and a generic netlink peer entry (WireGuard); listening
 * by a poll where the kernel sends no events; the source address that inner packets are bound to; a target to probe.
 */

import type { BackendConfig, BackendFormat } from '../../cluster/backend-format.ts';
import type { PerFamily } from '../../cluster/network-config.ts';
import type { Neighbour } from '../../linux/netlink/neighbour.ts';
import type { Address, Family } from '../../net/address.ts';
import type { Mac } from '../../net/mac.ts';
import type { Prefix } from '../../net/prefix.ts';
import type { FdbEntry, NeighbourEntry, RouteEntry, TunnelDevice } from './entries.ts';

export type { BackendConfig } from '../../cluster/backend-format.ts';

/** How the packets between hosts look from outside: what the packet filter knows them by. */
export interface OuterHeader {
  /** IPPROTO_* of include/uapi/linux/in.h: 17 UDP, 4 IPIP, 41 IPV6, 47 GRE. */
  readonly ipProtocol: 17 | 4 | 41 | 47;
  /** Destination port, where the protocol is UDP. */
  readonly udpPort?: number;
  /** VXLAN network identifier. */
  readonly vni?: number;
  /** GRE key; absent where the packets carry none, or where the device takes packets with any key. */
  readonly key?: number;
}

/** The interface that leads to the other hosts. */
export interface OuterInterface {
  readonly index: number;
  readonly name: string;
  readonly mtuBytes: number;
  readonly addresses: PerFamily<Address>;
}

/** This node, as its devices and entries depend on it. */
export interface NodeSide<Config, LeaseData> {
  readonly config: Config;
  readonly external: OuterInterface;
  /** Our own lease's data. */
  readonly leaseData: PerFamily<LeaseData>;
}

/** A peer's share of a family. */
export interface PeerSide<LeaseData> {
  /** The peer's public address. */
  readonly host: Address;
  /** Its subnet, without host bits. */
  readonly subnet: Prefix;
  readonly leaseData: LeaseData | undefined;
  /** The peer is on a network that this host is connected to, so that it can be a gateway. */
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

/** Something that one host only can have, such as a MAC. Several leases of that host share it, with its entries. */
export interface Claim {
  /** Tells it from others of the family. */
  readonly key: number | string;
  /** It in words: `MAC "02:…"`. */
  readonly text: string;
  readonly entries: Partial<Entries>;
}

export interface PeerEntries extends Partial<Entries> {
  readonly path: PeerPath;
  readonly claim?: Claim;
}

/** What may be known already of this node's data for a device. */
export interface KnownData<LeaseData> {
  /** The surest first: what this process said before, then our lease. */
  readonly said: readonly (LeaseData | undefined)[];
  /** MACs of the device: the remembered one, then the one it has. */
  readonly macs: readonly (Mac | undefined)[];
  /** Whether another host's lease has data like this. */
  readonly isTaken: (test: (others: LeaseData) => boolean) => boolean;
  readonly randomMacBytes: () => Uint8Array;
}

export interface Prepared<LeaseData> {
  readonly leaseData: LeaseData;
  /** Remembered with the device's name across restarts. */
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
  /** Undefined where it needs no device. */
  deviceName(config: Config, family: Family): string | undefined;
  /** What our lease says for the device; absent where a lease has no data. */
  prepare?(config: Config, known: KnownData<LeaseData>): Prepared<LeaseData>;
  /** The device for a family that `deviceName` names, with `mtuBytes` for packets inside. */
  device?(node: NodeSide<Config, LeaseData>, family: Family, mtuBytes: number): TunnelDevice;
  /** Bytes that it adds to a packet, over an outer network of the family. */
  overheadBytes(config: Config, family: Family): number;

  /** A peer's entries, or why there can be none. */
  entries(node: NodeSide<Config, LeaseData>, peer: PeerSide<LeaseData>): PeerEntries | string;
  /** Whether packets of peers may come in as they are, by the external interface. */
  routesDirectly(config: Config): boolean;
  /** Undefined where packets of this family travel as they are: nothing tells them from others. */
  outer(config: Config, family: Family): OuterHeader | undefined;
  /**
   * Whether an event of the bridge family tells of an entry that is as it should be; the kernel does not say who caused
   * it. Absent: no such entry should be.
   * @param hostOf the host that a claim's key leads to
   */
  expects?(entry: Neighbour, isThere: boolean, hostOf: (key: Claim['key']) => Address | undefined): boolean;
}

/** The plain route to a peer that is a neighbour. */
export const directRoute = <C, L>({ external }: NodeSide<C, L>, { subnet, host }: PeerSide<L>): PeerEntries => ({
  path: 'direct',
  routes: [{ destination: subnet, gateway: host, device: external.name, onlink: false }],
});
