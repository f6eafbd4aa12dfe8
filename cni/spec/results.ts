/**
 * Results: one type for Weft's code, and the JSON of all versions of the specification (CNI 1.1.0 "Success", 0.4.0,
 * 0.2.0). Weft's type holds addresses and prefixes; JSON has them as text.
 */

import { type Address, families, formatAddress, parseAddress } from '../../net/address.ts';
import { formatPrefix, type Prefix, parsePrefix } from '../../net/prefix.ts';
import { CniError, errorCodes } from './errors.ts';
import type { JsonObject } from './request.ts';
import { quote } from './text.ts';
import { type CniVersion, isSupported } from './versions.ts';

export interface ResultInterface {
  readonly name: string;
  readonly mac?: string;
  readonly mtu?: number;
  /** CNI_NETNS, unchanged; undefined for an interface of the host. */
  readonly sandbox?: string;
  readonly socketPath?: string;
  readonly pciID?: string;
}

export interface ResultIp {
  /** The address with its subnet's prefix length: host bits are set. */
  readonly address: Prefix;
  readonly gateway?: Address;
  /** Index in `interfaces`. */
  readonly interface?: number;
}

export interface ResultRoute {
  readonly dst: Prefix;
  readonly gw?: Address;
  readonly mtu?: number;
  readonly advmss?: number;
  readonly priority?: number;
  readonly table?: number;
  readonly scope?: number;
}

export interface Dns {
  readonly nameservers?: readonly string[];
  readonly domain?: string;
  readonly search?: readonly string[];
  readonly options?: readonly string[];
}

export interface Result {
  readonly interfaces: readonly ResultInterface[];
  readonly ips: readonly ResultIp[];
  readonly routes: readonly ResultRoute[];
  readonly dns: Dns;
}

/** A result from another program is not valid. */
export class ResultError extends Error {
  override readonly name = 'ResultError';
}

export const isEmptyDns = (dns: Dns): boolean =>
  !dns.domain && !dns.nameservers?.length && !dns.search?.length && !dns.options?.length;

/** Versions of one family share a format. A result of one family is not valid in another. */
type ShapeFamily = 'single address' | 'address versions' | 'current';

function shapeOf(version: CniVersion): ShapeFamily {
  if (version === '0.1.0' || version === '0.2.0') return 'single address';
  return version.startsWith('0.') ? 'address versions' : 'current';
}

/** Whether the version allows only one address per family. */
export const isSingleAddressVersion = (version: CniVersion): boolean => shapeOf(version) === 'single address';

const routeExtras = ['mtu', 'advmss', 'priority', 'table', 'scope'] as const;

function formatRoute(route: ResultRoute): JsonObject {
  const object: JsonObject = { dst: formatPrefix(route.dst) };
  if (route.gw) object['gw'] = formatAddress(route.gw);
  for (const key of routeExtras) if (route[key] !== undefined) object[key] = route[key];
  return object;
}

function formatDns(dns: Dns): JsonObject {
  const object: JsonObject = {};
  if (dns.nameservers?.length) object['nameservers'] = dns.nameservers;
  if (dns.domain) object['domain'] = dns.domain;
  if (dns.search?.length) object['search'] = dns.search;
  if (dns.options?.length) object['options'] = dns.options;
  return object;
}

/**
 * Throws if the version cannot express the result, before ADD makes anything that would have to be undone.
 * @throws CniError 7
 */
export function checkExpressible(ips: readonly Pick<ResultIp, 'address'>[], version: CniVersion): void {
  if (!isSingleAddressVersion(version)) return;
  const counts = { 4: 0, 6: 0 };
  for (const ip of ips) counts[ip.address.address.family]++;
  const how = 'raise "cniVersion" to 0.3.0 or later';
  if (ips.length === 0) {
    throw new CniError(
      errorCodes.invalidConfiguration,
      `A result of cniVersion ${version} needs an address, and there is none; ${how}`,
    );
  }
  if (counts[4] > 1 || counts[6] > 1) {
    throw new CniError(
      errorCodes.invalidConfiguration,
      `A result of cniVersion ${version} has one address of each family, not several; ${how}`,
    );
  }
}

