/**
 * Mutated inputs against the executables: never a crash, a hang, a second document on stdout, a stack trace, or anything
 * left on the host.
 */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { run } from '../lab/commands.ts';
import { readLinks } from '../lab/kernel-state.ts';
import { pluginFolder } from '../lab/plugin.ts';
import { Scratch } from '../lab/scratch.ts';
import { fixture } from '../support/fixture.ts';
import { Jail } from './jail.ts';
import { type Input, Mutator } from './mutations.ts';
import { callRaw, type RawOutcome } from './raw-call.ts';

const count = Number(process.env['WEFT_TEST_INPUTS'] ?? 5000);
const seed = Number(process.env['WEFT_TEST_SEED'] ?? 424242);
const lanes = 3;
/** The kernel is looked at after so many inputs of a lane. */
const lookEvery = 40;
/** So many are shown. */
const shownAtMost = 12;

const test = suite('inputs');

interface Grounds {
  readonly scratch: Scratch;
  readonly jail: Jail;
  readonly lanes: readonly Lane[];
}

const grounds = fixture<Grounds>(
  test,
  async () => {
    const scratch = new Scratch('inputs');
    const names = Array.from({ length: lanes }, (_, i) => ({ host: `h${i}`, pod: `p${i}` }));
    const namespaces = scratch.addNamespaces(names.flatMap(({ host, pod }) => [host, pod]));
    const jail = await Jail.open(scratch);
    return {
      scratch,
      jail,
      lanes: names.map((_, i) => new Lane(i, jail, namespaces[2 * i]!, namespaces[2 * i + 1]!)),
    };
  },
  ({ scratch }) => scratch.remove(),
);

const isReservation = (path: string): boolean => /\/(\d+\.\d+\.\d+\.\d+|[0-9a-f]*:[0-9a-f:.]*)$/i.test(path);
/** Files of a store that may stay: the lock, the last given address, and the index. */
const isStoreFile = (path: string): boolean => /(^|\/)(lock|last_reserved_ip\.\d+)$|(^|\/)\.weft\//.test(path);

function faultsOf({ environment }: Input, { status, signal, hung, stdout, stderr }: RawOutcome): string[] {
  if (hung) return ['hangs'];
  if (signal !== null) return [`ends by ${signal}`];
  const faults: string[] = [];
  const command = environment['CNI_COMMAND'] ?? '';
  if (status !== 0 && status !== 1) faults.push(`status ${status}`);
  if (command !== '' && stderr !== '') faults.push(`stderr ${JSON.stringify(stderr.slice(0, 300))}`);
  let document: { code?: unknown; msg?: unknown; details?: unknown } | undefined;
  try {
    document = stdout === '' ? undefined : (JSON.parse(stdout) as typeof document);
  } catch {
    return [...faults, `stdout is not one document: ${JSON.stringify(stdout.slice(0, 300))}`];
  }
  if (status === 0) return faults;
  if (typeof document?.code !== 'number' || typeof document.msg !== 'string' || typeof document.details !== 'string') {
    return [...faults, `no error document: ${stdout.slice(0, 300)}`];
  }
  const { code, msg, details } = document;
  if (code === 999) faults.push(`code 999: ${msg} (${details})`);
  if (/\n|\bat .*(\.[jt]s|native|<\w+>|\(\))(:\d+)?/.test(msg))
    faults.push(`a stack trace, or lines of its own: ${msg}`);
  if (msg.length > 5000) faults.push(`a message of ${msg.length} characters`);
  return faults;
}

/** Long runs of one thing say no more than a few of it. */
const shorten = (text: string): string => text.replace(/(.{1,6}?)\1{20,}/gs, '$1$1$1…').slice(0, 700);

const describeInput = ({ program, environment, stdin }: Input): string =>
  `${program} ${shorten(JSON.stringify(environment))} with ${stdin.length} bytes: ${shorten(stdin.toString('latin1'))}`;

class Lane {
  readonly faults: string[] = [];
  readonly codes = new Map<string, number>();
  readonly #jail: Jail;
  readonly #label: string;
  readonly #host: string;
  readonly #pod: string;
  #since: Input[] = [];

