/** ADD: addresses, then links, then the container's end. */

import { addAddresses, releaseAddresses } from '../ipam/attachments.ts';
import { checkIpamConfiguration } from '../ipam/configuration.ts';
import { nodeFilePaths, readNodeNetwork } from '../ipam/node.ts';
import { openNetlink } from '../linux/netlink/connection.ts';
import { getLinkIndex } from '../linux/netlink/link.ts';
import type { Sys } from '../linux/sys.ts';
import type { NodeNetwork } from '../net/node-file.ts';
import type { Prefix } from '../net/prefix.ts';
import { attach, type Connections, interfaceExists } from './attach.ts';
import { randomMacs } from './bridge.ts';
import { addByPlugin, callPlugin } from './delegate.ts';
import { weftKeys } from './keys.ts';
import { openContainerNetlink, openNamespaces } from './namespaces.ts';
import { planAttachment } from './plan.ts';
import { ownIpamType, readSettings, requestedMac, type Settings } from './settings.ts';
import { CniError, errorCodes } from './spec/errors.ts';
import { foldKeys } from './spec/keys.ts';
import type { CniRequest } from './spec/request.ts';
import { checkExpressible, formatResult, type Result } from './spec/results.ts';
import { UndoStack } from './undo.ts';

/** What only some configurations ask for, in a module that others do not load. Leaves its undo. */
export type AddExtras = typeof import('./filters.ts').addFilters;

interface Ipam {
  readonly result: Pick<Result, 'ips' | 'routes' | 'dns'>;
  readonly knownGateways: readonly Prefix[];
}

/** Takes addresses, by whichever plugin, and leaves their release on `undo`. */
function takeAddresses(sys: Sys, request: CniRequest, type: string, node: () => NodeNetwork, undo: UndoStack): Ipam {
  if (type === '') return { result: { ips: [], routes: [], dns: {} }, knownGateways: [] };
  if (type === ownIpamType) {
    const { result, gateways } = addAddresses(sys, request, node);
    const addresses = result.ips.map((ip) => ip.address.address);
    undo.push('release the addresses', () => releaseAddresses(sys, request, addresses));
    return { result, knownGateways: gateways };
  }
  const result = addByPlugin(sys, request, type);
  undo.push(`release the addresses by "${type}"`, () => {
    callPlugin(sys, request, type, 'DEL');
  });
  if (result.ips.length === 0) {
    throw new CniError(errorCodes.delegateFailed, `The IPAM plugin "${type}" answered without an address`);
  }
  return { result, knownGateways: [] };
}

function attachContainer(
  sys: Sys,
  request: CniRequest,
  settings: Settings,
  connections: Connections,
  namespaces: { readonly host: number; readonly container: number },
  undo: UndoStack,
  addExtras: AddExtras | undefined,
): string {
  const { ifname, netns, cniVersion, configuration } = request;
  const mac = requestedMac(request);
  // By a repeated ADD the earlier one must keep what it has. Weft's own IPAM sees to that; another's failed ADD is
  // followed by its DEL, so it must not get that far.
  if (settings.ipamType !== ownIpamType && connections.container.get(getLinkIndex(ifname)) !== undefined) {
    throw interfaceExists(ifname, netns);
  }
  let network: NodeNetwork | undefined;
  const node = (): NodeNetwork => {
    network ??= readNodeNetwork(sys, nodeFilePaths(configuration));
    return network;
  };
  const { result: ipam, knownGateways } = takeAddresses(sys, request, settings.ipamType, node, undo);
  checkExpressible(ipam.ips, cniVersion);
  const [hostMac, randomMac] = randomMacs(sys, 2);
  const plan = planAttachment({
    attachment: request,
    netns,
    settings,
    nodeMtuBytes: settings.overlay ? node().mtuBytes : undefined,
    ipam,
    knownGateways,
    hostMac: hostMac!,
    containerMac: mac ?? randomMac!,
  });
  const result = attach(sys, plan, netns, namespaces, connections, undo);
  addExtras?.(sys, request, settings, plan, settings.overlay ? node() : undefined, undo);
  return formatResult(result, cniVersion);
}

/** @returns the result document */
export function runAdd(sys: Sys, request: CniRequest, addExtras?: AddExtras): string {
  const { configuration } = request;
  foldKeys(configuration, weftKeys);
  const settings = readSettings(configuration);
  if (settings.ipamType === ownIpamType) checkIpamConfiguration(configuration);
  const undo = new UndoStack();
  const closing: (() => void)[] = [];
  try {
    const namespaces = openNamespaces(sys, request);
    closing.push(
      () => sys.close(namespaces.host),
      () => sys.close(namespaces.container),
    );
    const container = openContainerNetlink(sys, namespaces, request.netns);
    closing.push(() => container.close());
    const host = openNetlink(sys);
    closing.push(() => host.close());
    return attachContainer(sys, request, settings, { host, container }, namespaces, undo, addExtras);
  } catch (error) {
    throw undo.unwind(error);
  } finally {
    for (const close of closing) close();
  }
}
