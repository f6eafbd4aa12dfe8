/** How often each of many nodes may ask etcd for something, so that all of them together do not overload it. */

/**
 * Pauses in a large cluster, per lease. Measured with 5,000 leases: a heartbeat costs etcd 0.4 ms of CPU time, a comparison
 * 11 ms, a list of all leases 14 ms.
 */
export const perLeaseMs = {
  /** Heartbeats, and attempts to connect: 333 per second of all nodes together. */
  beat: 4,
  /** Lists of all leases by nodes that had one already: 133 per second. */
  list: 10,
  /** Comparisons after an outage: 67 per second. */
  proof: 20,
  /** Regular comparisons: 13 per second. */
  verify: 100,
} as const;
