/**
 * Another interface that has the subnet from which containers get their addresses, such as Docker's bridge by `--bip`. Two
 * programs would then give the same addresses, and packets reach the containers behind one of the bridges only.
 *
 * An interface has the subnet if its own network is the subnet or a part of it. Tunnel devices have a single address of it.
 * The host's network may contain the whole cluster.
 */

import { dumpAddresses, type InterfaceAddress } from '../linux/netlink/address.ts';
import type { NetlinkConnection } from '../linux/netlink/connection.ts';
import { getLink } from '../linux/netlink/link.ts';
import { addressBits } from '../net/address.ts';
import { formatPrefix, networkOf, type Prefix, prefixContains } from '../net/prefix.ts';
import { CniError, errorCodes } from './spec/errors.ts';

const isWithin = (prefix: Prefix, subnet: Prefix): boolean =>
  prefix.length >= subnet.length &&
  prefix.length < addressBits(prefix.address.family) &&
  prefixContains(subnet, prefix.address);

/**
 * IPv4 alone: Docker gets no IPv6 subnet of the node, and each container's interface has an IPv6 address of its own in the
 * kernel's list. weftd looks at both families.
 * @param subnets with host bits or without
 * @param ownIndex the bridge that may have them; undefined where it does not exist
 * @returns the host's IPv4 addresses, as far as they were needed
 * @throws CniError 116
 */
export function checkOtherCarriers(
  host: NetlinkConnection,
  subnets: readonly Prefix[],
  bridge: string,
  ownIndex: number | undefined,
): readonly InterfaceAddress[] {
  const networks = subnets.filter(({ address }) => address.family === 4).map(networkOf);
  if (networks.length === 0) return [];
  const addresses = host.dump(dumpAddresses({ family: 4 }));
  const other = addresses.find(
    ({ index, prefix }) => index !== ownIndex && networks.some((network) => isWithin(prefix, network)),
  );
  if (!other) return addresses;
  const name = host.get(getLink({ index: other.index }))?.name ?? `interface ${other.index}`;
  const advice =
    name === 'docker0'
      ? `give Docker another network (--bip), or let Docker alone serve this host's containers`
      : `delete one of the two, or set "bridge" to "${name}" if that one is meant`;
  throw new CniError(
    errorCodes.subnetElsewhere,
    `The interface "${name}" has the address ${formatPrefix(other.prefix)} in the subnet of the bridge "${bridge}": ` +
      `containers of both would get the same addresses; ${advice}`,
  );
}
