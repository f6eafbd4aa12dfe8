/**
 * Defects of flannel that Weft must not have, by number. A test for each has "defect <number>" in its name;
 * test/unit/docs/flannel-defects.test.ts looks for them. The missing numbers are of what Weft does not have yet.
 */

export const defects: Readonly<Record<number, string>> = {
  1: 'a lost race for a subnet ends the daemon',
  2: 'a reservation becomes a lease of a day',
  3: 'a renewal can overwrite another owner',
  4: 'a resync misses a changed public address or MAC of a peer',
  5: 'one malformed lease in a batch withdraws every peer',
  6: "stale peers' entries survive a restart forever",
  7: 'a deleted device comes back without peers, and with an unpublished MAC',
  8: 'a deleted route, neighbour or FDB entry is never restored',
  9: 'the daemon exits when its own lease is revoked',
  10: "IPv4's overhead is used for IPv6",
  11: 'a changed MTU, learning flag or MAC of an existing device is not noticed',
  12: 'a change from the tunnel to a plain route leaves neighbour and FDB entry behind',
  13: 'a request for every key at every list, and for every event',
  14: "a container's two attachments share one state",
  15: 'corrupt state at DEL: success, and the interface stays',
  16: 'rules are not checked again, or without their order',
  20: 'a changed public address needs a restart',
};
