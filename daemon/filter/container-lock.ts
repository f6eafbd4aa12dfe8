/**
 * Where the cluster's packets may come in. A container with CAP_NET_RAW can forge any source address, and rp_filter is off
 * on many hosts. So the peer lock's list of addresses is not enough:
 *
 * - A container sends tunnel packets in the name of a peer, or of its host, to a third host. That host sees nothing wrong,
 *   so the container's own host drops them on the way. It also drops those of containers that have other addresses than the
 *   cluster's, Docker's for example: masquerading gives them the host's address.
 * - A container sends them to its own host's tunnel, or through the tunnel to that of another host. They come in by an
 *   interface of containers or of a tunnel, and are dropped there.
 * - A host of the local network sends a container's packet as it is, without the tunnel. It comes in by the external
 *   interface, while the route to its source leads to a tunnel or to a container.
 *
 * A peer may be a container or a virtual machine of this host: its packets come from where its address is, and pass.
 * Packets with a container's source to this host's own addresses pass, too: hosts without masquerading send such.
 *
 * Rules ask first what most packets of the host do not have, so that those cost little.
 *
 * nft_fib answers where a source address is. Kernels without it get the only rule that does without.
 */

import { families, valuesOf } from '../../cluster/network-config.ts';
import {
  comesFromElsewhere,
  destinationIn,
  destinationInSet,
  goTo,
  inputInterfaceInSet,
  interfaceKey,
  isFamily,
  not,
  type RuleItem,
  rule,
  sourceIn,
  sourceInSet,
} from '../../linux/nft/match.ts';
import { type NftChain, type NftHook, type NftRule, nftPriority } from '../../linux/nft/table.ts';
import { routesDirectly } from '../backends/map.ts';
import { type ClusterPrefixes, containerPrefixes, formatPrefixes, prefixesOf } from './cluster-prefixes.ts';
import { dropChain } from './dropped.ts';
import type { FilterLinks, FilterPart, PartContent, PartSet } from './part.ts';
import type { PeerLock } from './peer-lock.ts';
import { peerSets, tunnelItems, tunnelOf } from './tunnel-packets.ts';

export const containerLockPart = 'container-lock';

export interface ContainerLock extends Pick<PeerLock, 'outer' | 'lifeMs'> {
  readonly prefixes: ClusterPrefixes;
  readonly links: FilterLinks;
  /** Whether containers' packets never come in without the tunnel. */
  readonly isTunnelOnly: boolean;
  /** Whether the kernel has nft_fib. */
  readonly hasFib: boolean;
}

/** Interfaces of tunnels and containers; the external interface. Timed, as the peer lock's port is. */
const innerSet = 'inner-links';
const outerSet = 'outer-links';
const chainNames = {
  in: 'container-lock',
  out: 'container-lock-out',
  plain: 'plain-lock',
  drop: 'container-lock-drop',
} as const;

/** How long peers may take to follow a config that ends plain routes. */
export const directGraceMs = 60_000;

/** Begins the comment of all rules that need nft_fib: by it an error of the kernel is recognised. */
export const fibComment = 'weft: not from where its source is';

function lockChains({ outer, prefixes, isTunnelOnly, hasFib }: ContainerLock): NftChain[] {
  const shapes = families.flatMap((family) =>
    (outer[family] ? tunnelItems(outer[family], family) : []).map((items) => ({ family, items })),
  );
  const dropping = (items: readonly RuleItem[], comment: string): NftRule =>
    rule([...items, goTo(chainNames.drop)], { comment });
  const fromElsewhere = (items: readonly RuleItem[]): NftRule[] =>
    hasFib ? [dropping([...items, comesFromElsewhere()], fibComment)] : [];
  const own = prefixes.subnets.flatMap((each) => valuesOf(each)).filter(({ address }) => outer[address.family]);
  const plainRules = own.flatMap((subnet) =>
    containerPrefixes(prefixes)
      .filter(({ address }) => address.family === subnet.address.family)
      .flatMap((prefix) => fromElsewhere([sourceIn(prefix), destinationIn(subnet), inputInterfaceInSet(outerSet)])),
  );
  const base = (hook: NftHook): NftChain['base'] => ({
    type: 'filter',
    hook,
    priority: nftPriority.raw,
    policy: 'accept',
  });
  const chains: NftChain[] = [
    {
      name: chainNames.in,
      base: base('input')!,
      rules: shapes.flatMap(({ family, items }) =>
        fromElsewhere([isFamily(family), ...items, inputInterfaceInSet(innerSet)]),
      ),
    },
    {
      name: chainNames.out,
      base: base('forward')!,
      rules: shapes.flatMap(({ family, items }) => {
        const peers = peerSets[family];
        const toPeer = [...items, inputInterfaceInSet(innerSet), destinationInSet(peers, family)];
        return [
          dropping([...toPeer, not(sourceInSet(peers, family))], 'weft: from a container'),
          ...fromElsewhere(toPeer),
        ];
      }),
    },
    { name: chainNames.plain, base: base('prerouting')!, rules: isTunnelOnly ? plainRules : [] },
  ];
  return [...chains.filter(({ rules }) => rules.length > 0), dropChain(chainNames.drop, outer, 'weft')];
}

function lockSets({ links, lifeMs }: ContainerLock): PartSet[] {
  const timed = (name: string, source: unknown, names: () => readonly string[]): PartSet => ({
    name,
    keyType: 'ifname',
    timeoutMs: lifeMs,
    source,
    elements: () => names().map(interfaceKey),
  });
  return [timed(innerSet, links.inner, () => links.inner), timed(outerSet, links.external, () => [links.external])];
}

export const containerLockContent = (lock: ContainerLock): PartContent => ({
  name: containerLockPart,
  family: 'inet',
  structure: JSON.stringify([lock.outer, lock.lifeMs, formatPrefixes(lock.prefixes), lock.isTunnelOnly, lock.hasFib]),
  sets: lockSets(lock),
  chains: () => lockChains(lock),
});

export interface ContainerLockOptions {
  readonly lifeMs: number;
  /** Milliseconds on a clock that does not go back. */
  readonly now: () => number;
  readonly hasFib: () => boolean;
}

export function containerLocking({ lifeMs, now, hasFib }: ContainerLockOptions): FilterPart {
  /** Until then some peers may still send plain packets. */
  let directUntilMs = Number.NEGATIVE_INFINITY;
  return {
    name: containerLockPart,
    family: 'inet',
    wants(view) {
      if (routesDirectly(view.backend)) directUntilMs = now() + directGraceMs;
      const outer = tunnelOf(view);
      const { links } = view;
      if (!outer || !links) return undefined;
      const graceMs = directUntilMs - now();
      const content = containerLockContent({
        outer,
        lifeMs,
        prefixes: prefixesOf(view),
        links,
        isTunnelOnly: graceMs <= 0,
        hasFib: hasFib(),
      });
      return graceMs > 0 && !routesDirectly(view.backend) ? { ...content, validMs: graceMs } : content;
    },
  };
}
