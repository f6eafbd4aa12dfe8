/**
 * The corpus: configurations, valid and not, with the calls made with each. Written by families, and filled up with
 * combinations drawn from a seed. Words beginning with `@` stand for what each side has of its own (see sides.ts).
 */

import type { CniDocument } from '../lab/plugin.ts';
import { randomStream } from '../support/random.ts';

type Keys = Record<string, unknown>;

export interface Step {
  readonly command: string;
  /** Container; c1 where not said. */
  readonly id?: string;
  readonly ifname?: string;
  /** CNI_NETNS; '' leaves it out. */
  readonly netns?: string;
  readonly path?: string;
  readonly args?: string;
  readonly environment?: Record<string, string>;
  /** Instead of the case's. */
  readonly configuration?: Keys | string;
  /** Over the case's. */
  readonly keys?: Keys;
  /** What ADD answered with, a variation of it, or none. */
  readonly prevResult?: 'added' | 'none' | ((added: CniDocument) => unknown);
}

export interface Case {
  readonly name: string;
  /** Called directly: the bridge plugin, or the IPAM plugin. */
  readonly program: 'main' | 'ipam';
  /** Text goes as it is. */
  readonly configuration: Keys | string;
  /** Lines for `ip -batch`, in the host's namespace, before the first step. */
  readonly host?: readonly string[];
  /** Files of the store before the first step. */
  readonly store?: Readonly<Record<string, string>>;
  readonly files?: Readonly<Record<string, string>>;
  readonly steps: readonly Step[];
}

/** What the reference in Debian 12 speaks. */
export const referenceVersions = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0'] as const;

const seed = Number(process.env['WEFT_TEST_SEED'] ?? 20240607);
const random = randomStream(seed);
const integer = (below: number): number => Math.floor(random() * below);
const pick = <T>(list: readonly T[]): T => list[integer(list.length)]!;
const chance = (probability: number): boolean => random() < probability;

const hasCheck = (version: unknown): boolean => version === '0.4.0' || version === '1.0.0';
/** Versions of results with more than one address of a family. */
const modern = ['0.3.0', '0.3.1', '0.4.0', '1.0.0'] as const;

const cases: Case[] = [];

/** The life of an attachment: ADD, CHECK where the version has it, DEL, and at times DEL again. */
function life(version: unknown, step: Omit<Step, 'command'> = {}): Step[] {
  return [
    { ...step, command: 'ADD' },
    ...(hasCheck(version) ? [{ ...step, command: 'CHECK', prevResult: 'added' } as Step] : []),
    { ...step, command: 'DEL' },
    ...(chance(0.4) ? [{ ...step, command: 'DEL', netns: '' }] : []),
  ];
}

const v4 = { subnet: '10.1.2.0/24' };
const v6 = { subnet: 'fd00:1::/64' };
const dual = { ranges: [[v4], [v6]] };

