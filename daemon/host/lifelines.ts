/**
 * Keeps the list of hosts that this one cannot do without: the store's endpoints, and the name servers. Endpoints may be given
 * by name. A name's addresses change, and a name server may not answer: an address stays in the list for a while after it
 * was seen last, and a look-up that takes too long is no longer waited for.
 */

import { SyscallError } from '../../linux/errors.ts';
import { readText } from '../../linux/files.ts';
import { stat as fileTypes, type Sys } from '../../linux/sys.ts';
import { type Address, addressKey, parseAddress } from '../../net/address.ts';
import { hostsOf, type Lifeline, resolverLifelines } from './surroundings.ts';

export interface LifelinesOptions {
  readonly sys: Pick<Sys, 'stat' | 'open' | 'read' | 'close' | 'fstat' | 'decodeUtf8'>;
  /** The store's endpoints as they were given, `https://etcd.example:2379`; a store may learn them later. */
  readonly endpoints: () => readonly string[];
  /** The name that people know the store by. */
  readonly kind: string;
  /** The addresses of a name, as text. */
  readonly lookUp: (name: string) => Promise<readonly string[]>;
  readonly setTimer: (callback: () => void, delayMs: number) => void;
  /** Milliseconds on a clock that does not go back. */
  readonly now: () => number;
}

const resolvConfPath = '/etc/resolv.conf';

/** A name server chooses the answer, and could send any number of addresses. */
const addressesPerName = 16;
const lookUpTimeoutMs = 5000;
/** For how long an address stays after it was seen last: a connection may outlive a change of the name. */
const keepMs = 600_000;

interface Seen {
  readonly address: Address;
  readonly atMs: number;
}

export class Lifelines {
  readonly #options: LifelinesOptions;
  /** The addresses of the names, by `addressKey`. */
  #seen: ReadonlyMap<number | string, Seen> = new Map();
  /** Names whose look-up has not ended yet: another one would not be faster. */
  readonly #running = new Set<string>();
  #resolvers: { readonly version: string; readonly lifelines: readonly Lifeline[] } = { version: '', lifelines: [] };

  constructor(options: LifelinesOptions) {
    this.#options = options;
  }

  /** Whether any endpoint is given by name. */
  get hasNames(): boolean {
    return hostsOf(this.#options.endpoints()).names.length > 0;
  }

  /** The addresses of the store's endpoints, as far as they are known. */
  get ofStore(): readonly Address[] {
    return [...hostsOf(this.#options.endpoints()).addresses, ...[...this.#seen.values()].map(({ address }) => address)];
  }

  get current(): readonly Lifeline[] {
    const { kind: what } = this.#options;
    return [...this.ofStore.map((address) => ({ address, what })), ...this.#readResolvers()];
  }

  /**
   * Looks the names up. A look-up that fails changes nothing.
   * @returns whether an address came or went
   */
  async refresh(): Promise<boolean> {
    const { now, endpoints } = this.#options;
    const before = this.#seen;
    const answers = await Promise.all(hostsOf(endpoints()).names.map((name) => this.#lookUp(name)));
    const nowMs = now();
    const kept = [...before].filter(([, { atMs }]) => nowMs - atMs < keepMs);
    const found = answers
      .flat()
      .map((address): [number | string, Seen] => [addressKey(address), { address, atMs: nowMs }]);
    const seen = new Map([...kept, ...found]);
    this.#seen = seen;
    return seen.size !== before.size || [...seen.keys()].some((key) => !before.has(key));
  }

  async #lookUp(name: string): Promise<Address[]> {
    const { lookUp, setTimer } = this.#options;
    if (this.#running.has(name)) return [];
    this.#running.add(name);
    const answer = lookUp(name)
      .catch((): string[] => [])
      .finally(() => this.#running.delete(name));
    const timeout = new Promise<string[]>((resolve) => setTimer(() => resolve([]), lookUpTimeoutMs));
    const texts = await Promise.race([answer, timeout]);
    return texts.slice(0, addressesPerName).flatMap((text) => parseAddress(text) ?? []);
  }

  /** Reads resolv.conf again if it has changed. None if there is no such file, or it cannot be read: weftd works without. */
  #readResolvers(): readonly Lifeline[] {
    const { sys } = this.#options;
    const status = sys.stat(resolvConfPath);
    if (typeof status !== 'object') return [];
    const version = `${status.dev} ${status.ino} ${status.size} ${status.mtimeMs}`;
    if (version !== this.#resolvers.version) {
      // A pipe could make the reader wait without end.
      const isFile = (status.mode & fileTypes.S_IFMT) === fileTypes.S_IFREG;
      this.#resolvers = { version, lifelines: isFile ? resolverLifelines(this.#read()) : [] };
    }
    return this.#resolvers.lifelines;
  }

  #read(): string {
    try {
      return readText(this.#options.sys as Sys, resolvConfPath) ?? '';
    } catch (error) {
      if (error instanceof SyscallError) return '';
      throw error;
    }
  }
}
