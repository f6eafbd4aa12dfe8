/**
 * The cluster's network config, `<prefix>/config`: flannel's document and flannel's rules (v0.28.9, pkg/subnet/config.go).
 * Keys match in any case, and unknown keys are ignored, as in Go's encoding/json.
 */

import { type Address, compareAddresses, type Family, families, isUnspecified, parseAddress } from '../net/address.ts';
import { formatPrefix, networkOf, type Prefix, parsePrefix, prefixContains } from '../net/prefix.ts';
import { addressToInteger, integerToAddress, subnetSize } from './arithmetic.ts';
import type { BackendConfig, BackendFormats } from './backend-format.ts';
import { ConfigError, ConfigSection } from './config-section.ts';

/** A value for each family in use: at least one of the two. */
export interface PerFamily<T> {
  readonly 4?: T;
  readonly 6?: T;
}

/** IPv4 first: the order of the families everywhere. */
export { families };

/** The families for which `of` gives a value. */
export function perFamily<T>(of: (family: Family) => T | undefined): PerFamily<T> {
  const result: { 4?: T; 6?: T } = {};
  for (const family of families) {
    const value = of(family);
    if (value !== undefined) result[family] = value;
  }
  return result;
}

/** The values that exist, IPv4's first. */
export const valuesOf = <T>(values: PerFamily<T>): T[] =>
  families.flatMap((family) => {
    const value = values[family];
    return value === undefined ? [] : [value];
  });

/** One family's part of the cluster: the network, and the subnets that nodes can lease. */
export interface FamilyNetwork {
  readonly network: Prefix;
  /** Prefix length of every node's subnet. */
  readonly subnetLength: number;
  /** Network addresses of the first and of the last subnet that nodes can lease. */
  readonly subnetMin: Address;
  readonly subnetMax: Address;
}

/** A backend that weftd does not run (udp, wireguard, …). */
export interface OtherBackend {
  readonly type: 'other';
  /** The config's Type, in lower case. `udp` if there is no Backend at all. */
  readonly name: string;
}

export interface NetworkConfig {
  /** The families in use, at least one. */
  readonly networks: PerFamily<FamilyNetwork>;
  readonly enableNftables: boolean;
  readonly backend: BackendConfig | OtherBackend;
  /** Why a family that the document enables is not in use. */
  readonly problem?: string;
}

/** The name of a backend in leases and for people: `vxlan`, `host-gw`, `wireguard`, … */
export const backendName = (backend: BackendConfig | OtherBackend): string =>
  isOtherBackend(backend) ? backend.name : backend.type;

export const isOtherBackend = (backend: BackendConfig | OtherBackend): backend is OtherBackend =>
  backend.type === 'other';

/** The document's keys and rules per family (flannel's IPv4 keys have no prefix). */
const familyRules = {
  4: { enable: 'EnableIPv4', infix: '', longest: 30, smallest: 28, usual: 24 },
  6: { enable: 'EnableIPv6', infix: 'IPv6', longest: 126, smallest: 124, usual: 64 },
} as const;

function parseFamilyNetwork(document: ConfigSection, family: Family): FamilyNetwork {
  const { infix, longest, smallest, usual, enable } = familyRules[family];
  const networkKey = `${infix}Network`;
  const example = family === 4 ? '"10.1.0.0/16"' : '"fd00:10::/48"';
  const text = document.text(networkKey, `a network such as ${example}`);
  if (text === undefined) {
    throw document.error(networkKey, `give the cluster's network, such as ${example}, or set ${enable} to false`);
  }
  const parsed = parsePrefix(text);
  if (!parsed || parsed.address.family !== family) {
    throw document.error(networkKey, `it must be an IPv${family} network such as ${example}`);
  }
  const network = networkOf(parsed);
  if (network.length === 0 && isUnspecified(network.address)) {
    throw document.error(networkKey, 'it must not be the whole address space');
  }

  const lengthKey = `${infix}SubnetLen`;
  // 0 is flannel's "not given".
  const given = document.integer(lengthKey, 0, longest) || undefined;
  if (given !== undefined && given < network.length + 2) {
    throw document.error(
      lengthKey,
      `it must be at least ${network.length + 2}, so that ${formatPrefix(network)} holds four subnets`,
    );
  }
  if (given === undefined && network.length > smallest) {
    throw document.error(networkKey, `it is too small: a network of nodes is a /${smallest} or larger`);
  }
  const subnetLength = given ?? (network.length <= usual - 2 ? usual : network.length + 2);

  const step = subnetSize(family, subnetLength);
  const first = addressToInteger(network.address);
  const bound = (key: string, byDefault: bigint): Address => {
    const boundText = document.text(key, `an IPv${family} address`);
    const address = boundText === undefined ? undefined : parseAddress(boundText);
    if (boundText !== undefined && (!address || address.family !== family)) {
      throw document.error(key, `it must be an IPv${family} address`);
    }
    // The unspecified address is flannel's "not given".
    if (!address || isUnspecified(address)) return integerToAddress(family, byDefault)!;
    if (!prefixContains(network, address)) {
      throw document.error(key, `it must lie in ${networkKey} ${formatPrefix(network)}`);
    }
    if (addressToInteger(address) % step !== 0n) {
      throw document.error(key, `it must be the first address of a /${subnetLength} subnet`);
    }
    return address;
  };
  // Without the first subnet: its network address is the cluster network's own.
  const subnetMin = bound(`${infix}SubnetMin`, first + step);
  const subnetMax = bound(`${infix}SubnetMax`, first + subnetSize(family, network.length) - step);
  if (compareAddresses(subnetMin, subnetMax) > 0) {
    throw document.error(`${infix}SubnetMax`, `it must not come before ${infix}SubnetMin`);
  }
  return { network, subnetLength, subnetMin, subnetMax };
}