  constructor(number: number, jail: Jail, host: string, pod: string) {
    this.#label = `lane${number}`;
    this.#jail = jail;
    this.#host = host;
    this.#pod = pod;
    jail.makeFolder(this.#label, 'run');
  }

  get folder(): string {
    return `${this.#jail.folder}/${this.#label}`;
  }

  get netns(): string {
    return `/run/netns/${this.#pod}`;
  }

  #call({ program, environment, stdin }: Input): Promise<RawOutcome> {
    return callRaw({
      argv: [...this.#jail.enter(this.#host), `${pluginFolder}/${program}`],
      environment: { ...environment },
      stdin,
    });
  }

  #files(): string[] {
    return this.#jail.files().filter((path) => path.startsWith(`${this.#label}/`));
  }

  /** The present parts of an attachment. */
  #left(): string[] {
    const links = [...readLinks(this.#host), ...readLinks(this.#pod)].filter(({ kind }) => kind !== 'bridge');
    const files = this.#files().filter((path) => isReservation(path) || !isStoreFile(path));
    return [...links.map(({ name, kind }) => `${kind} ${name}`), ...files];
  }

  #clear(): void {
    for (const namespace of [this.#host, this.#pod]) {
      for (const { name } of readLinks(namespace)) {
        if (readLinks(namespace).some((link) => link.name === name))
          run(['ip', '-n', namespace, 'link', 'del', 'dev', name]);
      }
    }
    for (const path of this.#files()) this.#jail.removeFile(path);
  }

  /** The call, and the DEL that takes it back where it was an ADD that succeeded. */
  async #try(input: Input): Promise<string[]> {
    const outcome = await this.#call(input);
    const faults = faultsOf(input, outcome);
    const command = input.environment['CNI_COMMAND'] ?? '';
    const code = outcome.status === 0 ? 'ok' : (/"code":\s*(\d+)/.exec(outcome.stdout)?.[1] ?? 'none');
    this.codes.set(code, (this.codes.get(code) ?? 0) + 1);
    if (command !== 'ADD' || outcome.status !== 0) return faults;
    const del = await this.#call({ ...input, environment: { ...input.environment, CNI_COMMAND: 'DEL' } });
    if (del.status !== 0) faults.push(`its DEL fails: ${del.stdout}`);
    return faults;
  }

  async run(input: Input): Promise<void> {
    for (const fault of await this.#try(input)) this.faults.push(`${shorten(fault)}\n  ${describeInput(input)}`);
    this.#since.push(input);
    if (this.#since.length >= lookEvery) await this.look();
  }

  /** Whether anything is left; if so, which input left it. */
  async look(): Promise<void> {
    const inputs = this.#since;
    this.#since = [];
    const left = this.#left();
    if (left.length === 0) return;
    this.#clear();
    const before = this.faults.length;
    for (const input of inputs) {
      await this.#try(input);
      const now = this.#left();
      if (now.length === 0) continue;
      this.faults.push(`leaves ${now.join(', ')}\n  ${describeInput(input)}`);
      this.#clear();
    }
    if (this.faults.length === before) {
      this.faults.push(`${left.join(', ')} left by ${inputs.length} inputs together`);
    }
  }
}

test(`${count} mutated inputs`, async () => {
  const { lanes: all } = grounds();
  const mutators = all.map((lane, i) => {
    const { folder, netns } = lane;
    return new Mutator(seed + i, { folder, netns, path: pluginFolder });
  });
  await Promise.all(
    all.map(async (lane, i) => {
      for (let n = i; n < count; n += lanes) await lane.run(mutators[i]!.next());
      await lane.look();
    }),
  );
  const codes = new Map<string, number>();
  for (const lane of all) for (const [code, uses] of lane.codes) codes.set(code, (codes.get(code) ?? 0) + uses);
  const tally = [...codes].sort(([, a], [, b]) => b - a).map(([code, uses]) => `${code}: ${uses}`);
  console.log(`\n  ${count} inputs, by code: ${tally.join(', ')}`);
  const faults = all.flatMap((lane) => lane.faults);
  // One of each kind tells enough.
  const kinds = new Map(faults.toReversed().map((fault) => [fault.slice(0, 24).replace(/\d+/g, '#'), fault]));
  for (const fault of [...kinds.values()].toReversed().slice(0, shownAtMost)) console.log(fault);
  assert.is(faults.length, 0, `${faults.length} faults of ${kinds.size} kinds: see above`);
});

test.run();
