/**
 * The VLANs of the container's port, and the gateway of a VLAN. The bridge does not carry that gateway's address. A
 * veth `<bridge>.<vlan>` does, whose other end is a port in that VLAN. Like the bridge it belongs to the host and
 * stays.
 */

import { hasCode } from '../linux/errors.ts';
import {
  addPortVlans,
  defaultVlan,
  dumpPortVlans,
  type PortVlan,
  removePortVlan,
} from '../linux/netlink/bridge-vlan.ts';
import type { NetlinkConnection } from '../linux/netlink/connection.ts';
import { changeLink, createVeth, getLink, getLinkIndex, type Link } from '../linux/netlink/link.ts';
import type { Sys } from '../linux/sys.ts';
import { formatMac } from '../net/mac.ts';
import { hostVethName } from '../reservations/host-end.ts';
import type { CheckPlace, Workplace } from './attachment-part.ts';
import { ensureAddresses, ensureSysctls, randomMacs } from './bridge.ts';
import type { AttachmentPlan, PortVlans } from './plan.ts';
import { CniError, errorCodes } from './spec/errors.ts';
import type { ResultInterface } from './spec/results.ts';

const vanished = (name: string): CniError =>
  new CniError(errorCodes.kernelRefused, `The interface "${name}" was deleted while it was set up`);

const portVlansOf = ({ native, tagged }: PortVlans): PortVlan[] => [
  ...tagged.map((vlan) => ({ vlan, native: false })),
  ...(native === undefined ? [] : [{ vlan: native, native: true }]),
];

function setPortVlans(connection: NetlinkConnection, index: number, vlans: PortVlans): void {
  const added = portVlansOf(vlans);
  try {
    connection.execute([
      ...(vlans.keepsDefault ? [] : [removePortVlan(index, defaultVlan)]),
      ...(added.length > 0 ? [addPortVlans(index, added)] : []),
    ]);
  } catch (error) {
    if (!hasCode(error, 'EOPNOTSUPP')) throw error;
    throw new CniError(
      errorCodes.kernelRefused,
      'The bridges of this kernel have no VLANs (CONFIG_BRIDGE_VLAN_FILTERING); leave out "vlan" and "vlanTrunk"',
      { cause: error },
    );
  }
}

/** The gateway's link, created if it is missing, with its other end in the VLAN. */
function ensureGatewayLink(
  sys: Sys,
  connection: NetlinkConnection,
  hostNamespace: number,
  bridge: Link,
  vlan: number,
): Link {
  const name = `${bridge.name}.${vlan}`;
  const find = () => connection.get(getLink({ name }));
  if (!find()) {
    const [portMac, gatewayMac] = randomMacs(sys, 2);
    const [error] = connection.executeEach([
      createVeth({
        name: hostVethName({ network: '', containerId: bridge.name, ifname: String(vlan) }),
        mac: portMac!,
        mtuBytes: bridge.mtuBytes,
        master: bridge.index,
        up: true,
        peer: { name, mac: gatewayMac!, mtuBytes: bridge.mtuBytes, namespace: hostNamespace },
      }),
    ]);
    // Another process may have been faster.
    if (error && !hasCode(error, 'EEXIST')) throw error;
  }
  const link = find();
  if (!link) throw vanished(name);
  if (link.kind !== 'veth' || link.peerIndex === undefined) {
    throw new CniError(
      errorCodes.notABridge,
      `"${name}" should be the gateway of VLAN ${vlan}, but is not a veth; remove it, or name another bridge by "bridge"`,
    );
  }
  // Also for an existing link, whose creator may not have got this far.
  setPortVlans(connection, link.peerIndex, { native: vlan, tagged: [], keepsDefault: false });
  if (!link.up) connection.execute([changeLink({ index: link.index }, { up: true })]);
  return link;
}

/**
 * Puts the container's port into its VLANs, and makes the gateway of its own VLAN.
 * @returns the gateway's link, for the result
 */
export function afterConnect(
  { sys, connections, namespaces }: Workplace,
  plan: AttachmentPlan,
  bridge: Link,
): ResultInterface[] {
  const connection = connections.host;
  const { vlans, name } = plan.host;
  if (!vlans) return [];
  const port = connection.get(getLinkIndex(name));
  if (port === undefined) throw vanished(name);
  setPortVlans(connection, port, vlans);
  const { gatewayVlan, gateways } = plan.bridge;
  if (gatewayVlan === undefined || gateways.length === 0) return [];
  const link = ensureGatewayLink(sys, connection, namespaces.host, bridge, gatewayVlan);
  const path = (key: string): string[] => ['net', 'ipv6', 'conf', link.name, key];
  ensureSysctls(sys, [
    { path: path('accept_ra'), value: '0', optional: true },
    ...(gateways.some(({ address }) => address.family === 6)
      ? [{ path: path('disable_ipv6'), value: '0', optional: false }]
      : []),
  ]);
  ensureAddresses(connection, link, { ...plan.bridge, name: link.name });
  return [{ name: link.name, ...(link.mac ? { mac: formatMac(link.mac) } : {}) }];
}

/** @throws CniError 110 if the port is not in one of its VLANs */
export function check({ settings, host, port }: CheckPlace): void {
  if (!settings.vlans || !port) return;
  const found = host.dump(dumpPortVlans()).find(({ index }) => index === port.index)?.vlans ?? [];
  for (const { vlan, native } of portVlansOf(settings.vlans)) {
    if (!found.some((each) => each.vlan === vlan && each.native === native)) {
      throw new CniError(
        errorCodes.attachmentDiffers,
        `The port "${port.name}" is not in VLAN ${vlan} as it should be`,
      );
    }
  }
}
