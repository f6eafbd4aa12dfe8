/** The prefixes of the cluster's and this node's containers. */

import { type PerFamily, perFamily, valuesOf } from '../../cluster/network-config.ts';
import { formatPrefix, type Prefix, prefixContains } from '../../net/prefix.ts';
import type { FilterView } from './part.ts';

export interface ClusterPrefixes {
  /** The cluster's networks, for the families in use. */
  readonly networks: PerFamily<Prefix>;
  /** This node's subnets: its current one first, then older ones that still contain containers' addresses. */
  readonly subnets: readonly PerFamily<Prefix>[];
}

export const prefixesOf = ({ config, own, formerSubnets }: FilterView): ClusterPrefixes => ({
  networks: perFamily((family) => config.networks[family]?.network),
  subnets: [own.subnets, ...formerSubnets],
});

/** All containers' addresses: the cluster's networks, and older subnets of this node outside them. */
export function containerPrefixes({ networks, subnets }: ClusterPrefixes): Prefix[] {
  const all = valuesOf(networks);
  const isOutside = (subnet: Prefix): boolean => !all.some((prefix) => prefixContains(prefix, subnet.address));
  return [...all, ...subnets.flatMap((each) => valuesOf(each)).filter(isOutside)];
}

/** The same text for the same prefixes. */
export function formatPrefixes({ networks, subnets }: ClusterPrefixes): string {
  const format = (each: PerFamily<Prefix>): string => valuesOf(each).map(formatPrefix).join();
  return [networks, ...subnets].map(format).join(' ');
}
