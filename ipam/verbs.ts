/** `weft-ipam` as a plugin of its own: bridge, ptp, macvlan and others call it as they call host-local. */

import { throwCollected, validAttachments } from '../cni/spec/attachments.ts';
import { CniError, errorCodes } from '../cni/spec/errors.ts';
import { foldKeys } from '../cni/spec/keys.ts';
import type { CniRequest, Verb } from '../cni/spec/request.ts';
import { checkExpressible, formatResult } from '../cni/spec/results.ts';
import { checkConfiguration, type Validate } from '../cni/spec/validation.ts';
import type { Sys } from '../linux/sys.ts';
import {
  addAddresses,
  checkAddresses,
  checkAvailable,
  collectAddresses,
  releaseAddresses,
  removeAddresses,
} from './attachments.ts';
import { ipamKeys } from './keys.ts';
import { nodeFilePaths, readNodeNetwork } from './node.ts';

/** What the verbs need: the system, and the validator of ipam.schema.json. */
export interface IpamContext {
  readonly sys: Sys;
  readonly validate: Validate;
}

/** @throws CniError 7 */
function checkRequest({ validate }: IpamContext, { configuration }: CniRequest): void {
  if (configuration['ipam'] === undefined) {
    throw new CniError(errorCodes.invalidConfiguration, 'The network configuration has no "ipam" section');
  }
  checkConfiguration(configuration, validate);
}

const nodeReader = (sys: Sys, request: CniRequest) => () => readNodeNetwork(sys, nodeFilePaths(request.configuration));

export function runAdd(context: IpamContext, request: CniRequest): string {
  const { sys } = context;
  checkRequest(context, request);
  const { result } = addAddresses(sys, request, nodeReader(sys, request));
  try {
    checkExpressible(result.ips, request.cniVersion);
    return formatResult(result, request.cniVersion);
  } catch (error) {
    releaseAddresses(
      sys,
      request,
      result.ips.map((ip) => ip.address.address),
    );
    throw error;
  }
}

export function runGc(sys: Sys, request: CniRequest): void {
  throwCollected(collectAddresses(sys, request, validAttachments(request.configuration)).errors);
}

/** The verb of a command. */
export function ipamVerb(context: IpamContext, command: CniRequest['command']): Verb {
  const { sys } = context;
  return (request) => {
    foldKeys(request.configuration, ipamKeys);
    switch (command) {
      case 'ADD':
        return runAdd(context, request);
      case 'DEL':
        removeAddresses(sys, request);
        return undefined;
      case 'CHECK':
        checkRequest(context, request);
        checkAddresses(sys, request);
        return undefined;
      case 'STATUS':
        checkRequest(context, request);
        checkAvailable(sys, request, nodeReader(sys, request));
        return undefined;
      case 'GC':
        runGc(sys, request);
        return undefined;
    }
  };
}
