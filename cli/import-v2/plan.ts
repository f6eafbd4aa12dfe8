/** What of a v2 network comes to v3. Pure. */

import type { BackendFormats } from '../../cluster/backend-format.ts';
import { type Keys, keysBelow } from '../../cluster/etcd/keys.ts';
import { parseLeaseKey } from '../../cluster/etcd/lease-key.ts';
import type { Reservation } from '../../cluster/etcd/reservations.ts';
import type { V2Network } from '../../cluster/etcd/v2-tree.ts';
import { excerpt } from '../../cluster/excerpt.ts';
import {
  formatSubnets,
  type Lease,
  LeaseFormatError,
  type LeaseValue,
  parseLeaseValue,
  sameSubnets,
} from '../../cluster/lease.ts';
import { isCompatible, type NetworkConfig, valuesOf } from '../../cluster/network-config.ts';
import { overlapIndex } from '../../cluster/subnet-index.ts';
import { formatAddress } from '../../net/address.ts';

export interface PlannedReservation extends Reservation {
  /** For people: `10.5.7.0/24 of 192.0.2.7`. */
  readonly title: string;
}

export interface ImportPlan {
  readonly reservations: readonly PlannedReservation[];
  /** Reservations that cannot come along: each with the reason. */
  readonly left: readonly string[];
  /** The number of leases of nodes. They expire, and are left. */
  readonly leases: number;
}

const titleOf = ({ subnets }: Reservation, { publicAddresses }: LeaseValue): string => {
  const of = valuesOf(publicAddresses).map(formatAddress).join(', ');
  return `${formatSubnets(subnets)}${of === '' ? '' : ` of ${of}`}`;
};

/**
 * @param config the network config of the v2 network
 * @param there the leases and reservations that v3 has
 */
export function planImport(
  network: V2Network,
  config: NetworkConfig,
  { backends, there }: { readonly backends: BackendFormats; readonly there: readonly Lease[] },
): ImportPlan {
  const keys: Keys = keysBelow('/');
  const left: string[] = [];
  const reservations: PlannedReservation[] = [];
  let leases = 0;
  // Built from the others alone: the same reservation from an earlier import is no obstacle.
  const isTaken = overlapIndex(there.map(({ subnets }) => subnets));
  for (const { name, value, expires } of network.subnets) {
    if (expires) {
      leases++;
      continue;
    }
    try {
      const subnets = parseLeaseKey(keys, keys.subnets + name);
      const reservation = { subnets, value };
      const title = titleOf(reservation, parseLeaseValue(value, backends));
      const same = there.find((lease) => sameSubnets(lease.subnets, subnets));
      if (!isCompatible(config, subnets)) left.push(`${title}: the config allows no such subnet`);
      else if (same && !same.reservation) left.push(`${title}: a node of the v3 network has leased it`);
      else if (!same && isTaken(subnets)) left.push(`${title}: it overlaps a subnet of the v3 network`);
      else reservations.push({ ...reservation, title });
    } catch (error) {
      if (!(error instanceof LeaseFormatError)) throw error;
      left.push(`"${excerpt(name)}": ${error.message}`);
    }
  }
  return { reservations, left, leases };
}
