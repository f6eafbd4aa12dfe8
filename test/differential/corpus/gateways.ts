/** Gateways of every kind of IPAM section, and two networks on one bridge. */

import type { Keys, Step } from './case.ts';
import { dual, type Family, show, v4, v6 } from './family.ts';

export const gatewayKeys: Keys[] = [
  {},
  { isGateway: true },
  { isDefaultGateway: true },
  { isGateway: true, isDefaultGateway: true },
  { isGateway: false, isDefaultGateway: true },
];
export const wholeIpams: [string, Keys][] = [
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

/** An IPv6 address costs the reference two seconds: these have some of the keys. */
const slowOnes: Readonly<Record<string, readonly Keys[]>> = {
  v6: [{}, { isGateway: true }, { isGateway: false, isDefaultGateway: true }],
  dual: [{}, { isGateway: true, isDefaultGateway: true }, { isGateway: false, isDefaultGateway: true }],
  'two v6 sets': [{}, { isDefaultGateway: true }],
};

export function gateways({ drawFor, main }: Family): void {
  for (const [name, section] of wholeIpams) {
    for (const keys of slowOnes[name] ?? gatewayKeys) {
      const { chance, pick } = drawFor(`${name}, ${show(keys)}`);
      const version = name.startsWith('two') || chance(0.75) ? undefined : pick(['0.1.0', '0.2.0']);
      main(`${name}, ${show(keys)}`, keys, section, version === undefined ? {} : { version });
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
