/**
 * A peer sends packets of its own containers only. Otherwise one host with a node's rights could send in the name of every
 * container of the cluster.
 *
 * - A packet from a source inside the cluster's networks must come from the peer that holds the source's subnet. That
 *   includes the addresses of tunnel devices, which are subnets' first. Other sources pass, as with flannel. The addresses of
 *   hosts pass where the hosts' network is a part of the cluster's.
 * - It is judged in the tunnel's packet, before the kernel unpacks it: nf_tables' own matching of inner headers needs
 *   Linux 6.2. A set holds pairs of a host and a subnet, by the subnet's length. So a lookup takes the same time with one
 *   peer and with thousands, and a subnet that moves to another host has both pairs for a moment.
 * - Ethernet frames with a VLAN tag are dropped: no host sends them, and the kernel takes a tag of VLAN 0 for none. ARP and
 *   other protocols pass; weftd's neighbour entries are permanent, so that ARP does not change them.
 * - A packet that is cut before its inner source is dropped. Over IPv6 the packet filter may see fragments. Then a first
 *   fragment that does not reach to the VNI is dropped, too.
 */

import { families, type PerFamily, valuesOf } from '../../cluster/network-config.ts';
import { ethernetProtocol, ethhdr, greHeader, ipProtocol, udphdr, vxlanhdr } from '../../linux/nft/header.ts';
import {
  accept,
  carriesWord,
  destinationPortInSet,
  type GreOptions,
  goTo,
  greBytes,
  grePackets,
  greWith,
  innerSourceIn,
  isFamily,
  isFragment6,
  type Match,
  not,
  protocolInSet,
  type RuleItem,
  rule,
  sourcesInSet,
  sourcesKey,
  vxlanNetwork,
} from '../../linux/nft/match.ts';
import { type NftChain, type NftRule, nftPriority } from '../../linux/nft/table.ts';
import type { Family } from '../../net/address.ts';
import { formatPrefix, hostPrefix, type Prefix, prefixContains, prefixesOverlap } from '../../net/prefix.ts';
import type { OuterHeader } from '../backends/backend.ts';
import { prefixesOf } from './cluster-prefixes.ts';
import { dropChain } from './dropped.ts';
import {
  type ElementChange,
  type FilterPart,
  noPlacements,
  type PartContent,
  type PartSet,
  type Placement,
  type Placements,
} from './part.ts';
import { portSet, protocolSet, tunnelItems, tunnelOf } from './tunnel-packets.ts';

export const innerLockPart = 'inner-lock';

export interface InnerLock {
  readonly outer: PerFamily<OuterHeader>;
  /** The cluster's networks. */
  readonly networks: PerFamily<Prefix>;
  /** Networks of hosts that overlap with the cluster's. */
  readonly spared: readonly Prefix[];
  readonly placed: Placements;
  /** The lengths of subnets that the rules know; others' packets would be dropped. */
  readonly lengths: Readonly<Record<Family, readonly number[]>>;
}

const chainName = 'inner-lock';
const dropName = 'inner-lock-drop';
const setName = (family: Family, length: number): string => `inner${family}-${length}`;
const comment = 'weft: not of its subnet';

/** Where the packet is that a tunnel's packet carries, counted from the end of the outer IP header. */
interface Layout {
  readonly items: readonly RuleItem[];
  /** Of the inner packet. */
  readonly offset: number;
  /** Of the two bytes that say what it is; undefined: it is of the outer packet's family. */
  readonly protocolOffset: number | undefined;
}

const vxlanBytes = udphdr.bytes + vxlanhdr.bytes;

function greLayouts(key: OuterHeader['key'], family: Family): Layout[] {
  const keys: GreOptions['key'][] = key === 'any' ? [false, true] : key === undefined ? [false] : [key];
  // Over IPv6 the kernel treats no key and key 0 alike.
  if (family === 6 && key !== 'any' && (key ?? 0) === 0) keys.splice(0, 1, false, 0);
  const flags = [false, true];
  return keys.flatMap((each) =>
    flags.flatMap((checksum) =>
      flags.map((sequence): Layout => {
        const options = { checksum, key: each, sequence };
        return {
          items: [isFamily(family), protocolInSet(protocolSet), grePackets(), ...greWith(options)],
          offset: greBytes(options),
          protocolOffset: greHeader.protocol,
        };
      }),
    ),
  );
}

