/** The VLANs of bridges' ports, as `bridge vlan show` prints them. */

import { run } from '../lab/commands.ts';

export interface PortVlan {
  readonly vlan: number;
  /** Packets that come in without a tag belong to it. */
  readonly pvid: boolean;
  /** Packets that go out lose their tag. */
  readonly untagged: boolean;
}

interface BridgeVlan {
  ifname: string;
  vlans: { vlan: number; vlanEnd?: number; flags?: string[] }[];
}

/** All VLANs of a port, or of a bridge itself, ranges told one by one. */
export function readPortVlans(namespace: string, port: string): PortVlan[] {
  const text = run(['bridge', '-n', namespace, '-j', 'vlan', 'show', 'dev', port]);
  const { vlans } = (JSON.parse(text) as BridgeVlan[]).find(({ ifname }) => ifname === port) ?? { vlans: [] };
  return vlans.flatMap(({ vlan, vlanEnd = vlan, flags = [] }) =>
    Array.from({ length: vlanEnd - vlan + 1 }, (_, i) => ({
      vlan: vlan + i,
      pvid: flags.includes('PVID'),
      untagged: flags.includes('Egress Untagged'),
    })),
  );
}

export const portVlanNumbers = (namespace: string, port: string): number[] =>
  readPortVlans(namespace, port).map(({ vlan }) => vlan);
