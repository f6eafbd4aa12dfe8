/**
 * Whether this node's subnet is another's now. A node that was suspended for longer than its lease learns it that way. As long
 * as the plugins may use the old subnet, they give containers the addresses of another node's.
 */

import { type Lease, type LeaseValue, samePublicAddress } from '../../cluster/lease.ts';
import { families, type NetworkConfig, type PerFamily } from '../../cluster/network-config.ts';
import type { Lost } from '../../cluster/store.ts';
import { heldSubnets } from '../../cluster/subnet-choice.ts';
import { type Prefix, prefixesOverlap } from '../../net/prefix.ts';

export interface Unheld {
  /** The subnets that this node had last. */
  readonly subnets: PerFamily<Prefix>;
  /** How its lease was lost; undefined if it had none since the start. */
  readonly lost: Lost | undefined;
  /** Whether the store has refused another lease, so that no listed one is this node's. */
  readonly isRefused: boolean;
  readonly config: NetworkConfig;
  readonly value: LeaseValue;
}

/**
 * The lease that has the subnets of a node without a lease; undefined where the store has not said that one has. Leases that
 * peers refuse do not count.
 */
export function holderOf(
  leases: readonly Lease[],
  { subnets, lost, isRefused, config, value }: Unheld,
): Lease | undefined {
  if (lost?.how === 'taken') return lost.holder;
  if (!isRefused) return undefined;
  const isOurs = (lease: Lease): boolean =>
    lease.node === value.node || (lease.node === undefined && samePublicAddress(lease, value));
  const byOwner = new Map(leases.map((lease) => [lease.ownerId, lease]));
  return heldSubnets(config, leases)
    .filter((held) =>
      families.some((family) => {
        const [ours, theirs] = [subnets[family], held.subnets[family]];
        return ours && theirs && prefixesOverlap(ours, theirs);
      }),
    )
    .flatMap(({ ownerId }) => byOwner.get(ownerId) ?? [])
    .find((lease) => !isOurs(lease));
}
