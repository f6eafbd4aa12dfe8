/**
 * The desired state of the kernel, derived from the cluster's state. Pure.
 *
 * Every family in use has a tunnel of its own, over the same family: IPv4 subnets travel over the hosts' IPv4 addresses,
 * IPv6 subnets over their IPv6 ones. Devices and entries are as flannel's, so that either can replace the other.
 */

import { DisjointSubnets } from '../../cluster/disjoint-subnets.ts';
import { excerpt } from '../../cluster/excerpt.ts';
import { compareSeniority, type Lease } from '../../cluster/lease.ts';
import { type PerFamily, valuesOf } from '../../cluster/network-config.ts';
import { type Address, type Family, isUnspecified, sameAddress } from '../../net/address.ts';
import { formatPrefix, hostPrefix, networkOf, type Prefix, samePrefix } from '../../net/prefix.ts';
import type { Backend, BackendConfig, ClaimKey, Entries, NodeSide, PeerPath } from '../backends/backend.ts';
import type { DesiredState, DeviceAddress, TunnelDevice } from '../backends/entries.ts';
import { type Backends, backends as ownBackends } from '../backends/map.ts';
import type { Placement, Placements } from '../filter/part.ts';
import type { ExternalInterface } from '../host/external-interface.ts';
import type { Surroundings } from '../host/surroundings.ts';
import { addressRefusal, subnetRefusal } from './admission.ts';
import { PeerRooms } from './peer-rooms.ts';
import { placementSourceOf, placementsOf } from './placements.ts';
import { type Rival, rivalOf } from './rivals.ts';

export interface Overlay {
  /** Families in use, with the cluster's network of each. */
  readonly networks: PerFamily<Prefix>;
  /** The length of every node's subnet, by the config. */
  readonly subnetLengths: PerFamily<number>;
  readonly backend: BackendConfig;
  /** The backends that weftd runs. */
  readonly backends: Backends;
  readonly subnets: PerFamily<Prefix>;
  /** Our own lease's place among all, by age. */
  readonly age: Pick<Lease, 'seniority' | 'ownerId'>;
  /** Our own lease's data of the backend. */
  readonly leaseData: PerFamily<unknown>;
  readonly external: ExternalInterface;
  /** What no peer may take over. */
  readonly surroundings: Surroundings;
  readonly peers: readonly Lease[];
  /** Whether a host is on a network that this host is connected to, so that it can be a gateway. */
  readonly isNeighbour: (address: Address) => boolean;
  /** Names of tunnel devices that weftd made before. */
  readonly formerDevices: readonly string[];
  /** The cluster's former networks. */
  readonly formerNetworks: readonly Prefix[];
  /** The subnets that this node had before. */
  readonly formerSubnets: readonly Prefix[];
  /** The peers through which flannel has made routes, of those that are accepted. */
  readonly flannelGateways: (peers: () => readonly PeerOutcome[]) => readonly Address[];
}

export interface PeerOutcome {
  readonly peer: Lease;
  /** By family. Empty if the peer is left out. */
  readonly paths: PerFamily<PeerPath>;
  /** Why it is left out, entirely or for a family. */
  readonly problem: string | undefined;
  /** Set where it wants the same as this node's own lease. */
  readonly rival?: Rival;
}

export interface Desired {
  readonly state: DesiredState;
  readonly peers: readonly PeerOutcome[];
  /** Of the peers, by their outcomes alone: without the kernel's refusals. */
  readonly peerCounts: PeerCounts;
  /** MTU of a container's interface. */
  readonly mtuBytes: number;
  /** Why it differs from the network config. */
  readonly mtuProblem: string | undefined;
  /** The derivation, for later changes. */
  readonly table: PeerTable;
}

export interface PeerCounts {
  readonly total: number;
  readonly programmed: number;
  readonly withProblem: number;
}

export const familiesOf = (networks: PerFamily<Prefix>): Family[] =>
  ([4, 6] as const).filter((family) => networks[family] !== undefined);

/** MTU of the outer network: the config's, unless the interface's is smaller; the kernel would refuse a larger one. */
const outerMtu = ({ mtuBytes }: BackendConfig, externalMtuBytes: number): number =>
  Math.min(mtuBytes ?? externalMtuBytes, externalMtuBytes);

