/**
 * The peer lock: only peers' tunnel packets are accepted. The tunnels' protocols do not authenticate the sender: without
 * the lock, anyone who reaches the host could send packets to containers in another host's name.
 *
 * - It sees packets for this host, after reassembly and DNAT, and before any other chain can accept them. Forwarded
 *   packets do not appear there. A drop is final, whatever other chains decide.
 * - Each network judges only its own tunnel's packets, so that several on a host can share a port or protocol. VXLAN is
 *   recognised by UDP port and VNI, GRE by its key or the lack of one. IPIP has no identifier, and a GRE device under external
 *   control accepts every key: all such packets are judged.
 * - A container could send tunnel packets itself: masquerading gives them its host's address, which peers accept. So its own
 *   host drops packets from containers that look like the tunnel's and go to a peer. container-lock.ts does it for containers
 *   that forge their source, or have an address outside the cluster.
 * - It holds while weftd lives, and 30 s longer: a restart does not open it. After that another program, perhaps flanneld,
 *   decides who the peers are, and weftd's list would shut out new ones. So the rules depend on an element of a timed set,
 *   which lock-renewal.ts renews.
 */

import type { Lease } from '../../cluster/lease.ts';
import { families, type PerFamily, valuesOf } from '../../cluster/network-config.ts';
import { peerAddressProblem } from '../../cluster/peer-address.ts';
import { ipProtocol } from '../../linux/nft/header.ts';
import {
  addressKeys,
  destinationInSet,
  goTo,
  not,
  portKey,
  protocolKey,
  type RuleItem,
  rule,
  sourceIn,
  sourceInSet,
} from '../../linux/nft/match.ts';
import { type NftChain, nftPriority } from '../../linux/nft/table.ts';
import { type Address, type Family, isUnspecified, sameAddress } from '../../net/address.ts';
import { formatPrefix, type Prefix } from '../../net/prefix.ts';
import type { OuterHeader } from '../backends/backend.ts';
import { prefixesOf } from './cluster-prefixes.ts';
import { dropChain, sendersOf } from './dropped.ts';
import type { ElementChange, FilterPart, FilterView, PartContent, PartSet } from './part.ts';
import { peerSets, portSet, protocolSet, tunnelItems, tunnelOf } from './tunnel-packets.ts';
import { UsedAddresses } from './used-addresses.ts';

export const peerLockPart = 'peer-lock';

export interface PeerLock {
  /** The outer header of the tunnel's packets, for each family that has a tunnel. */
  readonly outer: PerFamily<OuterHeader>;
  /** How long it holds without renewal. */
  readonly lifeMs: number;
  /** Public addresses; other families, unspecified addresses and duplicates are left out. */
  readonly peers: readonly Address[];
  /** What the peers depend on, where the list is another one at each look. */
  readonly source?: unknown;
  /** Packets from here that look like the tunnel's and go to a peer are dropped: the cluster's networks. */
  readonly containers: readonly Prefix[];
}

/** Long enough for a restart on a slow machine. */
export const lockLifeMs = 30_000;

const chainNames = { in: 'peer-lock', out: 'peer-lock-out', drop: 'peer-lock-drop' } as const;

function lockSets(lock: PeerLock): PartSet[] {
  const { outer, lifeMs } = lock;
  const headers = valuesOf(outer);
  const ports = new Set(headers.flatMap(({ udpPort }) => udpPort ?? []));
  const protocols = new Set(
    headers.flatMap(({ ipProtocol: protocol }) => (protocol === ipProtocol.IPPROTO_UDP ? [] : [protocol])),
  );
  const timed = (name: string, keyType: PartSet['keyType'], keys: readonly Uint8Array[]): PartSet[] =>
    // A change of the keys is one of the structure, too.
    keys.length === 0 ? [] : [{ name, keyType, timeoutMs: lifeMs, source: 'structure', elements: () => keys }];
  return [
    ...timed(portSet, 'inet_service', [...ports].map(portKey)),
    ...timed(protocolSet, 'inet_proto', [...protocols].map(protocolKey)),
    ...families.flatMap((family): PartSet[] =>
      outer[family] === undefined
        ? []
        : [
            {
              name: peerSets[family],
              keyType: family === 4 ? 'ipv4_addr' : 'ipv6_addr',
              source: lock.source ?? lock.peers,
              elements: () => addressKeys(lock.peers.filter((peer) => peer.family === family && !isUnspecified(peer))),
            },
          ],
    ),
    ...sendersOf(outer),
  ];
}

