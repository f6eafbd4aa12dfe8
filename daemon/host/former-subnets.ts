/**
 * What still uses a subnet that this node had before. Containers keep its addresses until they end. The bridge keeps its gateway
 * for ever, because the plugins never take an address from a bridge: weftd removes it after the last container. Otherwise the
 * subnet's next owner could not be reached from here.
 *
 * Only what the plugins have made is removed: the gateway's address on a bridge whose ports are all known to be of containers
 * outside of the subnet. Docker keeps no reservations that weftd could read, so its bridges are left alone.
 */

import { hasCode } from '../../linux/errors.ts';
import { deleteAddress, dumpAddresses, type InterfaceAddress } from '../../linux/netlink/address.ts';
import { openNetlink } from '../../linux/netlink/connection.ts';
import { dumpLinks, type Link } from '../../linux/netlink/link.ts';
import type { Sys } from '../../linux/sys.ts';
import { sameAddress } from '../../net/address.ts';
import { gatewayOf } from '../../net/node-file.ts';
import { type Prefix, prefixContains } from '../../net/prefix.ts';
import type { Attachment, AttachmentReader } from '../../reservations/attachments.ts';
import { isHostVethAlias } from '../../reservations/host-end.ts';
import { isTunnelName } from '../backends/map.ts';
import type { HostState } from './host-state.ts';

/** An address of an interface. */
export interface HeldAddress {
  readonly device: string;
  readonly index: number;
  readonly prefix: Prefix;
}

export type SubnetUse =
  | { readonly by: 'containers'; readonly count: number }
  /** An address that somebody else may want. */
  | { readonly by: 'interface'; readonly held: HeldAddress; readonly isDockers: boolean }
  /** Nobody: these addresses are left over. */
  | { readonly by: 'nobody'; readonly gateways: readonly HeldAddress[] };

const isDockerBridge = (name: string): boolean => /^(docker0|docker_gwbridge|br-[0-9a-f]{12})$/.test(name);

/** Whether all ports are of containers with known addresses. flannel's plugins name the ports by chance: those are counted. */
function hasKnownPorts(bridge: Link, links: readonly Link[], attachments: readonly Attachment[]): boolean {
  const addressed = attachments.filter(({ addresses }) => addresses.length > 0);
  const known = new Set(addressed.flatMap(({ host }) => (typeof host === 'object' ? host.index : [])));
  const unknown = links.filter(({ master, index }) => master === bridge.index && !known.has(index));
  const unseen = addressed.filter(({ host }) => host === 'missing').length;
  return (
    unknown.every(({ kind, alias }) => kind === 'veth' && !isHostVethAlias(alias ?? '')) && unknown.length <= unseen
  );
}

/** What uses the subnets, which are one lease's. */
export function subnetUse(
  { links, addresses }: Pick<HostState, 'links' | 'addresses'>,
  attachments: readonly Attachment[],
  subnets: readonly Prefix[],
): SubnetUse {
  const containing = (address: Prefix['address']): Prefix | undefined =>
    subnets.find((subnet) => subnet.address.family === address.family && prefixContains(subnet, address));
  const count = attachments.filter((each) => each.addresses.some((address) => containing(address))).length;
  if (count > 0) return { by: 'containers', count };
  const byIndex = new Map(links.map((link) => [link.index, link]));
  const gateways: HeldAddress[] = [];
  for (const { index, prefix, local } of addresses) {
    const link = byIndex.get(index);
    const subnet = containing(local ?? prefix.address);
    if (!link || !subnet || isTunnelName(link.name)) continue;
    const held = { device: link.name, index, prefix };
    const isGateway =
      local === undefined && prefix.length === subnet.length && sameAddress(prefix.address, gatewayOf(subnet));
    const isPlugins = link.kind === 'bridge' && !isDockerBridge(link.name) && hasKnownPorts(link, links, attachments);
    if (!isGateway || !isPlugins) return { by: 'interface', held, isDockers: isDockerBridge(link.name) };
    gateways.push(held);
  }
  return { by: 'nobody', gateways };
}

/** The subnets of the past on this host. */
export interface FormerSubnets {
  use(subnets: readonly Prefix[]): SubnetUse;
  /** @throws NetlinkError, SyscallError */
  remove(gateway: HeldAddress): void;
}

export function openFormerSubnets(sys: Sys, attachments: Pick<AttachmentReader, 'list'>): FormerSubnets {
  const read = (): { links: readonly Link[]; addresses: readonly InterfaceAddress[] } => {
    const connection = openNetlink(sys);
    try {
      return { links: connection.dump(dumpLinks()), addresses: connection.dump(dumpAddresses()) };
    } finally {
      connection.close();
    }
  };
  return {
    // The reservations first: an address is reserved before the bridge gets its gateway.
    use(subnets) {
      const list = attachments.list();
      return subnetUse(read(), list, subnets);
    },
    remove({ index, prefix }) {
      const connection = openNetlink(sys);
      try {
        connection.execute([deleteAddress({ index, prefix })]);
      } catch (error) {
        if (!hasCode(error, 'EADDRNOTAVAIL', 'ENODEV')) throw error;
      } finally {
        connection.close();
      }
    },
  };
}