interface Extra {
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

/** A call of the IPAM plugin by itself. */
function ipam(name: string, ipamKeys: unknown, extra: Extra = {}): void {
  const cniVersion = extra.version ?? pick(modern);
  const section =
    typeof ipamKeys === 'object' && ipamKeys !== null && !Array.isArray(ipamKeys)
      ? { type: '@ipam', dataDir: '@store', ...ipamKeys }
      : ipamKeys;
  cases.push({
    name: `ipam: ${name}`,
    program: 'ipam',
    configuration: { cniVersion, name: 'net', type: '@main', ipam: section, ...extra.keys },
    ...partsOf(extra),
    steps: extra.steps ?? life(cniVersion, extra.step),
  });
}

/** A call of the bridge plugin with the side's own IPAM. */
function main(name: string, keys: Keys, ipamKeys: unknown = v4, extra: Extra = {}): void {
  const cniVersion = extra.version ?? pick(modern);
  const section =
    typeof ipamKeys === 'object' && ipamKeys !== null && !Array.isArray(ipamKeys)
      ? { type: '@ipam', dataDir: '@store', ...ipamKeys }
      : ipamKeys;
  cases.push({
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
    steps: extra.steps ?? life(cniVersion, extra.step),
  });
}

const show = (value: unknown): string => (value === undefined ? 'absent' : JSON.stringify(value));

function subnets(): void {
  const valid = [
    '10.0.0.0/8',
    '172.16.0.0/12',
    '10.1.0.0/16',
    '10.1.2.0/24',
    '10.1.2.64/26',
    '10.1.2.8/29',
    '10.1.2.4/30',
  ];
  const valid6 = [
    'fd00::/48',
    'fd00:1::/64',
    '2001:DB8::/64',
    'fd00::100/120',
    'fd00::4/126',
    '::/64',
    'fd00:0:0:1:0:0:0:0/64',
  ];
  for (const subnet of [...valid, ...valid6]) ipam(`subnet ${subnet}`, { subnet });
  const invalid = [
    '10.1.2.0/31',
    '10.1.2.0/32',
    'fd00::/127',
    'fd00::/128',
    '10.1.2.0/33',
    'fd00::/129',
    '10.1.2.3/24',
    'fd00::1/64',
    '10.1.2.0',
    '10.1.2/24',
    '010.1.2.0/24',
    '10.1.2.0/024',
    '10.1.2.0/-1',
    '10.1.2.0/',
    '/24',
    'x',
    '',
    ' 10.1.2.0/24',
    '10.1.2.0/24 ',
    '::ffff:10.1.2.0/120',
    '256.1.2.0/24',
    'fe80::%eth0/64',
    '0.0.0.0/0',
    '::/0',
    null,
    24,
    true,
    {},
    ['10.1.2.0/24'],
  ];
  for (const subnet of invalid) {
    ipam(`subnet ${show(subnet)}`, { subnet });
    if (typeof subnet === 'string' || subnet === null)
      ipam(`subnet in ranges ${show(subnet)}`, { ranges: [[{ subnet }]] });
  }
}

function bounds(): void {
  const list: Keys[] = [
    { rangeStart: '10.1.2.10' },
    { rangeEnd: '10.1.2.3' },
    { rangeStart: '10.1.2.10', rangeEnd: '10.1.2.12' },
    { rangeStart: '10.1.2.10', rangeEnd: '10.1.2.10' },
    { rangeStart: '10.1.2.0' },
    { rangeStart: '10.1.2.255' },
    { rangeEnd: '10.1.2.255' },
    { rangeStart: '10.1.2.1', rangeEnd: '10.1.2.1' },
    { rangeStart: '' },
    { rangeEnd: '' },
    { rangeStart: '10.1.3.1' },
    { rangeEnd: '10.1.3.1' },
    { rangeStart: '10.1.1.255' },
    { rangeStart: '10.1.2.9', rangeEnd: '10.1.2.8' },
    { rangeStart: 'fd00::1' },
    { rangeStart: '::ffff:10.1.2.9' },
    { rangeStart: 'x' },
    { rangeEnd: '10.1.2.10/24' },
    { rangeStart: 10 },
    { rangeEnd: null },
    { gateway: '10.1.2.5' },
    { gateway: '10.1.2.2' },
    { gateway: '10.1.2.254' },
    { gateway: '10.9.9.9' },
    { gateway: '10.1.2.255' },
    { gateway: '10.1.2.0' },
    { gateway: 'fd00::1' },
    { gateway: '' },
    { gateway: 'x' },
    { gateway: '10.1.2.1/24' },
    { gateway: '10.1.2' },
    { gateway: 1 },
    { gateway: null },
    { gateway: '::ffff:10.1.2.7' },
    { rangeStart: '10.1.2.20', gateway: '10.1.2.20' },
  ];
  const many = ['c1', 'c2', 'c3'].map((id): Step => ({ command: 'ADD', id }));
  for (const keys of list) {
    const steps = [...many, { command: 'DEL', id: 'c2' }, { command: 'ADD', id: 'c4' }];
    if (chance(0.5)) ipam(`legacy ${show(keys)}`, { ...v4, ...keys }, { steps });
    else ipam(`range ${show(keys)}`, { ranges: [[{ ...v4, ...keys }]] }, { steps });
  }
  const list6: Keys[] = [
    { rangeStart: 'fd00:1::10', rangeEnd: 'fd00:1::11' },
    { rangeStart: 'FD00:1::AB' },
    { gateway: 'fd00:1::5' },
    { gateway: 'FD00:1:0:0::1' },
    { rangeEnd: 'fd00:2::1' },
    { gateway: 'fe80::1' },
  ];
  for (const keys of list6) ipam(`range v6 ${show(keys)}`, { ranges: [[{ ...v6, ...keys }]] }, { steps: many });
}

function rangeForms(): void {
  const forms: [string, Keys][] = [
    ['no ranges', {}],
    ['ranges []', { ranges: [] }],
    ['ranges [[]]', { ranges: [[]] }],
    ['ranges flat', { ranges: [v4] }],
    ['ranges object', { ranges: {} }],
    ['ranges text', { ranges: '10.1.2.0/24' }],
    ['ranges null', { ranges: null, ...v4 }],
    ['ranges [null]', { ranges: [null] }],
    ['ranges [[null]]', { ranges: [[null]] }],
    ['ranges [[{}]]', { ranges: [[{}]] }],
    ['ranges [[v4],[]]', { ranges: [[v4], []] }],
    ['subnet and ranges', { ...v4, ranges: [[{ subnet: '10.9.2.0/24' }]] }],
    ['subnet and v6 ranges', { ...v4, ranges: [[v6]] }],
    ['subnet and the same in ranges', { ...v4, ranges: [[v4]] }],
    ['rangeStart without subnet', { rangeStart: '10.1.2.4', ranges: [[v4]] }],
    ['gateway beside ranges', { gateway: '10.1.2.9', ranges: [[v4]] }],
    ['mixed families in a set', { ranges: [[v4, v6]] }],
    ['overlap in a set', { ranges: [[v4, { subnet: '10.1.0.0/16' }]] }],
    ['the same twice in a set', { ranges: [[v4, v4]] }],
    ['overlap of sets', { ranges: [[v4], [{ subnet: '10.1.0.0/22' }]] }],
    [
      'one subnet in two ranges',
      {
        ranges: [
          [
            { ...v4, rangeStart: '10.1.2.2', rangeEnd: '10.1.2.3' },
            { ...v4, rangeStart: '10.1.2.8', rangeEnd: '10.1.2.9' },
          ],
        ],
      },
    ],
    [
      'one subnet in two sets',
      {
        ranges: [
          [{ ...v4, rangeStart: '10.1.2.2', rangeEnd: '10.1.2.3' }],
          [{ ...v4, rangeStart: '10.1.2.8', rangeEnd: '10.1.2.9' }],
        ],
      },
    ],
    [
      'a second set that is full',
      {
        ranges: [[v4], [{ subnet: '10.9.2.0/30', gateway: '10.9.2.2', rangeStart: '10.9.2.2', rangeEnd: '10.9.2.2' }]],
      },
    ],
    ['unknown keys in a range', { ranges: [[{ ...v4, colour: 'blue' }]] }],
  ];
  for (const [name, keys] of forms)
    ipam(name, keys, { steps: [{ command: 'ADD' }, { command: 'ADD', id: 'c2' }, { command: 'DEL' }] });
  for (const version of ['0.1.0', '0.2.0']) {
    ipam(`dual stack ${version}`, dual, { version });
    ipam(`IPv6 alone ${version}`, v6, { version });
    ipam(`two v4 sets ${version}`, { ranges: [[v4], [{ subnet: '10.9.2.0/24' }]] }, { version });
    ipam(
      `routes ${version}`,
      { ...dual, routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0', gw: 'fd00:1::1' }, { dst: '10.0.0.0/8' }] },
      { version },
    );
  }
  // Drawn.
  const pool = [
    '10.1.0.0/24',
    '10.1.1.0/24',
    '10.1.0.0/23',
    '10.2.0.0/29',
    '10.2.0.8/30',
    'fd00:1::/64',
    'fd00:2::/120',
    'fd00:2::/126',
  ];
  for (let i = 0; i < 30; i++) {
    const ranges = Array.from({ length: 1 + integer(3) }, () =>
      Array.from({ length: 1 + (chance(0.3) ? integer(3) : 0) }, () => ({ subnet: pick(pool) })),
    );
    const steps: Step[] = [];
    for (let n = 0; n < 8; n++) {
      const command = chance(0.65) ? 'ADD' : 'DEL';
      steps.push({ command, id: `c${1 + integer(4)}`, ...(chance(0.2) && { ifname: 'eth1' }) });
    }
    ipam(`drawn ranges ${i}`, { ranges }, { steps, version: pick(modern) });
  }
}

function requested(): void {
  const addresses = [
    '10.1.2.77',
    '10.1.2.77/24',
    '10.1.2.77/8',
    '10.1.2.1',
    '10.1.2.0',
    '10.1.2.255',
    '10.9.9.9',
    'fd00:1::77',
    'x',
    '',
    '10.1.2',
    '10.1.2.77,10.1.2.78',
    ' 10.1.2.77',
    '10.1.2.77/33',
    '010.001.002.077',
    '::ffff:10.1.2.77',
  ];
  for (const address of addresses) {
    ipam(`CNI_ARGS IP=${address}`, v4, { step: { args: `IP=${address}` } });
    ipam(`args.cni.ips ${show(address)}`, v4, { keys: { args: { cni: { ips: [address] } } } });
    ipam(`runtimeConfig.ips ${show(address)}`, v4, { keys: { runtimeConfig: { ips: [address] } } });
  }
  ipam('requested of both families', dual, { step: { args: 'IP=10.1.2.7,fd00:1::7' } });
  ipam('requested of one family', dual, { step: { args: 'IP=fd00:1::7' } });
  ipam('requested by two channels', dual, {
    step: { args: 'IP=10.1.2.7' },
    keys: { runtimeConfig: { ips: ['fd00:1::8'] } },
  });
  ipam('requested twice the same', v4, {
    step: { args: 'IP=10.1.2.7' },
    keys: { runtimeConfig: { ips: ['10.1.2.7'] } },
  });
  ipam('requested two of one set', v4, { keys: { runtimeConfig: { ips: ['10.1.2.7', '10.1.2.8'] } } });
  ipam('requested FD00 in capitals', v6, { keys: { runtimeConfig: { ips: ['FD00:1::AB'] } } });
  ipam('requested of a later range', { ranges: [[v4, { subnet: '10.9.2.0/24' }]] }, { step: { args: 'IP=10.9.2.9' } });
  for (const ips of ['10.1.2.7', 7, {}, [7], [null], null, []]) {
    ipam(`runtimeConfig.ips ${show(ips)}`, v4, { keys: { runtimeConfig: { ips } } });
    ipam(`args.cni.ips ${show(ips)}`, v4, { keys: { args: { cni: { ips } } } });
  }
  for (const args of [
    null,
    {},
    'x',
    [],
    { cni: null },
    { cni: 'x' },
    { cni: {} },
    { cni: { colour: 1 } },
    { other: 1 },
  ]) {
    ipam(`args ${show(args)}`, v4, { keys: { args } });
  }
  for (const runtimeConfig of [null, {}, 'x', [], { ips: [], ipRanges: [] }, { colour: 1 }]) {
    ipam(`runtimeConfig ${show(runtimeConfig)}`, v4, { keys: { runtimeConfig } });
  }
  const ipRanges = [[{ subnet: '10.200.0.0/24' }], [{ subnet: 'fd00:200::/64' }]];
  ipam('ipRanges alone', {}, { keys: { runtimeConfig: { ipRanges } } });
  ipam('ipRanges and subnet', v4, { keys: { runtimeConfig: { ipRanges } } });
  ipam('ipRanges and ranges', { ranges: [[v4]] }, { keys: { runtimeConfig: { ipRanges } } });
  for (const wrong of [[[{}]], [[]], [{}], 'x', [[{ subnet: 'x' }]], [[v4]]]) {
    ipam(`ipRanges ${show(wrong)}`, v4, { keys: { runtimeConfig: { ipRanges: wrong } } });
  }
  ipam('a taken address', v4, {
    steps: [
      { command: 'ADD', args: 'IP=10.1.2.9' },
      { command: 'ADD', id: 'c2', args: 'IP=10.1.2.9' },
      { command: 'ADD', id: 'c3' },
      { command: 'DEL' },
      { command: 'ADD', id: 'c2', args: 'IP=10.1.2.9' },
    ],
  });
  for (const args of [
    'IgnoreUnknown=1',
    'IgnoreUnknown=true;K8S_POD_NAME=x',
    'IgnoreUnknown=0;FOO=1',
    'IgnoreUnknown=x',
    'FOO=1',
    'FOO',
    'IP=10.1.2.9;',
    ';',
    '=',
    'IP==',
    'ip=10.1.2.9',
    'IP=10.1.2.9;IP=10.1.2.10',
    'IgnoreUnknown=1;IP=10.1.2.9;FOO=a=b',
    'IgnoreUnknown=yes',
    'IgnoreUnknown=T',
    ' IP=10.1.2.9',
    'IP=10.1.2.9, 10.1.2.10',
    'MAC=c2:b0:57:49:47:f1',
    'K=V;IgnoreUnknown=1',
  ]) {
    ipam(`CNI_ARGS ${args}`, v4, { step: { args } });
    if (chance(0.4)) main(`CNI_ARGS ${args}`, {}, v4, { step: { args } });
  }
}

function routesAndDns(): void {
  const routes: unknown[] = [
    [{ dst: '0.0.0.0/0' }],
    [{ dst: '0.0.0.0/0', gw: '10.1.2.1' }],
    [{ dst: '10.0.0.0/8' }, { dst: '192.168.0.0/16', gw: '10.1.2.9' }],
    [{ dst: '::/0' }],
    [{ dst: '192.168.5.7/16' }],
    [{ dst: '192.168.5.7/32', gw: '' }],
    [],
    null,
    {},
    'x',
    [null],
    [{}],
    [{ dst: 'x' }],
    [{ dst: '10.0.0.0' }],
    [{ dst: '10.0.0.0/8', gw: 'x' }],
    [{ dst: 7 }],
    [{ gw: '10.1.2.1' }],
    [{ dst: '10.0.0.0/8', mtu: 1400, advmss: 1360 }],
    [{ dst: '10.0.0.0/8', mtu: 'x' }],
    [{ dst: '10.0.0.0/8', colour: 'blue' }],
    [{ DST: '10.0.0.0/8', GW: '10.1.2.1' }],
    [{ dst: '10.0.0.0/8' }, { dst: '10.0.0.0/8' }],
  ];
  for (const list of routes) {
    ipam(`routes ${show(list)}`, { ...v4, routes: list });
    main(`routes ${show(list)}`, { isGateway: chance(0.5) }, { ...v4, routes: list });
  }
  main('routes v6', { isGateway: true }, { ...dual, routes: [{ dst: '::/0' }, { dst: 'fd09::/32', gw: 'fd00:1::9' }] });
  main('routes out of reach', { isGateway: true }, { ...v4, routes: [{ dst: '192.168.0.0/16', gw: '203.0.113.7' }] });
  main('routes of another family', { isGateway: true }, { ...v4, routes: [{ dst: 'fd09::/32', gw: '10.1.2.1' }] });
  main('IPv4 routes of an IPv6 container', {}, { ...v6, routes: [{ dst: '192.168.0.0/16' }] });
  main('routes of a family without an address', { isGateway: true }, { ...v4, routes: [{ dst: 'fd09::/32' }] });

  const files = {
    'resolv.conf':
      'nameserver 192.0.2.3\nnameserver 192.0.2.4\n# comment\n; another\n  search a.example b.example\nsearch c.example\ndomain d.example\noptions ndots:2 rotate\noptions timeout:1\nsortlist 1\n',
    empty: '',
    odd: 'nameserver\nsearch\nnameserver x\n\tdomain\td.example\t\nnameserver 192.0.2.3 # why\nNAMESERVER 192.0.2.9\n',
    windows: 'nameserver 192.0.2.3\r\nsearch a.example\r\n',
  };
  for (const file of [...Object.keys(files), 'absent', '']) {
    ipam(`resolvConf ${file}`, { ...v4, resolvConf: file === '' ? '' : `@folder/${file}` }, { files });
  }
  for (const resolvConf of ['@folder', 7, null, []]) ipam(`resolvConf ${show(resolvConf)}`, { ...v4, resolvConf });
  ipam('resolvConf at 0.2.0', { ...v4, resolvConf: '@folder/resolv.conf' }, { files, version: '0.2.0' });
  for (const dns of [
    { nameservers: ['192.0.2.9'] },
    { nameservers: ['192.0.2.9'], domain: 'x.example', search: ['x.example'], options: ['ndots:5'] },
    { domain: 'x.example' },
    { nameservers: ['not an address'] },
    { nameservers: [] },
    {},
    null,
    'x',
    [],
    { nameservers: 'x' },
    { nameservers: [7] },
    { domain: 7 },
    { search: {} },
    { NameServers: ['192.0.2.9'] },
    { colour: 'blue' },
  ]) {
    main(`dns ${show(dns)}`, { dns }, chance(0.5) ? v4 : { ...v4, resolvConf: '@folder/resolv.conf' }, { files });
  }
}

function store(): void {
  const steps: Step[] = [{ command: 'ADD' }, { command: 'ADD', id: 'c2' }, { command: 'DEL' }];
  const states: [string, Record<string, string>, Keys?][] = [
    ['last elsewhere', { 'net/last_reserved_ip.0': '99.9.9.9' }],
    ['last empty', { 'net/last_reserved_ip.0': '' }],
    ['last garbage', { 'net/last_reserved_ip.0': 'garbage' }],
    ['last with a newline', { 'net/last_reserved_ip.0': '10.1.2.9\n' }],
    ['last is the end', { 'net/last_reserved_ip.0': '10.1.2.254' }],
    ['last is the broadcast', { 'net/last_reserved_ip.0': '10.1.2.255' }],
    ['last of another family', { 'net/last_reserved_ip.0': 'fd00::9' }],
    ['an old record', { 'net/10.1.2.2': 'c1' }],
    ['an old record with a newline', { 'net/10.1.2.2': 'c1\n' }],
    ['a record with LF', { 'net/10.1.2.2': 'c1\neth0' }],
    ['a record of this attachment', { 'net/10.1.2.2': 'c1\r\neth0' }],
    ['a record of another interface', { 'net/10.1.2.2': 'c1\r\neth1' }],
    ['an empty record', { 'net/10.1.2.2': '' }],
    ['a foreign file', { 'net/readme': 'hello' }],
    ['a foreign file with our id', { 'net/readme': 'c1\r\neth0' }],
    ['two records of this attachment', { 'net/10.1.2.2': 'c1\r\neth0', 'net/10.1.2.9': 'c1\r\neth0' }],
    ['a similar id', { 'net/10.1.2.2': 'c12\r\neth0', 'net/10.1.2.3': 'xc1\r\neth0' }],
    [
      'a full range',
      { 'net/10.1.2.2': 'a\r\neth0', 'net/10.1.2.3': 'b\r\neth0' },
      { subnet: '10.1.2.0/24', rangeStart: '10.1.2.2', rangeEnd: '10.1.2.3' },
    ],
    [
      'one left',
      { 'net/10.1.2.2': 'a\r\neth0' },
      { subnet: '10.1.2.0/24', rangeStart: '10.1.2.2', rangeEnd: '10.1.2.3' },
    ],
    ['an address out of range', { 'net/10.7.7.7': 'c1\r\neth0' }],
    ['IPv6 in capitals', { 'net/FD00:1::2': 'c9\r\neth0' }, v6],
  ];
  for (const [name, files, keys] of states) {
    ipam(`store: ${name}`, keys ?? v4, { store: files, steps });
    ipam(`store: ${name}, DEL first`, keys ?? v4, {
      store: files,
      version: '0.4.0',
      steps: [
        { command: 'CHECK', prevResult: () => ({ cniVersion: '0.4.0' }) },
        { command: 'DEL' },
        { command: 'ADD' },
      ],
    });
  }
  for (const dataDir of [
    '@store/',
    '@store//',
    '@store/deep/er',
    '@folder/./store',
    '@folder/file',
    '@folder/file/x',
    7,
    null,
    {},
  ]) {
    // Without one the host's own store is meant: not here.
    if (dataDir === null) continue;
    ipam(`dataDir ${show(dataDir)}`, { ...v4, dataDir });
  }
  for (const name of [
    'net',
    'n',
    'a.b-c_d',
    'A1',
    '0',
    'a b',
    '-a',
    '.',
    '..',
    'a/b',
    '',
    'é',
    'a\n',
    `n${'x'.repeat(200)}`,
  ]) {
    ipam(`network ${show(name)}`, v4, { keys: { name } });
  }
  for (let i = 0; i < 20; i++) {
    const subnet = pick(['10.1.2.0/29', '10.1.2.0/30', '10.1.2.0/28', 'fd00:1::/125']);
    const sequence: Step[] = Array.from({ length: 14 }, () => ({
      command: chance(0.62) ? 'ADD' : 'DEL',
      id: `c${1 + integer(6)}`,
      ...(chance(0.15) && { ifname: 'net1' }),
      ...(chance(0.15) && { args: `IP=${subnet.startsWith('f') ? 'fd00:1::' : '10.1.2.'}${integer(9)}` }),
    }));
    ipam(`sequence ${i} in ${subnet}`, { subnet }, { steps: sequence });
  }
}

function protocol(): void {
  const bare = (keys: Keys): Keys => ({
    cniVersion: '1.0.0',
    name: 'net',
    type: '@main',
    ipam: { type: '@ipam', dataDir: '@store', ...v4 },
    ...keys,
  });
  const raw = (name: string, configuration: string | Keys, steps: readonly Step[] = life('none')): void => {
    cases.push({ name: `protocol: ${name}`, program: 'ipam', configuration, steps });
  };
  for (const text of [
    '',
    ' ',
    '{',
    '{}',
    '[]',
    'null',
    '"x"',
    '7',
    'true',
    '{"name":"net"',
    '{"name":"net"}x',
    '{"name":"net"}{"name":"net"}',
    "{'name':'net'}",
    '{"name":"net",}',
    '\ufeff{"name":"net"}',
    '// no\n{}',
    '{"name":"net","cniVersion":"1.0.0","cniVersion":"9.9.9"}',
    '{"name":"\\u006eet","cniVersion":"1.0.0"}',
    '{"name":"n\\u0000t"}',
    '{"name":"net","cniVersion":"1.0.0","ipam":NaN}',
    '{"name":"net","cniVersion":"1.0.0","ipam":1e999}',
    `${'['.repeat(500)}${']'.repeat(500)}`,
    `{"name":"net","cniVersion":"1.0.0","x":${'['.repeat(500)}${']'.repeat(500)},"ipam":{"type":"@ipam","dataDir":"@store","subnet":"10.1.2.0/24"}}`,
  ]) {
    raw(`stdin ${text.slice(0, 60)}`, text);
  }
  for (const cniVersion of [
    '0.1.0',
    '0.2.0',
    '0.3.0',
    '0.3.1',
    '0.4.0',
    '1.0.0',
    '',
    null,
    undefined,
    '1.1.0',
    '9.9.9',
    '1.0',
    '0.4.1',
    '1',
    'asdf',
    7,
    '1.0.0 ',
    'v1.0.0',
    '1.0.0-rc1',
    '0.4',
    {},
  ]) {
    raw(`cniVersion ${show(cniVersion)}`, bare({ cniVersion }));
    raw(`CHECK at cniVersion ${show(cniVersion)}`, bare({ cniVersion }), [
      { command: 'ADD' },
      { command: 'CHECK', prevResult: 'added' },
      { command: 'DEL' },
    ]);
  }
  for (const name of [undefined, null, 7, [], {}]) raw(`name ${show(name)}`, bare({ name }));
  for (const type of [undefined, null, '', 7, 'other']) raw(`type ${show(type)}`, bare({ type }));
  for (const section of [undefined, null, 7, 'x', [], {}]) raw(`ipam ${show(section)}`, bare({ ipam: section }));
  for (const type of [undefined, null, '', 7, 'other']) {
    raw(`ipam.type ${show(type)}`, bare({ ipam: { type, dataDir: '@store', ...v4 } }));
  }
  raw('keys in other cases', {
    CNIVERSION: '1.0.0',
    Name: 'net',
    TYPE: '@main',
    IPAM: { Type: '@ipam', DATADIR: '@store', Ranges: [[{ Subnet: '10.1.2.0/24', RANGESTART: '10.1.2.9' }]] },
  });
  raw(
    'keys in two cases',
    '{"cniVersion":"1.0.0","name":"net","Name":"other","ipam":{"type":"@ipam","dataDir":"@store","subnet":"10.1.2.0/24","SUBNET":"10.9.2.0/24"}}',
  );
  raw(
    'keys in two cases, other order',
    '{"cniVersion":"1.0.0","Name":"other","name":"net","ipam":{"type":"@ipam","dataDir":"@store","SUBNET":"10.9.2.0/24","subnet":"10.1.2.0/24"}}',
  );
  raw(
    'keys twice',
    '{"cniVersion":"1.0.0","name":"net","name":"other","ipam":{"type":"@ipam","dataDir":"@store","subnet":"10.1.2.0/24","subnet":"10.9.2.0/24"}}',
  );
  raw('unknown keys', bare({ colour: 'blue', capabilities: { ips: true }, plugins: [], disableCheck: true }));
  raw('a long K', bare({ x: 'K'.repeat(100_000) }));
  raw(
    'Kelvin sign and long s fold as Go folds them',
    '{"cniVer\u017fion":"1.0.0","name":"net","ipam":{"type":"@ipam","dataDir":"@store","\u017fubnet":"10.1.2.0/24"}}',
  );

  const good = bare({});
  const calls: [string, Omit<Step, 'command'>, string?][] = [
    ['no CNI_CONTAINERID', { environment: { CNI_CONTAINERID: '' } }],
    ['no CNI_IFNAME', { environment: { CNI_IFNAME: '' } }],
    ['no CNI_NETNS', { netns: '' }],
    ['no CNI_PATH', { path: '' }],
    ['nothing', { environment: { CNI_CONTAINERID: '', CNI_IFNAME: '' }, netns: '', path: '' }],
    ['an absent namespace', { netns: '/run/netns/absent-x' }],
    ['a relative CNI_PATH', { path: '.' }],
    ['CNI_PATH :', { path: ':' }],
    ...['%%', '-a', 'a\n', 'a b', 'a/b', '..', '.a', '_a', 'A.b_c-9', 'x'.repeat(300), 'é'].map(
      (id): [string, Omit<Step, 'command'>] => [`id ${show(id)}`, { id }],
    ),
    ...[
      '.',
      '..',
      'a b',
      'a/b',
      'a:b',
      'x'.repeat(15),
      'x'.repeat(16),
      'ethé',
      'a\tb',
      '-',
      'a@b',
      'a%d',
      'é'.repeat(8),
      'a\u00a0b',
    ].map((ifname): [string, Omit<Step, 'command'>] => [`ifname ${show(ifname)}`, { ifname }]),
  ];
  for (const [name, step] of calls) raw(name, good, life('1.0.0', step));
  for (const command of ['ADD ', 'add', 'Del', 'FOO', 'GC', 'STATUS'])
    raw(`command ${show(command)}`, good, [{ command }]);
  raw('FOO without stdin', '', [{ command: 'FOO' }]);
  for (const [name, prevResult] of previousResults) {
    raw(`CHECK of ${name}`, good, [
      { command: 'ADD' },
      { command: 'CHECK', prevResult },
      { command: 'DEL', prevResult },
    ]);
  }
}

type Document = CniDocument & Record<string, unknown>;
const previousResults: [string, (added: CniDocument) => unknown][] = [
  ['prevResult null', () => null],
  ['prevResult {}', () => ({})],
  ['prevResult a text', () => 'x'],
  ['prevResult a list', () => []],
  ['prevResult without version', ({ cniVersion: _, ...rest }) => rest],
  ['prevResult of 0.2.0', () => ({ cniVersion: '0.2.0', ip4: { ip: '10.1.2.2/24' } })],
  ['prevResult of 0.4.0', (added) => ({ ...added, cniVersion: '0.4.0' })],
  ['prevResult of 9.9.9', (added) => ({ ...added, cniVersion: '9.9.9' })],
  ['prevResult with a bad address', (added) => ({ ...added, ips: [{ address: 'x' }] })],
  ['prevResult with unknown keys', (added) => ({ ...added, colour: 'blue' })],
  [
    'prevResult with keys in capitals',
    (added) => Object.fromEntries(Object.entries(added as Document).map(([key, value]) => [key.toUpperCase(), value])),
  ],
];

const gatewayKeys: Keys[] = [
  {},
  { isGateway: true },
  { isDefaultGateway: true },
  { isGateway: true, isDefaultGateway: true },
  { isGateway: false, isDefaultGateway: true },
];
const wholeIpams: [string, Keys][] = [
  ['v4', v4],
  ['v6', v6],
  ['dual', dual],
  ['v4 with its default route', { ...v4, routes: [{ dst: '0.0.0.0/0' }] }],
  ['v4 with a default route by gateway', { ...v4, routes: [{ dst: '0.0.0.0/0', gw: '10.1.2.1' }] }],
  ['v4 with another default route', { ...v4, routes: [{ dst: '0.0.0.0/0', gw: '10.1.2.200' }] }],
  ['v4 with another gateway', { ...v4, gateway: '10.1.2.9' }],
  ['v4 with a gateway outside', { ...v4, gateway: '10.7.7.7' }],
  ['two v4 sets', { ranges: [[v4], [{ subnet: '10.9.2.0/24' }]] }],
  ['two v6 sets', { ranges: [[v6], [{ subnet: 'fd00:2::/64' }]] }],
];

function gateways(): void {
  for (const [name, section] of wholeIpams) {
    for (const keys of gatewayKeys) {
      // An IPv6 address costs the reference two seconds.
      const slow = name.includes('v6') || name === 'dual';
      if (slow && chance(0.35)) continue;
      main(
        `${name}, ${show(keys)}`,
        keys,
        section,
        name.startsWith('two') || chance(0.75) ? {} : { version: pick(['0.1.0', '0.2.0']) },
      );
    }
  }
  const two = (keys: Keys = {}): Step[] => [
    { command: 'ADD' },
    { command: 'ADD', id: 'c2', netns: '@other', keys },
    { command: 'CHECK', prevResult: 'added' },
    { command: 'DEL' },
    { command: 'CHECK', id: 'c2', netns: '@other', keys, prevResult: 'added' },
    { command: 'DEL', id: 'c2', netns: '@other', keys },
    { command: 'ADD' },
  ];
  const at = (section: Keys): Keys => ({ ipam: { type: '@ipam', dataDir: '@store', ...section }, name: 'net2' });
  main('two pods', { isDefaultGateway: true }, v4, { steps: two(), version: '1.0.0' });
  main('two pods, L2', {}, undefined, { steps: two().filter(({ command }) => command !== 'CHECK'), version: '1.0.0' });
  main('two networks on a bridge', { isGateway: true }, v4, {
    steps: two(at({ subnet: '10.9.2.0/24' })),
    version: '1.0.0',
  });
  main('two networks on a bridge, forced', { isGateway: true, forceAddress: true }, v4, {
    steps: two(at({ subnet: '10.9.2.0/24' })),
    version: '1.0.0',
  });
  main('same address, other length', { isGateway: true }, v4, {
    steps: two(at({ subnet: '10.1.2.0/25' })),
    version: '1.0.0',
  });
  main('same address, other length, forced', { isGateway: true, forceAddress: true }, v4, {
    steps: two(at({ subnet: '10.1.2.0/25' })),
    version: '1.0.0',
  });
  main('two v6 networks', { isGateway: true }, v6, { steps: two(at({ subnet: 'fd00:2::/64' })), version: '1.0.0' });
  main('v4 network and v6 network', { isGateway: true }, v4, { steps: two(at(v6)), version: '1.0.0' });
  main('overlapping v6 networks', { isGateway: true }, v6, {
    steps: two(at({ subnet: 'fd00:1::/60' })),
    version: '1.0.0',
  });
  main('overlapping v6 networks, forced', { isGateway: true, forceAddress: true }, v6, {
    steps: two(at({ subnet: 'fd00:1::/60' })),
    version: '1.0.0',
  });
}

function bridges(): void {
  for (const mtu of [
    0,
    68,
    576,
    1280,
    1400,
    1500,
    9000,
    65535,
    67,
    1,
    65536,
    70000,
    -1,
    '1500',
    1.5,
    null,
    true,
    1e10,
    [],
    {},
  ]) {
    main(`mtu ${show(mtu)}`, { mtu, ...(chance(0.5) && { isGateway: true }) });
  }
  main('mtu 1280 with v6', { mtu: 1280, isGateway: true }, v6);
  main('mtu 1000 with v6', { mtu: 1000, isGateway: true }, v6);
  for (const bridge of [
    'br0',
    'b',
    'x'.repeat(15),
    'x'.repeat(16),
    '',
    null,
    'a/b',
    'a b',
    '.',
    '..',
    'a:b',
    7,
    'br0.1',
    'lo',
    'all',
    'default',
    '-x',
    'a%d',
  ]) {
    main(`bridge ${show(bridge)}`, { bridge });
  }
  for (const key of [
    'isGateway',
    'isDefaultGateway',
    'forceAddress',
    'hairpinMode',
    'promiscMode',
    'enabledad',
  ] as const) {
    for (const value of [true, false, null, 'true', 1, {}]) main(`${key} ${show(value)}`, { [key]: value });
  }
  main('hairpinMode and promiscMode', { hairpinMode: true, promiscMode: true });
  main('IsGateway in another case', {
    ISGATEWAY: true,
    HairpinMode: true,
    BRIDGE: 'br7',
    bridge: undefined,
    MTU: 1400,
  });
  main('promiscMode with a gateway', { promiscMode: true, isGateway: true });
  main('hairpin with a gateway', { hairpinMode: true, isDefaultGateway: true });
  main('enabledad with v6', { enabledad: true, isGateway: true }, v6);
  // What this reference does not know yet.
  main('disableContainerInterface', { disableContainerInterface: true }, undefined);
  main('portIsolation', { portIsolation: true });

  const steps: Step[] = [{ command: 'ADD' }, { command: 'CHECK', prevResult: 'added' }, { command: 'DEL' }];
  for (const ipMasqBackend of [undefined, 'iptables', 'nftables', '', 'other', 7]) {
    main(`ipMasq by ${show(ipMasqBackend)}`, { ipMasq: true, ipMasqBackend, isGateway: true }, v4, {
      version: '1.0.0',
      steps,
    });
  }
  main('ipMasq by iptables, dual', { ipMasq: true, ipMasqBackend: 'iptables', isGateway: true }, dual, {
    version: '1.0.0',
    steps,
  });
  main(
    'ipMasq by iptables, DEL without a namespace',
    { ipMasq: true, ipMasqBackend: 'iptables', isGateway: true },
    v4,
    {
      version: '1.0.0',
      steps: [{ command: 'ADD' }, { command: 'DEL', prevResult: 'added', netns: '' }],
    },
  );
  main('ipMasq by iptables, L2', { ipMasq: true, ipMasqBackend: 'iptables' }, undefined, { version: '1.0.0' });
  main('ipMasqBackend alone', { ipMasqBackend: 'other' });
  main('ipMasq false', { ipMasq: false });
  main('ipMasq "x"', { ipMasq: 'x' });
  for (const vlan of [100, 1, 4094]) main(`vlan ${vlan}`, { vlan });
  for (const vlan of [0, 4095, 5000, -1, '100', null, 1.5]) main(`vlan ${show(vlan)}`, { vlan });
  main('macspoofchk', { macspoofchk: true }, v4, { version: '1.0.0', steps });
  main('macspoofchk, L2', { macspoofchk: true }, undefined, {
    version: '1.0.0',
    steps: steps.filter(({ command }) => command !== 'CHECK'),
  });
  main('macspoofchk and ipMasq', { macspoofchk: true, ipMasq: true, ipMasqBackend: 'iptables', isGateway: true }, v4, {
    version: '1.0.0',
    steps,
  });
  for (const value of [null, 'true', 1]) main(`macspoofchk ${show(value)}`, { macspoofchk: value });
  main('macspoofchk false', { macspoofchk: false });

  // Layer 2.
  for (const section of [undefined, null, {}, { type: '' }]) {
    cases.push({
      name: `bridge: L2, ipam ${show(section)}`,
      program: 'main',
      configuration: { cniVersion: '1.0.0', name: 'net', type: '@main', bridge: 'br0', ipam: section },
      steps: life('1.0.0'),
    });
  }
  main('L2 at 0.2.0', {}, undefined, { version: '0.2.0' });
  main('L2 with a gateway', { isGateway: true, isDefaultGateway: true }, undefined);
  main('L2 with an MTU, hairpin', { mtu: 1400, hairpinMode: true }, undefined);
  for (const section of ['x', 7, []]) main(`ipam ${show(section)}`, {}, section);
  for (const type of ['absent-plugin', '../bridge', '/bin/true', 7, null])
    main(`ipam.type ${show(type)}`, {}, { ...v4, type });

  // Bridges that are there.
  const there = (...lines: string[]): { host: string[] } => ({ host: ['link add br0 type bridge', ...lines] });
  main('a bridge that is there', { isGateway: true }, v4, there());
  main('a bridge that is there, up', { isGateway: true }, v4, there('link set br0 up'));
  main('a bridge with the address', { isGateway: true }, v4, there('addr add 10.1.2.1/24 dev br0', 'link set br0 up'));
  main(
    'a bridge with the address and another',
    { isGateway: true },
    v4,
    there('addr add 10.1.2.1/24 dev br0', 'addr add 10.9.9.1/24 dev br0', 'link set br0 up'),
  );
  main(
    'a bridge with another address',
    { isGateway: true },
    v4,
    there('addr add 10.9.9.1/24 dev br0', 'link set br0 up'),
  );
  main(
    'a bridge with another address, forced',
    { isGateway: true, forceAddress: true },
    v4,
    there('addr add 10.9.9.1/24 dev br0', 'link set br0 up'),
  );
  main(
    'a bridge with two others, forced',
    { isGateway: true, forceAddress: true },
    v4,
    there('addr add 10.9.9.1/24 dev br0', 'addr add 10.9.8.1/24 dev br0', 'link set br0 up'),
  );
  main(
    'a bridge with another address of the subnet',
    { isGateway: true },
    v4,
    there('addr add 10.1.2.5/24 dev br0', 'link set br0 up'),
  );
  main('a bridge with another address, no gateway', {}, v4, there('addr add 10.9.9.1/24 dev br0', 'link set br0 up'));
  main('a bridge with a v6 address', { isGateway: true }, v4, there('addr add fd09::1/64 dev br0', 'link set br0 up'));
  main('a bridge with an MTU', { mtu: 1400 }, v4, there('link set br0 mtu 1300'));
  main('a bridge of another MTU and forward delay', {}, v4, {
    host: ['link add br0 mtu 1300 type bridge forward_delay 0'],
  });
  main('a bridge with promisc', { promiscMode: false }, v4, there('link set br0 promisc on'));
  main('no bridge of that name', {}, v4, { host: ['link add br0 type veth peer name other'] });
  main('a veth of that name, down', { isGateway: true }, v4, {
    host: ['link add br0 type veth peer name br1', 'link set br0 up'],
  });
}

function attachments(): void {
  const mac = 'c2:b0:57:49:47:f1';
  main('mac by CNI_ARGS', {}, v4, { step: { args: `IgnoreUnknown=1;MAC=${mac}` } });
  main('mac by CNI_ARGS alone', {}, v4, { step: { args: `MAC=${mac}` } });
  main('mac by CNI_ARGS, L2', {}, undefined, { step: { args: `MAC=${mac}` } });
  main('mac by args.cni', { args: { cni: { mac } } });
  main('mac by runtimeConfig', { runtimeConfig: { mac } });
  main('mac in capitals', { runtimeConfig: { mac: mac.toUpperCase() } });
  main('mac by all three', { runtimeConfig: { mac }, args: { cni: { mac: '0a:58:0a:01:02:07' } } }, v4, {
    step: { args: 'IgnoreUnknown=1;MAC=ca:fe:00:00:00:09' },
  });
  main('mac by two', { args: { cni: { mac: '0a:58:0a:01:02:07' } } }, v4, {
    step: { args: 'IgnoreUnknown=1;MAC=ca:fe:00:00:00:09' },
  });
  for (const bad of [
    'x',
    'c2:11:22:33:44',
    '01:00:5e:00:00:01',
    '00:00:00:00:00:00',
    'ff:ff:ff:ff:ff:ff',
    '',
    7,
    null,
    'c2-b0-57-49-47-f1',
    'c2b0.5749.47f1',
    '02:00:00:00:00:00:00:01',
  ]) {
    main(`runtimeConfig.mac ${show(bad)}`, { runtimeConfig: { mac: bad } });
    if (typeof bad === 'string') main(`CNI_ARGS MAC ${bad}`, {}, v4, { step: { args: `IgnoreUnknown=1;MAC=${bad}` } });
  }
  main('runtimeConfig of others', {
    runtimeConfig: {
      portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }],
      bandwidth: { ingressRate: 1 },
      dns: {},
      aliases: { net: ['x'] },
    },
  });
  main('RuntimeConfig in capitals', { RUNTIMECONFIG: { MAC: mac } });
  main('requested IP', { isGateway: true }, v4, { step: { args: 'IP=10.1.2.77' } });
  main('requested gateway', { isGateway: true }, v4, { step: { args: 'IP=10.1.2.1' } });
  main(
    'requested IP with runtimeConfig, dual',
    { isGateway: true, runtimeConfig: { ips: ['10.1.2.8', 'fd00:1::8'] } },
    dual,
  );

