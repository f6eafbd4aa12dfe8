/** The meaning of a network config, with defaults, and the differences of two. Pure. */

import { backendName, families, isOtherBackend, type NetworkConfig } from '../cluster/network-config.ts';
import { backends } from '../daemon/backends/map.ts';
import { formatAddress } from '../net/address.ts';
import { formatPrefix } from '../net/prefix.ts';

/** The document with all defaults written out, keys in flannel's order. */
export function completeConfig(config: NetworkConfig): Record<string, unknown> {
  const { backend } = config;
  const document: Record<string, unknown> = {};
  for (const family of families) {
    const network = config.networks[family];
    const infix = family === 4 ? '' : 'IPv6';
    document[`EnableIPv${family}`] = network !== undefined;
    if (!network) continue;
    document[`${infix}Network`] = formatPrefix(network.network);
    document[`${infix}SubnetLen`] = network.subnetLength;
    document[`${infix}SubnetMin`] = formatAddress(network.subnetMin);
    document[`${infix}SubnetMax`] = formatAddress(network.subnetMax);
  }
  document['EnableNFTables'] = config.enableNftables;
  const name = backendName(backend);
  document['Backend'] = isOtherBackend(backend)
    ? { Type: name }
    : { Type: name, ...backends.get(name)?.formatConfig(backend) };
  return document;
}

/** The document's points, such as `Backend.VNI`, as text. */
function pointsOf(config: NetworkConfig): Map<string, string> {
  const flat = (document: object, path: string): [string, string][] =>
    Object.entries(document).flatMap(([key, value]) =>
      typeof value === 'object' ? flat(value, `${path}${key}.`) : [[path + key, String(value)]],
    );
  return new Map(flat(completeConfig(config), ''));
}

export interface ConfigChange {
  readonly point: string;
  /** undefined: it was absent before, or is absent now. */
  readonly before: string | undefined;
  readonly after: string | undefined;
}

/** The differing points. Without a `before`, all of `after`. */
export function compareConfigs(before: NetworkConfig | undefined, after: NetworkConfig): ConfigChange[] {
  const old = before ? pointsOf(before) : new Map<string, string>();
  const now = pointsOf(after);
  return [...new Set([...now.keys(), ...old.keys()])]
    .map((point) => ({ point, before: old.get(point), after: now.get(point) }))
    .filter((change) => change.before !== change.after);
}
