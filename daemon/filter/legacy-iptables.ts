/**
 * Weftd's forwarding rules in the tables of the older iptables (xtables), which nf_tables does not show. Only
 * the iptables command knows their format, so weftd runs it, with a list of arguments. The kernel sends no events for
 * changes there, so weftd runs the command every second, for two seconds at most, and up to a minute apart while it fails.
 * Only hosts with such a table pay for that; every five seconds weftd checks whether the host has one.
 */

import { hasCode, SyscallError } from '../../linux/errors.ts';
import { readText } from '../../linux/files.ts';
import { clock, type Sys } from '../../linux/sys.ts';
import type { Family } from '../../net/address.ts';
import { formatPrefix, networkOf, parsePrefix } from '../../net/prefix.ts';
import type { ForwardNames, ForwardOutcome, ForwardSettings } from './foreign-forward.ts';
import { formatCause, planRepair } from './forward-plan.ts';
import type { Condition, ConnectionState, Verdict, WalkRule } from './packet-walk.ts';

const programs = { 4: 'iptables', 6: 'ip6tables' } as const;
const tableLists = { 4: '/proc/thread-self/net/ip_tables_names', 6: '/proc/thread-self/net/ip6_tables_names' } as const;
const folders = ['/usr/sbin', '/sbin', '/usr/local/sbin', '/usr/bin', '/bin'];
const placeOf = (family: Family): string => `legacy ${programs[family]} filter FORWARD`;

/** Whether this network namespace has the old kind of filter table. The question does not create one. */
const namesFilter = (list: string | undefined): boolean => (list ?? '').split('\n').includes('filter');
const hasTable = (sys: Sys, family: Family): boolean => namesFilter(readText(sys, tableLists[family]));

/** A rule as `iptables -S` prints it, in words without their quotation marks. */
interface ListedRule {
  readonly words: readonly string[];
  readonly rule: WalkRule;
}

/** `iptables -S`: a table's chains, with their policies. */
export interface ListedTable {
  /** Of FORWARD. */
  readonly policy: 'accept' | 'drop';
  /** Chains whose policy is to drop. */
  readonly dropping: ReadonlySet<string>;
  readonly chains: ReadonlyMap<string, readonly ListedRule[]>;
}

/** Words, some of them in double quotes, inside which a backslash escapes the next character. */
function splitWords(line: string): string[] {
  return [...line.matchAll(/"((?:[^"\\]|\\.)*)"|\S+/g)].map(([word, quoted]) =>
    quoted === undefined ? word : quoted.replace(/\\(.)/g, '$1'),
  );
}

const joinWords = (words: readonly string[]): string =>
  words.map((word) => (/^[\w./:!,+-]+$/.test(word) ? word : `"${word.replace(/["\\]/g, '\\$&')}"`)).join(' ');

const stateNames: Readonly<Record<string, ConnectionState>> = {
  NEW: 'new',
  ESTABLISHED: 'established',
  RELATED: 'related',
  INVALID: 'invalid',
  UNTRACKED: 'untracked',
};

/** As `iptables -S` names them; others it gives as numbers, or by names that are taken for something unknown. */
const protocolNumbers: Readonly<Record<string, number>> = {
  udp: 17,
  tcp: 6,
  icmp: 1,
  'ipv6-icmp': 58,
  ipencap: 4,
  gre: 47,
};
/** Their options are read, or mean nothing. */
const knownMatches: ReadonlySet<string> = new Set(['comment', 'conntrack', 'state', 'udp', 'tcp']);

const verdicts: Readonly<Record<string, Verdict>> = {
  ACCEPT: { kind: 'accept' },
  DROP: { kind: 'drop' },
  REJECT: { kind: 'drop' },
  RETURN: { kind: 'return' },
};

