/** What a network config says, point by point, and how two of them differ. Pure. */

import { backendName, families, type NetworkConfig } from '../cluster/network-config.ts';
import { formatAddress } from '../net/address.ts';
import { formatPrefix } from '../net/prefix.ts';

/** The document's keys and what stands or is assumed there, defaults filled in, in flannel's order. */
export function describeConfig(config: NetworkConfig): Map<string, string> {
  const points = new Map<string, string>();
  for (const family of families) {
    const network = config.networks[family];
    if (!network) continue;
    const infix = family === 4 ? '' : 'IPv6';
    points.set(`${infix}Network`, formatPrefix(network.network));
    points.set(`${infix}SubnetLen`, String(network.subnetLength));
    points.set(`${infix}SubnetMin`, formatAddress(network.subnetMin));
    points.set(`${infix}SubnetMax`, formatAddress(network.subnetMax));
  }
  points.set('EnableNFTables', String(config.enableNftables));
  const { backend } = config;
  points.set('Backend.Type', backendName(backend));
  if (backend.type === 'vxlan') {
    points.set('Backend.VNI', String(backend.vni));
    points.set('Backend.Port', String(backend.port));
    points.set('Backend.MTU', backend.mtuBytes === undefined ? "the interface's" : String(backend.mtuBytes));
    points.set('Backend.GBP', String(backend.gbp));
    points.set('Backend.Learning', String(backend.learning));
    points.set('Backend.DirectRouting', String(backend.directRouting));
  }
  return points;
}

export interface ConfigChange {
  readonly point: string;
  /** undefined: it was not there, or is not any more. */
  readonly before: string | undefined;
  readonly after: string | undefined;
}

/** The points in which they differ. Without a `before`, all of `after`. */
export function compareConfigs(before: NetworkConfig | undefined, after: NetworkConfig): ConfigChange[] {
  const old = before ? describeConfig(before) : new Map<string, string>();
  const now = describeConfig(after);
  return [...new Set([...now.keys(), ...old.keys()])]
    .map((point) => ({ point, before: old.get(point), after: now.get(point) }))
    .filter((change) => change.before !== change.after);
}
