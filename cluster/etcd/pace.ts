/** How often each of many nodes may ask etcd for something, so that all of them together do not overload it. */

/**
 * Pauses in a large cluster, for each lease. Seen with 5,000 leases: a heartbeat costs etcd 0.4 ms of computing, comparing
 * 11 ms, a list of all leases 14 ms.
 */
export const perLeaseMs = {
  /** Heartbeats, and attempts to connect: 333 a second of all nodes together. */
  beat: 4,
  /** Lists of all leases by those who had one already: 133 a second. */
  list: 10,
  /** Comparing after an outage: 67 a second. */
  proof: 20,
  /** Comparing from time to time: 13 a second. */
  verify: 100,
} as const;
