/** Validates the part of a configuration that the IPAM reads. */

import { CniError, errorCodes } from '../cni/spec/errors.ts';
import type { JsonObject } from '../cni/spec/request.ts';
import { checkConfiguration } from '../cni/spec/validation.ts';
import validate from './ipam.schema.json?validator';

/** @throws CniError 7 */
export function checkIpamConfiguration(configuration: JsonObject): void {
  if (configuration['ipam'] === undefined) {
    throw new CniError(errorCodes.invalidConfiguration, 'The network configuration has no "ipam" section');
  }
  checkConfiguration(configuration, validate);
}
