/**
 * The IPAM's settings from a configuration: the store, the ranges, the requested addresses. Keys are canonical here.
 */

import { parseArguments } from '../cni/spec/environment.ts';
import { CniError, errorCodes } from '../cni/spec/errors.ts';
import type { CniRequest, JsonObject } from '../cni/spec/request.ts';
import { type Dns, parseRoute, ResultError, type ResultRoute } from '../cni/spec/results.ts';
import { quote } from '../cni/spec/text.ts';
import { readText } from '../linux/files.ts';
import type { Sys } from '../linux/sys.ts';
import { type Address, addressKey, parseAddress } from '../net/address.ts';
import type { NodeNetwork } from '../net/node-file.ts';
import { defaultPaths } from '../net/paths.ts';
import { parsePrefix } from '../net/prefix.ts';
import { withoutTrailingSlashes } from '../net/text.ts';
import {
  hasRanges,
  parseRangeSets,
  type RangeConfiguration,
  type RangeSet,
  type RangeSources,
  rangeSetsOfNode,
} from './ranges.ts';
import { parseResolvConf } from './resolv-conf.ts';

/** The `ipam` section; `{}` if there is none. */
export const ipamOf = (configuration: JsonObject): JsonObject => {
  const { ipam } = configuration;
  return typeof ipam === 'object' && ipam !== null && !Array.isArray(ipam) ? (ipam as JsonObject) : {};
};

/** The network's folder. It depends on no setting that may have become invalid, so that DEL always finds it. */
export function storeFolder(request: Pick<CniRequest, 'network' | 'configuration'>): string {
  const { dataDir } = ipamOf(request.configuration);
  const base = typeof dataDir === 'string' && dataDir !== '' ? dataDir : defaultPaths.cniDataDir;
  return `${withoutTrailingSlashes(base)}/${request.network}`;
}

/** @param configuration validated by the schema */
function rangeSourcesOf(configuration: JsonObject): RangeSources {
  const ipam = ipamOf(configuration);
  const runtimeConfig = (configuration['runtimeConfig'] ?? {}) as JsonObject;
  return {
    runtime: (runtimeConfig['ipRanges'] ?? []) as RangeConfiguration[][],
    legacy: ipam as RangeConfiguration,
    ranges: (ipam['ranges'] ?? []) as RangeConfiguration[][],
  };
}

/** Whether the addresses come from the subnets that the cluster gave this node. */
export const usesNodeSubnets = (configuration: JsonObject): boolean => !hasRanges(rangeSourcesOf(configuration));

/**
 * @param node the node's network; called if `usesNodeSubnets`
 * @throws CniError 7
 */
export function rangeSetsOf(request: CniRequest, node: () => Pick<NodeNetwork, 'subnets'>): RangeSet[] {
  const sources = rangeSourcesOf(request.configuration);
  return hasRanges(sources) ? parseRangeSets(sources, request.cniVersion) : rangeSetsOfNode(node());
}

function requestedAddress(text: string, where: string): Address {
  // A requested address may have a prefix length. It is ignored, because the range decides it.
  const address = parsePrefix(text)?.address ?? parseAddress(text);
  if (!address) {
    throw new CniError(
      where === 'CNI_ARGS' ? errorCodes.badEnvironment : errorCodes.invalidConfiguration,
      `The IP address asked for by ${where} is ${quote(text)}, which is not an IP address`,
    );
  }
  return address;
}

/**
 * The requested addresses, from CNI_ARGS, args.cni.ips and runtimeConfig.ips in this order, without duplicates.
 * @throws CniError 4 or 7
 */
export function requestedAddresses(request: CniRequest): Address[] {
  const { configuration } = request;
  const args = ((configuration['args'] as JsonObject | undefined)?.['cni'] ?? {}) as { ips?: string[] };
  const runtimeConfig = (configuration['runtimeConfig'] ?? {}) as { ips?: string[] };
  const fromArguments = parseArguments(request.args).IP;
  const found = new Map<number | string, Address>();
  const add = (texts: readonly string[] | undefined, where: string): void => {
    for (const text of texts ?? []) {
      const address = requestedAddress(text.trim(), where);
      const key = addressKey(address);
      if (!found.has(key)) found.set(key, address);
    }
  };
  add(fromArguments ? fromArguments.split(',') : undefined, 'CNI_ARGS');
  add(args.ips, '"args.cni.ips"');
  add(runtimeConfig.ips, '"runtimeConfig.ips"');
  return [...found.values()];
}

/** @throws CniError 7 */
export function routesOf(configuration: JsonObject): ResultRoute[] {
  const routes = (ipamOf(configuration)['routes'] ?? []) as unknown[];
  return routes.map((route, i) => {
    try {
      return parseRoute(route, `ipam.routes[${i}]`);
    } catch (error) {
      if (!(error instanceof ResultError)) throw error;
      throw new CniError(errorCodes.invalidConfiguration, `The network configuration's ${error.message}`);
    }
  });
}

/** @throws CniError 7 if the file does not exist */
export function dnsOf(sys: Sys, configuration: JsonObject): Dns {
  const path = ipamOf(configuration)['resolvConf'] as string | undefined;
  if (!path) return {};
  const text = readText(sys, path);
  if (text === undefined) {
    throw new CniError(errorCodes.invalidConfiguration, `"ipam.resolvConf" names "${path}", and there is no such file`);
  }
  return parseResolvConf(text);
}
