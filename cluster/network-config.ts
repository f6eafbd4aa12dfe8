/**
 * The cluster's network config, `<prefix>/config`: flannel's document and flannel's rules (v0.28.9, pkg/subnet/config.go).
 * Keys are matched without regard to case, unknown ones are ignored, as Go's encoding/json does.
 */

import { type Address, compareAddresses, type Family, isUnspecified, parseAddress } from '../net/address.ts';
import { maximumMtuBytes, minimumMtuBytes, vxlanOverheadBytes } from '../net/mtu.ts';
import { formatPrefix, networkOf, type Prefix, parsePrefix, prefixContains } from '../net/prefix.ts';
import { addressToInteger, integerToAddress, subnetSize } from './arithmetic.ts';

/** A value for each family in use: at least one of the two. */
export interface PerFamily<T> {
  readonly 4?: T;
  readonly 6?: T;
}

/** IPv4 first: the order in which everything here goes through the families. */
export const families = [4, 6] as const satisfies readonly Family[];

/** The families for which `of` gives a value. */
export function perFamily<T>(of: (family: Family) => T | undefined): PerFamily<T> {
  const result: { 4?: T; 6?: T } = {};
  for (const family of families) {
    const value = of(family);
    if (value !== undefined) result[family] = value;
  }
  return result;
}

/** The values there are, IPv4's first. */
export const valuesOf = <T>(values: PerFamily<T>): T[] =>
  families.flatMap((family) => {
    const value = values[family];
    return value === undefined ? [] : [value];
  });

/** One family's share of the cluster: the network, and which of its subnets are handed out. */
export interface FamilyNetwork {
  readonly network: Prefix;
  /** Prefix length of every node's subnet. */
  readonly subnetLength: number;
  /** Network address of the first and of the last subnet that may be handed out. */
  readonly subnetMin: Address;
  readonly subnetMax: Address;
}

export interface VxlanBackend {
  readonly type: 'vxlan';
  /** VXLAN network identifier; flannel's default is 1. */
  readonly vni: number;
  /** Destination UDP port, the kernel's default 8472 already filled in where the config says 0 or nothing. */
  readonly port: number;
  /** MTU of the outer interface (not of the VXLAN device); absent: the interface's own. */
  readonly mtuBytes?: number;
  /** Group policy extension. */
  readonly gbp: boolean;
  readonly learning: boolean;
  /** Peers that are reached without a gateway get a plain route and no tunnel. */
  readonly directRouting: boolean;
}

export interface HostGatewayBackend {
  readonly type: 'host-gw';
}

/** A backend that flannel knows and Weft does not (udp, wireguard, ipip, …). */
export interface OtherBackend {
  readonly type: 'other';
  /** The config's Type, in lower case. `udp` where there is no Backend at all. */
  readonly name: string;
}

export type Backend = VxlanBackend | HostGatewayBackend | OtherBackend;

export interface NetworkConfig {
  /** The families in use, at least one. */
  readonly networks: PerFamily<FamilyNetwork>;
  readonly enableNftables: boolean;
  readonly backend: Backend;
}

/** The document breaks a rule: where, what stands there, and the rule as the message. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  /** Such as `Backend.VNI`; empty for the document as a whole. */
  readonly path: string;
  /** What stands there; undefined if nothing does. */
  readonly value: unknown;

  constructor(path: string, value: unknown, rule: string) {
    super(
      path === ''
        ? `Network config: ${rule}`
        : value === undefined
          ? `Network config: "${path}" is missing: ${rule}`
          : `Network config: "${path}" is ${JSON.stringify(value)}: ${rule}`,
    );
    this.path = path;
    this.value = value;
  }
}

/** The name by which leases and people call a backend: `vxlan`, `host-gw`, `wireguard`, … */
export const backendName = (backend: Backend): string => (backend.type === 'other' ? backend.name : backend.type);

/** Which of the document's keys and rules belong to a family (flannel names IPv4's without a mark). */
const familyRules = {
  4: { enable: 'EnableIPv4', infix: '', longest: 30, smallest: 28, usual: 24 },
  6: { enable: 'EnableIPv6', infix: 'IPv6', longest: 126, smallest: 124, usual: 64 },
} as const;

/** The kernel's own choice, drivers/net/vxlan: not IANA's 4789. */
const kernelVxlanPort = 8472;
const greatestVni = 0xffffff;

/** A JSON object whose keys are found in any case; of several that match, the last counts, as in Go. */
class Section {
  readonly #path: string;
  readonly #values = new Map<string, unknown>();
  readonly #names = new Map<string, string>();

