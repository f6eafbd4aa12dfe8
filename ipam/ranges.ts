/**
 * Ranges of addresses, as in host-local's configuration. A set is a list of ranges of one family. An attachment gets
 * one address from each set.
 */

import { CniError, errorCodes } from '../cni/spec/errors.ts';
import { isSingleAddressVersion } from '../cni/spec/results.ts';
import { quote } from '../cni/spec/text.ts';
import type { CniVersion } from '../cni/spec/versions.ts';
import {
  type Address,
  addressBits,
  compareAddresses,
  families,
  formatAddress,
  offsetAddress,
  parseAddress,
} from '../net/address.ts';
import { gatewayOf, type NodeNetwork } from '../net/node-file.ts';
import {
  formatPrefix,
  hasHostBits,
  lastAddressOf,
  networkOf,
  type Prefix,
  parsePrefix,
  prefixContains,
} from '../net/prefix.ts';
import { findOverlap } from './overlaps.ts';

export interface AddressRange {
  /** Without host bits. */
  readonly subnet: Prefix;
  /** The first and the last address to give out. The gateway may lie between them and is skipped. */
  readonly start: Address;
  readonly end: Address;
  readonly gateway: Address;
}

/** At least one range, all of one family, none overlapping another. */
export type RangeSet = readonly AddressRange[];

/** A range in the configuration. */
export interface RangeConfiguration {
  readonly subnet?: string;
  readonly rangeStart?: string;
  readonly rangeEnd?: string;
  readonly gateway?: string;
}

/** A subnet must have room for the network's address, a gateway, a container's address and the broadcast address. */
const hostBitsAtLeast = 2;

const invalid = (message: string): CniError => new CniError(errorCodes.invalidConfiguration, message);

export const familyOf = (set: RangeSet): 4 | 6 => set[0]!.subnet.address.family;

export const rangeContains = (range: AddressRange, address: Address): boolean =>
  prefixContains(range.subnet, address) &&
  compareAddresses(range.start, address) <= 0 &&
  compareAddresses(address, range.end) <= 0;

export const formatRange = (range: AddressRange): string => `${formatAddress(range.start)}-${formatAddress(range.end)}`;

export const formatRangeSet = (set: RangeSet): string => set.map(formatRange).join(',');

function addressOf(text: string, path: string): Address {
  const address = parseAddress(text);
  if (!address) throw invalid(`"${path}" is ${quote(text)}, which is not an IP address`);
  return address;
}

/** The default range of a subnet: from .1 to the last address, without the broadcast address of IPv4. */
function defaultRange(subnet: Prefix): AddressRange {
  const last = lastAddressOf(subnet);
  return {
    subnet,
    start: offsetAddress(subnet.address, 1)!,
    end: subnet.address.family === 4 ? offsetAddress(last, -1)! : last,
    gateway: gatewayOf(subnet),
  };
}

/**
 * @param path the range's place, for errors: `ipam.ranges[0][1]`
 * @throws CniError 7
 */
export function parseRange(range: RangeConfiguration, path: string): AddressRange {
  const subnetText = range.subnet ?? '';
  const subnet = parsePrefix(subnetText);
  if (!subnet) throw invalid(`"${path}.subnet" is ${quote(subnetText)}, which is not a subnet such as 10.1.2.0/24`);
  if (addressBits(subnet.address.family) - subnet.length < hostBitsAtLeast) {
    throw invalid(
      `"${path}.subnet" ${subnetText} is too small to give out addresses, ` +
        `it must be /${addressBits(subnet.address.family) - hostBitsAtLeast} or larger`,
    );
  }
  if (hasHostBits(subnet)) {
    throw invalid(`"${path}.subnet" ${subnetText} has host bits set, write ${formatPrefix(networkOf(subnet))}`);
  }
  const defaults = defaultRange(subnet);
  const inside = (key: 'rangeStart' | 'rangeEnd', otherwise: Address): Address => {
    const text = range[key];
    if (!text) return otherwise;
    const address = addressOf(text, `${path}.${key}`);
    if (!prefixContains(subnet, address)) throw invalid(`"${path}.${key}" ${text} is not in the subnet ${subnetText}`);
    return address;
  };
  const start = inside('rangeStart', defaults.start);
  const end = inside('rangeEnd', defaults.end);
  if (compareAddresses(start, end) > 0) {
    throw invalid(`"${path}" begins at ${formatAddress(start)}, which is after its end ${formatAddress(end)}`);
  }
  const gateway = range.gateway ? addressOf(range.gateway, `${path}.gateway`) : defaults.gateway;
  if (gateway.family !== subnet.address.family) {
    throw invalid(`"${path}.gateway" ${range.gateway} is not of the same family as the subnet ${subnetText}`);
  }
  if (!prefixContains(subnet, gateway)) {
    throw invalid(`"${path}.gateway" ${range.gateway} is not in the subnet ${subnetText}: no container could reach it`);
  }
  return { subnet, start, end, gateway };
}