function layoutsOf(outer: OuterHeader, family: Family): Layout[] {
  switch (outer.ipProtocol) {
    case ipProtocol.IPPROTO_UDP: {
      const protocolOffset = vxlanBytes + ethhdr.h_proto;
      return tunnelItems(outer, family).map((items) => ({
        items: [isFamily(family), ...items],
        offset: vxlanBytes + ethhdr.bytes,
        protocolOffset,
      }));
    }
    case ipProtocol.IPPROTO_GRE:
      return greLayouts(outer.key, family);
    default:
      return tunnelItems(outer, family).map((items) => ({
        items: [isFamily(family), ...items],
        offset: 0,
        protocolOffset: undefined,
      }));
  }
}

const { ETH_P_IP, ETH_P_IPV6, ETH_P_8021Q, ETH_P_8021AD, ETH_P_WCCP } = ethernetProtocol;
const protocols: Readonly<Record<Family, number>> = { 4: ETH_P_IP, 6: ETH_P_IPV6 };

const passing = (...items: RuleItem[]): NftRule => rule([...items, accept()]);
const dropping = (): NftRule => rule([goTo(dropName)], { comment });

/** The rules for packets from a peer, over the family, that carry a packet at this offset. */
function judgingRules(family: Family, { offset, protocolOffset }: Layout, lock: InnerLock): NftRule[] {
  const is = (protocol: number): Match[] =>
    protocolOffset === undefined ? [] : [carriesWord(protocolOffset, protocol)];
  const inner: readonly Family[] = protocolOffset === undefined ? [family] : families;
  const outside = inner.map((each) => {
    const network = lock.networks[each];
    return passing(...is(protocols[each]), ...(network ? [not(innerSourceIn(network, offset))] : []));
  });
  const spared = lock.spared
    .filter(({ address }) => inner.includes(address.family))
    .map((prefix) => passing(...is(protocols[prefix.address.family]), innerSourceIn(prefix, offset)));
  const judged = [...Object.values(protocols), ETH_P_8021Q, ETH_P_8021AD, ETH_P_WCCP];
  const others =
    protocolOffset === undefined
      ? []
      : [passing(...judged.map((protocol) => not(carriesWord(protocolOffset, protocol))))];
  return [
    // First, because it is what peers send as a rule.
    ...lock.lengths[family].map((length) =>
      passing(...is(protocols[family]), sourcesInSet(setName(family, length), family, offset, length)),
    ),
    ...outside,
    ...spared,
    ...others,
    dropping(),
  ];
}

function lockChains(lock: InnerLock): NftChain[] {
  const judging = new Map<string, NftChain>();
  const entries = families.flatMap((family) =>
    (lock.outer[family] ? layoutsOf(lock.outer[family], family) : []).map((layout) => {
      const name = `${chainName}${family}-${layout.offset}`;
      if (!judging.has(name)) judging.set(name, { name, rules: judgingRules(family, layout, lock) });
      return rule([...layout.items, goTo(name)]);
    }),
  );
  const { vni } = lock.outer[6] ?? {};
  const cut = `${chainName}-cut`;
  const fragments = vni === undefined ? [] : [rule([isFragment6(), destinationPortInSet('UDP', portSet), goTo(cut)])];
  return [
    {
      name: chainName,
      // After the peer lock: a stranger is one, whatever it sends.
      base: { type: 'filter', hook: 'input', priority: nftPriority.raw + 1, policy: 'accept' },
      rules: [...entries, ...fragments],
    },
    ...judging.values(),
    ...(vni === undefined
      ? []
      : [{ name: cut, rules: [passing(vxlanNetwork(vni)), passing(not(vxlanNetwork(vni))), dropping()] }]),
    dropChain(dropName, lock.outer, comment),
  ];
}

