/**
 * Chooses a node's subnet. Pure. In flannel's order: its current lease, else its previous one, else a random one of the
 * first free ones.
 */

import type { Family } from '../net/address.ts';
import { formatPrefix, networkOf, type Prefix, prefixContains, prefixesOverlap } from '../net/prefix.ts';
import { addressToInteger, integerToAddress, subnetSize } from './arithmetic.ts';
import { DisjointSubnets } from './disjoint-subnets.ts';
import { compareSeniority, type Lease, samePublicAddress, sameSubnets } from './lease.ts';
import {
  type FamilyNetwork,
  families,
  isCompatible,
  type NetworkConfig,
  type PerFamily,
  perFamily,
  valuesOf,
} from './network-config.ts';
import type { LeaseRequest } from './store.ts';
import { NoFreeSubnetError } from './store-errors.ts';
import { SubnetRoom } from './subnet-room.ts';

/** The leased subnets, one entry per lease: those that `heldSubnets` gives. */
export type TakenSubnets = readonly PerFamily<Prefix>[];

/** An entry of the store: a lease, or one that cannot be read, which has no seniority. */
export interface SubnetEntry {
  readonly ownerId: string;
  readonly subnets?: PerFamily<Prefix>;
  readonly seniority?: string;
}

/** The subnets that an entry really has. */
export interface HeldSubnets {
  readonly ownerId: string;
  readonly subnets: PerFamily<Prefix>;
}

function olderFirst(a: SubnetEntry, b: SubnetEntry): number {
  const [x, y] = [a.seniority, b.seniority];
  if (x === undefined || y === undefined) return (x === undefined ? 1 : 0) - (y === undefined ? 1 : 0);
  return compareSeniority({ ...a, seniority: x }, { ...b, seniority: y });
}

/**
 * The subnets that are taken. Peers refuse those outside the network, and those that overlap with an older lease's; if these
 * counted, one lease of the whole network would leave nothing to anybody. An entry that cannot be read has its subnets
 * unless a lease has them. A subnet of the config's length always counts: nobody can write its key again. Of other
 * lengths only some count (subnet-room.ts).
 */
export function heldSubnets({ networks }: NetworkConfig, entries: readonly SubnetEntry[]): HeldSubnets[] {
  const held = { 4: new DisjointSubnets(), 6: new DisjointSubnets() };
  const rooms = perFamily((family) => networks[family] && new SubnetRoom(networks[family]));
  return [...entries].sort(olderFirst).flatMap(({ ownerId, subnets: said = {} }) => {
    const subnets = perFamily((family) => {
      const [subnet, inUse] = [said[family], networks[family]];
      if (!subnet || !inUse) return undefined;
      const { network } = inUse;
      const room = rooms[family]!;
      if (subnet.length <= network.length || !prefixContains(network, subnet.address)) return undefined;
      if (room.isOdd(subnet) && (!room.has(subnet) || held[family].find(subnet) !== undefined)) return undefined;
      room.add(subnet);
      held[family].add(subnet, ownerId);
      return subnet;
    });
    return valuesOf(subnets).length > 0 ? [{ ownerId, subnets }] : [];
  });
}

export type SubnetChoice =
  | { readonly how: 'kept'; readonly lease: Lease }
  | { readonly how: 'previous' | 'new'; readonly subnets: PerFamily<Prefix> };

/** flannel's number of candidates. */
const usualCandidates = 100;
const mostCandidates = 12_800;

/** The claiming node, with the subnets that it remembers. */
export type Claimant = Pick<LeaseRequest, 'config' | 'previous' | 'former'> & {
  readonly value: Pick<LeaseRequest['value'], 'publicAddresses' | 'node'>;
  /** Whether another node lives; all do unless told. */
  readonly isLiving?: (node: string) => boolean;
};

/** The subnets that the node itself remembers, the last one first. */
const rememberedBy = ({ previous, former = [] }: Claimant): readonly PerFamily<Prefix>[] =>
  previous ? [previous, ...former] : former;

/**
 * Whether the lease may be the node's: it has its public address or, if that has changed, its name. (The name alone proves
 * nothing: two hosts may be called "localhost".) A lease that names another node is that node's while it lives: two hosts may
 * have one public address, for example behind the same translation.
 */