  constructor(path: string, value: object) {
    this.#path = path;
    for (const [key, item] of Object.entries(value)) {
      this.#values.set(key.toLowerCase(), item);
      this.#names.set(key.toLowerCase(), key);
    }
  }

  get(key: string): unknown {
    return this.#values.get(key.toLowerCase()) ?? undefined;
  }

  has(key: string): boolean {
    return this.#values.has(key.toLowerCase());
  }

  names(): string[] {
    return [...this.#names.values()];
  }

  error(key: string, rule: string): ConfigError {
    return new ConfigError(this.#path + key, this.get(key), rule);
  }

  boolean(key: string, byDefault: boolean): boolean {
    const value = this.get(key);
    if (value === undefined) return byDefault;
    if (typeof value !== 'boolean') throw this.error(key, 'it must be true or false');
    return value;
  }

  integer(key: string, lowest: number, highest: number): number | undefined {
    const value = this.get(key);
    if (value === undefined) return undefined;
    if (typeof value !== 'number' || !Number.isInteger(value) || value < lowest || value > highest) {
      throw this.error(key, `it must be a whole number from ${lowest} to ${highest}`);
    }
    return value;
  }

  text(key: string, what: string): string | undefined {
    const value = this.get(key);
    if (value === undefined) return undefined;
    if (typeof value !== 'string') throw this.error(key, `it must be ${what}, as a string`);
    return value;
  }
}

function parseFamilyNetwork(document: Section, family: Family): FamilyNetwork {
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
  // The first subnet is left out: its network address is the cluster network's own.
  const subnetMin = bound(`${infix}SubnetMin`, first + step);
  const subnetMax = bound(`${infix}SubnetMax`, first + subnetSize(family, network.length) - step);
  if (compareAddresses(subnetMin, subnetMax) > 0) {
    throw document.error(`${infix}SubnetMax`, `it must not come before ${infix}SubnetMin`);
  }
  return { network, subnetLength, subnetMin, subnetMax };
}

function parseBackend(document: Section, enabled: readonly Family[]): Backend {
  // Sic: in flannel no Backend at all is "udp", a tunnel through user space.
  if (!document.has('Backend')) return { type: 'other', name: 'udp' };
  const value = document.get('Backend');
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw document.error('Backend', 'it must be an object such as {"Type": "vxlan"}');
  }
  const backend = new Section('Backend.', value);
  const name = backend.text('Type', 'a backend such as "vxlan"')?.toLowerCase();
  if (!name) throw backend.error('Type', 'name the backend: "vxlan" or "host-gw"');
  if (name === 'host-gw') return { type: 'host-gw' };
  if (name !== 'vxlan') return { type: 'other', name };
  const vni = backend.integer('VNI', 0, greatestVni) ?? 1;
  const port = backend.integer('Port', 0, 65535) || kernelVxlanPort;
  const mtuBytes = backend.integer('MTU', 0, maximumMtuBytes) || undefined;
  const leastMtuBytes = Math.max(...enabled.map((family) => minimumMtuBytes[family] + vxlanOverheadBytes(family)));
  if (mtuBytes !== undefined && mtuBytes < leastMtuBytes) {
    throw backend.error('MTU', `it is the external interface's, and must be 0 (its own) or at least ${leastMtuBytes}`);
  }
  return {
    type: 'vxlan',
    vni,
    port,
    ...(mtuBytes === undefined ? {} : { mtuBytes }),
    gbp: backend.boolean('GBP', false),
    learning: backend.boolean('Learning', false),
    directRouting: backend.boolean('DirectRouting', false),
  };
}

function parseDocument(text: string): Section {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new ConfigError('', undefined, `it is not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ConfigError('', undefined, 'it is not a JSON object');
  }
  return new Section('', value);
}

/**
 * Reads the document and fills in flannel's defaults. The network loses its host bits.
 * @throws ConfigError with path, value and rule
 */
export function parseNetworkConfig(text: string): NetworkConfig {
  const document = parseDocument(text);
  const enabled = families.filter((family) => document.boolean(familyRules[family].enable, family === 4));
  if (enabled.length === 0) throw document.error('EnableIPv4', 'IPv4, IPv6 or both must be enabled');
  return {
    networks: perFamily((family) => (enabled.includes(family) ? parseFamilyNetwork(document, family) : undefined)),
    enableNftables: document.boolean('EnableNFTables', false),
    backend: parseBackend(document, enabled),
  };
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

/** Keys at the top of the document that mean nothing, as written: most likely misspelt. */
export const unknownConfigKeys = (text: string): string[] =>
  parseDocument(text)
    .names()
    .filter((name) => !knownKeys.has(name.toLowerCase()));

/**
 * Whether the config allows a node these subnets: each family in use has one of the right length and within the
 * bounds, and no other family has any.
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