  const added: Step = { command: 'ADD' };
  main('repeated ADD', {}, v4, { steps: [added, added, { command: 'DEL' }], version: '1.0.0' });
  main('repeated ADD with a requested IP', {}, v4, {
    steps: [added, { command: 'ADD', args: 'IP=10.1.2.99' }, { command: 'DEL' }],
    version: '1.0.0',
  });
  main('ADD of another container into the same namespace', {}, v4, {
    steps: [added, { command: 'ADD', id: 'c2' }, { command: 'DEL', id: 'c2' }],
    version: '1.0.0',
  });
  main('two interfaces', { isDefaultGateway: true }, v4, {
    steps: [
      added,
      { command: 'ADD', ifname: 'eth1', keys: { isDefaultGateway: false } },
      { command: 'DEL' },
      { command: 'DEL', ifname: 'eth1' },
    ],
    version: '1.0.0',
  });
  main('ADD after DEL', { isGateway: true }, v4, {
    steps: [added, { command: 'DEL' }, added, { command: 'DEL' }],
    version: '1.0.0',
  });
  for (const [name, step] of [
    ['an absent namespace', { netns: '/run/netns/absent-x' }],
    ['a file for a namespace', { netns: '@folder/file' }],
    ['a folder for a namespace', { netns: '@folder' }],
    ['the own namespace', { netns: '@host' }],
    ['the own namespace, allowed', { netns: '@host', environment: { CNI_NETNS_OVERRIDE: '1' } }],
    ['ifname lo', { ifname: 'lo' }],
    ['ifname a%d', { ifname: 'a%d' }],
    ['ifname of 15', { ifname: 'x'.repeat(15) }],
    ['ifname ethé', { ifname: 'ethé' }],
    ['ifname eth0.100', { ifname: 'eth0.100' }],
    ['ifname all', { ifname: 'all' }],
    ['ifname default', { ifname: 'default' }],
    ['a long id', { id: 'x'.repeat(250) }],
    ['no CNI_PATH', { path: '' }],
    ['an empty CNI_PATH', { path: ':' }],
    ['a CNI_PATH without plugins', { path: '/' }],
    ['plugins in the second folder', { path: '/absent:@plugins' }],
  ] as [string, Omit<Step, 'command'>][]) {
    main(name, {}, v4, { step, version: '1.0.0' });
  }
  main('DEL without ADD', {}, v4, { steps: [{ command: 'DEL' }, { command: 'DEL', netns: '' }] });
  main('DEL without a namespace', { isGateway: true }, v4, {
    steps: [added, { command: 'DEL', netns: '' }],
    version: '1.0.0',
  });
  main('DEL with prevResult', { isGateway: true }, v4, {
    steps: [added, { command: 'DEL', prevResult: 'added' }],
    version: '1.0.0',
  });
  main('DEL with ranges that became invalid', {}, v4, {
    steps: [
      added,
      { command: 'DEL', keys: { ipam: { type: '@ipam', dataDir: '@store', ranges: [[{ subnet: '10.9.2.0/32' }]] } } },
    ],
  });
  main('DEL with a bridge that became another', {}, v4, {
    steps: [added, { command: 'DEL', keys: { bridge: 'br9' } }],
  });
  main('CHECK without prevResult', {}, v4, { steps: [added, { command: 'CHECK' }], version: '1.0.0' });
  main('CHECK without ADD', {}, v4, {
    steps: [{ command: 'CHECK', prevResult: () => ({ cniVersion: '1.0.0' }) }],
    version: '1.0.0',
  });
  const variations: typeof previousResults = [
    ...previousResults,
    [
      'another MAC',
      (result) =>
        change(result, (r) => {
          r.interfaces![2]!.mac = mac;
        }),
    ],
    [
      'another MAC of the host end',
      (result) =>
        change(result, (r) => {
          r.interfaces![1]!.mac = mac;
        }),
    ],
    [
      'another MAC of the bridge',
      (result) =>
        change(result, (r) => {
          r.interfaces![0]!.mac = mac;
        }),
    ],
    [
      'another sandbox',
      (result) =>
        change(result, (r) => {
          r.interfaces![2]!.sandbox = '/run/netns/other';
        }),
    ],
    ['no interfaces', ({ interfaces: _, ...rest }) => rest],
    ['no ips', ({ ips: _, ...rest }) => rest],
    [
      'another address',
      (result) =>
        change(result, (r) => {
          r.ips![0]!.address = '10.1.2.99/24';
        }),
    ],
    [
      'another length',
      (result) =>
        change(result, (r) => {
          r.ips![0]!.address = r.ips![0]!.address.replace('/24', '/25');
        }),
    ],
    [
      'another gateway',
      (result) =>
        change(result, (r) => {
          r.ips![0]!.gateway = '10.1.2.9';
        }),
    ],
    [
      'a route that is not there',
      (result) =>
        change(result, (r) => {
          r.routes = [...(r.routes ?? []), { dst: '192.168.0.0/16', gw: '10.1.2.1' }];
        }),
    ],
    [
      'a route by another gateway',
      (result) =>
        change(result, (r) => {
          r.routes = [{ dst: '0.0.0.0/0', gw: '10.1.2.77' }];
        }),
    ],
    [
      'no routes',
      (result) =>
        change(result, (r) => {
          delete r.routes;
        }),
    ],
    [
      'routes null',
      (result) =>
        change(result, (r) => {
          (r as Keys)['routes'] = null;
        }),
    ],
    [
      'another interface besides',
      (result) =>
        change(result, (r) => {
          r.interfaces!.push({ name: 'tun0', mac, sandbox: '' });
        }),
    ],
    [
      'interfaces in another order',
      (result) =>
        change(result, (r) => {
          r.interfaces!.reverse();
          r.ips![0]!.interface = 0;
        }),
    ],
    [
      'ips of another interface',
      (result) =>
        change(result, (r) => {
          r.ips![0]!.interface = 1;
        }),
    ],
    [
      'ips of no interface',
      (result) =>
        change(result, (r) => {
          delete r.ips![0]!.interface;
        }),
    ],
    [
      'an address without host end',
      (result) =>
        change(result, (r) => {
          r.interfaces!.splice(1, 1);
          r.ips![0]!.interface = 1;
        }),
    ],
  ];
  for (const [name, prevResult] of variations) {
    const step = { command: 'CHECK', prevResult };
    main(`CHECK of ${name}`, { isDefaultGateway: true }, v4, {
      steps: [added, step, { command: 'DEL' }],
      version: pick(['0.4.0', '1.0.0']),
    });
  }
  main('ADD with prevResult', {}, v4, {
    steps: [{ command: 'ADD', prevResult: () => ({ cniVersion: '1.0.0', ips: [] }) }],
    version: '1.0.0',
  });
  main('ADD with a bad prevResult', {}, v4, {
    steps: [{ command: 'ADD', prevResult: () => ({ cniVersion: '9.9.9' }) }],
    version: '1.0.0',
  });
}