function isOwn(lease: Lease, by: 'name or address' | 'address', { value, isLiving = () => true }: Claimant): boolean {
  const { node } = lease;
  if (node !== undefined && node !== value.node && isLiving(node)) return false;
  return samePublicAddress(lease, value) || (by === 'name or address' && node === value.node);
}

/** The remembered leases of the node, in the order of its memory. */
const rememberedLeases = (leases: readonly Lease[], claimant: Claimant): Lease[] =>
  rememberedBy(claimant).flatMap((subnets) => {
    const lease = leases.find((each) => sameSubnets(each.subnets, subnets));
    return lease && isOwn(lease, 'name or address', claimant) ? lease : [];
  });

/** Leases of the node that the config no longer allows. Its memory alone says which: a lease says whatever its writer wants. */
export const supersededLeases = (leases: readonly Lease[], claimant: Claimant): Lease[] => [
  ...new Set(rememberedLeases(leases, claimant).filter(({ subnets }) => !isCompatible(claimant.config, subnets))),
];

/**
 * The entry in which the node's remembered lease cannot be read any more; undefined if another remembered one can. Nobody else
 * writes the node's subnets, so that whatever is in there now is damage.
 */
export function unreadableLease<E extends SubnetEntry>(
  leases: readonly Lease[],
  malformed: readonly E[],
  claimant: Claimant,
): E | undefined {
  const allowed = (subnets: PerFamily<Prefix>): boolean => isCompatible(claimant.config, subnets);
  if (malformed.length === 0 || rememberedLeases(leases, claimant).some(({ subnets }) => allowed(subnets))) {
    return undefined;
  }
  for (const subnets of rememberedBy(claimant).filter(allowed)) {
    if (leases.some((lease) => sameSubnets(lease.subnets, subnets))) continue;
    const entry = malformed.find((each) => each.subnets && sameSubnets(each.subnets, subnets));
    if (entry) return entry;
  }
  return undefined;
}

/** The other nodes whose lives decide which leases are the claimant's. */
export const rivalsOf = (leases: readonly Lease[], { value }: Claimant): string[] =>
  leases.flatMap((lease) => {
    const { node } = lease;
    return node !== undefined && node !== value.node && samePublicAddress(lease, value) ? node : [];
  });

/** Whether an older lease overlaps, so that peers refuse this one. */
const hasOlderHolder = (lease: Lease, { config: { networks } }: Claimant, leases: readonly Lease[]): boolean =>
  leases.some((other) =>
    families.some((family) => {
      const [own, theirs, inUse] = [lease.subnets[family], other.subnets[family], networks[family]];
      if (!own || !theirs || !inUse || !prefixesOverlap(own, theirs) || compareSeniority(other, lease) >= 0)
        return false;
      return theirs.length > inUse.network.length && prefixContains(inUse.network, theirs.address);
    }),
  );

/**
 * The node's current lease: the one that it remembers, else, as with flannel, one with its public address. Of several the
 * oldest counts, and none that an older lease overlaps.
 */
export function currentLease(leases: readonly Lease[], claimant: Claimant): Lease | undefined {
  const { config } = claimant;
  const allowed = ({ subnets }: Lease): boolean => isCompatible(config, subnets);
  const remembered = rememberedLeases(leases, claimant).find(allowed);
  if (remembered) return remembered;
  const told = leases.filter((lease) => isOwn(lease, 'address', claimant) && allowed(lease)).sort(compareSeniority);
  return told.find((lease) => !hasOlderHolder(lease, claimant, leases));
}

/** The first `limit` free subnets of the family, as integers of their network addresses. */
function freeSubnets(network: FamilyNetwork, family: Family, taken: TakenSubnets, limit: number): bigint[] {
  const step = subnetSize(family, network.subnetLength);
  const last = addressToInteger(network.subnetMax);
  const ranges = taken
    .flatMap((entry) => {
      const subnet = entry[family];
      if (!subnet) return [];
      const start = addressToInteger(networkOf(subnet).address);
      return [{ start, end: start + subnetSize(family, subnet.length) }];
    })
    .sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0));
  const free: bigint[] = [];
  let next = addressToInteger(network.subnetMin);
  let i = 0;
  while (next <= last && free.length < limit) {
    while (i < ranges.length && ranges[i]!.end <= next) i++;
    const range = ranges[i];
    if (range && range.start < next + step) {
      // To the first subnet boundary at or after the end of the obstacle.
      next += ((range.end - next + step - 1n) / step) * step;
    } else {
      free.push(next);
      next += step;
    }
  }
  return free;
}

