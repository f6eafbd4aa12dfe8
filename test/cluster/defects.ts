/**
 * What is wrong with flannel and must not be with Weft, by number. A test for each has "defect <number>" in its name;
 * test/unit/flannel-defects.test.ts looks for them. The missing numbers are of what Weft does not have yet.
 */

export const defects: Readonly<Record<number, string>> = {
  1: 'a lost race for a subnet ends the daemon',
  2: 'a reservation becomes a lease of a day',
  3: 'a renewal can overwrite another owner',
  4: 'a resync misses a changed public address or MAC of a peer',
  5: 'one malformed lease in a batch withdraws every peer',
  6: "stale peers' entries survive a restart for ever",
  7: 'a device that was deleted comes back without peers, and with a MAC that nobody is told of',
  8: 'a deleted route, neighbour or FDB entry is never put back',
  9: 'the own lease revoked ends the daemon',
  10: "IPv6's overhead is taken for IPv4's",
  11: 'a changed MTU, learning flag or MAC of a device that is there is not noticed',
  12: 'a change from the tunnel to a plain route leaves neighbour and FDB entry behind',
  13: 'a request for every key at every list, and for every event',
  14: "a container's two attachments share one state",
  15: 'corrupt state at DEL: success, and the interface stays',
  16: 'rules are not looked at again, or not in their order',
  20: 'another public address needs a restart',
};
