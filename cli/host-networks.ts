/** The networks that this host is connected to, without those of the cluster itself. */

import { readFile } from 'node:fs/promises';
import type { HostNetwork } from '../cluster/network-advice.ts';
import { isTunnelName } from '../daemon/backends/map.ts';
import { dumpAddresses } from '../linux/netlink/address.ts';
import { openNetlink } from '../linux/netlink/connection.ts';
import { dumpLinks, iff } from '../linux/netlink/link.ts';
import { isLinkLocal } from '../net/address.ts';
import { parseNodeFile } from '../net/node-file.ts';
import { nodeFilePath } from '../net/paths.ts';
import { networkOf, type Prefix, prefixContains } from '../net/prefix.ts';
import type { CliHost } from './host.ts';

/** The subnets of this node's containers; empty if it is no node. */
async function readSubnets(runDir: string): Promise<readonly Prefix[]> {
  try {
    return parseNodeFile(await readFile(nodeFilePath(runDir), 'utf8')).subnets;
  } catch {
    return [];
  }
}

/** Empty if the kernel cannot be asked: the networks are for a warning only. */
export async function readHostNetworks(host: Pick<CliHost, 'loadSys'>, runDir: string): Promise<HostNetwork[]> {
  const subnets = await readSubnets(runDir);
  try {
    const connection = openNetlink(await host.loadSys(), { receiveBytes: 32_768 });
    try {
      const links = new Map(connection.dump(dumpLinks()).map((link) => [link.index, link]));
      return connection.dump(dumpAddresses()).flatMap(({ index, prefix }) => {
        const link = links.get(index);
        const isOwn =
          !link ||
          (link.flags & iff.IFF_LOOPBACK) !== 0 ||
          isTunnelName(link.name) ||
          isLinkLocal(prefix.address) ||
          subnets.some((subnet) => prefixContains(subnet, prefix.address));
        return isOwn ? [] : [{ name: link.name, network: networkOf(prefix) }];
      });
    } finally {
      connection.close();
    }
  } catch {
    return [];
  }
}