const isFree = (subnets: PerFamily<Prefix>, taken: TakenSubnets): boolean =>
  families.every((family) => {
    const subnet = subnets[family];
    return !subnet || taken.every((entry) => !entry[family] || !prefixesOverlap(entry[family], subnet));
  });

/**
 * The subnets that keep the node from its previous ones. If somebody writes an overlapping lease and deletes the node's key, his
 * lease is still the younger one.
 */
function takenFrom(
  { config, previous, previousAge }: LeaseRequest,
  leases: readonly Lease[],
  taken: TakenSubnets,
): TakenSubnets {
  if (previous === undefined || previousAge === undefined) return taken;
  const ours = { seniority: previousAge, ownerId: '' };
  // The key itself can be another's by now.
  const counts = (lease: Lease): boolean => sameSubnets(lease.subnets, previous) || compareSeniority(lease, ours) < 0;
  return heldSubnets(config, leases.filter(counts)).map(({ subnets }) => subnets);
}

/**
 * Whether the lease that the node has just lost is still its own: the config allows it, and no older lease overlaps. Younger ones
 * were written by somebody who knew that it would be lost.
 */
export function isLostOurs({ config, lost, further }: LeaseRequest, entries: readonly SubnetEntry[]): boolean {
  if (!lost || further || !isCompatible(config, lost.subnets)) return false;
  const older = entries.filter(
    ({ ownerId, seniority }) =>
      ownerId !== lost.ownerId && seniority !== undefined && compareSeniority({ ownerId, seniority }, lost) < 0,
  );
  return isFree(
    lost.subnets,
    heldSubnets(config, older).map(({ subnets }) => subnets),
  );
}

/**
 * @param taken every subnet that is taken, the claimant's own included
 * @param random from [0, 1)
 * @param lostRaces how often another node was faster so far. It adds candidates, so that a thousand nodes that start at
 *   once do not keep competing for the same hundred
 * @throws NoFreeSubnetError
 */
export function chooseSubnet(
  claim: LeaseRequest & Claimant,
  leases: readonly Lease[],
  taken: TakenSubnets,
  random: () => number,
  lostRaces = 0,
): SubnetChoice {
  const { config, previous } = claim;
  if (!claim.further) {
    const lease = currentLease(leases, claim);
    if (lease) return { how: 'kept', lease };
    if (previous && isCompatible(config, previous) && isFree(previous, takenFrom(claim, leases, taken))) {
      return { how: 'previous', subnets: previous };
    }
  }
  return { how: 'new', subnets: pickSubnets(claim, taken, random, lostRaces) };
}

/** A subnet that overlaps a network of this host would take that network's packets. */
function pickSubnets(
  { config, hostNetworks = [] }: LeaseRequest,
  taken: TakenSubnets,
  random: () => number,
  lostRaces: number,
): PerFamily<Prefix> {
  const limit = Math.min(usualCandidates * 2 ** lostRaces, mostCandidates);
  return perFamily((family) => {
    const network = config.networks[family];
    if (!network) return undefined;
    const own = hostNetworks.filter((each) => each.address.family === family && prefixesOverlap(each, network.network));
    const ofHost = own.map((each) => perFamily((other) => (other === family ? each : undefined)));
    const free = freeSubnets(network, family, [...taken, ...ofHost], limit);
    if (free.length === 0 && freeSubnets(network, family, taken, 1).length > 0) {
      throw new NoFreeSubnetError(
        `No free IPv${family} subnet: all that are not leased overlap this host's own networks, ` +
          `${own.map((each) => formatPrefix(networkOf(each))).join(', ')}; give the network config another network`,
      );
    }
    if (free.length === 0) {
      throw new NoFreeSubnetError(
        `No free IPv${family} subnet: every /${network.subnetLength} of the network is leased; ` +
          'give the network config a larger network or longer subnets, or release leases of nodes that are gone',
      );
    }
    const address = integerToAddress(family, free[Math.floor(random() * free.length)]!)!;
    return { address, length: network.subnetLength };
  });
}