function change(result: CniDocument, edit: (result: CniDocument) => void): CniDocument {
  // Where there is nothing to change the case says so by what both answer.
  if (result.interfaces) edit(result);
  return result;
}

/** Combinations that nobody thought of. */
function drawn(): void {
  for (let i = 0; i < 50; i++) {
    const version = pick(referenceVersions);
    const [name, section] = pick(wholeIpams.filter(([label]) => chance(0.25) || !/v6|dual/.test(label)));
    const keys: Keys = {
      ...pick(gatewayKeys),
      ...(chance(0.3) && { mtu: pick([1280, 1400, 1450, 9000]) }),
      ...(chance(0.3) && { hairpinMode: chance(0.8) }),
      ...(chance(0.15) && { promiscMode: chance(0.8) }),
      ...(chance(0.2) && { forceAddress: chance(0.8) }),
      ...(chance(0.1) && { mtu: pick(['x', -5, 67]) }),
      ...(chance(0.15) && { runtimeConfig: { mac: pick(requestedMac), ...(chance(0.3) && { ips: ['10.1.2.44'] }) } }),
      ...(chance(0.1) && { dns: { nameservers: ['192.0.2.1'] } }),
    };
    const routes = chance(0.3)
      ? {
          routes: pick([
            [{ dst: '192.168.0.0/16' }],
            [{ dst: '0.0.0.0/0' }],
            [{ dst: '172.16.0.0/12', gw: '10.1.2.1' }],
          ]),
        }
      : {};
    main(
      `drawn ${i}, ${name}`,
      keys,
      { ...section, ...routes },
      {
        version,
        ...(chance(0.2) && { step: { args: 'IgnoreUnknown=1;IP=10.1.2.33' } }),
        ...(chance(0.2) && {
          host: ['link add br0 type bridge', ...(chance(0.5) ? ['addr add 10.5.5.1/24 dev br0'] : [])],
        }),
      },
    );
  }
}

const requestedMac = ['c2:b0:57:49:47:f1', '0a:58:0a:01:02:07'];

const families = [
  subnets,
  bounds,
  rangeForms,
  requested,
  routesAndDns,
  store,
  protocol,
  gateways,
  bridges,
  attachments,
  drawn,
];

export function corpus(): readonly Case[] {
  if (cases.length === 0) {
    for (const family of families) family();
    // The slow ones first, so that the lanes end together: an IPv6 address costs the reference two seconds.
    const isSlow = ({ program, configuration }: Case) =>
      program === 'main' && JSON.stringify(configuration).includes('fd00:');
    cases.sort((a, b) => Number(isSlow(b)) - Number(isSlow(a)));
  }
  return cases;
}