function formatSingleAddress(result: Result): JsonObject {
  const object: JsonObject = {};
  for (const ip of result.ips) {
    const { family } = ip.address.address;
    const config: JsonObject = { ip: formatPrefix(ip.address) };
    if (ip.gateway) config['gateway'] = formatAddress(ip.gateway);
    const routes = result.routes.filter((route) => route.dst.address.family === family);
    if (routes.length > 0) {
      config['routes'] = routes.map(({ dst, gw }) => formatRoute(gw ? { dst, gw } : { dst }));
    }
    object[`ip${family}`] = config;
  }
  object['dns'] = formatDns(result.dns);
  return object;
}

function formatInterface(entry: ResultInterface, shape: ShapeFamily): JsonObject {
  const object: JsonObject = { name: entry.name };
  if (entry.mac !== undefined) object['mac'] = entry.mac;
  if (entry.sandbox !== undefined) object['sandbox'] = entry.sandbox;
  if (shape === 'current') {
    if (entry.mtu !== undefined) object['mtu'] = entry.mtu;
    if (entry.socketPath !== undefined) object['socketPath'] = entry.socketPath;
    if (entry.pciID !== undefined) object['pciID'] = entry.pciID;
  }
  return object;
}

function formatIp(ip: ResultIp, shape: ShapeFamily): JsonObject {
  const object: JsonObject = {};
  if (shape === 'address versions') object['version'] = String(ip.address.address.family);
  if (ip.interface !== undefined) object['interface'] = ip.interface;
  object['address'] = formatPrefix(ip.address);
  if (ip.gateway) object['gateway'] = formatAddress(ip.gateway);
  return object;
}

/** The result as JSON, in the format of the version. Call `checkExpressible` first. */
export function formatResult(result: Result, version: CniVersion): string {
  const shape = shapeOf(version);
  if (shape === 'single address') return JSON.stringify({ cniVersion: version, ...formatSingleAddress(result) });
  const object: JsonObject = { cniVersion: version };
  if (result.interfaces.length > 0) {
    object['interfaces'] = result.interfaces.map((entry) => formatInterface(entry, shape));
  }
  if (result.ips.length > 0) object['ips'] = result.ips.map((ip) => formatIp(ip, shape));
  if (result.routes.length > 0) object['routes'] = result.routes.map(formatRoute);
  if (shape === 'address versions' || !isEmptyDns(result.dns)) object['dns'] = formatDns(result.dns);
  return JSON.stringify(object);
}

function asObject(value: unknown, what: string): JsonObject {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ResultError(`${what} is not an object`);
  }
  return value as JsonObject;
}

function asList(value: unknown, what: string): readonly unknown[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw new ResultError(`${what} is not a list`);
  return value;
}

function asText(value: unknown, what: string): string | undefined {
  if (value === undefined || value === null || value === '') return undefined;
  if (typeof value !== 'string') throw new ResultError(`${what} is not a string`);
  return value;
}

function asNumber(value: unknown, what: string): number | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'number' || !Number.isInteger(value)) throw new ResultError(`${what} is not a whole number`);
  return value;
}

function asTexts(value: unknown, what: string): string[] {
  return asList(value, what).map((item) => {
    if (typeof item !== 'string') throw new ResultError(`${what} holds ${quote(item)}, which is not a string`);
    return item;
  });
}

function asPrefix(value: unknown, what: string): Prefix {
  const prefix = typeof value === 'string' ? parsePrefix(value) : undefined;
  if (!prefix) throw new ResultError(`${what} is ${quote(value)}, not an address with a prefix length`);
  return prefix;
}

function asAddress(value: unknown, what: string): Address | undefined {
  const text = asText(value, what);
  if (text === undefined) return undefined;
  const address = parseAddress(text);
  if (!address) throw new ResultError(`${what} is ${quote(value)}, not an address`);
  return address;
}

/** `object` without its undefined values. */
function defined<T extends object>(object: { readonly [K in keyof T]: T[K] | undefined }): T {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as T;
}

/** A route of a result, or of the configuration of an IPAM plugin. @throws ResultError */
export function parseRoute(value: unknown, what: string): ResultRoute {
  const object = asObject(value, what);
  const route = {
    dst: asPrefix(object['dst'], `${what}.dst`),
    gw: asAddress(object['gw'], `${what}.gw`),
    mtu: asNumber(object['mtu'], `${what}.mtu`),
    advmss: asNumber(object['advmss'], `${what}.advmss`),
    priority: asNumber(object['priority'], `${what}.priority`),
    table: asNumber(object['table'], `${what}.table`),
    scope: asNumber(object['scope'], `${what}.scope`),
  };
  return defined<ResultRoute>(route);
}

