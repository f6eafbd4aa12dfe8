/**
 * A family of cases, and what cases have in common. Whatever a case draws, it draws from a seed of its own, which is
 * made of the corpus' seed, the family and the case's name: a new case changes no other.
 */

import { randomStream } from '../../support/random.ts';
import type { Case, Keys, Step } from './case.ts';

const seed = process.env['WEFT_TEST_SEED'] ?? '20240607';

/** Versions of results with more than one address of a family. */
const modern = ['0.3.0', '0.3.1', '0.4.0', '1.0.0'] as const;
const hasCheck = (version: unknown): boolean => version === '0.4.0' || version === '1.0.0';

export const v4 = { subnet: '10.1.2.0/24' };
export const v6 = { subnet: 'fd00:1::/64' };
export const dual = { ranges: [[v4], [v6]] };

export const show = (value: unknown): string => (value === undefined ? 'absent' : JSON.stringify(value));

/** FNV-1a. */
function hash(text: string): number {
  let sum = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) sum = Math.imul(sum ^ byte, 0x01000193);
  return sum >>> 0;
}

export interface Draw {
  readonly integer: (below: number) => number;
  readonly pick: <T>(list: readonly T[]) => T;
  readonly chance: (probability: number) => boolean;
}

function drawFrom(text: string): Draw {
  const random = randomStream(hash(text));
  const integer = (below: number): number => Math.floor(random() * below);
  return { integer, pick: (list) => list[integer(list.length)]!, chance: (probability) => random() < probability };
}

export interface Extra {
  readonly keys?: Keys;
  readonly step?: Omit<Step, 'command'>;
  readonly steps?: readonly Step[];
  readonly version?: string;
  readonly host?: readonly string[];
  readonly store?: Readonly<Record<string, string>>;
  readonly files?: Readonly<Record<string, string>>;
}

const partsOf = ({ host, store, files }: Extra) => ({
  ...(host && { host }),
  ...(store && { store }),
  ...(files && { files }),
});

const sectionOf = (keys: unknown): unknown =>
  typeof keys === 'object' && keys !== null && !Array.isArray(keys)
    ? { type: '@ipam', dataDir: '@store', ...keys }
    : keys;

/** Its methods are bound, so that cases are short to write. */
export class Family {
  readonly cases: Case[] = [];
  readonly #name: string;

  constructor(name: string) {
    this.#name = name;
  }

  /** The draw of the case of that name. */
  readonly drawFor = (name: string): Draw => drawFrom(`${seed} ${this.#name} ${name}`);

  readonly add = (definition: Case): void => void this.cases.push(definition);

  /** The life of the case's attachment: ADD, CHECK where the version has it, DEL, and at times DEL again. */
  readonly life = (name: string, version: unknown, step: Omit<Step, 'command'> = {}): Step[] => [
    { ...step, command: 'ADD' },
    ...(hasCheck(version) ? [{ ...step, command: 'CHECK', prevResult: 'added' } as Step] : []),
    { ...step, command: 'DEL' },
    ...(this.drawFor(`${name}, DEL again`).chance(0.4) ? [{ ...step, command: 'DEL', netns: '' }] : []),
  ];

  /** A call of the IPAM plugin by itself. */
  readonly ipam = (name: string, ipamKeys: unknown, extra: Extra = {}): void => {
    const cniVersion = extra.version ?? this.drawFor(`${name}, version`).pick(modern);
    this.add({
      name: `ipam: ${name}`,
      program: 'ipam',
      configuration: { cniVersion, name: 'net', type: '@main', ipam: sectionOf(ipamKeys), ...extra.keys },
      ...partsOf(extra),
      steps: extra.steps ?? this.life(name, cniVersion, extra.step),
    });
  };

  /** A call of the bridge plugin with the side's own IPAM. */
  readonly main = (name: string, keys: Keys, ipamKeys: unknown = v4, extra: Extra = {}): void => {
    const cniVersion = extra.version ?? this.drawFor(`${name}, version`).pick(modern);
    const section = sectionOf(ipamKeys);
    this.add({
      name: `bridge: ${name}`,
      program: 'main',
      configuration: {
        cniVersion,
        name: 'net',
        type: '@main',
        bridge: 'br0',
        ...(section === undefined ? {} : { ipam: section }),
        ...keys,
      },
      ...partsOf(extra),
      steps: extra.steps ?? this.life(name, cniVersion, extra.step),
    });
  };
}