/** @throws CniError 7 */
function parseRangeSet(ranges: readonly RangeConfiguration[], path: string): RangeSet {
  if (ranges.length === 0) throw invalid(`"${path}" is an empty range set, it needs at least one subnet`);
  const set = ranges.map((range, i) => parseRange(range, `${path}[${i}]`));
  if (set.some(({ subnet }) => subnet.address.family !== familyOf(set))) {
    throw invalid(`"${path}" mixes IPv4 and IPv6; each family needs a set of its own`);
  }
  const overlap = findOverlap(set);
  if (overlap) throw invalid(`"${path}" holds ${overlap.map(formatRange).join(' and ')}, which overlap`);
  return set;
}

/** All ranges of a configuration; the first source comes first. */
export interface RangeSources {
  /** runtimeConfig.ipRanges */
  readonly runtime: readonly (readonly RangeConfiguration[])[];
  /** `subnet` and its related keys, directly in `ipam`. */
  readonly legacy: RangeConfiguration;
  /** ipam.ranges */
  readonly ranges: readonly (readonly RangeConfiguration[])[];
}

/** Whether any ranges are given; otherwise the node's own subnets are used. */
export const hasRanges = (sources: RangeSources): boolean =>
  sources.runtime.length > 0 || sources.ranges.length > 0 || sources.legacy.subnet !== undefined;

/**
 * The range sets of a configuration, checked: one address is taken from each, in this order.
 * @throws CniError 7
 */
export function parseRangeSets(sources: RangeSources, version: CniVersion): RangeSet[] {
  const sets = [
    ...sources.runtime.map((set, i) => parseRangeSet(set, `runtimeConfig.ipRanges[${i}]`)),
    ...(sources.legacy.subnet === undefined ? [] : [[parseRange(sources.legacy, 'ipam')]]),
    ...sources.ranges.map((set, i) => parseRangeSet(set, `ipam.ranges[${i}]`)),
  ];
  if (sets.length === 0) throw invalid('There are no IP ranges: "ipam" needs "ranges" or a "subnet"');
  const overlap = findOverlap(sets.flatMap((set, i) => set.map(({ start, end }) => ({ start, end, i }))));
  if (overlap) {
    const [one, two] = overlap.map(({ i }) => `${i} (${formatRangeSet(sets[i]!)})`);
    throw invalid(`The range sets ${one} and ${two} overlap`);
  }
  checkCounts(sets, version);
  return sets;
}

function checkCounts(sets: readonly RangeSet[], version: CniVersion): void {
  if (!isSingleAddressVersion(version)) return;
  for (const family of families) {
    if (sets.filter((set) => familyOf(set) === family).length > 1) {
      throw invalid(
        `cniVersion ${version} has one IPv${family} address only, and there are several IPv${family} range sets`,
      );
    }
  }
}

/** The range sets of a node's subnets: one per family. Its ranges are the node's subnets of that family, in order. */
export function rangeSetsOfNode(node: Pick<NodeNetwork, 'subnets'>): RangeSet[] {
  return families
    .map((family) => node.subnets.filter((subnet) => subnet.address.family === family).map(defaultRange))
    .filter((set) => set.length > 0);
}
