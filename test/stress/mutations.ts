/** Inputs of a plugin, and what can be done to them: bytes, JSON, environment. Drawn from a seed. */

import { randomStream } from '../support/random.ts';
import { oddTexts } from './odd-texts.ts';

export interface Input {
  readonly program: 'weft' | 'weft-ipam';
  readonly environment: Readonly<Record<string, string>>;
  readonly stdin: Buffer;
}

/** The material of valid inputs. */
export interface Grounds {
  /** A folder for stores. */
  readonly folder: string;
  /** Path of the container's namespace. */
  readonly netns: string;
  readonly path: string;
}

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** Stands for text that JSON cannot say, in a JSON text. */
const rawMark = /"\\u0001raw:(.*?)\\u0001"/g;
const raw = (text: string): string => `\u0001raw:${text}\u0001`;

const addresses = ['10.1.2.7', 'fd00:1::7', '10.1.2.0/24', '::', '0.0.0.0', '255.255.255.255', '10.1.2.1'];
export class Mutator {
  readonly #random: () => number;
  readonly #grounds: Grounds;

  constructor(seed: number, grounds: Grounds) {
    this.#random = randomStream(seed);
    this.#grounds = grounds;
  }

  #integer(below: number): number {
    return Math.floor(this.#random() * below);
  }

  #pick<T>(list: readonly T[]): T {
    return list[this.#integer(list.length)]!;
  }

