/** Combinations that nobody thought of. */

import { type Keys, referenceVersions } from './case.ts';
import type { Family } from './family.ts';
import { gatewayKeys, wholeIpams } from './gateways.ts';

const requestedMac = ['c2:b0:57:49:47:f1', '0a:58:0a:01:02:07'];

export function drawn({ drawFor, main }: Family): void {
  for (let i = 0; i < 50; i++) {
    const { chance, pick } = drawFor(`drawn ${i}`);
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