/**
 * MTU of a container's interface: that of the narrowest path among the families in use, for one interface carries all
 * of them.
 */
export function containerMtu(
  config: BackendConfig,
  families: readonly Family[],
  externalMtuBytes: number,
  backends: Backends = ownBackends,
): number {
  const backend = backends.get(config.type)!;
  const overheads = families.map((family) => backend.overheadBytes(config, family));
  return outerMtu(config, externalMtuBytes) - Math.max(0, ...overheads);
}

function ownDevices(
  backend: Backend,
  node: NodeSide<BackendConfig, unknown>,
  subnets: PerFamily<Prefix>,
  families: readonly Family[],
): { devices: TunnelDevice[]; addresses: DeviceAddress[] } {
  const { config, external } = node;
  const devices: TunnelDevice[] = [];
  const addresses: DeviceAddress[] = [];
  for (const family of families) {
    const mtuBytes = outerMtu(config, external.mtuBytes) - backend.overheadBytes(config, family);
    const device = backend.device?.(node, family, mtuBytes);
    if (!device) continue;
    devices.push(device);
    // The subnet's network address: nothing else on this node has it, and peers know it from the subnet alone.
    addresses.push({ device: device.name, prefix: hostPrefix(networkOf(subnets[family]!).address) });
  }
  return { devices, addresses };
}

/** A peer with its entries. There are thousands: what most of them lack takes no object of its own. */
export interface PlacedPeer extends PeerOutcome, Entries {
  /** The claims that it made first. */
  readonly claim4: ClaimKey | undefined;
  readonly claim6: ClaimKey | undefined;
}

const entryKinds = ['neighbours', 'fdb', 'routes'] as const satisfies readonly (keyof Entries)[];
const claimOf = { 4: 'claim4', 6: 'claim6' } as const satisfies Record<Family, keyof PlacedPeer>;

type MutablePlace = { -readonly [K in keyof PlacedPeer]: PlacedPeer[K] };

/** Most peers have one list of a kind, which is kept as it is: with thousands of peers, copies are memory. */
const joined = <T>(list: readonly T[], further: readonly T[]): readonly T[] =>
  list.length === 0 ? further : [...list, ...further];

function addEntries<K extends keyof Entries>(place: MutablePlace, kind: K, { [kind]: entries }: Partial<Entries>) {
  if (entries) place[kind] = joined<unknown>(place[kind], entries) as MutablePlace[K];
}

/** Shared by all peers that have none of a kind. */
const none = [] as const;
const noPaths = {} as const;
const onePath = {
  4: { tunnel: { 4: 'tunnel' }, direct: { 4: 'direct' } },
  6: { tunnel: { 6: 'tunnel' }, direct: { 6: 'direct' } },
} as const satisfies Record<Family, Record<PeerPath, PeerOutcome['paths']>>;

/** The result of changes of some peers, with the others unchanged. */
export interface PeerChanges {
  readonly removed: readonly PlacedPeer[];
  readonly added: readonly PlacedPeer[];
}

