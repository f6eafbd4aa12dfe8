/** The keys of a configuration that `weft-ipam` reads, for `foldKeys`: host-local's own, and Weft's `runDir` and `subnetFile`. */

import { resultKeys, routeKeys } from '../cni/spec/results.ts';

const none = {};
const rangeKeys = { subnet: none, rangeStart: none, rangeEnd: none, gateway: none };
const attachmentKeys = { containerID: none, ifname: none };

export const ipamKeys = {
  ipam: {
    type: none,
    ...rangeKeys,
    ranges: rangeKeys,
    routes: routeKeys,
    dataDir: none,
    resolvConf: none,
    runDir: none,
    subnetFile: none,
  },
  runDir: none,
  subnetFile: none,
  args: { cni: { ips: none, mac: none } },
  runtimeConfig: { ips: none, ipRanges: rangeKeys, mac: none },
  prevResult: resultKeys,
  'cni.dev/valid-attachments': attachmentKeys,
  'cni.dev/attachments': attachmentKeys,
};