/** @param words after `-A CHAIN` */
function readRule(words: readonly string[], isChain: (name: string) => boolean): WalkRule {
  const conditions: Condition[] = [];
  let verdict: Verdict = { kind: 'none' };
  let negated = false;
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    const value = words[i + 1] ?? '';
    if (word === '!') {
      negated = true;
      continue;
    }
    if (word === '-s' || word === '-d') {
      const prefix = parsePrefix(value) ?? parsePrefix(`${value}/${value.includes(':') ? 128 : 32}`);
      conditions.push(
        prefix ? { kind: word === '-s' ? 'source' : 'destination', prefix, negated } : { kind: 'special' },
      );
    } else if (word === '-i' || word === '-o') {
      const any = value.endsWith('+');
      conditions.push({
        kind: word === '-i' ? 'input' : 'output',
        name: any ? value.slice(0, -1) : value,
        any,
        negated,
      });
    } else if (word === '--ctstate' || word === '--state') {
      const states = value.split(',').flatMap((name) => stateNames[name] ?? []);
      conditions.push({ kind: 'state', states: new Set(states), negated });
    } else if (word === '-j' || word === '-g') {
      verdict = verdicts[value] ?? (isChain(value) ? { kind: word === '-g' ? 'goto' : 'jump', chain: value } : verdict);
      // After a target come its options.
      break;
    } else if (word === '-p') {
      const number = protocolNumbers[value] ?? Number(value);
      conditions.push(
        Number.isInteger(number) ? { kind: 'protocol', protocols: [number], negated } : { kind: 'special' },
      );
    } else if (word === '--dport') {
      const [from = Number.NaN, to = from] = value.split(':').map(Number);
      conditions.push(
        Number.isInteger(from) && Number.isInteger(to)
          ? { kind: 'port', ports: [[from, to]], negated }
          : { kind: 'special' },
      );
    } else if (word === '-m') {
      if (!knownMatches.has(value)) conditions.push({ kind: 'special' });
    } else if (word === '--ctstatus' || word === '--ctorigdst' || word === '--ctproto') {
      conditions.push({ kind: 'some state' });
    } else if (word !== '--comment') {
      // An option of a match that was named before, or of none (`-p tcp`).
      conditions.push({ kind: 'special' });
      negated = false;
      continue;
    }
    negated = false;
    i++;
  }
  return { conditions, verdict };
}

export function parseListing(text: string): ListedTable {
  const lines = text.split('\n').map(splitWords);
  const names = lines.flatMap(([verb, name]) => ((verb === '-P' || verb === '-N') && name !== undefined ? [name] : []));
  const chains = new Map<string, ListedRule[]>(names.map((name) => [name, []]));
  const dropping = new Set<string>();
  for (const [verb, chain = '', ...words] of lines) {
    if (verb === '-P' && words[0] === 'DROP') dropping.add(chain);
    if (verb === '-A') chains.get(chain)?.push({ words, rule: readRule(words, (name) => chains.has(name)) });
  }
  return { policy: dropping.has('FORWARD') ? 'drop' : 'accept', dropping, chains };
}

/**
 * @returns input for `iptables-restore --noflush`, which does all of it or nothing, and the reason; undefined if
 *   nothing is to be done
 */
export function planLegacy(
  table: ListedTable,
  family: Family,
  { accepted, packets }: ForwardSettings,
  names: ForwardNames,
): { readonly script: string; readonly because: string } | undefined {
  const rules = table.chains.get('FORWARD');
  const wanted = accepted
    .filter(({ address }) => address.family === family)
    .flatMap((prefix) => ['-s', '-d'].map((side) => `${side} ${formatPrefix(networkOf(prefix))} -j ACCEPT`));
  if (!rules || wanted.length === 0) return undefined;
  const jumpWords = `-j ${names.chain}`;
  const isOwn = ({ words }: ListedRule): boolean => words.at(-1) === names.chain && /^-[jg]$/.test(words.at(-2) ?? '');
  const inChain = table.chains.get(names.chain)?.map(({ words }) => words.join(' '));
  const isTargetRight = inChain?.join('\n') === wanted.join('\n');
  const repair = planRepair<ListedRule>({
    rules,
    policy: table.policy,
    isOwn,
    read: (each) => each.rule,
    chains: (name) => (table.chains.get(name) ?? []).map((each) => each.rule),
    packets: packets.filter((packet) => packet.family === family),
    isRight: (own) => own.length === 1 && own[0]!.words.join(' ') === jumpWords,
    isTargetRight,
    isPermanent: true,
  });
  if (!repair) return undefined;
  const lines: string[] = ['*filter'];
  // Names a chain, creates it if it is missing, and empties it.
  if (!isTargetRight) lines.push(`:${names.chain} - [0:0]`, ...wanted.map((each) => `-A ${names.chain} ${each}`));
  if (repair.isBaseWrong) {
    for (const { words } of repair.own) lines.push(`-D FORWARD ${joinWords(words)}`);
    lines.push(`-I FORWARD ${repair.place + 1} ${jumpWords}`);
  }
  const because = formatCause(repair.cause, 'of it', 'its policy');
  return { script: `${[...lines, 'COMMIT'].join('\n')}\n`, because };
}

