/** What Weft's own error codes mean: the text of the documentation, by code. */

import { type ErrorCode, errorCodes } from '../../cni/spec/errors.ts';

/** Code → text. */
export const errorTexts: readonly (readonly [ErrorCode, string])[] = [
  [errorCodes.noFreeAddress, 'Every address of a range set is taken'],
  [errorCodes.addressNotAvailable, 'A requested address is outside the ranges, is a gateway, or is taken'],
  [errorCodes.alreadyAttached, 'The container already holds an address for this interface of this network'],
  [errorCodes.storeFailed, 'The address store cannot be read or written'],
  [errorCodes.interfaceExists, 'The container already has an interface of this name'],
  [errorCodes.notABridge, 'The interface named as the bridge is not a bridge'],
  [errorCodes.bridgeAddressDiffers, 'The bridge has another address than the expected gateway'],
  [errorCodes.kernelRefused, 'The kernel refused a change to interfaces, addresses or routes'],
  [errorCodes.systemCallFailed, 'A system call failed'],
  [errorCodes.delegateFailed, 'Another plugin could not be run, or its answer could not be read'],
  [errorCodes.attachmentDiffers, 'CHECK: the attachment differs from its result'],
  [errorCodes.reservationMissing, 'CHECK: the container holds no address in the store'],
  [errorCodes.collectionIncomplete, 'GC: some stale resources could not be removed'],
  [errorCodes.notPermitted, 'The plugin was not started as root'],
  [errorCodes.linkNotUp, 'The interface did not come up in time'],
  [errorCodes.duplicateAddress, 'Another host of the network has the IPv6 address already (with `enabledad`)'],
  [errorCodes.subnetElsewhere, "Another interface of this host, such as `docker0`, has this host's subnet"],
];
