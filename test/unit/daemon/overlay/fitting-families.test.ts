import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type NetworkConfig, parseNetworkConfig } from '../../../../cluster/network-config.ts';
import { backends } from '../../../../daemon/backends/map.ts';
import type { ClusterView } from '../../../../daemon/membership/view.ts';
import { fittingFamilies } from '../../../../daemon/overlay/fitting-families.ts';

const test = suite('daemon/overlay/fitting-families');

const fitting = (mtuBytes: number, document: object) => {
  const config: NetworkConfig = parseNetworkConfig(JSON.stringify(document), backends);
  const view = { config, backend: config.backend as ClusterView['backend'] };
  return fittingFamilies(view, { name: 'eth0', mtuBytes }, backends);
};
const ipv4 = { Network: '10.1.0.0/16' };
const ipv6 = { EnableIPv6: true, IPv6Network: 'fd00:1::/48' };
const vxlan = { Backend: { Type: 'vxlan' } };

test('IPv6 is left out where the uplink leaves too little, and IPv4 stays', () => {
  assert.equal(fitting(1350, { ...ipv4, ...ipv6, ...vxlan }), { families: [4, 6], problem: undefined });
  assert.equal(fitting(1280, { ...ipv4, ...ipv6, ...vxlan }), {
    families: [4],
    problem:
      'IPv6 needs an MTU of 1280, and "eth0" with 1280 leaves 1210: raise its MTU to 1350 or more; until then containers get no IPv6 addresses',
  });
  assert.equal(fitting(1280, { ...ipv4, ...vxlan }), { families: [4], problem: undefined });
  assert.equal(fitting(1280, { ...ipv4, ...ipv6, Backend: { Type: 'host-gw' } }).families, [4, 6]);
});

test('where there is IPv6 alone, nothing is left out, and the problem says what follows', () => {
  const { families, problem } = fitting(1300, { EnableIPv4: false, ...ipv6, ...vxlan });
  assert.equal(families, [6]);
  assert.match(
    problem!,
    /"eth0" with 1300 leaves 1230: raise its MTU to 1350 or more; until then no container can start$/,
  );
});

test.run();