/** The peers with their entries. Refuses entries that conflict with an older lease's. */
export class PeerTable implements Placements {
  readonly #overlay: Overlay;
  readonly #backend: Backend;
  readonly #node: NodeSide<BackendConfig, unknown>;
  readonly #families: readonly Family[];
  readonly #placed = new Map<Lease, PlacedPeer>();
  #subnets = { 4: new DisjointSubnets(), 6: new DisjointSubnets() };
  /** The lease that made a claim first. */
  readonly #holders: PerFamily<Map<ClaimKey, Lease>> = {
    4: new Map(),
    6: new Map(),
  };
  #rooms: PeerRooms;
  /** Leases that want or share the same as another one. */
  readonly #contested = new Set<string>();
  #programmed = 0;
  #withProblem = 0;
  #lists: Partial<Entries> = {};

  constructor(overlay: Overlay, backend: Backend, node: NodeSide<BackendConfig, unknown>) {
    this.#overlay = overlay;
    this.#backend = backend;
    this.#node = node;
    this.#families = familiesOf(overlay.networks);
    this.#rooms = this.#emptyRooms();
    for (const peer of overlay.peers) this.#add(peer);
    if (this.#contested.size > 0 || this.#rooms.isCrowded) this.#placeOlderFirst();
  }

  #emptyRooms(): PeerRooms {
    return new PeerRooms(this.#overlay.networks, this.#overlay.subnetLengths);
  }

  /**
   * The older lease wins, whatever the order of the list: a newcomer takes nothing over, and a restart does not help it. Where
   * nothing is contested, the order does not matter.
   */
  #placeOlderFirst(): void {
    this.#subnets = { 4: new DisjointSubnets(), 6: new DisjointSubnets() };
    this.#rooms = this.#emptyRooms();
    for (const holders of valuesOf(this.#holders)) holders.clear();
    this.#programmed = 0;
    this.#withProblem = 0;
    // A key that is there already keeps its place in a Map: the order of the list stays.
    for (const peer of [...this.#overlay.peers].sort(compareSeniority)) this.#add(peer);
  }

  get peers(): PlacedPeer[] {
    return [...this.#placed.values()];
  }

  /** Asked for every second: without a look at each of thousands. */
  get counts(): PeerCounts {
    return { total: this.#placed.size, programmed: this.#programmed, withProblem: this.#withProblem };
  }

  #count({ problem, paths }: PlacedPeer, step: 1 | -1): void {
    if (problem !== undefined) this.#withProblem += step;
    else if (paths !== noPaths) this.#programmed += step;
  }

  /** All current entries of one kind; the same list until something changes. */
  entries<K extends keyof Entries>(kind: K): Entries[K] {
    const known = this.#lists[kind];
    if (known) return known;
    const list = this.peers.flatMap((peer) => peer[kind] as readonly unknown[]) as unknown as Entries[K];
    this.#lists = { ...this.#lists, [kind]: list };
    return list;
  }

  get placementSource(): readonly unknown[] {
    return placementSourceOf(this.peers);
  }

  get placements(): readonly Placement[] {
    return placementsOf(this.peers);
  }

  /** Whether an address is in a peer's subnet. All neighbours of the tunnels are. */
  covers(address: Address): boolean {
    return this.#subnets[address.family].find(hostPrefix(address)) !== undefined;
  }

  /** The host whose claim this is. */
  hostOf(family: Family, key: ClaimKey): Address | undefined {
    return this.#holders[family]!.get(key)?.publicAddresses[family];
  }

  /**
   * Removes peers and adds others, with the same result as a full derivation. Undefined if the changes affect other peers,
   * by a subnet or a claim that several have: then derive everything again, and discard this table.
   */
  change(removed: readonly Lease[], added: readonly Lease[]): PeerChanges | undefined {
    const contestedBefore = this.#contested.size;
    const { isCrowded } = this.#rooms;
    this.#lists = {};
    if ([...removed, ...added].some((lease) => this.#rooms.movesOthers(lease))) return undefined;
    const gone: PlacedPeer[] = [];
    for (const lease of removed) {
      const place = this.#placed.get(lease);
      if (!place || this.#contested.has(lease.ownerId)) return undefined;
      gone.push(place);
      this.#placed.delete(lease);
      this.#count(place, -1);
      for (const { destination } of place.routes) {
        this.#subnets[destination.address.family].remove(destination);
        this.#rooms.remove(destination);
      }
      for (const family of this.#families) {
        const claim = place[claimOf[family]];
        if (claim !== undefined) this.#holders[family]!.delete(claim);
      }
    }
    const come = added.map((lease) => this.#add(lease));
    const isSame = this.#contested.size === contestedBefore && this.#rooms.isCrowded === isCrowded;
    return isSame ? { removed: gone, added: come } : undefined;
  }

  #add(peer: Lease): PlacedPeer {
    const place: MutablePlace = {
      peer,
      paths: noPaths,
      problem: undefined,
      claim4: undefined,
      claim6: undefined,
      neighbours: none,
      fdb: none,
      routes: none,
    };
    place.problem = this.#place(peer, place);
    const rival =
      place.problem === undefined ? undefined : rivalOf(peer, this.#overlay, this.#backend.claims !== undefined);
    if (rival) place.rival = rival;
    this.#placed.set(peer, place);
    this.#count(place, 1);
    return place;
  }

  /** @returns why the peer is left out, entirely or for a family */
  #place(peer: Lease, place: MutablePlace): string | undefined {
    const { name } = this.#backend;
    if (peer.backendType !== name) return `its backend is "${peer.backendType}", this host's is "${name}"`;
    let problems: string | undefined;
    for (const family of this.#families) {
      const problem = this.#placeFamily(peer, family, place);
      if (problem !== undefined) problems = problems === undefined ? problem : `${problems}; ${problem}`;
    }
    return problems;
  }

  /** Makes the peer's entries for a family, or returns the reason why not. */
  #placeFamily(peer: Lease, family: Family, place: MutablePlace): string | undefined {
    const overlay = this.#overlay;
    const leased = peer.subnets[family];
    const host = peer.publicAddresses[family];
    if (!leased) return `it has no IPv${family} subnet`;
    if (!host || isUnspecified(host)) return `it has no public IPv${family} address`;
    const subnet = networkOf(leased);
    const refusal = addressRefusal(host, overlay) ?? subnetRefusal(subnet, host, overlay);
    if (refusal !== undefined) return refusal;
    const taken = this.#subnets[family].find(subnet);
    if (taken) {
      this.#contest(taken.owner, peer.ownerId);
      return samePrefix(taken.prefix, subnet)
        ? `lease "${excerpt(taken.owner)}" has the same subnet`
        : `its subnet "${formatPrefix(subnet)}" overlaps with that of the older lease "${excerpt(taken.owner)}"`;
    }
    const crowded = this.#rooms.refusal(subnet);
    if (crowded !== undefined) return crowded;
    const leaseData = peer.backendData[family];
    const found = this.#backend.entries(this.#node, {
      host,
      subnet,
      leaseData,
      isNeighbour: overlay.isNeighbour(host),
    });
    if (typeof found === 'string') return found;

    const { claim } = found;
    const holder = claim === undefined ? undefined : this.#holders[family]!.get(claim);
    if (holder) this.#contest(holder.ownerId, peer.ownerId);
    if (holder && !sameAddress(holder.publicAddresses[family]!, host)) {
      return `lease "${excerpt(holder.ownerId)}" of another host has the same ${this.#backend.claims!.format(found)}`;
    }
    this.#subnets[family].add(subnet, peer.ownerId);
    this.#rooms.add(subnet);
    if (claim !== undefined && !holder) {
      this.#holders[family]!.set(claim, peer);
      place[claimOf[family]] = claim;
    }
    for (const kind of entryKinds) {
      // The holder's lease has the claim's entries.
      if (!holder || kind !== this.#backend.claims!.kind) addEntries(place, kind, found);
    }
    place.paths = place.paths === noPaths ? onePath[family][found.path] : { ...place.paths, [family]: found.path };
    return undefined;
  }

  #contest(...leases: readonly string[]): void {
    for (const lease of leases) this.#contested.add(lease);
  }
}

export function deriveDesired(overlay: Overlay): Desired {
  const families = familiesOf(overlay.networks);
  const { backend: config, external, leaseData, backends } = overlay;
  const backend = backends.get(config.type)!;
  const node = { config, external, leaseData };
  const { devices, addresses } = ownDevices(backend, node, overlay.subnets, families);
  const table = new PeerTable(overlay, backend, node);
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
      flannelGateways: overlay.flannelGateways(() => table.peers),
    },
    get peers() {
      return table.peers;
    },
    get peerCounts() {
      return table.counts;
    },
    table,
    mtuBytes: containerMtu(config, families, external.mtuBytes, backends),
    mtuProblem:
      (config.mtuBytes ?? 0) > external.mtuBytes
        ? `The network config's Backend.MTU is ${config.mtuBytes}, but "${external.name}" takes ${external.mtuBytes} only, which counts; raise the interface's MTU, or lower the config's`
        : undefined,
  };
}

/** The desired state after this node has left: nothing, with the names of what to remove. */
export const nothingDesired = (
  networks: readonly Prefix[],
  formerDevices: readonly string[],
  flannelGateways: readonly Address[],
): DesiredState => ({
  devices: [],
  addresses: [],
  neighbours: [],
  fdb: [],
  routes: [],
  formerDevices,
  networks,
  flannelGateways,
});
