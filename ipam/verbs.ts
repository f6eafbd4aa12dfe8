/** `weft-ipam` as a plugin of its own: bridge, ptp, macvlan and others call it as they call host-local. */

import { throwCollected, validAttachments } from '../cni/spec/attachments.ts';
import { ownNamespaceError } from '../cni/spec/errors.ts';
import { foldKeys } from '../cni/spec/keys.ts';
import type { CniRequest, Deliver, Verb } from '../cni/spec/request.ts';
import { checkExpressible, formatResult } from '../cni/spec/results.ts';
import type { Sys } from '../linux/sys.ts';
import {
  addAddresses,
  checkAddresses,
  checkAvailable,
  collectAddresses,
  releaseAddresses,
  removeAddresses,
} from './attachments.ts';
import { checkIpamConfiguration } from './configuration.ts';
import { ipamKeys } from './keys.ts';
import { nodeFilePaths, readNodeNetwork } from './node.ts';

const nodeReader = (sys: Sys, request: CniRequest) => () => readNodeNetwork(sys, nodeFilePaths(request.configuration));

/** @throws CniError 8 if CNI_NETNS is the plugin's own: the caller has mistaken the host for a container */
function checkNamespace(sys: Sys, { netns, netnsOverride }: CniRequest): void {
  if (netnsOverride) return;
  const own = sys.stat('/proc/thread-self/ns/net');
  const given = sys.stat(netns);
  // The calling plugin checks the namespace itself. A missing one is no error here.
  if (typeof own === 'number' || typeof given === 'number') return;
  if (own.dev === given.dev && own.ino === given.ino) throw ownNamespaceError(netns);
}

function runAdd(sys: Sys, request: CniRequest, deliver: Deliver): void {
  checkNamespace(sys, request);
  checkIpamConfiguration(request.configuration);
  const { result } = addAddresses(sys, request, nodeReader(sys, request));
  try {
    checkExpressible(result.ips, request.cniVersion);
    deliver(formatResult(result, request.cniVersion));
  } catch (error) {
    releaseAddresses(
      sys,
      request,
      result.ips.map((ip) => ip.address.address),
    );
    throw error;
  }
}

function runGc(sys: Sys, request: CniRequest): void {
  throwCollected(collectAddresses(sys, request, validAttachments(request.configuration)).errors);
}

/** The verb of a command. */
export function ipamVerb(sys: Sys, command: CniRequest['command']): Verb {
  return (request, deliver) => {
    foldKeys(request.configuration, ipamKeys);
    switch (command) {
      case 'ADD':
        return runAdd(sys, request, deliver);
      case 'DEL':
        return removeAddresses(sys, request);
      case 'CHECK':
        checkIpamConfiguration(request.configuration);
        return checkAddresses(sys, request);
      case 'STATUS':
        checkIpamConfiguration(request.configuration);
        return checkAvailable(sys, request, nodeReader(sys, request));
      case 'GC':
        return runGc(sys, request);
    }
  };
}