/** How long a listing serves for questions about connections' states. */
export const listedMs = 10_000;
/** weftd is blocked meanwhile. */
const lookTimeoutMs = 2000;
/** When weftd leaves, it waits for the lock. */
const lockWaitSeconds = '5';
const removeTimeoutMs = 10_000;

/** Another iptables is running. The same status also means that the lock's file cannot be opened. */
const isBusy = ({ status, text }: { readonly status: number; readonly text: string }): boolean =>
  status === 4 && text.includes('holding the xtables lock');

export class LegacyIptables {
  readonly #sys: Sys;
  readonly #found = new Map<Family, string>();
  readonly #listed = new Map<Family, { readonly table: ListedTable | 'unknown'; readonly atMs: number }>();

  constructor(sys: Sys) {
    this.#sys = sys;
  }

  /** The filter table, a few seconds old at most; 'unknown' if it cannot be read; undefined if there is none. */
  listed(family: Family): ListedTable | 'unknown' | undefined {
    if (!hasTable(this.#sys, family)) return undefined;
    const known = this.#listed.get(family);
    if (known && this.#nowMs() - known.atMs < listedMs) return known.table;
    // Also after a failure: a command that hangs must not be tried at each look.
    this.#noteListed(family, known?.table ?? 'unknown');
    try {
      const program = this.#program(family);
      const listing = program === undefined ? undefined : this.#run(program, ['-S']);
      if (listing?.status === 0) this.#noteListed(family, parseListing(listing.text));
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      this.#noteListed(family, 'unknown');
    }
    return this.#listed.get(family)!.table;
  }

  #noteListed(family: Family, table: ListedTable | 'unknown'): void {
    this.#listed.set(family, { table, atMs: this.#nowMs() });
  }

  #nowMs(): number {
    return this.#sys.clock_gettime(clock.CLOCK_MONOTONIC);
  }

  /** Whether this host has such tables now, or may get them at any time because its kernel knows them. */
  get presence(): 'here' | 'possible' | 'impossible' {
    const lists = ([4, 6] as const).map((family) => readText(this.#sys, tableLists[family]));
    if (lists.every((list) => list === undefined)) return 'impossible';
    return lists.some(namesFilter) ? 'here' : 'possible';
  }

  /** @throws SyscallError if it cannot be started, or does not end (ETIMEDOUT) */
  #run(
    program: string,
    args: readonly string[],
    stdin = '',
    timeoutMs = lookTimeoutMs,
  ): { readonly status: number; readonly text: string } {
    const sys = this.#sys;
    const result = sys.spawn(program, [program, ...args], [], sys.encodeUtf8(stdin), timeoutMs);
    if (typeof result === 'number') throw new SyscallError(`run "${[program, ...args].join(' ')}"`, result);
    const output = result.status === 0 ? result.stdout : result.stderr;
    return { status: result.status, text: sys.decodeUtf8(output, 0, output.byteLength) };
  }

  /** The command for the older tables: under its own name, or the only iptables of an older host. */
  #program(family: Family): string | undefined {
    const known = this.#found.get(family);
    if (known !== undefined) return known;
    const isThere = (path: string): boolean => typeof this.#sys.stat(path) !== 'number';
    const places = (name: string): string[] => folders.map((folder) => `${folder}/${name}`).filter(isThere);
    const isLegacy = (path: string): boolean => {
      const { status, text } = this.#run(path, ['--version']);
      return status === 0 && !text.includes('nf_tables');
    };
    const program = places(`${programs[family]}-legacy`)[0] ?? places(programs[family]).find(isLegacy);
    // It may be installed at any time.
    if (program !== undefined) this.#found.set(family, program);
    return program;
  }

  /**
   * Compares the tables with their desired state, and repairs them.
   * @returns 'busy' if another iptables is running: try again
   */
  ensure(settings: ForwardSettings, names: ForwardNames): ForwardOutcome[] | 'busy' {
    const outcomes: ForwardOutcome[] = [];
    for (const family of [4, 6] as const) {
      if (!settings.accepted.some(({ address }) => address.family === family) || !hasTable(this.#sys, family)) continue;
      const place = placeOf(family);
      try {
        const outcome = this.#ensureFamily(family, settings, names);
        if (outcome === 'busy') return 'busy';
        outcomes.push({ place, ...outcome });
      } catch (error) {
        if (!(error instanceof SyscallError)) throw error;
        const why = hasCode(error, 'ETIMEDOUT')
          ? `it did not end within ${lookTimeoutMs / 1000} s, and was killed`
          : '';
        const problem = `${error.message}${why && ` (${why})`}; the cluster's packets may be dropped in "${place}"`;
        outcomes.push({ place, problem });
      }
    }
    return outcomes;
  }

  #ensureFamily(
    family: Family,
    settings: ForwardSettings,
    names: ForwardNames,
  ): Omit<ForwardOutcome, 'place'> | 'busy' {
    const program = this.#program(family);
    if (program === undefined) {
      const command = `${programs[family]}-legacy`;
      return {
        problem: `This host has rules of the older kind of iptables, and no command "${command}" to check whether they drop the cluster's packets: install it, or remove them`,
      };
    }
    const listing = this.#run(program, ['-S']);
    if (isBusy(listing)) return 'busy';
    if (listing.status !== 0) return { problem: failure(`${program} -S`, listing.text) };
    const table = parseListing(listing.text);
    this.#noteListed(family, table);
    const planned = planLegacy(table, family, settings, names);
    if (!planned) return {};
    const restored = this.#run(`${program}-restore`, ['--noflush'], planned.script);
    if (isBusy(restored)) return 'busy';
    return restored.status === 0
      ? { mended: planned.because }
      : { problem: failure(`${program}-restore`, restored.text) };
  }

  /** Removes weftd's rules. @throws Error */
  remove(names: ForwardNames): void {
    for (const family of [4, 6] as const) {
      const program = hasTable(this.#sys, family) ? this.#program(family) : undefined;
      if (program === undefined) continue;
      const listing = this.#run(program, ['-w', lockWaitSeconds, '-S'], '', removeTimeoutMs);
      if (listing.status !== 0) throw new Error(failure(`${program} -S`, listing.text));
      const { chains } = parseListing(listing.text);
      const jumps = (chains.get('FORWARD') ?? []).filter(({ words }) => words.at(-1) === names.chain);
      const lines = jumps.map(({ words }) => `-D FORWARD ${joinWords(words)}`);
      if (chains.has(names.chain)) lines.push(`-F ${names.chain}`, `-X ${names.chain}`);
      if (lines.length === 0) continue;
      const script = `${['*filter', ...lines, 'COMMIT'].join('\n')}\n`;
      const restored = this.#run(`${program}-restore`, ['-w', lockWaitSeconds, '--noflush'], script, removeTimeoutMs);
      if (restored.status !== 0) throw new Error(failure(`${program}-restore`, restored.text));
    }
  }
}

const failure = (command: string, text: string): string => `Cannot run "${command}": ${text.trim().split('\n')[0]}`;
