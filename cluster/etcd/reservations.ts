/** Writes reservations: subnets in etcd without an etcd lease, which never expire. */

import type { Prefix } from '../../net/prefix.ts';
import type { Clock, Random } from '../clock.ts';
import type { PerFamily } from '../network-config.ts';
import { EtcdCalls } from './calls.ts';
import { EtcdConnection } from './connection.ts';
import { keysBelow, rightsBelow } from './keys.ts';
import { formatLeaseKey } from './lease-key.ts';
import type { EtcdEndpoints } from './options.ts';
import { entryOf, get, isAbsent, isHeldBy, put } from './requests.ts';

export interface Reservation {
  readonly subnets: PerFamily<Prefix>;
  readonly value: string;
}

/** same: it was there already. taken: the key has another reservation, or is leased. */
export type Reserved = 'written' | 'same' | 'taken';

export interface ReservationWriter {
  /** @param replaces another value of a reservation; a lease is never replaced */
  reserve(reservation: Reservation, replaces: boolean): Promise<Reserved>;
  close(): void;
}

export function openReservationWriter(options: {
  readonly etcd: EtcdEndpoints;
  readonly clock: Clock;
  readonly random: Random;
  readonly timeoutMs?: number;
}): ReservationWriter {
  const { etcd, clock, random, timeoutMs = 5000 } = options;
  const keys = keysBelow(etcd.prefix);
  const connection = new EtcdConnection({ etcd, clock, random, timeoutMs });
  const calls = new EtcdCalls(connection);
  const right = rightsBelow(keys).writeLeases;
  return {
    async reserve({ subnets, value }, replaces) {
      const key = formatLeaseKey(keys, subnets);
      const transaction = { op: 'reserve the subnet', subject: key, right, success: [put(key, value, '0')] };
      const write = (compare: ReturnType<typeof isAbsent>) =>
        calls.transact({ ...transaction, compare: [compare], failure: [get(key)] });
      const made = await write(isAbsent(key));
      if (made.succeeded) return 'written';
      const there = entryOf(made);
      if (there?.etcdLease !== '0') return 'taken';
      // The first of two attempts may have taken effect without an answer.
      if (there.value === value) return 'same';
      if (!replaces) return 'taken';
      return (await write(isHeldBy(key, '0'))).succeeded ? 'written' : 'taken';
    },
    close: () => connection.close(),
  };
}
