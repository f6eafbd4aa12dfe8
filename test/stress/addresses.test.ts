/**
 * Random operations on one store, from eight processes at once, against a model: no address is given twice, none is lost.
 * By weft-ipam alone, and by weft-ipam and host-local in turns.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { pluginFolder } from '../lab/plugin.ts';
import { referenceFolder } from '../lab/project.ts';
import { Scratch } from '../lab/scratch.ts';
import { fixture } from '../support/fixture.ts';
import { randomStream } from '../support/random.ts';
import { Caller } from './caller.ts';

const operations = Number(process.env['WEFT_TEST_OPERATIONS'] ?? 10_000);
const seed = Number(process.env['WEFT_TEST_SEED'] ?? 7);
const callers = 8;
/** Containers of each caller. All together they are more than there are addresses. */
const containersEach = 13;
/** All callers stop after so many operations, and the store is compared with the model. */
const betweenLooks = 1000;

const subnets = ['10.1.0.0/26', 'fd00:1::/122'] as const;
/** Without the network's address, the gateway and, of IPv4, the broadcast address. */
const capacity = 61;

const test = suite('addresses');
const scratch = fixture(
  test,
  () => new Scratch('addresses'),
  (made) => made.remove(),
);

type State = 'free' | 'held' | 'abandoned' | 'collected';

interface Container {
  readonly id: string;
  /** The number of the process that calls for it. */
  readonly caller: number;
  state: State;
  addresses: string[];
}

class Store {
  readonly faults: string[] = [];
  readonly counts = new Map<string, number>();
  readonly containers: Container[];
  readonly #callers = Array.from({ length: callers }, () => new Caller());
  readonly #folder: string;
  readonly #random: () => number;
  readonly #withHostLocal: boolean;
  /** The holder of each address, from the answer of its ADD to the call that releases it. */
  readonly #holders = new Map<string, string>();
  #adding = 0;
  #releasing = 0;
  /** For each ADD on its way, the most addresses that can have been taken since it began. */
  readonly #mostTaken = new Set<{ addresses: number }>();
  #left: number;

  constructor(folder: string, amount: number, withHostLocal: boolean) {
    this.#folder = folder;
    this.#left = amount;
    this.#withHostLocal = withHostLocal;
    this.#random = randomStream(seed);
    this.containers = Array.from({ length: callers * containersEach }, (_, i) => ({
      id: `c${i}`,
      caller: Math.floor(i / containersEach),
      state: 'free',
      addresses: [],
    }));
  }

