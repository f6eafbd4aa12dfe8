/** This node's view of the cluster at one time. */

import { excerpt } from '../../cluster/excerpt.ts';
import type { Lease, LeaseValue, OwnLease } from '../../cluster/lease.ts';
import type { LeaseSet } from '../../cluster/lease-set.ts';
import { families, type NetworkConfig, type PerFamily } from '../../cluster/network-config.ts';
import { type Address, type Family, formatAddress, sameAddress } from '../../net/address.ts';
import type { Prefix } from '../../net/prefix.ts';
import type { BackendConfig } from '../backends/backend.ts';

/** The cluster's state, as far as this node is concerned. */
export interface ClusterView {
  readonly config: NetworkConfig;
  readonly backend: BackendConfig;
  readonly own: OwnLease;
  /** Our lease's place among all, by the age that every host sees. */
  readonly age: Pick<Lease, 'ownerId' | 'seniority'>;
  /** The lease that has our subnets now. A container that starts would get an address of another node's. */
  readonly takenBy?: Lease;
  /** Everybody else's leases, and those that the store has lost or that cannot be read just now. */
  readonly peers: LeaseSet;
  /** Older subnets of this node that containers still have addresses of. */
  readonly formerSubnets: readonly PerFamily<Prefix>[];
}

/** This node's part of its lease's value. */
export interface Identity {
  readonly publicAddresses: PerFamily<Address>;
  /** The backend's, for the families in use that have any. */
  readonly leaseData: PerFamily<unknown>;
}

export const formatAddresses = (addresses: PerFamily<Address>): string =>
  families
    .flatMap((family) => addresses[family] ?? [])
    .map(formatAddress)
    .join(' ');

/** A lease's holder, for people: `"host2" at 192.0.2.2`. */
export const formatHolder = ({ node, publicAddresses }: LeaseValue): string =>
  `${node === undefined ? '' : `"${excerpt(node)}" at `}${formatAddresses(publicAddresses) || 'no address'}`;

/** Whether the lease is of the host with these public addresses: by the IPv4 one where both have it, as flannel does. */
export function isOfHost(lease: Lease, publicAddresses: PerFamily<Address>): boolean {
  for (const family of families) {
    const a = lease.publicAddresses[family];
    const b = publicAddresses[family];
    if (a && b) return sameAddress(a, b);
  }
  return false;
}

export const familiesInUse = (config: NetworkConfig): Family[] =>
  families.filter((family) => config.networks[family] !== undefined);
