/**
 * What the kernel's state should be, from what the cluster says: a pure derivation.
 *
 * Every family in use has a tunnel of its own, over the same family: IPv4 subnets travel over the hosts' IPv4 addresses,
 * IPv6 subnets over their IPv6 ones. The shape on a node is flannel's, so that either takes the other's place.
 */

import type { Lease } from '../../cluster/lease.ts';
import type { PerFamily } from '../../cluster/network-config.ts';
import { type Address, type Family, formatAddress, isUnspecified, sameAddress } from '../../net/address.ts';
import { formatMac, type Mac, macKey, sameMac } from '../../net/mac.ts';
import { vxlanOverheadBytes } from '../../net/mtu.ts';
import {
  formatPrefix,
  hostPrefix,
  networkKey,
  networkOf,
  type Prefix,
  prefixContains,
  prefixesOverlap,
} from '../../net/prefix.ts';
import {
  type ActualDevice,
  type ActualState,
  type DesiredState,
  type DeviceAddress,
  defaultMetric,
  type FdbEntry,
  type NeighbourEntry,
  type RouteEntry,
  routeProtocol,
  type VxlanDevice,
} from '../backends/entries.ts';
import type { OwnBackend } from '../backends/map.ts';
import type { ExternalInterface } from '../host/external-interface.ts';

export interface Overlay {
  /** Families in use, with the cluster's network of each. */
  readonly networks: PerFamily<Prefix>;
  readonly backend: OwnBackend;
  readonly subnets: PerFamily<Prefix>;
  /** MACs of our own tunnel devices. */
  readonly macs: PerFamily<Mac>;
  readonly external: ExternalInterface;
  readonly peers: readonly Lease[];
  /** Whether a host is on a network that this host is connected to, so that it can be a gateway. */
  readonly isNeighbour: (address: Address) => boolean;
  /** Names of tunnel devices that weftd made before. */
  readonly formerDevices: readonly string[];
  /** Networks that the cluster had before. */
  readonly formerNetworks: readonly Prefix[];
  /** Addresses that peers had before. */
  readonly formerPeerAddresses: readonly Address[];
}

/** How a peer is reached. */
export type PeerPath = 'tunnel' | 'direct';

export interface PeerOutcome {
  readonly peer: Lease;
  /** By family. Empty where the peer is left out. */
  readonly paths: PerFamily<PeerPath>;
  /** Why it is left out, wholly or for a family. */
  readonly problem: string | undefined;
}

export interface Desired {
  readonly state: DesiredState;
  readonly peers: readonly PeerOutcome[];
  /** MTU of a container's interface. */
  readonly mtuBytes: number;
  /** Why it is not what the network config says. */
  readonly mtuProblem: string | undefined;
  /** How this came about, for the changes that follow. */
  readonly table: PeerTable;
}

/** flannel's names, so that each finds the other's device: `flannel.1`, `flannel-v6.1`. */
export const deviceName = (family: Family, vni: number): string =>
  family === 4 ? `flannel.${vni}` : `flannel-v6.${vni}`;

export const familiesOf = (networks: PerFamily<Prefix>): Family[] =>
  ([4, 6] as const).filter((family) => networks[family] !== undefined);

/** The tunnel devices' MTU: what the outer network takes less the overhead of the family. */
const tunnelMtu = (outerMtuBytes: number, family: Family): number => outerMtuBytes - vxlanOverheadBytes(family);

/** MTU of the outer network: the config's, unless the interface takes less; the kernel would refuse more. */
const outerMtu = (backend: OwnBackend, externalMtuBytes: number): number =>
  Math.min((backend.type === 'vxlan' ? backend.mtuBytes : undefined) ?? externalMtuBytes, externalMtuBytes);

/**
 * MTU of a container's interface: that of the narrowest path among the families in use, for one interface carries all
 * of them.
 */