  #chance(probability: number): boolean {
    return this.#random() < probability;
  }

  #count(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }

  async #call(command: string, container: Container, keys: Record<string, unknown> = {}, args?: string) {
    const { id, caller } = container;
    // host-local has no GC: it is called only for commands that it has.
    const byHostLocal = this.#withHostLocal && command !== 'GC' && this.#chance(0.5);
    const [folder, program, type] = byHostLocal
      ? [referenceFolder, 'host-local', 'host-local']
      : [pluginFolder, 'weft-ipam', 'weft-ipam'];
    const configuration = {
      cniVersion: command === 'GC' ? '1.1.0' : '1.0.0',
      name: 'net',
      type: 'other',
      ipam: { type, dataDir: this.#folder, ranges: subnets.map((subnet) => [{ subnet }]) },
      ...keys,
    };
    const outcome = await this.#callers[caller]!.call({
      argv: [join(folder, program)],
      environment: {
        CNI_COMMAND: command,
        CNI_CONTAINERID: id,
        CNI_NETNS: '/run/netns/absent',
        CNI_IFNAME: 'eth0',
        CNI_PATH: folder,
        ...(args !== undefined && { CNI_ARGS: args }),
      },
      stdin: JSON.stringify(configuration),
    });
    const document = outcome.stdout === '' ? {} : (JSON.parse(outcome.stdout) as { code?: number; msg?: string });
    const said = `${program} ${command} ${id} ${args ?? ''}: status ${outcome.status} ${outcome.signal ?? ''} ${outcome.stdout}${outcome.stderr}`;
    this.#count(`${command} ${outcome.status === 0 ? 'ok' : (document.code ?? 'failed')}`);
    return { ok: outcome.status === 0, code: document.code, msg: document.msg ?? '', document, said };
  }

  /** Is called before the number of addresses that can be taken becomes less. */
  #noteTaken(): void {
    const now = this.#holders.size / subnets.length + this.#adding + this.#releasing;
    for (const most of this.#mostTaken) most.addresses = Math.max(most.addresses, now);
  }

  #expect(holds: boolean, what: string, said: string): void {
    if (!holds) this.faults.push(`${what}: ${said}`);
  }

  async #add(container: Container): Promise<void> {
    const requested = this.#chance(0.1) ? `10.1.0.${2 + Math.floor(this.#random() * capacity)}` : undefined;
    this.#adding += 1;
    const most = { addresses: 0 };
    this.#mostTaken.add(most);
    const { ok, msg, document, said } = await this.#call(
      'ADD',
      container,
      {},
      requested === undefined ? undefined : `IP=${requested}`,
    );
    this.#noteTaken();
    this.#mostTaken.delete(most);
    this.#adding -= 1;
    if (!ok) {
      const isFull = /no IP addresses available/i.test(msg);
      const isTaken = requested !== undefined && /requested IP/i.test(msg);
      this.#expect(isFull || isTaken, 'ADD fails', said);
      if (isFull) this.#expect(most.addresses >= capacity - callers, `full with ${most.addresses}`, said);
      return;
    }
    const addresses = (document as { ips: { address: string }[] }).ips.map(({ address }) => address.split('/')[0]!);
    this.#expect(addresses.length === subnets.length, 'not an address of each family', said);
    if (requested !== undefined) this.#expect(addresses[0] === requested, 'not the address asked for', said);
    for (const address of addresses) {
      const holder = this.#holders.get(address);
      this.#expect(holder === undefined, `given twice, ${holder} holds it`, said);
      this.#holders.set(address, container.id);
    }
    container.addresses = addresses;
    container.state = 'held';
  }

  #letGo(container: Container): void {
    for (const address of container.addresses) this.#holders.delete(address);
    container.addresses = [];
  }

  async #delete(container: Container): Promise<void> {
    this.#letGo(container);
    this.#releasing += 1;
    const { ok, said } = await this.#call('DEL', container);
    this.#noteTaken();
    this.#releasing -= 1;
    this.#expect(ok, 'DEL fails', said);
    container.state = 'free';
  }

  async #check(container: Container): Promise<void> {
    const { ok, said } = await this.#call('CHECK', container, { prevResult: { cniVersion: '1.0.0' } });
    this.#expect(ok === (container.state === 'held'), `CHECK of one that is ${container.state}`, said);
  }

  async #addAgain(container: Container): Promise<void> {
    const { ok, said } = await this.#call('ADD', container);
    this.#expect(!ok, 'a second ADD succeeds', said);
  }

  /** Everything that was abandoned before it began is free after it, and nothing else is touched. */
  async #collect(): Promise<void> {
    const stale = this.containers.filter(({ state }) => state === 'abandoned');
    for (const container of stale) {
      container.state = 'collected';
      this.#letGo(container);
    }
    const valid = this.containers.filter((container) => !stale.includes(container));
    this.#releasing += stale.length;
    const { ok, said } = await this.#call('GC', this.containers[0]!, {
      'cni.dev/valid-attachments': valid.map(({ id }) => ({ containerID: id, ifname: 'eth0' })),
    });
    this.#noteTaken();
    this.#releasing -= stale.length;
    this.#expect(ok, 'GC fails', said);
    for (const container of stale) container.state = 'free';
  }

  async #caller(number: number, amount: number): Promise<void> {
    const own = this.containers.slice(number * containersEach, (number + 1) * containersEach);
    for (let i = 0; i < amount; i++) {
      if (number === 0 && this.#chance(0.03)) {
        await this.#collect();
        continue;
      }
      const touchable = own.filter(({ state }) => state === 'free' || state === 'held');
      const container = touchable[Math.floor(this.#random() * touchable.length)];
      if (!container) continue;
      if (container.state === 'held') {
        if (this.#chance(0.4)) await this.#delete(container);
        else if (this.#chance(0.5)) await this.#check(container);
        else if (this.#chance(0.6)) await this.#addAgain(container);
        else container.state = 'abandoned';
      } else if (this.#chance(0.75)) await this.#add(container);
      else if (this.#chance(0.5)) await this.#check(container);
      else await this.#delete(container);
    }
  }

  /** Compares the store with the model. */
  #look(): void {
    const folder = join(this.#folder, 'net');
    const inStore = readdirSync(folder).filter((name) => !/^(lock|last_reserved_ip\.\d)$/.test(name));
    for (const name of inStore) {
      const id = readFileSync(join(folder, name), 'utf8').split('\r\n')[0];
      const holder = this.#holders.get(name);
      if (holder !== id) this.faults.push(`${name} is ${id}'s in the store, and should be ${holder ?? 'nobody'}'s`);
    }
    for (const [address, holder] of this.#holders) {
      if (!inStore.includes(address)) this.faults.push(`${address} of ${holder} is not in the store`);
    }
  }

  async run(): Promise<void> {
    try {
      await this.#run();
    } finally {
      for (const caller of this.#callers) caller.close();
    }
  }

  async #run(): Promise<void> {
    while (this.#left > 0 && this.faults.length === 0) {
      const amount = Math.min(this.#left, betweenLooks);
      this.#left -= amount;
      await Promise.all(
        Array.from({ length: callers }, (_, number) => this.#caller(number, Math.ceil(amount / callers))),
      );
      this.#look();
    }
    if (this.faults.length > 0) return;
    await this.#collect();
    for (const container of this.containers) if (container.state === 'held') await this.#delete(container);
    this.#look();
    const left = readdirSync(join(this.#folder, 'net')).sort();
    if (left.join() !== 'last_reserved_ip.0,last_reserved_ip.1,lock') this.faults.push(`in the end there is ${left}`);
  }
}

for (const [what, amount, withHostLocal] of [
  ['by weft-ipam', operations, false],
  ['by weft-ipam and host-local in turns', Math.ceil(operations / 5), true],
] as const) {
  test(`${amount} operations from ${callers} processes, ${what}`, async () => {
    const store = new Store(scratch().makeFolder(withHostLocal ? 'both' : 'own'), amount, withHostLocal);
    await store.run();
    const counts = [...store.counts].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, count]) => `${name}: ${count}`);
    console.log(`\n  ${what}: ${counts.join(', ')}`);
    assert.equal(store.faults.slice(0, 10), []);
  });
}

test.run();
