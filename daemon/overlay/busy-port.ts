/** Who has the UDP port of a VXLAN device: a device that comes up opens it. */

import type { Link } from '../../linux/netlink/link.ts';
import { tunnelOf } from '../../linux/netlink/tunnel.ts';
import type { VxlanData } from '../../linux/netlink/vxlan.ts';
import type { Sys } from '../../linux/sys.ts';
import { isTunnelName } from '../backends/map.ts';
import { udpPortHolder } from '../host/socket-holder.ts';
import { deviceOf, formatOperation, type Operation } from './plan.ts';

/**
 * The other VXLAN device that has the port. Devices of the same form share a port, so one of another form is the cause.
 * Not all of a form is decoded: among the rest, a stranger's is likelier than one of the cluster's own.
 */
function portRival(links: readonly Link[], device: Link): Link | undefined {
  const dataOf = (link: Link): VxlanData => tunnelOf(link) as VxlanData;
  const own = dataOf(device);
  const rivals = links.filter((link) => link.name !== device.name && link.up && dataOf(link).port === own.port);
  return (
    rivals.find((link) => dataOf(link).gbp !== own.gbp) ?? rivals.find(({ name }) => !isTunnelName(name)) ?? rivals[0]
  );
}

/** @returns undefined if the operation is about no VXLAN device that is there */
export function busyPortError(sys: Sys, links: readonly Link[], operation: Operation, cause: Error): Error | undefined {
  const tunnels = links.filter(({ kind }) => kind === 'vxlan');
  const device = tunnels.find(({ name }) => name === deviceOf(operation));
  if (!device) return undefined;
  const { port } = tunnelOf(device) as VxlanData;
  const rival = portRival(tunnels, device);
  const holder = udpPortHolder(sys, port) ?? (rival ? `the device "${rival.name}"` : 'another socket');
  return new Error(
    `Cannot ${formatOperation(operation)}: ${holder} has the UDP port ${port}; stop it, or give the network config another Backend.Port`,
    { cause },
  );
}