export function containerMtu(backend: OwnBackend, families: readonly Family[], externalMtuBytes: number): number {
  const outerMtuBytes = outerMtu(backend, externalMtuBytes);
  if (backend.type === 'host-gw') return outerMtuBytes;
  return Math.min(...families.map((family) => tunnelMtu(outerMtuBytes, family)));
}

function ownDevices(
  overlay: Overlay,
  families: readonly Family[],
): { devices: VxlanDevice[]; addresses: DeviceAddress[] } {
  const { backend, external } = overlay;
  const devices: VxlanDevice[] = [];
  const addresses: DeviceAddress[] = [];
  if (backend.type !== 'vxlan') return { devices, addresses };
  for (const family of families) {
    const name = deviceName(family, backend.vni);
    devices.push({
      name,
      vni: backend.vni,
      port: backend.port,
      local: external.addresses[family]!,
      lower: external.index,
      mac: overlay.macs[family]!,
      mtuBytes: tunnelMtu(outerMtu(backend, external.mtuBytes), family),
      learning: backend.learning,
      gbp: backend.gbp,
    });
    // The subnet's network address: nothing else on this node has it, and peers know it from the subnet alone.
    addresses.push({ device: name, prefix: hostPrefix(networkOf(overlay.subnets[family]!).address) });
  }
  return { devices, addresses };
}

/** What a peer comes to. */
export interface PlacedPeer extends PeerOutcome {
  readonly neighbours: readonly NeighbourEntry[];
  readonly fdb: readonly FdbEntry[];
  readonly routes: readonly RouteEntry[];
}

type MutablePlace = {
  paths: { [family in Family]?: PeerPath };
  neighbours: NeighbourEntry[];
  fdb: FdbEntry[];
  routes: RouteEntry[];
};

/** What changes of some peers come to, when the others are as they were. */
export interface PeerChanges {
  readonly removed: readonly PlacedPeer[];
  readonly added: readonly PlacedPeer[];
}

/** The peers with the entries of each. Refuses what clashes with a peer before it. */
export class PeerTable {
  private readonly overlay: Overlay;
  private readonly families: readonly Family[];
  private readonly placed = new Map<Lease, PlacedPeer>();
  private readonly leaseOfSubnet = new Map<number | string, string>();
  private readonly holderOfMac: PerFamily<Map<number, { readonly lease: string; readonly host: Address }>> = {
    4: new Map(),
    6: new Map(),
  };
  /** Leases that want the same as another one, or that share it. */
  private readonly contested = new Set<string>();
  private lists: { readonly [K in 'neighbours' | 'fdb' | 'routes']?: PlacedPeer[K] } = {};

  constructor(overlay: Overlay) {
    this.overlay = overlay;
    this.families = familiesOf(overlay.networks);
    for (const peer of overlay.peers) this.add(peer);
  }

  get peers(): PlacedPeer[] {
    return [...this.placed.values()];
  }

  /** All of one kind, as they are now; the same list until something changes. */
  entries<K extends 'neighbours' | 'fdb' | 'routes'>(kind: K): PlacedPeer[K] {
    const known = this.lists[kind];
    if (known) return known;
    const list = this.peers.flatMap((peer) => peer[kind] as readonly unknown[]) as unknown as PlacedPeer[K];
    this.lists = { ...this.lists, [kind]: list };
    return list;
  }

  /** The host behind a tunnel's MAC. */
  hostOfMac(family: Family, mac: Mac): Address | undefined {
    return this.holderOfMac[family]!.get(macKey(mac))?.host;
  }

  /**
   * Takes peers away and adds others, as if all had been derived anew. Undefined where these changes bear on other
   * peers, by a subnet or a MAC that several want: then all is to be derived anew, and this table is of no more use.
   */
  change(removed: readonly Lease[], added: readonly Lease[]): PeerChanges | undefined {
    const contestedBefore = this.contested.size;
    this.lists = {};
    const gone: PlacedPeer[] = [];
    for (const lease of removed) {
      const place = this.placed.get(lease);
      if (!place || this.contested.has(lease.ownerId)) return undefined;
      gone.push(place);
      this.placed.delete(lease);
      for (const { destination } of place.routes) this.leaseOfSubnet.delete(networkKey(destination));
      for (const { mac, destination } of place.fdb) this.holderOfMac[destination.family]!.delete(macKey(mac));
    }
    const come = added.map((lease) => this.add(lease));
    return this.contested.size === contestedBefore ? { removed: gone, added: come } : undefined;
  }

