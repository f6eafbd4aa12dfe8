/**
 * CHECK: the container is attached as its result says. That result also has the changes of later plugins of the chain.
 */

import { checkAddresses } from '../ipam/attachments.ts';
import { checkIpamConfiguration } from '../ipam/configuration.ts';
import { dumpAddresses } from '../linux/netlink/address.ts';
import { type NetlinkConnection, openNetlink } from '../linux/netlink/connection.ts';
import { getLink, type Link } from '../linux/netlink/link.ts';
import { dumpRoutes, type Route, rta } from '../linux/netlink/route.ts';
import type { Sys } from '../linux/sys.ts';
import { families, formatAddress, sameAddress } from '../net/address.ts';
import { formatMac } from '../net/mac.ts';
import { formatPrefix, networkOf, type Prefix } from '../net/prefix.ts';
import { callPlugin } from './delegate.ts';
import { weftKeys } from './keys.ts';
import { openContainerNetlink, openNamespaces } from './namespaces.ts';
import { checkParts } from './parts.ts';
import { ownIpamType, readSettings } from './settings.ts';
import { CniError, errorCodes } from './spec/errors.ts';
import { foldKeys } from './spec/keys.ts';
import type { CniRequest } from './spec/request.ts';
import { parseResult, type Result, ResultError, type ResultRoute } from './spec/results.ts';

const differs = (message: string): CniError => new CniError(errorCodes.attachmentDiffers, message);

/** @throws CniError 7 */
function previousResult(request: CniRequest): Result {
  const { prevResult } = request.configuration;
  if (prevResult === undefined) {
    throw new CniError(
      errorCodes.invalidConfiguration,
      'CHECK needs the "prevResult" that ADD answered with, and there is none',
    );
  }
  try {
    return parseResult(prevResult, request.cniVersion);
  } catch (error) {
    if (!(error instanceof ResultError)) throw error;
    throw new CniError(
      errorCodes.invalidConfiguration,
      `The configuration's "prevResult" cannot be used: ${error.message}`,
    );
  }
}

function linkOf(connection: NetlinkConnection, name: string, where: string, mac: string | undefined): Link {
  const link = connection.get(getLink({ name }));
  if (!link) throw differs(`The interface "${name}" is missing ${where}`);
  const actual = link.mac && formatMac(link.mac);
  if (mac !== undefined && actual !== mac.toLowerCase()) {
    throw differs(`The interface "${name}" ${where} has the MAC ${actual ?? 'none'}, and its result says ${mac}`);
  }
  return link;
}

/** @returns the container's port of the bridge; undefined where the result names none */
function checkHost(host: NetlinkConnection, result: Result, bridgeName: string): Link | undefined {
  const ofHost = result.interfaces.filter((entry) => entry.sandbox === undefined);
  const bridgeEntry = ofHost.find((entry) => entry.name === bridgeName);
  if (!bridgeEntry) return undefined;
  const bridge = linkOf(host, bridgeName, 'on the host', undefined);
  if (bridge.kind !== 'bridge') throw differs(`The interface "${bridgeName}" on the host is not a bridge`);
  // The host's end stands after the bridge. Other plugins check their own interfaces.
  const portEntry = ofHost[ofHost.indexOf(bridgeEntry) + 1];
  if (!portEntry?.name.startsWith('veth')) return undefined;
  const port = linkOf(host, portEntry.name, 'on the host', portEntry.mac);
  if (port.master !== bridge.index)
    throw differs(`The interface "${port.name}" is not a port of the bridge "${bridgeName}"`);
  return port;
}

function checkRoutes(container: NetlinkConnection, routes: readonly ResultRoute[]): void {
  const keyOf = (destination: Prefix, table: number | undefined): string =>
    `${formatPrefix(networkOf(destination))} ${table || rta.RT_TABLE_MAIN}`;
  for (const family of families) {
    const expected = routes.filter((route) => route.dst.address.family === family);
    if (expected.length === 0) continue;
    const present = new Map<string, Route[]>();
    for (const route of container.dump(dumpRoutes({ family }))) {
      const key = keyOf(route.destination, route.table);
      const same = present.get(key);
      if (same) same.push(route);
      else present.set(key, [route]);
    }
    for (const { dst, gw, table } of expected) {
      const found = present
        .get(keyOf(dst, table))
        // A route with several next hops has no gateway of its own.
        ?.some((route) => !gw || !route.gateway || sameAddress(route.gateway, gw));
      if (!found) {
        throw differs(`The container has no route to ${formatPrefix(dst)}${gw ? ` via ${formatAddress(gw)}` : ''}`);
      }
    }
  }
}

function checkContainer(container: NetlinkConnection, request: CniRequest, result: Result): void {
  const { ifname, netns } = request;
  const index = result.interfaces.findIndex((entry) => entry.name === ifname && entry.sandbox !== undefined);
  const entry = result.interfaces[index];
  if (!entry) throw differs(`"prevResult" has no interface "${ifname}" of the container`);
  if (entry.sandbox !== netns) {
    throw differs(`The interface "${ifname}" was put into "${entry.sandbox}", and CNI_NETNS is "${netns}"`);
  }
  const link = linkOf(container, ifname, 'in the container', entry.mac);
  const present = new Set(
    container.dump(dumpAddresses({ index: link.index })).map(({ prefix }) => formatPrefix(prefix)),
  );
  for (const ip of result.ips) {
    if (ip.interface !== undefined && ip.interface !== index) continue;
    if (!present.has(formatPrefix(ip.address))) {
      throw differs(`The container's interface "${ifname}" does not have the address ${formatPrefix(ip.address)}`);
    }
  }
  checkRoutes(container, result.routes);
}

export function runCheck(sys: Sys, request: CniRequest): undefined {
  const { configuration } = request;
  foldKeys(configuration, weftKeys);
  const settings = readSettings(configuration);
  const { ipamType, bridge } = settings;
  const result = previousResult(request);
  if (ipamType === ownIpamType) {
    checkIpamConfiguration(configuration);
    checkAddresses(sys, request);
  } else if (ipamType !== '') {
    callPlugin(sys, request, ipamType, 'CHECK');
  }
  const namespaces = openNamespaces(sys, request);
  try {
    const container = openContainerNetlink(sys, namespaces, request.netns);
    try {
      checkContainer(container, request, result);
    } finally {
      container.close();
    }
    const host = openNetlink(sys);
    try {
      const port = checkHost(host, result, bridge);
      const place = { sys, request, settings, host, port, addresses: result.ips.length };
      for (const part of checkParts) part.check?.(place);
    } finally {
      host.close();
    }
  } finally {
    sys.close(namespaces.host);
    sys.close(namespaces.container);
  }
  return undefined;
}
