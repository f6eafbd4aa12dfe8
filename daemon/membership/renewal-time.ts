/** The time at which a lease is renewed. own-lease.ts renews it then. */

import type { OwnLease } from '../../cluster/lease.ts';

export interface RenewalClock {
  /** A lease is renewed this long before it expires. */
  readonly renewMarginMs: number;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Milliseconds on a clock that does not go back: renewals must not wait for a clock that was set back to catch up. */
  readonly monotonic: () => number;
  /** From 0 to below 1. */
  readonly random: () => number;
}

/** The least time between two renewals. */
const renewalFloorMs = 1000;

/**
 * When to renew the lease, on the clock that does not go back; infinite if it never expires.
 * @param fresh it has just got its whole life; renewing it at once would gain nothing
 */
export function renewalTime(own: OwnLease, fresh: boolean, clock: RenewalClock): number {
  if (own.expiresAtMs === undefined) return Number.POSITIVE_INFINITY;
  const lifeMs = own.expiresAtMs - clock.now();
  // Sooner by chance: nodes that were started together must not renew together for ever.
  const wantedMs = clock.renewMarginMs * (1 + clock.random() / 2);
  const marginMs = fresh ? Math.min(wantedMs, lifeMs / 2) : wantedMs;
  return clock.monotonic() + Math.max(lifeMs - marginMs, fresh ? renewalFloorMs : 0);
}