/** DNS settings of a result, or of a configuration. @throws ResultError */
function parseDns(value: unknown, what: string): Dns {
  if (value === undefined || value === null) return {};
  const object = asObject(value, what);
  const lists = (['nameservers', 'search', 'options'] as const).map(
    (key) => [key, asTexts(object[key], `${what}.${key}`)] as const,
  );
  const dns: JsonObject = {};
  for (const [key, list] of lists) if (list.length > 0) dns[key] = list;
  const domain = asText(object['domain'], `${what}.domain`);
  if (domain) dns['domain'] = domain;
  return dns;
}

function parseSingleAddress(object: JsonObject): Result {
  const ips: ResultIp[] = [];
  const routes: ResultRoute[] = [];
  for (const family of families) {
    const key = `ip${family}`;
    if (object[key] === undefined || object[key] === null) continue;
    const config = asObject(object[key], key);
    const gateway = asAddress(config['gateway'], `${key}.gateway`);
    const address = asPrefix(config['ip'], `${key}.ip`);
    ips.push(gateway ? { address, gateway } : { address });
    asList(config['routes'], `${key}.routes`).forEach((route, i) => {
      routes.push(parseRoute(route, `${key}.routes[${i}]`));
    });
  }
  return { interfaces: [], ips, routes, dns: parseDns(object['dns'], 'dns') };
}

function parseInterface(value: unknown, what: string): ResultInterface {
  const object = asObject(value, what);
  const name = object['name'];
  if (typeof name !== 'string') throw new ResultError(`${what} has no name`);
  return defined<ResultInterface>({
    name,
    mac: asText(object['mac'], `${what}.mac`),
    mtu: asNumber(object['mtu'], `${what}.mtu`),
    sandbox: asText(object['sandbox'], `${what}.sandbox`),
    socketPath: asText(object['socketPath'], `${what}.socketPath`),
    pciID: asText(object['pciID'], `${what}.pciID`),
  });
}

function parseIp(value: unknown, what: string): ResultIp {
  const object = asObject(value, what);
  return defined<ResultIp>({
    address: asPrefix(object['address'], `${what}.address`),
    gateway: asAddress(object['gateway'], `${what}.gateway`),
    interface: asNumber(object['interface'], `${what}.interface`),
  });
}

/**
 * A result of another plugin, or a `prevResult`. Keys are in their canonical case.
 * @param version the version in use, which applies to a result without one
 * @throws ResultError, also if the result's version has another format
 */
export function parseResult(value: unknown, version: CniVersion): Result {
  const object = asObject(value, 'it');
  const own = asText(object['cniVersion'], 'cniVersion') ?? version;
  const shape = shapeOf(version);
  if (!isSupported(own) || shapeOf(own) !== shape) {
    throw new ResultError(`its cniVersion is ${own}, whose results are not of the shape of ${version}`);
  }
  if (shape === 'single address') return parseSingleAddress(object);
  return {
    interfaces: asList(object['interfaces'], 'interfaces').map((item, i) => parseInterface(item, `interfaces[${i}]`)),
    ips: asList(object['ips'], 'ips').map((item, i) => parseIp(item, `ips[${i}]`)),
    routes: asList(object['routes'], 'routes').map((item, i) => parseRoute(item, `routes[${i}]`)),
    dns: parseDns(object['dns'], 'dns'),
  };
}

const noKeys = {};
const dnsKeys = { nameservers: noKeys, domain: noKeys, search: noKeys, options: noKeys };
const routeKeys = {
  dst: noKeys,
  gw: noKeys,
  mtu: noKeys,
  advmss: noKeys,
  priority: noKeys,
  table: noKeys,
  scope: noKeys,
};
const singleAddressKeys = { ip: noKeys, gateway: noKeys, routes: routeKeys };

/** For `foldKeys`. */
export const resultKeys = {
  cniVersion: noKeys,
  interfaces: { name: noKeys, mac: noKeys, mtu: noKeys, sandbox: noKeys, socketPath: noKeys, pciID: noKeys },
  ips: { version: noKeys, interface: noKeys, address: noKeys, gateway: noKeys },
  routes: routeKeys,
  dns: dnsKeys,
  ip4: singleAddressKeys,
  ip6: singleAddressKeys,
};
export { dnsKeys, routeKeys };
