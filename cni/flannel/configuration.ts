/**
 * The configuration that flannel's plugin gives to the plugin that attaches the container: flannel's own keys, completed
 * from subnet.env. Pure. Its text equals the real plugin's byte for byte, so that either program deletes what the other
 * has made.
 */

import { formatAddress } from '../../net/address.ts';
import type { NodeNetwork } from '../../net/node-file.ts';
import { defaultPaths } from '../../net/paths.ts';
import { formatPrefix } from '../../net/prefix.ts';
import { withoutTrailingSlashes } from '../../net/text.ts';
import { CniError, errorCodes } from '../spec/errors.ts';
import { lookUp } from '../spec/keys.ts';
import type { CniRequest, JsonObject } from '../spec/request.ts';
import { parseRoute, ResultError } from '../spec/results.ts';
import { quote } from '../spec/text.ts';

/** flannel's keys. */
export interface FlannelKeys {
  readonly subnetFile: string;
  readonly dataDir: string;
  readonly delegate: JsonObject;
  readonly ipam: JsonObject;
  readonly runtimeConfig: JsonObject | undefined;
}

/** What of subnet.env is needed. */
export type SubnetEnv = Pick<NodeNetwork, 'networks' | 'subnets' | 'mtuBytes' | 'ipMasq'>;

const invalid = (message: string): CniError => new CniError(errorCodes.invalidConfiguration, message);

export const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function objectOf(configuration: JsonObject, key: string): JsonObject | undefined {
  const value = lookUp(configuration, key);
  if (value !== undefined && !isObject(value)) throw invalid(`"${key}" is ${quote(value)}, which is not an object`);
  return value;
}

function pathOf(configuration: JsonObject, key: string, otherwise: string): string {
  const value = lookUp(configuration, key) ?? '';
  if (typeof value !== 'string') throw invalid(`"${key}" is ${quote(value)}, which is not a path`);
  return withoutTrailingSlashes(value) || otherwise;
}

/** The folder of the records. DEL needs no other key. @throws CniError 7 */
export const dataDirOf = (configuration: JsonObject): string =>
  pathOf(configuration, 'dataDir', defaultPaths.flannelDataDir);

/** @throws CniError 7 */
export function readFlannelKeys(configuration: JsonObject): FlannelKeys {
  const delegate = objectOf(configuration, 'delegate') ?? {};
  if (Object.hasOwn(delegate, 'type') && typeof delegate['type'] !== 'string') {
    throw invalid(`"delegate.type" is ${quote(delegate['type'])}, which is not the name of a plugin`);
  }
  for (const key of ['name', 'ipam']) {
    if (!Object.hasOwn(delegate, key)) continue;
    throw invalid(`"delegate" has the key "${key}", which this plugin sets itself; write it beside "delegate" instead`);
  }
  return {
    subnetFile: pathOf(configuration, 'subnetFile', defaultPaths.subnetFile),
    dataDir: dataDirOf(configuration),
    delegate,
    ipam: objectOf(configuration, 'ipam') ?? {},
    runtimeConfig: objectOf(configuration, 'runtimeConfig'),
  };
}

const pointers = new Set(['table', 'scope']);

/** The user's routes. Each is a Go struct in flannel, so its fields keep their order: a Map stands for it. */
function routesOf(ipam: JsonObject): Map<string, unknown>[] {
  const routes = ipam['routes'] ?? [];
  if (!Array.isArray(routes)) throw invalid(`"ipam.routes" is ${quote(routes)}, which is not a list`);
  return routes.map((value: unknown, i) => {
    try {
      const { dst, gw, mtu, advmss, priority, table, scope } = parseRoute(value, `"ipam.routes[${i}]"`);
      const fields = { dst: formatPrefix(dst), gw: gw && formatAddress(gw), mtu, advmss, priority, table, scope };
      // Go leaves a zero out, but where the field is a pointer.
      return new Map(Object.entries(fields).filter(([key, value]) => value || (value === 0 && pointers.has(key))));
    } catch (error) {
      if (error instanceof ResultError) throw invalid(`The network configuration's ${error.message}`);
      throw error;
    }
  });
}

/** @param env undefined where it cannot be read: then there are no ranges, which DEL does not need */
function delegateIpam(ipam: JsonObject, env: SubnetEnv | undefined): JsonObject {
  const typed = Object.hasOwn(ipam, 'type') ? ipam : { ...ipam, type: 'host-local' };
  if (!env) return typed;
  const ofFamily = (family: 4 | 6) => env.subnets.filter(({ address }) => address.family === family);
  const sets = [ofFamily(4), ofFamily(6)].filter((set) => set.length > 0);
  const networks = [...new Set(env.networks.map(formatPrefix))].map((dst) => ({ dst }));
  return {
    ...typed,
    ranges: sets.map((set) => set.map((subnet) => ({ subnet: formatPrefix(subnet) }))),
    routes: [...routesOf(ipam), ...networks],
  };
}

/** @throws CniError 7 */
export function delegateConfiguration(
  request: Pick<CniRequest, 'network' | 'configuration'>,
  keys: FlannelKeys,
  env: SubnetEnv | undefined,
): JsonObject {
  const { delegate, ipam, runtimeConfig } = keys;
  const cniVersion = lookUp(request.configuration, 'cniVersion');
  const type = typeof delegate['type'] === 'string' ? delegate['type'] : 'bridge';
  return {
    ...(type === 'bridge' ? { isGateway: true } : {}),
    // If flanneld or weftd does not masquerade, the plugin has to.
    ...(env ? { ipMasq: !env.ipMasq, mtu: env.mtuBytes } : {}),
    ...delegate,
    type,
    ...(runtimeConfig ? { runtimeConfig } : {}),
    name: request.network,
    ...(cniVersion ? { cniVersion } : {}),
    ipam: delegateIpam(ipam, env),
  };
}

/** No honest configuration is deeper, and the stack must not run out. */
const depthLimit = 200;

/** Go's JSON escapes these, so that the text is safe in HTML. */
const unsafe = /[<>&\u2028\u2029]/g;
const toEscape = (character: string): string => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;

const formatText = (text: string): string => JSON.stringify(text).replace(unsafe, toEscape);

/**
 * JSON as Go's encoder writes it: no white space, an object's keys in order, a Map's as they are.
 * @throws CniError 6
 */
export function formatGoJson(value: unknown, depth = 0): string {
  if (depth > depthLimit) {
    throw new CniError(errorCodes.undecodable, 'The network configuration is nested too deeply');
  }
  const format = (inner: unknown): string => formatGoJson(inner, depth + 1);
  if (Array.isArray(value)) return `[${value.map(format).join(',')}]`;
  if (typeof value === 'string') return formatText(value);
  const isMap = value instanceof Map;
  if (!isMap && !isObject(value)) return JSON.stringify(value);
  const members: [string, unknown][] = isMap ? [...value] : Object.keys(value).map((key) => [key, value[key]]);
  if (!isMap) members.sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${members.map(([key, inner]) => `${formatText(key)}:${format(inner)}`).join(',')}}`;
}
