/**
 * The formats of the files by which weftd describes its node to the CNI plugins and to people: `node.json` (Weft's own,
 * with every subnet) and `subnet.env` (flannel's, with one subnet per family). Callers hand in how a file is read, and
 * write the files themselves.
 */

import { type Address, type Family, offsetAddress } from './address.ts';
import { nodeFilePath } from './paths.ts';
import { formatPrefix, networkOf, type Prefix, parsePrefix } from './prefix.ts';

/** `/run/weft/node.json`. Prefixes are networks: no host bits. */
export interface NodeNetwork {
  /** The node's name in the cluster. Empty where only subnet.env is known. */
  readonly node: string;
  /** The cluster's networks, at most one per family. */
  readonly networks: readonly Prefix[];
  /** This node's subnets, in the order in which addresses are taken from them. */
  readonly subnets: readonly Prefix[];
  /** MTU of a container's interface. */
  readonly mtuBytes: number;
  /** Whether weftd masquerades what leaves the cluster's networks. */
  readonly ipMasq: boolean;
}

/** The file exists but its content is not valid. */
export class NodeFileError extends Error {
  override readonly name = 'NodeFileError';
}

/** The gateway of a node's subnet, which its bridge carries: the first address after the network's. */
export const gatewayOf = (subnet: Prefix): Address => offsetAddress(networkOf(subnet).address, 1)!;

export function formatNodeFile(network: NodeNetwork): string {
  const value = {
    version: 1,
    node: network.node,
    networks: network.networks.map(formatPrefix),
    subnets: network.subnets.map(formatPrefix),
    mtu: network.mtuBytes,
    ipMasq: network.ipMasq,
  };
  return `${JSON.stringify(value, null, 2)}\n`;
}

function prefixList(value: unknown, what: string): Prefix[] {
  if (!Array.isArray(value)) throw new NodeFileError(`"${what}" is not a list`);
  return value.map((item) => {
    const prefix = typeof item === 'string' ? parsePrefix(item) : undefined;
    if (!prefix) throw new NodeFileError(`"${what}" holds ${JSON.stringify(item)}, which is no subnet`);
    return networkOf(prefix);
  });
}

/** @throws NodeFileError saying what is wrong */
export function parseNodeFile(text: string): NodeNetwork {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new NodeFileError('it is not JSON');
  }
  if (typeof value !== 'object' || value === null) throw new NodeFileError('it is not a JSON object');
  const { node, networks, subnets, mtu, ipMasq } = value as Record<string, unknown>;
  const parsed = {
    node: typeof node === 'string' ? node : '',
    networks: prefixList(networks, 'networks'),
    subnets: prefixList(subnets, 'subnets'),
    mtuBytes: mtuOf(mtu),
    ipMasq: ipMasq === true,
  };
  if (parsed.subnets.length === 0) throw new NodeFileError('"subnets" is empty');
  return parsed;
}

function mtuOf(value: unknown): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 68 || value > 65535) {
    throw new NodeFileError(`the MTU is ${JSON.stringify(value)}, not a number from 68 to 65535`);
  }
  return value;
}

const ofFamily = (prefixes: readonly Prefix[], family: Family): Prefix | undefined =>
  prefixes.find((prefix) => prefix.address.family === family);

/** The subnet with its gateway's address in it, as flannel writes FLANNEL_SUBNET: `10.5.72.1/24`. */
const withGateway = (subnet: Prefix): string => formatPrefix({ address: gatewayOf(subnet), length: subnet.length });

/** flannel's subnet.env: these keys in this order. Lines of a family appear only if it is in use. */
export function formatSubnetEnv(network: NodeNetwork): string {
  const lines: string[] = [];
  for (const [family, infix] of [
    [4, ''],
    [6, 'IPV6_'],
  ] as const) {
    const clusterNetwork = ofFamily(network.networks, family);
    const subnet = ofFamily(network.subnets, family);
    if (!clusterNetwork || !subnet) continue;
    lines.push(
      `FLANNEL_${infix}NETWORK=${formatPrefix(clusterNetwork)}`,
      `FLANNEL_${infix}SUBNET=${withGateway(subnet)}`,
    );
  }
  lines.push(`FLANNEL_MTU=${network.mtuBytes}`, `FLANNEL_IPMASQ=${network.ipMasq}`);
  return `${lines.join('\n')}\n`;
}

/** The variables of subnet.env: `KEY=value` lines, the last of a key counts. */
export function variablesOfSubnetEnv(text: string): Map<string, string> {
  const values = new Map<string, string>();
  for (const line of text.split('\n')) {
    const match = /^([A-Z0-9_]+)=(.*)$/.exec(line.trim());
    if (match) values.set(match[1]!, match[2]!.replace(/^"(.*)"$/, '$1'));
  }
  return values;
}

/** The variables without which flannel's plugin refuses a subnet.env. */
export function missingInSubnetEnv(text: string): string[] {
  const values = variablesOfSubnetEnv(text);
  const groups = [
    ['FLANNEL_NETWORK', 'FLANNEL_IPV6_NETWORK'],
    ['FLANNEL_SUBNET', 'FLANNEL_IPV6_SUBNET'],
    ['FLANNEL_MTU'],
    ['FLANNEL_IPMASQ'],
  ];
  return groups.filter((group) => !group.some((key) => values.get(key))).map((group) => group.join(' or '));
}

/**
 * Reads subnet.env, from weftd or flanneld. NETWORK may be a comma-separated list; SUBNET is masked back to a network.
 * @throws NodeFileError saying what is wrong
 */
export function parseSubnetEnv(text: string): NodeNetwork {
  const values = variablesOfSubnetEnv(text);
  const prefixes = (key: string): Prefix[] =>
    (values.get(key) ?? '')
      .split(',')
      .filter((item) => item.trim() !== '')
      .map((item) => {
        const prefix = parsePrefix(item.trim());
        if (!prefix) throw new NodeFileError(`${key} holds "${item}", which is no subnet`);
        return networkOf(prefix);
      });
  const networks = [...prefixes('FLANNEL_NETWORK'), ...prefixes('FLANNEL_IPV6_NETWORK')];
  const subnets = [...prefixes('FLANNEL_SUBNET'), ...prefixes('FLANNEL_IPV6_SUBNET')];
  if (subnets.length === 0) throw new NodeFileError('neither FLANNEL_SUBNET nor FLANNEL_IPV6_SUBNET is set');
  const mtu = values.get('FLANNEL_MTU');
  return {
    node: '',
    networks,
    subnets,
    mtuBytes: mtuOf(mtu === undefined ? mtu : Number(mtu)),
    ipMasq: values.get('FLANNEL_IPMASQ') === 'true',
  };
}

export interface NodeFilePaths {
  readonly runDir: string;
  readonly subnetFile: string;
}

/**
 * Reads node.json, or else subnet.env.
 * @param readText undefined where there is no such file
 * @param onUnreadable called for a file that cannot be read or understood; the next file is tried if it returns
 */
export function readNodeFiles(
  { runDir, subnetFile }: NodeFilePaths,
  readText: (path: string) => string | undefined,
  onUnreadable: (path: string, error: unknown) => void,
): NodeNetwork | undefined {
  const sources = [
    [nodeFilePath(runDir), parseNodeFile],
    [subnetFile, parseSubnetEnv],
  ] as const;
  for (const [path, parse] of sources) {
    try {
      const text = readText(path);
      if (text !== undefined) return parse(text);
    } catch (error) {
      onUnreadable(path, error);
    }
  }
  return undefined;
}
