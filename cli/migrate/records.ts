/**
 * flannel's records for containers that Weft has attached. flannel's plugin deletes a container by its record, which is the
 * configuration that it gave to the bridge plugin. Without one it deletes nothing, and the addresses stay taken. Pure.
 */

import type { NodeNetwork } from '../../net/node-file.ts';
import { formatPrefix } from '../../net/prefix.ts';

export interface RecordOptions {
  readonly cniVersion: string;
  /** The network's name. */
  readonly name: string;
  readonly node: NodeNetwork;
  /** `delegate` of flannel's configuration. */
  readonly delegate: Readonly<Record<string, unknown>>;
}

/** What flannel's plugin gives to the bridge plugin, in its order of keys. */
export function formatRecord({ cniVersion, name, node, delegate }: RecordOptions): string {
  const { subnets, networks, mtuBytes, ipMasq } = node;
  const document: Record<string, unknown> = {
    type: 'bridge',
    ipMasq: !ipMasq,
    mtu: mtuBytes,
    isGateway: true,
    ...delegate,
    cniVersion,
    name,
    ipam: {
      ranges: subnets.map((subnet) => [{ subnet: formatPrefix(subnet) }]),
      routes: networks.map((network) => ({ dst: formatPrefix(network) })),
      type: 'host-local',
    },
  };
  return JSON.stringify(Object.fromEntries(Object.entries(document).sort(([a], [b]) => (a < b ? -1 : 1))));
}
