/** Contents of the address store before the first call, its place, and long sequences of calls. */

import type { Keys, Step } from './case.ts';
import { type Family, show, v4, v6 } from './family.ts';

export function store({ drawFor, ipam }: Family): void {
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
    const { chance, integer, pick } = drawFor(`sequence ${i}`);
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
