/**
 * Whether other programs' rules on the tunnel's way in or out of this host go by the state of connections. If they do, the
 * tunnel's packets must stay tracked: a rule that accepts new connections to the tunnel's port would not match untracked
 * packets, and the next one drops them.
 *
 * Rules are read as those on the way of forwarded packets are: one about something that packet-walk.ts does not understand is
 * about particular packets. If it follows that the chain drops the tunnel's packets in any case, then the chain is not
 * understood. In such a chain, any rule for new or established connections counts.
 *
 * Chains of nf_tables are read again when the packet filter's generation has changed, once a second at most. The older tables
 * are known from legacy-iptables.ts.
 */

import type { NftConnection } from '../../linux/nft/connection.ts';
import type { NftChain, NftFamily, TableName } from '../../linux/nft/table.ts';
import type { Family } from '../../net/address.ts';
import type { FilterSession, Knowledge } from './filter-session.ts';
import { type LegacyIptables, type ListedTable, listedMs } from './legacy-iptables.ts';
import { readRule } from './nft-walk.ts';
import { type Chains, type ConnectionState, findHindrance, type SamplePacket, type WalkRule } from './packet-walk.ts';

/** The tunnel's packets of one family. */
export interface TunnelSample {
  readonly family: Family;
  readonly protocol: number;
  readonly port?: number;
  /** The external interface. */
  readonly external: string;
}

export interface StateLook {
  /** The places whose rules go by the state. */
  readonly judges: readonly string[];
  /** When to look again even without an event; infinite if there is no need. */
  readonly againMs: number;
}

const hooks = { prerouting: 'in', input: 'in', output: 'out', postrouting: 'out' } as const;
const tableFamilies = ['ip', 'ip6', 'inet'] as const satisfies readonly NftFamily[];
const packetFamily: Partial<Record<NftFamily, Family>> = { ip: 4, ip6: 6 };
const pauseMs = 1000;

/**
 * The states of the tunnel's packets while they are tracked. Each flow of VXLAN has ports of its own and no answers; other
 * tunnels have one connection for both directions.
 */
const trackedStates = ({ port }: TunnelSample): readonly ConnectionState[] =>
  port === undefined ? ['new', 'established'] : ['new'];

/** Whether the rule lets something happen to tracked packets only. */
function excludesUntracked({ conditions, verdict }: WalkRule, tracked: readonly ConnectionState[]): boolean {
  if (verdict.kind === 'drop') return false;
  return conditions.some((condition) => {
    // A map may have the verdicts.
    if (condition.kind === 'some state') return true;
    if (condition.kind !== 'state' || verdict.kind === 'none') return false;
    const holds = (state: ConnectionState): boolean => condition.states.has(state) !== condition.negated;
    return tracked.some(holds) && !holds('untracked');
  });
}

export interface JudgedChain {
  readonly way: 'in' | 'out';
  readonly rules: readonly WalkRule[];
  readonly policy: 'accept' | 'drop';
  readonly chains: Chains;
  /** All rules of the table. */
  readonly all: () => readonly WalkRule[];
}

/** Whether the chain's verdict on the tunnel's packets may depend on their state. */
export function judgesState({ way, rules, policy, chains, all }: JudgedChain, sample: TunnelSample): boolean {
  const { family, protocol, port, external } = sample;
  const tracked = trackedStates(sample);
  const packet: Omit<SamplePacket, 'state'> = {
    family,
    source: undefined,
    destination: undefined,
    input: way === 'in' ? external : '',
    output: way === 'out' ? external : '',
    protocol,
    ...(port === undefined ? {} : { port }),
  };
  const passes = (state: ConnectionState): boolean =>
    findHindrance(rules, policy, [{ ...packet, state }], chains) === undefined;
  if (passes('untracked')) return false;
  return tracked.some(passes) || all().some((each) => excludesUntracked(each, tracked));
}

const isOwn = ({ family, name }: TableName): boolean => family === 'inet' && /^weft(?![A-Za-z0-9_-])/.test(name);

export class StateJudge {
  readonly #session: FilterSession;
  readonly #legacy: Pick<LegacyIptables, 'listed'>;
  readonly #now: () => number;
  /** Judging places in nf_tables, by the samples. */
  readonly #known: Knowledge<{ readonly key: string; readonly judges: readonly string[] }>;
  #tables: ReadonlySet<string> | undefined;
  #lookedAtMs = Number.NEGATIVE_INFINITY;

