/** Sources of addresses: subnets, their bounds and gateways, and the forms of `ranges`. */

import type { Keys, Step } from './case.ts';
import { dual, type Family, show, v4, v6 } from './family.ts';

export function subnets({ ipam }: Family): void {
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

export function bounds({ drawFor, ipam }: Family): void {
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
    if (drawFor(show(keys)).chance(0.5)) ipam(`legacy ${show(keys)}`, { ...v4, ...keys }, { steps });
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

export function rangeForms({ drawFor, ipam }: Family): void {
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
    const { chance, integer, pick } = drawFor(`drawn ranges ${i}`);
    const ranges = Array.from({ length: 1 + integer(3) }, () =>
      Array.from({ length: 1 + (chance(0.3) ? integer(3) : 0) }, () => ({ subnet: pick(pool) })),
    );
    const steps: Step[] = [];
    for (let n = 0; n < 8; n++) {
      const command = chance(0.65) ? 'ADD' : 'DEL';
      steps.push({ command, id: `c${1 + integer(4)}`, ...(chance(0.2) && { ifname: 'eth1' }) });
    }
    ipam(`drawn ranges ${i}`, { ranges }, { steps });
  }
}
