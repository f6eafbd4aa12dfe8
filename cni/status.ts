/** STATUS: whether an ADD could be served now. */

import { checkAvailable } from '../ipam/attachments.ts';
import { checkIpamConfiguration } from '../ipam/configuration.ts';
import { nodeFilePaths, readNodeNetwork } from '../ipam/node.ts';
import { openNetlink } from '../linux/netlink/connection.ts';
import { getLink } from '../linux/netlink/link.ts';
import type { Sys } from '../linux/sys.ts';
import { callPlugin } from './delegate.ts';
import { weftKeys } from './keys.ts';
import { ownIpamType, readSettings } from './settings.ts';
import { CniError, errorCodes } from './spec/errors.ts';
import { foldKeys } from './spec/keys.ts';
import type { CniRequest } from './spec/request.ts';

/** @throws CniError 50 */
function checkBridgeName(sys: Sys, name: string): void {
  const connection = openNetlink(sys);
  try {
    const link = connection.get(getLink({ name }));
    if (!link || link.kind === 'bridge') return;
    throw new CniError(errorCodes.notAvailable, `"${name}" is an interface and no bridge; name another by "bridge"`);
  } finally {
    connection.close();
  }
}

/** @throws CniError 50, or 7 if the configuration is wrong */
export function runStatus(sys: Sys, request: CniRequest): undefined {
  const { configuration } = request;
  foldKeys(configuration, weftKeys);
  const { ipamType, bridge } = readSettings(configuration);
  if (ipamType === ownIpamType) {
    checkIpamConfiguration(configuration);
    checkAvailable(sys, request, () => readNodeNetwork(sys, nodeFilePaths(configuration)));
  } else if (ipamType !== '') {
    callPlugin(sys, request, ipamType, 'STATUS');
  }
  checkBridgeName(sys, bridge);
  return undefined;
}