  private add(peer: Lease): PlacedPeer {
    const place: MutablePlace = { paths: {}, neighbours: [], fdb: [], routes: [] };
    const placed: PlacedPeer = { peer, ...place, problem: this.place(peer, place) };
    this.placed.set(peer, placed);
    return placed;
  }

  /** @returns why the peer is left out, wholly or for a family */
  private place(peer: Lease, place: MutablePlace): string | undefined {
    const backendType = this.overlay.backend.type;
    if (peer.backendType !== backendType) {
      return `its backend is "${peer.backendType}", this host's is "${backendType}"`;
    }
    const problems = this.families.flatMap((family) => this.placeFamily(peer, family, place) ?? []);
    return problems.length > 0 ? problems.join('; ') : undefined;
  }

  /** Makes the peer's entries for a family, or says why not. */
  private placeFamily(peer: Lease, family: Family, place: MutablePlace): string | undefined {
    const { overlay } = this;
    const { backend, external } = overlay;
    const leased = peer.subnets[family];
    const host = peer.publicAddresses[family];
    if (!leased) return `it has no IPv${family} subnet`;
    if (!host || isUnspecified(host)) return `it has no public IPv${family} address`;
    const ownPublic = external.publicAddresses[family];
    const ownLocal = external.addresses[family];
    if ((ownPublic && sameAddress(host, ownPublic)) || (ownLocal && sameAddress(host, ownLocal))) {
      return `its public address "${formatAddress(host)}" is this host's own`;
    }
    if (prefixesOverlap(leased, overlay.subnets[family]!)) {
      return `its subnet "${formatPrefix(leased)}" overlaps with this host's own`;
    }
    // A route to it would swallow the tunnel's own packets, or cut this host off from its network.
    const swallowed = [host, ownLocal].find((address) => address && prefixContains(leased, address));
    if (swallowed) {
      return `its subnet "${formatPrefix(leased)}" contains the host address "${formatAddress(swallowed)}"`;
    }
    const destination = networkOf(leased);
    const subnetKey = networkKey(destination);
    const other = this.leaseOfSubnet.get(subnetKey);
    if (other !== undefined) {
      this.contest(other, peer.ownerId);
      return `lease "${other}" has the same subnet`;
    }

    if (backend.type === 'host-gw' && !overlay.isNeighbour(host)) {
      return `its address "${formatAddress(host)}" is on no network of this host, which host-gw needs`;
    }
    if (backend.type === 'host-gw' || (backend.directRouting && overlay.isNeighbour(host))) {
      this.leaseOfSubnet.set(subnetKey, peer.ownerId);
      place.routes.push({ destination, gateway: host, device: external.name, onlink: false });
      place.paths[family] = 'direct';
      return undefined;
    }

    const mac = peer.backendData[family]?.vtepMac;
    if (!mac) return `it tells no MAC of its IPv${family} tunnel device`;
    const ownMac = overlay.macs[family];
    if (ownMac && sameMac(ownMac, mac)) {
      return `the MAC of its tunnel device, "${formatMac(mac)}", is this host's own`;
    }
    const holders = this.holderOfMac[family]!;
    const key = macKey(mac);
    // Two leases of one host share its tunnel device; two hosts cannot.
    const holder = holders.get(key);
    if (holder) this.contest(holder.lease, peer.ownerId);
    if (holder && !sameAddress(holder.host, host)) {
      return `lease "${holder.lease}" of another host has the same MAC "${formatMac(mac)}"`;
    }
    this.leaseOfSubnet.set(subnetKey, peer.ownerId);
    const device = deviceName(family, backend.vni);
    const endpoint = destination.address;
    place.neighbours.push({ device, address: endpoint, mac });
    if (!holder) {
      holders.set(key, { lease: peer.ownerId, host });
      place.fdb.push({ device, mac, destination: host });
    }
    place.routes.push({ destination, gateway: endpoint, device, onlink: true });
    place.paths[family] = 'tunnel';
    return undefined;
  }

