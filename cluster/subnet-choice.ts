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
 * unless a lease has them. A subnet of the config's length always counts: nobody can write its key again.
 */
export function heldSubnets({ networks }: NetworkConfig, entries: readonly SubnetEntry[]): HeldSubnets[] {
  const held = { 4: new DisjointSubnets(), 6: new DisjointSubnets() };
  return [...entries].sort(olderFirst).flatMap(({ ownerId, subnets: said = {} }) => {
    const subnets = perFamily((family) => {
      const [subnet, inUse] = [said[family], networks[family]];
      if (!subnet || !inUse) return undefined;
      const { network, subnetLength } = inUse;
      const isInside = subnet.length > network.length && prefixContains(network, subnet.address);
      const isHeld = isInside && (subnet.length === subnetLength || held[family].find(subnet) === undefined);
      if (isHeld) held[family].add(subnet, ownerId);
      return isHeld ? subnet : undefined;
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

/**
 * Leases of the claiming node: with its public address or, if that has changed, with its name on the subnet that its own
 * files remember. (The name alone proves nothing: two hosts may be called "localhost".)
 */
export const ownLeases = (leases: readonly Lease[], claim: LeaseRequest): Lease[] =>
  leases.filter(
    (lease) =>
      samePublicAddress(lease, claim.value) ||
      (lease.node === claim.value.node && claim.previous !== undefined && sameSubnets(lease.subnets, claim.previous)),
  );

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
 * @param taken every subnet that is taken, the claimant's own included
 * @param random from [0, 1)
 * @param lostRaces how often another node was faster so far. It adds candidates, so that a thousand nodes that start at
 *   once do not keep competing for the same hundred
 * @throws NoFreeSubnetError
 */
export function chooseSubnet(
  claim: LeaseRequest,
  leases: readonly Lease[],
  taken: TakenSubnets,
  random: () => number,
  lostRaces = 0,
): SubnetChoice {
  const { config, previous } = claim;
  if (!claim.further) {
    const compatible = ownLeases(leases, claim).filter((lease) => isCompatible(config, lease.subnets));
    // Of several, the one that this node remembers: its containers have addresses of it.
    const lease = compatible.find((one) => previous && sameSubnets(one.subnets, previous)) ?? compatible[0];
    if (lease) return { how: 'kept', lease };
    if (previous && isCompatible(config, previous) && isFree(previous, taken)) {
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