  constructor(session: FilterSession, legacy: Pick<LegacyIptables, 'listed'>, now: () => number) {
    this.#session = session;
    this.#legacy = legacy;
    this.#now = now;
    this.#known = session.knowledge();
  }

  /** Whether a change in this table may matter. */
  concerns(family: string, table: string): boolean {
    return this.#tables?.has(`${family} ${table}`) ?? false;
  }

  /** @param trust the last look at the same samples counts. @throws NetlinkError, SyscallError */
  look(samples: readonly TunnelSample[], trust: boolean): StateLook {
    const older = this.#older(samples);
    const key = JSON.stringify(samples);
    const known = this.#known.value?.key === key ? this.#known.value : undefined;
    const olderMs = older === undefined ? Number.POSITIVE_INFINITY : listedMs;
    const result = (judges: readonly string[], againMs = olderMs): StateLook => ({
      judges: [...judges, ...(older ?? [])],
      againMs: Math.min(againMs, olderMs),
    });
    if (known && trust) return result(known.judges);
    return this.#session.use((nft) => {
      const generation = this.#session.generation(nft);
      if (known && this.#known.isOf(generation)) return result(known.judges);
      const waitMs = this.#lookedAtMs + pauseMs - this.#now();
      if (known && waitMs > 0) return result(known.judges, waitMs);
      this.#lookedAtMs = this.#now();
      const judges = this.#newer(nft, samples);
      this.#known.set({ key, judges }, generation);
      return result(judges);
    });
  }

  #newer(nft: NftConnection, samples: readonly TunnelSample[]): string[] {
    const found = tableFamilies.flatMap((family) => nft.listChains(family)).filter(({ table }) => !isOwn(table));
    const judging = found.filter(({ chain }) => chain.base && chain.base.type !== 'nat' && chain.base.hook in hooks);
    this.#tables = new Set(judging.map(({ table }) => `${table.family} ${table.name}`));
    return judging.flatMap(({ table, chain }) => {
      const family = packetFamily[table.family];
      const ofTable = samples.filter((sample) => family === undefined || sample.family === family);
      const names = found
        .filter((each) => each.table.family === table.family && each.table.name === table.name)
        .map((each) => each.chain.name);
      const judged = this.#judged(nft, table, chain, names);
      return ofTable.some((sample) => judgesState(judged, sample))
        ? [`${table.family} ${table.name} ${chain.name}`]
        : [];
    });
  }

  #judged(nft: NftConnection, table: TableName, { name, base }: NftChain, names: readonly string[]): JudgedChain {
    const read = new Map<string, readonly WalkRule[]>();
    const chains = (chain: string): readonly WalkRule[] => {
      let rules = read.get(chain);
      if (!rules) {
        const keys = (set: string): readonly Uint8Array[] | undefined => nft.listKeys(table, set);
        const listed = names.includes(chain) ? nft.listRules(table, chain) : [];
        rules = listed.map((each) => readRule(each, packetFamily[table.family], keys));
        read.set(chain, rules);
      }
      return rules;
    };
    const { hook, policy } = base!;
    return {
      way: hooks[hook as keyof typeof hooks],
      rules: chains(name),
      policy,
      chains,
      all: () => names.flatMap(chains),
    };
  }

  /** Undefined if there are no such tables. */
  #older(samples: readonly TunnelSample[]): string[] | undefined {
    const families = [...new Set(samples.map(({ family }) => family))];
    const tables = families.map((family) => ({ family, listed: this.#legacy.listed(family) }));
    if (tables.every(({ listed }) => listed === undefined)) return undefined;
    return tables.flatMap(({ family, listed }) => {
      const ofFamily = samples.filter((sample) => sample.family === family);
      if (listed === undefined) return [];
      const place = `legacy ${family === 4 ? 'iptables' : 'ip6tables'} filter`;
      const judging = (['INPUT', 'OUTPUT'] as const).filter(
        (name) => listed === 'unknown' || ofFamily.some((sample) => judgesState(olderChain(listed, name), sample)),
      );
      return judging.map((name) => `${place} ${name}`);
    });
  }
}

function olderChain({ chains, dropping }: ListedTable, name: 'INPUT' | 'OUTPUT'): JudgedChain {
  const rulesOf = (chain: string): readonly WalkRule[] => (chains.get(chain) ?? []).map(({ rule }) => rule);
  return {
    way: name === 'INPUT' ? 'in' : 'out',
    rules: rulesOf(name),
    policy: dropping.has(name) ? 'drop' : 'accept',
    chains: rulesOf,
    all: () => [...chains.keys()].flatMap(rulesOf),
  };
}