/** The pair's subnet. A host's own address is inside the cluster's network where the hosts' network is a part of it. */
function pairsOf({ subnet, host }: Placement, networks: PerFamily<Prefix>): Prefix[] {
  const network = networks[host.family];
  return network && prefixContains(network, host) ? [subnet, hostPrefix(host)] : [subnet];
}

/** Keys of one set. */
function keysOf(placed: readonly Placement[], { networks }: InnerLock, family: Family, length: number): Uint8Array[] {
  const keys: Uint8Array[] = [];
  for (const each of placed) {
    if (each.host.family !== family) continue;
    for (const pair of pairsOf(each, networks)) {
      if (pair.length === length) keys.push(sourcesKey(each.host, pair.address));
    }
  }
  return keys;
}

const lockSets = (lock: InnerLock): PartSet[] =>
  families.flatMap((family) =>
    lock.lengths[family].map(
      (length): PartSet => ({
        name: setName(family, length),
        keyType: family === 4 ? 'ipv4_addr . integer' : 'ipv6_addr . integer',
        source: lock.placed.placementSource,
        elements: () => keysOf(lock.placed.placements, lock, family, length),
      }),
    ),
  );

export const innerLockContent = (lock: InnerLock): PartContent => ({
  name: innerLockPart,
  family: 'inet',
  structure: JSON.stringify([lock.outer, lock.networks, lock.spared.map(formatPrefix), lock.lengths]),
  sets: lockSets(lock),
  chains: () => lockChains(lock),
});

/**
 * The lengths of subnets that were seen. They stay: so a lease that comes and goes does not change the structure each time.
 */
class Lengths {
  readonly #seen: Record<Family, Set<number>> = { 4: new Set(), 6: new Set() };
  #source: unknown;

  /** @returns whether there is a new one */
  note(placed: readonly Placement[], networks: PerFamily<Prefix>): boolean {
    let isNew = false;
    for (const each of placed) {
      const seen = this.#seen[each.host.family];
      for (const { length } of pairsOf(each, networks)) {
        if (seen.has(length)) continue;
        seen.add(length);
        isNew = true;
      }
    }
    return isNew;
  }

  of({ placementSource, placements }: Placements, networks: PerFamily<Prefix>): InnerLock['lengths'] {
    if (placementSource !== this.#source) this.note(placements, networks);
    this.#source = placementSource;
    const list = (family: Family): number[] => [...this.#seen[family]].sort((a, b) => a - b);
    return { 4: list(4), 6: list(6) };
  }
}

export function innerLocking(): FilterPart {
  const lengths = new Lengths();
  let current: InnerLock | undefined;
  return {
    name: innerLockPart,
    family: 'inet',
    wants(view) {
      const outer = tunnelOf(view);
      const { links, placements: placed } = view;
      current = undefined;
      if (!outer || !links || !placed) return undefined;
      const { networks, subnets } = prefixesOf(view);
      const own = subnets.flatMap((each) => valuesOf(each));
      const spared = links.networks.filter((prefix) => {
        const network = networks[prefix.address.family];
        // Hosts' addresses in a network around the cluster's are outside of it.
        const isPart = network && prefix.length > network.length && prefixContains(network, prefix.address);
        return isPart && !own.some((subnet) => prefixesOverlap(subnet, prefix));
      });
      current = { outer, networks, spared, placed, lengths: lengths.of(placed, networks) };
      return innerLockContent(current);
    },
    changes(_view, _added, _removed, placed = noPlacements): readonly ElementChange[] | undefined {
      const lock = current;
      if (!lock) return [];
      // Needs a rule and a set of its own.
      if (lengths.note(placed.added, lock.networks)) return undefined;
      return families.flatMap((family) =>
        lock.lengths[family].flatMap((length): ElementChange[] => {
          const added = keysOf(placed.added, lock, family, length);
          const kept = new Set(added.map(String));
          const removed = keysOf(placed.removed, lock, family, length).filter((key) => !kept.has(String(key)));
          const set = setName(family, length);
          return added.length + removed.length === 0 ? [] : [{ family: 'inet', set, added, removed }];
        }),
      );
    },
  };
}