const quoted = (names: Iterable<string>): string => [...names].map((name) => `"${name}"`).join(' or ');

/** The backend's own part, and the families that it carries of those enabled. */
function parseBackend(
  document: ConfigSection,
  enabled: readonly Family[],
  backends: BackendFormats,
): { backend: BackendConfig | OtherBackend; carried: readonly Family[] } {
  // As in flannel: no Backend at all means "udp", a tunnel through user space.
  if (!document.has('Backend')) return { backend: { type: 'other', name: 'udp' }, carried: enabled };
  const value = document.get('Backend');
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw document.error('Backend', 'it must be an object such as {"Type": "vxlan"}');
  }
  const section = new ConfigSection('Backend.', value);
  const name = section.text('Type', 'a backend such as "vxlan"')?.toLowerCase();
  if (!name) throw section.error('Type', `name the backend: ${quoted(backends.keys())}`);
  const format = backends.get(name);
  if (!format) return { backend: { type: 'other', name }, carried: enabled };
  const carried = enabled.filter((family) => format.families.includes(family));
  if (carried.length === 0) {
    throw section.error('Type', `it carries IPv${format.families.join(' and IPv')} only, which is not enabled`);
  }
  return { backend: format.parseConfig(section, carried), carried };
}

function parseDocument(text: string): ConfigSection {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new ConfigError('', undefined, `it is not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ConfigError('', undefined, 'it is not a JSON object');
  }
  return new ConfigSection('', value);
}

/**
 * Reads the document and fills in flannel's defaults. The network loses its host bits.
 * @param backends those that weftd runs, by name
 * @throws ConfigError with path, value and rule
 */
export function parseNetworkConfig(text: string, backends: BackendFormats): NetworkConfig {
  const document = parseDocument(text);
  const enabled = families.filter((family) => document.boolean(familyRules[family].enable, family === 4));
  if (enabled.length === 0) throw document.error('EnableIPv4', 'IPv4, IPv6 or both must be enabled');
  const networks = perFamily((family) => (enabled.includes(family) ? parseFamilyNetwork(document, family) : undefined));
  const enableNftables = document.boolean('EnableNFTables', false);
  const { backend, carried } = parseBackend(document, enabled, backends);
  const left = enabled.filter((family) => !carried.includes(family));
  const config = { networks: perFamily((family) => (carried.includes(family) ? networks[family] : undefined)) };
  if (left.length === 0) return { ...config, enableNftables, backend };
  const [family] = left as [Family];
  const problem =
    `Network config: backend "${backendName(backend)}" carries IPv${carried.join()} only, so IPv${family} is left out; ` +
    `set "${familyRules[family].enable}" to false, or give another backend`;
  return { ...config, enableNftables, backend, problem };
}

const knownKeys = new Set(
  ['EnableNFTables', 'Backend', ...Object.values(familyRules).map((rules) => rules.enable)]
    .concat(
      Object.values(familyRules).flatMap(({ infix }) =>
        ['Network', 'SubnetLen', 'SubnetMin', 'SubnetMax'].map((key) => infix + key),
      ),
    )
    .map((key) => key.toLowerCase()),
);

/** Unknown keys at the top of the document, as written: probably misspelt. */
export const unknownConfigKeys = (text: string): string[] =>
  parseDocument(text)
    .names()
    .filter((name) => !knownKeys.has(name.toLowerCase()));

/**
 * Whether the config allows a node these subnets: each family in use has one of the right length within the bounds, and
 * no other family has one.
 */
export const isCompatible = (config: NetworkConfig, subnets: PerFamily<Prefix>): boolean =>
  families.every((family) => {
    const network = config.networks[family];
    const subnet = subnets[family];
    if (!network || !subnet) return !network && !subnet;
    return (
      subnet.length === network.subnetLength &&
      compareAddresses(subnet.address, network.subnetMin) >= 0 &&
      compareAddresses(subnet.address, network.subnetMax) <= 0
    );
  });