function lockChains({ outer, containers }: PeerLock): NftChain[] {
  const shapesOf = (family: Family): RuleItem[][] => (outer[family] ? tunnelItems(outer[family], family) : []);
  return [
    {
      name: chainNames.in,
      // Before everything else at this hook, so that a flood costs little.
      base: { type: 'filter', hook: 'input', priority: nftPriority.raw, policy: 'accept' },
      rules: families.flatMap((family) =>
        shapesOf(family).map((items) =>
          rule([...items, not(sourceInSet(peerSets[family], family)), goTo(chainNames.drop)], {
            comment: 'weft: from no peer',
          }),
        ),
      ),
    },
    {
      name: chainNames.out,
      base: { type: 'filter', hook: 'forward', priority: nftPriority.raw, policy: 'accept' },
      rules: containers.flatMap((prefix) => {
        const { family } = prefix.address;
        return shapesOf(family).map((items) =>
          rule([sourceIn(prefix), ...items, destinationInSet(peerSets[family], family), goTo(chainNames.drop)], {
            comment: 'weft: from a container',
          }),
        );
      }),
    },
    dropChain(chainNames.drop, outer, 'weft'),
  ];
}

export const lockContent = (lock: PeerLock): PartContent => ({
  name: peerLockPart,
  family: 'inet',
  structure: JSON.stringify([lock.outer, lock.lifeMs, lock.containers.map(formatPrefix)]),
  sets: lockSets(lock),
  chains: () => lockChains(lock),
});

/**
 * Public addresses of leases of the backend that this host runs, too: only their hosts have such a tunnel. Addresses that
 * no peer can have are never admitted, whatever a lease says.
 */
function publicAddressesOf(leases: readonly Lease[], { backend, own }: Pick<FilterView, 'backend' | 'own'>): Address[] {
  const ours = valuesOf(own.publicAddresses);
  return leases
    .filter(({ backendType }) => backendType === backend.type)
    .flatMap(({ publicAddresses }) => valuesOf(publicAddresses))
    .filter((address) => peerAddressProblem(address, ours) === undefined);
}

/** Without the rest of the view, which would stay in memory. */
type PeersView = Pick<FilterView, 'peers' | 'backend' | 'own'>;

export function peerLocking({ lifeMs }: Pick<PeerLock, 'lifeMs'>): FilterPart {
  const used = new UsedAddresses();
  /** The same object for the same peers: others' changes of the view do not cause a comparison of thousands. */
  let source: { of: PeersView; hasChanged: boolean } | undefined;
  const sourceOf = ({ peers, backend, own }: FilterView) => {
    const { of, hasChanged } = source ?? {};
    const isSame = of?.peers === peers && of.backend === backend && of.own === own;
    // After changes that were followed, too, so that a look at everything compares their outcome.
    if (!source || !isSame || hasChanged) source = { of: { peers, backend, own }, hasChanged: false };
    return source;
  };
  return {
    name: peerLockPart,
    family: 'inet',
    wants(view) {
      const outer = tunnelOf(view);
      if (!outer) return undefined;
      const { networks } = prefixesOf(view);
      const made = sourceOf(view);
      return lockContent({
        outer,
        lifeMs,
        source: made,
        containers: families.flatMap((family) => (outer[family] && networks[family] ? [networks[family]] : [])),
        get peers() {
          return publicAddressesOf(made.of.peers.all, made.of);
        },
      });
    },
    changes(view, added, removed): readonly ElementChange[] {
      if (!tunnelOf(view)) return [];
      const come = publicAddressesOf(added, view);
      // Usually the same host's new lease has it: then nothing has to be counted.
      const isTakenOver = (address: Address): boolean => come.some((other) => sameAddress(other, address));
      const gone = publicAddressesOf(removed, view).filter(
        (address) => !isTakenOver(address) && !used.has(address, view.peers),
      );
      return families.flatMap((family): ElementChange[] => {
        const [some, others] = [come, gone].map((all) => addressKeys(all.filter((each) => each.family === family)));
        return some!.length + others!.length === 0
          ? []
          : [{ family: 'inet', set: peerSets[family], added: some!, removed: others! }];
      });
    },
    followed({ peers, backend, own }) {
      if (source) Object.assign(source, { of: { peers, backend, own }, hasChanged: true });
    },
  };
}
