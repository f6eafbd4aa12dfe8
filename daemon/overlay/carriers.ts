/**
 * The interfaces of this host that have this node's subnet: the bridge of its containers. A second one, such as Docker's
 * bridge by `--bip` beside the plugins' `cni0`, gives the same addresses once more, and packets reach one of the two only.
 * A host whose containers are all Docker's has `docker0` alone, and is fine.
 */

import { addressBits } from '../../net/address.ts';
import { formatPrefix, type Prefix, prefixContains } from '../../net/prefix.ts';
import { isTunnelName } from '../backends/map.ts';
import type { HostState } from '../host/host-state.ts';

const hasSubnet = (prefix: Prefix, subnet: Prefix): boolean =>
  prefix.length >= subnet.length &&
  prefix.length < addressBits(prefix.address.family) &&
  prefixContains(subnet, prefix.address);

/** The problem of each subnet that several interfaces have, by the subnet. */
export function doubleCarriers({ links, addresses }: HostState, subnets: readonly Prefix[]): Map<string, string> {
  const names = new Map(links.map(({ index, name }) => [index, name]));
  const problems = new Map<string, string>();
  for (const subnet of subnets) {
    const carriers = new Set(
      addresses
        .filter(({ prefix }) => hasSubnet(prefix, subnet))
        .map(({ index }) => names.get(index) ?? String(index))
        .filter((name) => !isTunnelName(name)),
    );
    if (carriers.size < 2) continue;
    const text = formatPrefix(subnet);
    const listed = [...carriers].sort().map((name) => `"${name}"`);
    problems.set(
      text,
      `This node's subnet ${text} is on the interfaces ${listed.join(' and ')}: packets reach the containers of one of ` +
        'them only, and two containers can have one address; give one of them another network',
    );
  }
  return problems;
}
