/**
 * ADD: addresses, then links, then the container's end.
 *
 * ADD reads weftd's files and never asks etcd: a subnet lease makes this host the only one that assigns its addresses.
 * With another IPAM plugin the order differs: that plugin runs when the container's interface exists, as with the
 * reference plugins, because dhcp sends through the interface. Weft's own IPAM runs first: if no address is free, ADD
 * fails before it has made anything.
 */

import { addAddresses, releaseAddresses } from '../ipam/attachments.ts';
import { checkIpamConfiguration } from '../ipam/configuration.ts';
import { nodeFilePaths, readNodeNetwork } from '../ipam/node.ts';
import { openNetlink } from '../linux/netlink/connection.ts';
import type { Sys } from '../linux/sys.ts';
import type { NodeNetwork } from '../net/node-file.ts';
import type { Prefix } from '../net/prefix.ts';
import { attach, connectFirst, undoLinkFirst } from './attach.ts';
import type { AttachmentPart, Workplace } from './attachment-part.ts';
import { randomMacs } from './bridge.ts';
import type { IpamPlugins } from './delegate.ts';
import { weftKeys } from './keys.ts';
import { openContainerNetlink, openNamespaces } from './namespaces.ts';
import { type AttachmentPlan, planAttachment } from './plan.ts';
import { ownIpamType, readSettings, requestedMac } from './settings.ts';
import { CniError, errorCodes } from './spec/errors.ts';
import { foldKeys } from './spec/keys.ts';
import type { CniRequest, Deliver } from './spec/request.ts';
import { checkExpressible, formatResult, type Result } from './spec/results.ts';
import { UndoStack } from './undo.ts';

interface Ipam {
  readonly result: Pick<Result, 'ips' | 'routes' | 'dns'>;
  readonly knownGateways: readonly Prefix[];
}

const noAddresses: Ipam = { result: { ips: [], routes: [], dns: {} }, knownGateways: [] };

/** Takes addresses by the IPAM plugin that the configuration names, and leaves their release on `undo`. */
function takeAddresses({ sys, request, settings, undo, node }: Workplace, plugins: IpamPlugins | undefined): Ipam {
  const type = settings.ipamType;
  if (type === '') return noAddresses;
  if (type === ownIpamType) {
    const { result, gateways } = addAddresses(sys, request, node);
    const addresses = result.ips.map((ip) => ip.address.address);
    undo.push('release the addresses', () => releaseAddresses(sys, request, addresses));
    return { result, knownGateways: gateways };
  }
  const result = plugins!.add(sys, request, type);
  undo.push(`release the addresses by "${type}"`, () => {
    plugins!.call(sys, request, type, 'DEL');
  });
  if (result.ips.length === 0) {
    throw new CniError(errorCodes.delegateFailed, `The IPAM plugin "${type}" answered without an address`);
  }
  return { result, knownGateways: [] };
}

function attachContainer(place: Workplace, plugins: IpamPlugins | undefined): string {
  const { sys, request, settings } = place;
  const { cniVersion } = request;
  const mac = requestedMac(request);
  const [hostMac, randomMac] = randomMacs(sys, 2);
  const planWith = ({ result, knownGateways }: Ipam): AttachmentPlan =>
    planAttachment({
      attachment: request,
      netns: request.netns,
      settings,
      nodeMtuBytes: settings.overlay ? place.node().mtuBytes : undefined,
      ipam: result,
      knownGateways,
      hostMac: hostMac!,
      containerMac: mac ?? randomMac!,
    });
  const isConnected = settings.ipamType !== '' && settings.ipamType !== ownIpamType;
  if (isConnected) {
    if (!plugins) throw new TypeError('This program carries no calls of other IPAM plugins');
    plugins.check(sys, request, settings.ipamType);
    connectFirst(place, planWith(noAddresses));
  }
  const ipam = takeAddresses(place, plugins);
  checkExpressible(ipam.result.ips, cniVersion);
  const plan = planWith(ipam);
  if (isConnected) undoLinkFirst(place, plan);
  const result = attach(place, plan, isConnected);
  for (const part of place.parts) part.afterAttach?.(place, plan);
  return formatResult(result, cniVersion);
}

/**
 * @param deliver called with the result document, as the last step: if it throws, everything is undone
 * @param plugins needed where the configuration names another IPAM plugin
 * @returns the result document
 */
export function runAdd(
  sys: Sys,
  request: CniRequest,
  parts: readonly AttachmentPart[] = [],
  deliver: Deliver = () => {},
  plugins?: IpamPlugins,
): string {
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
    const connections = { host, container };
    let network: NodeNetwork | undefined;
    const node = (): NodeNetwork => {
      network ??= readNodeNetwork(sys, nodeFilePaths(configuration));
      return network;
    };
    const answer = attachContainer({ sys, request, settings, namespaces, connections, undo, parts, node }, plugins);
    deliver(answer);
    return answer;
  } catch (error) {
    throw undo.unwind(error);
  } finally {
    for (const close of closing) close();
  }
}
