/** Which address of a peer answers echo requests, so that the requests travel as containers' packets do. */

import type { Lease } from '../../cluster/lease.ts';
import { families, type PerFamily } from '../../cluster/network-config.ts';
import type { Address, Family } from '../../net/address.ts';
import { formatPrefix, type Prefix } from '../../net/prefix.ts';
import type { Backend } from '../backends/backend.ts';

/** A peer as the data path has it. */
export interface ProbedPeer {
  readonly lease: Lease;
  /** `none`: no packet has a way to it. */
  readonly path: string;
}

export type ProbedBackend = Pick<Backend, 'tunnelAddress'>;

/**
 * The kernel answers for the peer's tunnel device, whoever made it: Weft or flannel. Where devices have no address of
 * their own, the peer's public address answers, and says no more than that the host is there.
 */
export function targetOf({ lease, path }: ProbedPeer, backend: ProbedBackend, family: Family): Address | undefined {
  const subnet = lease.subnets[family];
  if (!subnet || path === 'none') return undefined;
  return backend.tunnelAddress?.(subnet) ?? lease.publicAddresses[family];
}

/** The source of the requests; undefined: as the kernel chooses. */
export const sourceOf = (own: PerFamily<Prefix>, backend: ProbedBackend, family: Family): Address | undefined =>
  own[family] && backend.tunnelAddress?.(own[family]);

/** The family in which a peer is asked: the first that it has. */
export const familyOf = ({ lease }: ProbedPeer): Family | undefined =>
  families.find((family) => lease.subnets[family] !== undefined);

export const subnetText = ({ lease }: ProbedPeer, family: Family): string =>
  lease.subnets[family] ? formatPrefix(lease.subnets[family]) : '';
