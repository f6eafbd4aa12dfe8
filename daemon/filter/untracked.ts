/**
 * The tunnel's packets are not tracked as connections. Each flow between containers would take a place in the host's table,
 * beside that of the flow itself, and a full table drops new connections of everybody.
 *
 * - They stay tracked if other programs' rules go by the state of connections: see state-judge.ts. Also if this node's public
 *   address is not its interface's: the address may be translated on this host, which only tracked packets are.
 * - Only this host's own packets: those that it forwards may be translated.
 * - As the peer lock does, it ends if weftd does not renew it: nobody then sees that such rules have come.
 */

import { families, type PerFamily, perFamily, valuesOf } from '../../cluster/network-config.ts';
import { destinationIsLocal, isFamily, notrack, portKey, protocolKey, rule } from '../../linux/nft/match.ts';
import { type NftChain, nftPriority } from '../../linux/nft/table.ts';
import { sameAddress } from '../../net/address.ts';
import type { OuterHeader } from '../backends/backend.ts';
import type { FilterPart, FilterView, PartContent, PartSet } from './part.ts';
import type { TunnelSample } from './state-judge.ts';
import { type TunnelSets, tunnelItems, tunnelOf } from './tunnel-packets.ts';

export const untrackedPart = 'untracked';

const sets: TunnelSets = { port: 'untracked-port', protocol: 'untracked-protocol' };
/** By it an error of a kernel that cannot do this is recognised. */
export const untrackedComment = 'weft: not tracked';

/** The tunnel's packets whose tracking this node can decide on. */
export function tunnelSamples(view: FilterView): TunnelSample[] {
  const { links } = view;
  const outer = tunnelOf(view);
  if (!outer || !links) return [];
  return families.flatMap((family): TunnelSample[] => {
    const header = untranslated(outer, view)[family];
    if (!header) return [];
    const { ipProtocol: protocol, udpPort } = header;
    return [{ family, protocol, external: links.external, ...(udpPort === undefined ? {} : { port: udpPort }) }];
  });
}

/** The families whose addresses nobody translates. */
function untranslated(outer: PerFamily<OuterHeader>, { own, links }: FilterView): PerFamily<OuterHeader> {
  return perFamily((family) => {
    const [told, actual] = [own.publicAddresses[family], links?.addresses[family]];
    return told && actual && sameAddress(told, actual) ? outer[family] : undefined;
  });
}

export interface Untracked {
  readonly outer: PerFamily<OuterHeader>;
  readonly lifeMs: number;
}

function untrackedChains({ outer }: Untracked): NftChain[] {
  const shapes = families.flatMap((family) =>
    (outer[family] ? tunnelItems(outer[family], family, sets) : []).map((items) => [isFamily(family), ...items]),
  );
  return [
    {
      name: 'untracked-in',
      base: { type: 'filter', hook: 'prerouting', priority: nftPriority.raw, policy: 'accept' },
      rules: shapes.map((items) => rule([...items, destinationIsLocal(), notrack()], { comment: untrackedComment })),
    },
    {
      name: 'untracked-out',
      base: { type: 'filter', hook: 'output', priority: nftPriority.raw, policy: 'accept' },
      rules: shapes.map((items) => rule([...items, notrack()], { comment: untrackedComment })),
    },
  ];
}

function untrackedSets({ outer, lifeMs }: Untracked): PartSet[] {
  const headers = valuesOf(outer);
  const ports = [...new Set(headers.flatMap(({ udpPort }) => udpPort ?? []))];
  const protocols = [
    ...new Set(headers.flatMap(({ ipProtocol, udpPort }) => (udpPort === undefined ? ipProtocol : []))),
  ];
  const timed = (name: string, keyType: PartSet['keyType'], keys: readonly Uint8Array[]): PartSet[] =>
    keys.length === 0 ? [] : [{ name, keyType, timeoutMs: lifeMs, source: 'structure', elements: () => keys }];
  return [
    ...timed(sets.port, 'inet_service', ports.map(portKey)),
    ...timed(sets.protocol, 'inet_proto', protocols.map(protocolKey)),
  ];
}

export const untrackedContent = (untracked: Untracked): PartContent => ({
  name: untrackedPart,
  family: 'inet',
  structure: JSON.stringify([untracked.outer, untracked.lifeMs]),
  sets: untrackedSets(untracked),
  chains: () => untrackedChains(untracked),
});

export interface UntrackingOptions {
  readonly lifeMs: number;
  /** Whether the kernel has nft_fib and nft_ct. */
  readonly isPossible: () => boolean;
}

export const untracking = ({ lifeMs, isPossible }: UntrackingOptions): FilterPart => ({
  name: untrackedPart,
  family: 'inet',
  wants(view) {
    const outer = tunnelOf(view);
    if (!outer || view.stateJudges === undefined || view.stateJudges.length > 0 || !isPossible()) return undefined;
    const wanted = untranslated(outer, view);
    return valuesOf(wanted).length === 0 ? undefined : untrackedContent({ outer: wanted, lifeMs });
  },
});