  #chance(probability: number): boolean {
    return this.#random() < probability;
  }

  #valid(): { [key: string]: Json } {
    const { folder, netns } = this.#grounds;
    const ipam = { type: 'weft-ipam', dataDir: `${folder}/store` };
    const v4 = { subnet: '10.1.2.0/24' };
    const dual = { ranges: [[v4], [{ subnet: 'fd00:1::/64', rangeStart: 'fd00:1::10', gateway: 'fd00:1::1' }]] };
    const base = {
      cniVersion: this.#pick(['1.0.0', '1.1.0', '0.4.0', '0.3.1', '0.2.0', '0.1.0']),
      name: 'net',
      type: 'weft',
      bridge: 'br0',
    };
    return this.#pick<{ [key: string]: Json }>([
      { ...base, isGateway: true, ipam: { ...ipam, ...v4 } },
      { ...base, isDefaultGateway: true, mtu: 1400, hairpinMode: true, ipam: { ...ipam, ...dual } },
      {
        ...base,
        ipam: { ...ipam, ...v4, routes: [{ dst: '192.168.0.0/16', gw: '10.1.2.1', mtu: 1400, priority: 5 }] },
      },
      { ...base, ipam: {} },
      {
        ...base,
        ipam: { ...ipam, ...v4, resolvConf: '/etc/hosts' },
        dns: { nameservers: ['192.0.2.1'], search: ['x'] },
      },
      {
        ...base,
        ipam: { ...ipam, ...v4 },
        runtimeConfig: { ips: ['10.1.2.9'], mac: 'c2:b0:57:49:47:f1', ipRanges: [[{ subnet: '10.9.0.0/24' }]] },
      },
      { ...base, ipam: { ...ipam, ...v4 }, args: { cni: { ips: ['10.1.2.8'], mac: 'c2:b0:57:49:47:f2' } } },
      { ...base, runDir: `${folder}/run`, subnetFile: `${folder}/subnet.env`, ipam },
      {
        ...base,
        ipam: { ...ipam, ...v4 },
        prevResult: {
          cniVersion: base.cniVersion,
          interfaces: [
            { name: 'br0' },
            { name: 'veth0123456789a' },
            { name: 'eth0', mac: 'c2:b0:57:49:47:f1', sandbox: netns },
          ],
          ips: [{ version: '4', interface: 2, address: '10.1.2.7/24', gateway: '10.1.2.1' }],
          routes: [{ dst: '0.0.0.0/0', gw: '10.1.2.1' }],
          dns: {},
        },
      },
      {
        ...base,
        cniVersion: '1.1.0',
        ipam: { ...ipam, ...v4 },
        'cni.dev/valid-attachments': [{ containerID: 'c1', ifname: 'eth0' }],
      },
      { ...base, ipam: { type: 'absent', ...v4 } },
    ]);
  }

  #environment(): Record<string, string> {
    return {
      CNI_COMMAND: this.#pick(['ADD', 'ADD', 'ADD', 'ADD', 'DEL', 'DEL', 'CHECK', 'GC', 'STATUS', 'VERSION']),
      CNI_CONTAINERID: 'c1',
      CNI_NETNS: this.#grounds.netns,
      CNI_IFNAME: 'eth0',
      CNI_PATH: this.#grounds.path,
      ...(this.#chance(0.2) && {
        CNI_ARGS: this.#pick(['IP=10.1.2.44', 'IgnoreUnknown=1;K8S_POD_NAME=x', 'MAC=c2:b0:57:49:47:f1']),
      }),
    };
  }

  #oddValue(): Json {
    const deep = (depth: number): string => `${'['.repeat(depth)}${']'.repeat(depth)}`;
    return this.#pick<() => Json>([
      () => null,
      () => true,
      () => false,
      () => [],
      () => ({}),
      () => [[]],
      () => [null],
      () => -1,
      () => 1.5,
      () => 4294967296,
      () => 65536,
      () =>
        raw(
          this.#pick([
            '1e999',
            '-1e999',
            '9007199254740993',
            '1e400',
            '-0',
            '0.1e-400',
            '123456789012345678901234567890',
          ]),
        ),
      () => this.#pick(oddTexts),
      () => this.#pick(oddTexts),
      () => this.#pick(addresses),
      () => 'x'.repeat(this.#pick([16, 256, 5000, 100_000])),
      () => raw(deep(this.#pick([20, 500, 20_000]))),
      () => raw(`${'{"a":'.repeat(5000)}1${'}'.repeat(5000)}`),
      () =>
        Array.from({ length: this.#pick([3, 300, 3000]) }, () => this.#pick<Json>([{ subnet: '10.1.2.0/24' }, 'x', 1])),
      () => ({ __proto__x: 1, constructor: { prototype: {} }, toString: 'x', length: -1 }),
      () => Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`k${i}`, i])),
    ])();
  }

  /** Every place of a document: a holder and the key in it. */
  #places(value: Json, found: { holder: { [key: string]: Json } | Json[]; key: string | number }[] = []) {
    if (Array.isArray(value)) {
      value.forEach((item, key) => {
        found.push({ holder: value, key });
        this.#places(item, found);
      });
    } else if (typeof value === 'object' && value !== null) {
      for (const key of Object.keys(value)) {
        found.push({ holder: value, key });
        this.#places(value[key]!, found);
      }
    }
    return found;
  }

  #mutateJson(document: { [key: string]: Json }): void {
    const places = this.#places(document);
    if (places.length === 0) return;
    const { holder, key } = this.#pick(places);
    const at = holder as { [key: string]: Json };
    const action = this.#pick([
      'replace',
      'replace',
      'replace',
      'delete',
      'rename',
      'case',
      'wrap',
      'copy',
      'text',
      'swap',
      'twice',
    ]);
    const value = at[key]!;
    switch (action) {
      case 'replace':
        at[key] = this.#oddValue();
        return;
      case 'delete':
        if (Array.isArray(holder)) holder.splice(Number(key), 1);
        else delete at[key];
        return;
      case 'rename':
        delete at[key];
        at[this.#pick(oddTexts)] = value;
        return;
      case 'case':
        if (Array.isArray(holder)) return;
        delete at[key];
        at[this.#chance(0.5) ? String(key).toUpperCase() : String(key).toLowerCase()] = value;
        return;
      case 'wrap':
        at[key] = this.#chance(0.5) ? [value] : { [String(key)]: value };
        return;
      case 'copy': {
        const other = this.#pick(places);
        (other.holder as { [key: string]: Json })[other.key] = structuredClone(value);
        return;
      }
      case 'text':
        at[key] = JSON.stringify(value) ?? '';
        return;
      case 'swap': {
        const other = this.#pick(places);
        const target = other.holder as { [key: string]: Json };
        // A document that holds itself cannot be written.
        if (typeof value === 'object' || typeof target[other.key] === 'object') return;
        at[key] = target[other.key]!;
        target[other.key] = value;
        return;
      }
      case 'twice':
        // JSON text alone can hold a key twice.
        if (Array.isArray(holder)) return;
        at[`${key}\u0002${this.#integer(9)}`] = this.#chance(0.5) ? value : this.#oddValue();
        return;
    }
  }

  #mutateBytes(bytes: Buffer): Buffer {
    const at = this.#integer(bytes.length + 1);
    const cut = (to: number): [Buffer, Buffer] => [bytes.subarray(0, at), bytes.subarray(Math.min(bytes.length, to))];
    switch (
      this.#pick([
        'flip',
        'flip',
        'insert',
        'delete',
        'truncate',
        'truncate',
        'repeat',
        'utf8',
        'append',
        'bom',
        'empty',
      ])
    ) {
      case 'flip': {
        const changed = Buffer.from(bytes);
        if (changed.length > 0) changed[Math.min(at, changed.length - 1)] = this.#integer(256);
        return changed;
      }
      case 'insert': {
        const [before, after] = cut(at);
        return Buffer.concat([
          before,
          Buffer.from(Array.from({ length: 1 + this.#integer(8) }, () => this.#integer(256))),
          after,
        ]);
      }
      case 'delete':
        return Buffer.concat(cut(at + 1 + this.#integer(20)));
      case 'truncate':
        return bytes.subarray(0, at);
      case 'repeat': {
        const piece = bytes.subarray(at, at + 40);
        return Buffer.concat([
          bytes.subarray(0, at),
          ...Array.from({ length: 1 + this.#integer(50) }, () => piece),
          bytes.subarray(at),
        ]);
      }
      case 'utf8': {
        const [before, after] = cut(at);
        const bad = this.#pick(['ff', 'c080', 'eda080', 'f4908080', 'e2', '80', 'fffe', '00', 'efbfbf', 'f0808080']);
        return Buffer.concat([before, Buffer.from(bad, 'hex'), after]);
      }
      case 'append':
        return Buffer.concat([
          bytes,
          this.#pick([Buffer.from('}'), Buffer.from('\0'), bytes, Buffer.from(' \n\t'), Buffer.from('//x')]),
        ]);
      case 'bom':
        return Buffer.concat([Buffer.from('efbbbf', 'hex'), bytes]);
      default:
        return Buffer.alloc(0);
    }
  }

  #mutateEnvironment(environment: Record<string, string>): void {
    const key = this.#pick([
      'CNI_COMMAND',
      'CNI_CONTAINERID',
      'CNI_NETNS',
      'CNI_IFNAME',
      'CNI_PATH',
      'CNI_ARGS',
      'CNI_NETNS_OVERRIDE',
    ]);
    if (this.#chance(0.25)) {
      delete environment[key];
      return;
    }
    const common = [
      '',
      ' ',
      '-',
      '.',
      '..',
      '/',
      '=',
      ';',
      '\n',
      'é',
      '𝒳',
      '%',
      'a%d',
      "'",
      'x'.repeat(300),
      'x'.repeat(50_000),
      '\u0001',
      '\u007f',
    ];
    const own: Readonly<Record<string, readonly string[]>> = {
      CNI_COMMAND: ['add', 'ADD ', 'FOO', 'toString', '__proto__', 'constructor'],
      CNI_CONTAINERID: ['c-1_2.3', '%%', 'a\tb', 'x'.repeat(240), '10.1.2.3', 'lock'],
      CNI_NETNS: [
        '/proc/self/ns/net',
        '/proc/self/ns/mnt',
        '/dev/null',
        '/etc/hosts',
        '/absent',
        '/proc/self/fd/0',
        'relative',
      ],
      CNI_IFNAME: ['lo', 'x'.repeat(15), 'x'.repeat(16), 'eth0:1', 'a b', 'all', 'default', 'br0', 'éééééééé', 'veth0'],
      CNI_PATH: [':', ':::', '/absent', '/dev/null', '.', '/:/'.repeat(500)],
      CNI_ARGS: [
        'IP=',
        'IP=x',
        'IP=10.1.2.1',
        'MAC=',
        'MAC=x',
        'A',
        'A=B',
        'IP=1;IP=2',
        'IgnoreUnknown=2',
        '='.repeat(2000),
        'IgnoreUnknown=1;;',
        'A=B;'.repeat(3000),
      ],
      CNI_NETNS_OVERRIDE: ['1', 'true', 'TRUE', '0', 'x'],
    };
    environment[key] = this.#pick([...common, ...own[key]!, ...own[key]!, ...own[key]!]);
  }

  /** The next input: a valid one, with one to four changes. */
  next(): Input {
    const document = this.#valid();
    const environment = this.#environment();
    const changes = 1 + this.#integer(4);
    let byteChanges = 0;
    for (let i = 0; i < changes; i++) {
      const kind = this.#random();
      if (kind < 0.6) this.#mutateJson(document);
      else if (kind < 0.75) byteChanges += 1;
      else this.#mutateEnvironment(environment);
    }
    const text = JSON.stringify(document)
      .replace(rawMark, (_, escaped: string) => JSON.parse(`"${escaped}"`) as string)
      .replace(/\\u0002\d"/g, '"');
    let stdin = Buffer.from(text);
    for (let i = 0; i < byteChanges; i++) stdin = this.#mutateBytes(stdin) as Buffer<ArrayBuffer>;
    // NUL ends a variable.
    for (const [key, value] of Object.entries(environment)) environment[key] = value.replaceAll('\u0000', '');
    return { program: this.#chance(0.65) ? 'weft' : 'weft-ipam', environment, stdin };
  }
}
