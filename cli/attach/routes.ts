/**
 * The routes of a further interface. Plugins give each interface a default route, and with IPv4 the last one wins. A
 * container that reaches the world already must go on reaching it the same way: its new default route comes second. The
 * cluster's network gets a route of its own then, through the new interface.
 */

import { hasCode } from '../../linux/errors.ts';
import { readText } from '../../linux/files.ts';
import { type NetlinkConnection, openNetlink } from '../../linux/netlink/connection.ts';
import { getLinkIndex } from '../../linux/netlink/link.ts';
import { deleteRoute, dumpRoutes, type NewRoute, newRoute, type Route, rta } from '../../linux/netlink/route.ts';
import type { Sys } from '../../linux/sys.ts';
import { type Family, families } from '../../net/address.ts';
import { parseNodeFile } from '../../net/node-file.ts';
import { defaultPaths, nodeFilePath } from '../../net/paths.ts';
import { type Prefix, parsePrefix, prefixContains } from '../../net/prefix.ts';
import type { NetworkList } from '../../networks/list.ts';

/** Of a default route that comes second: larger than what DHCP clients and network managers take. */
const secondMetric = 20_000;

/** Runs `body` with a netlink socket of the container's namespace. */
export type InContainer = <T>(body: (connection: NetlinkConnection) => T) => T;

export const containerNetlink =
  (sys: Sys, open: <T>(body: () => T) => T): InContainer =>
  (body) => {
    const connection = open(() => openNetlink(sys));
    try {
      return body(connection);
    } finally {
      connection.close();
    }
  };

const defaultsOf = (connection: NetlinkConnection, family: Family, oif?: number): Route[] =>
  connection
    .dump(dumpRoutes({ family, ...(oif === undefined ? {} : { oif }) }))
    .filter(
      ({ destination, table, type }) =>
        destination.length === 0 && table === rta.RT_TABLE_MAIN && type === rta.RTN_UNICAST,
    );

/** The families in which the container has a default route. */
export const familiesWithDefault = (inContainer: InContainer): Family[] =>
  inContainer((connection) => families.filter((family) => defaultsOf(connection, family).length > 0));

/** The cluster's networks, if the list gives addresses of this node's subnets. */
export function clusterNetworks(sys: Sys, { plugins }: NetworkList, addresses: readonly string[]): Prefix[] {
  const plugin = plugins.find(({ type }) => type === 'weft');
  if (!plugin) return [];
  const runDir = typeof plugin['runDir'] === 'string' ? plugin['runDir'] : defaultPaths.runDir;
  try {
    const node = parseNodeFile(readText(sys, nodeFilePath(runDir)) ?? '');
    const own = addresses.flatMap((address) => parsePrefix(`${address}/${address.includes(':') ? 128 : 32}`) ?? []);
    const isNodes = own.some(({ address }) => node.subnets.some((subnet) => prefixContains(subnet, address)));
    return isNodes ? [...node.networks] : [];
  } catch {
    // Without weftd's file there is no cluster to lead to.
    return [];
  }
}

/** @param kept the families whose default route was there before @throws NetlinkError, SyscallError */
export function putSecond(
  inContainer: InContainer,
  ifname: string,
  kept: readonly Family[],
  networks: readonly Prefix[],
): void {
  inContainer((connection) => {
    const oif = connection.get(getLinkIndex(ifname));
    if (oif === undefined) return;
    for (const family of kept) {
      for (const { gateway, metric } of defaultsOf(connection, family, oif)) {
        const destination = parsePrefix(family === 4 ? '0.0.0.0/0' : '::/0')!;
        const route: NewRoute = { destination, oif, ...(gateway ? { gateway } : {}) };
        const added = networks.filter(({ address }) => address.family === family);
        connection.execute([
          newRoute({ ...route, metric: secondMetric + oif }),
          deleteRoute({ ...route, ...(metric === undefined ? {} : { metric }) }),
        ]);
        for (const network of added) addUnlessThere(connection, { ...route, destination: network });
      }
    }
  });
}

function addUnlessThere(connection: NetlinkConnection, route: NewRoute): void {
  try {
    connection.execute([newRoute(route)]);
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error;
  }
}