  private contest(...leases: readonly string[]): void {
    for (const lease of leases) this.contested.add(lease);
  }
}

export function deriveDesired(overlay: Overlay): Desired {
  const families = familiesOf(overlay.networks);
  const { backend, external } = overlay;
  const { devices, addresses } = ownDevices(overlay, families);
  const table = new PeerTable(overlay);
  const current = new Set(devices.map(({ name }) => name));
  return {
    state: {
      devices,
      addresses,
      get neighbours() {
        return table.entries('neighbours');
      },
      get fdb() {
        return table.entries('fdb');
      },
      get routes() {
        return table.entries('routes');
      },
      formerDevices: overlay.formerDevices.filter((name) => !current.has(name)),
      networks: [...families.map((family) => overlay.networks[family]!), ...overlay.formerNetworks],
      // Not those of peers with a backend that is not ours: the way to them may be of another program's making.
      peerAddresses: [
        ...overlay.peers
          .filter(({ backendType }) => backendType === 'vxlan' || backendType === 'host-gw')
          .flatMap(({ publicAddresses }) => Object.values(publicAddresses)),
        ...overlay.formerPeerAddresses,
      ],
    },
    get peers() {
      return table.peers;
    },
    table,
    mtuBytes: containerMtu(backend, families, external.mtuBytes),
    mtuProblem:
      backend.type === 'vxlan' && (backend.mtuBytes ?? 0) > external.mtuBytes
        ? `The network config's Backend.MTU is ${backend.mtuBytes}, but "${external.name}" takes ${external.mtuBytes} only, which counts; raise the interface's MTU, or lower the config's`
        : undefined,
  };
}

/** A device that is as it should be. */
const asWanted = ({ name, mac, mtuBytes, ...vxlan }: VxlanDevice): ActualDevice => ({
  name,
  index: 0,
  kind: 'vxlan',
  up: true,
  mac,
  mtuBytes,
  vxlan,
});

/**
 * What should be and what is, as far as changed peers are concerned, when all was as it should be before: a comparison
 * of the two gives the same steps for them as one of everything would.
 */
export function narrowToPeers(
  state: DesiredState,
  { removed, added }: PeerChanges,
): { desired: DesiredState; actual: ActualState } {
  const routes = removed.flatMap((peer) => peer.routes);
  return {
    desired: {
      devices: state.devices,
      networks: state.networks,
      formerDevices: [],
      addresses: [],
      neighbours: added.flatMap((peer) => peer.neighbours),
      fdb: added.flatMap((peer) => peer.fdb),
      routes: added.flatMap((peer) => peer.routes),
      // Whose the routes are that are to go is known: they are ours.
      peerAddresses: [],
    },
    actual: {
      devices: state.devices.map(asWanted),
      addresses: [],
      neighbours: removed.flatMap((peer) => peer.neighbours),
      fdb: removed.flatMap((peer) => peer.fdb),
      routes: routes.map((route) => ({
        ...route,
        protocol: routeProtocol.RTPROT_WEFT,
        metric: defaultMetric[route.destination.address.family],
      })),
    },
  };
}

/** What is left when this node is gone: nothing but the names of what has to be removed. */
export const nothingDesired = (
  networks: readonly Prefix[],
  formerDevices: readonly string[],
  peerAddresses: readonly Address[],
): DesiredState => ({
  devices: [],
  addresses: [],
  neighbours: [],
  fdb: [],
  routes: [],
  formerDevices,
  networks,
  peerAddresses,
});
