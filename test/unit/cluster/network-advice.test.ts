import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { findUnusableNetwork, overlapping } from '../../../cluster/network-advice.ts';
import { parseNetworkConfig } from '../../../cluster/network-config.ts';
import { backends } from '../../../daemon/backends/map.ts';
import { parsePrefix } from '../../../net/prefix.ts';

const test = suite('cluster/network-advice');

const config = (network: string, v6 = 'fd00:10::/48') =>
  parseNetworkConfig(
    JSON.stringify({ Network: network, EnableIPv6: true, IPv6Network: v6, Backend: { Type: 'vxlan' } }),
    backends,
  );

test('loopback and multicast networks are refused', () => {
  assert.is(
    findUnusableNetwork(config('127.5.0.0/16')),
    'Network config: "127.5.0.0/16" overlaps the loopback network "127.0.0.0/8": choose another network, such as "10.1.0.0/16"',
  );
  assert.match(findUnusableNetwork(config('126.0.0.0/7'))!, /loopback/);
  assert.match(findUnusableNetwork(config('239.1.0.0/16'))!, /multicast network "224\.0\.0\.0\/4"/);
  assert.match(findUnusableNetwork(config('10.1.0.0/16', 'ff05::/16'))!, /multicast network "ff00::\/8"/);
  assert.match(findUnusableNetwork(config('10.1.0.0/16', '::/48'))!, /loopback address "::1\/128"/);
  assert.is(findUnusableNetwork(config('10.1.0.0/16')), undefined);
});

test("the host's networks that overlap the cluster's", () => {
  const networks = ['192.0.2.0/24', '10.1.5.0/24', '10.0.0.0/8', 'fd00:10:0:7::/64', 'fd00:11::/64'];
  const ofHost = networks.map((text) => ({ name: 'eth0', network: parsePrefix(text)! }));
  assert.equal(
    overlapping(config('10.1.0.0/16'), ofHost).map(({ network }) => network),
    [ofHost[1]!.network, ofHost[2]!.network, ofHost[3]!.network],
  );
});

test.run();
