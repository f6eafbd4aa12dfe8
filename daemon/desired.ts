/**
 * What the kernel's state should be, from what the cluster says: a pure derivation.
 *
 * Every family in use has a tunnel of its own, over the same family: IPv4 subnets travel over the hosts' IPv4 addresses,
 * IPv6 subnets over their IPv6 ones. The shape on a node is flannel's, so that either takes the other's place.
 */

import type { Lease } from '../cluster/lease.ts';
import type { HostGatewayBackend, PerFamily, VxlanBackend } from '../cluster/network-config.ts';
import { type Address, type Family, formatAddress, isUnspecified, sameAddress } from '../net/address.ts';
import { formatMac, type Mac } from '../net/mac.ts';
import { vxlanOverheadBytes } from '../net/mtu.ts';
import { formatPrefix, hostPrefix, networkOf, type Prefix, prefixContains, prefixesOverlap } from '../net/prefix.ts';
import type { ExternalInterface } from './interface.ts';
import type { DesiredState, DeviceAddress, FdbEntry, NeighbourEntry, RouteEntry, VxlanDevice } from './kernel-state.ts';

/** The backends that weftd runs itself. */
export type OwnBackend = VxlanBackend | HostGatewayBackend;

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

/** Collects the entries of the peers, and refuses what clashes with a peer before it. */
class PeerTable {
  readonly neighbours: NeighbourEntry[] = [];
  readonly fdb: FdbEntry[] = [];
  readonly routes: RouteEntry[] = [];
  private readonly overlay: Overlay;
  private readonly leaseOfSubnet = new Map<string, string>();
  private readonly holderOfMac = new Map<string, { readonly lease: string; readonly host: Address }>();

  constructor(overlay: Overlay) {
    this.overlay = overlay;
  }

  /** Adds the peer's entries for a family, or says why not. */
  add(peer: Lease, family: Family): { path: PeerPath } | { problem: string } {
    const { overlay } = this;
    const { backend, external } = overlay;
    const subnet = peer.subnets[family];
    const host = peer.publicAddresses[family];
    if (!subnet) return { problem: `it has no IPv${family} subnet` };
    if (!host || isUnspecified(host)) return { problem: `it has no public IPv${family} address` };
    const ownPublic = external.publicAddresses[family];
    const ownLocal = external.addresses[family];
    if ((ownPublic && sameAddress(host, ownPublic)) || (ownLocal && sameAddress(host, ownLocal))) {
      return { problem: `its public address "${formatAddress(host)}" is this host's own` };
    }
    if (prefixesOverlap(subnet, overlay.subnets[family]!)) {
      return { problem: `its subnet "${formatPrefix(subnet)}" overlaps with this host's own` };
    }
    // A route to it would swallow the tunnel's own packets, or cut this host off from its network.
    const swallowed = [host, ownLocal].find((address) => address && prefixContains(subnet, address));
    if (swallowed) {
      return {
        problem: `its subnet "${formatPrefix(subnet)}" contains the host address "${formatAddress(swallowed)}"`,
      };
    }
    const subnetKey = formatPrefix(networkOf(subnet));
    const other = this.leaseOfSubnet.get(subnetKey);
    if (other !== undefined) return { problem: `lease "${other}" has the same subnet` };

    if (backend.type === 'host-gw' && !overlay.isNeighbour(host)) {
      return { problem: `its address "${formatAddress(host)}" is on no network of this host, which host-gw needs` };
    }
    if (backend.type === 'host-gw' || (backend.directRouting && overlay.isNeighbour(host))) {
      this.leaseOfSubnet.set(subnetKey, peer.key);
      this.routes.push({ destination: networkOf(subnet), gateway: host, device: external.name, onlink: false });
      return { path: 'direct' };
    }

    const mac = peer.backendData[family]?.vtepMac;
    if (!mac) return { problem: `it tells no MAC of its IPv${family} tunnel device` };
    const ownMac = overlay.macs[family];
    if (ownMac && formatMac(ownMac) === formatMac(mac)) {
      return { problem: `the MAC of its tunnel device, "${formatMac(mac)}", is this host's own` };
    }
    const macKey = `${family} ${formatMac(mac)}`;
    // Two leases of one host share its tunnel device; two hosts cannot.
    const holder = this.holderOfMac.get(macKey);
    if (holder && !sameAddress(holder.host, host)) {
      return { problem: `lease "${holder.lease}" of another host has the same MAC "${formatMac(mac)}"` };
    }
    this.leaseOfSubnet.set(subnetKey, peer.key);
    const device = deviceName(family, backend.vni);
    const endpoint = networkOf(subnet).address;
    this.neighbours.push({ device, address: endpoint, mac });
    if (!holder) {
      this.holderOfMac.set(macKey, { lease: peer.key, host });
      this.fdb.push({ device, mac, destination: host });
    }
    this.routes.push({ destination: networkOf(subnet), gateway: endpoint, device, onlink: true });
    return { path: 'tunnel' };
  }
}

function placePeer(table: PeerTable, peer: Lease, backendType: string, families: readonly Family[]): PeerOutcome {
  if (peer.backendType !== backendType) {
    return { peer, paths: {}, problem: `its backend is "${peer.backendType}", this host's is "${backendType}"` };
  }
  const paths: { -readonly [family in Family]?: PeerPath } = {};
  const problems: string[] = [];
  for (const family of families) {
    const result = table.add(peer, family);
    if ('path' in result) paths[family] = result.path;
    else problems.push(result.problem);
  }
  return { peer, paths, problem: problems.length > 0 ? problems.join('; ') : undefined };
}

export function deriveDesired(overlay: Overlay): Desired {
  const families = familiesOf(overlay.networks);
  const { backend, external } = overlay;
  const { devices, addresses } = ownDevices(overlay, families);
  const table = new PeerTable(overlay);
  const peers = overlay.peers.map((peer) => placePeer(table, peer, backend.type, families));
  const current = new Set(devices.map(({ name }) => name));
  return {
    state: {
      devices,
      addresses,
      neighbours: table.neighbours,
      fdb: table.fdb,
      routes: table.routes,
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
    peers,
    mtuBytes: containerMtu(backend, families, external.mtuBytes),
    mtuProblem:
      backend.type === 'vxlan' && (backend.mtuBytes ?? 0) > external.mtuBytes
        ? `The network config's Backend.MTU is ${backend.mtuBytes}, but "${external.name}" takes ${external.mtuBytes} only, which counts; raise the interface's MTU, or lower the config's`
        : undefined,
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
