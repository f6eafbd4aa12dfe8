/** weftd's packet filter as tests ask for it: by its settings, without a cluster to derive them from. */

import { type ClusterPrefixes, containerPrefixes } from '../../daemon/filter/cluster-prefixes.ts';
import type { Count } from '../../daemon/filter/counts.ts';
import { droppedSets } from '../../daemon/filter/dropped.ts';
import { forwardContent, forwardSettings } from '../../daemon/filter/forward.ts';
import { masqueradeContent } from '../../daemon/filter/masquerade.ts';
import {
  type FilterOutcome,
  type FilterWish,
  formatStructure as formatContents,
  PacketFilter,
  type PacketFilterOptions,
} from '../../daemon/filter/packet-filter.ts';
import type { Roads } from '../../daemon/filter/packet-walk.ts';
import type { PartContent } from '../../daemon/filter/part.ts';
import { lockContent, type PeerLock, peerLockPart } from '../../daemon/filter/peer-lock.ts';
import type { TunnelSample } from '../../daemon/filter/state-judge.ts';
import { assembleTable } from '../../daemon/filter/table-keeper.ts';
import type { EnsureOptions } from '../../daemon/filter/upkeep.ts';
import type { Logger } from '../../daemon/report/log.ts';
import type { NftTable } from '../../linux/nft/table.ts';
import type { Sys } from '../../linux/sys.ts';
import { formatAddress } from '../../net/address.ts';

export interface RuleSettings extends ClusterPrefixes {
  readonly ipMasq: boolean;
  readonly randomPorts: boolean;
  readonly forward: boolean;
  readonly lock: PeerLock | undefined;
}

const contentsOf = ({ ipMasq, randomPorts, forward, lock, ...prefixes }: RuleSettings): PartContent[] => [
  ...(lock ? [lockContent(lock)] : []),
  ...(forward ? [forwardContent(prefixes)] : []),
  ...(ipMasq ? [masqueradeContent(prefixes, { randomPorts })] : []),
];

/** The table as it should be. */
export const desiredTable = (settings: RuleSettings, name = 'weft'): NftTable =>
  assembleTable({ family: 'inet', name }, contentsOf(settings));

export const formatStructure = (settings: RuleSettings): string => formatContents(contentsOf(settings));

/** `further`: contents of parts that weftd does not have. */
export const wishFor = (settings: RuleSettings, roads: Roads, further: readonly PartContent[] = []): FilterWish => ({
  contents: [...contentsOf(settings), ...further],
  foreign: settings.forward ? () => forwardSettings(settings, roads) : undefined,
  containers: containerPrefixes(settings),
});

export interface RulesOptions extends Omit<PacketFilterOptions, 'lockLifeMs' | 'families'> {
  readonly families?: PacketFilterOptions['families'];
  readonly roads: () => Roads;
}

export interface Rules {
  ensure(settings: RuleSettings, options?: EnsureOptions, further?: readonly PartContent[]): FilterOutcome;
  /** Of the peer lock, or of another part. */
  counters(part?: string): Count | undefined;
  /** Places of other programs' rules that go by the state of such packets. */
  stateJudges(samples: readonly TunnelSample[], trust?: boolean): readonly string[];
  /** The senders of dropped packets: address and packets. */
  senders(): readonly (readonly [string, number])[];
  renewLock(): void;
  remove(): void;
  close(): void;
}

export function openRules(sys: Sys, logger: Logger, { roads, families = [], ...options }: RulesOptions): Rules {
  const filter = new PacketFilter(sys, logger, { ...options, families, lockLifeMs: 30_000 });
  return {
    ensure: (settings, { keepPeers = false, trust = false } = {}, further = []) =>
      filter.ensure(wishFor(settings, roads(), further), { keepElements: keepPeers, trust }),
    counters: (part = peerLockPart) => filter.counters(part),
    stateJudges: (samples, trust = false) => filter.stateJudges(samples, trust).judges,
    senders: () =>
      filter
        .senders(Object.values(droppedSets))
        .map(({ key, packets }) => [formatAddress({ family: key.length === 4 ? 4 : 6, bytes: key }), packets] as const)
        .sort(),
    renewLock: () => filter.renewal.run(),
    remove: () => filter.remove(),
    close: () => filter.close(),
  };
}
