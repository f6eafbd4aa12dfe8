import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { ConfigError } from '../../../cluster/config-section.ts';
import {
  isCompatible,
  type NetworkConfig,
  parseNetworkConfig,
  unknownConfigKeys,
} from '../../../cluster/network-config.ts';
import { backends } from '../../../daemon/backends/map.ts';
import { type Family, formatAddress } from '../../../net/address.ts';
import { formatPrefix, parsePrefix } from '../../../net/prefix.ts';

const test = suite('network config');

/** `network /length min max`, as text. */
const show = (config: NetworkConfig, family: Family): string => {
  const network = config.networks[family];
  if (!network) return 'off';
  const bounds = [network.subnetMin, network.subnetMax].map(formatAddress).join(' ');
  return `${formatPrefix(network.network)} /${network.subnetLength} ${bounds}`;
};
const vxlan = '"Backend":{"Type":"vxlan"}';

function refused(text: string): ConfigError {
  try {
    parseNetworkConfig(text, backends);
  } catch (error) {
    if (error instanceof ConfigError) return error;
    throw error;
  }
  throw new Error(`accepted: ${text}`);
}

test('flannel’s defaults for IPv4', () => {
  for (const [text, expected] of [
    ['{"Network":"10.5.0.0/16"}', '10.5.0.0/16 /24 10.5.1.0 10.5.255.0'],
    ['{"Network":"10.5.7.9/16"}', '10.5.0.0/16 /24 10.5.1.0 10.5.255.0'],
    ['{"Network":"10.5.0.0/22"}', '10.5.0.0/22 /24 10.5.1.0 10.5.3.0'],
    ['{"Network":"10.5.0.0/23"}', '10.5.0.0/23 /25 10.5.0.128 10.5.1.128'],
    ['{"Network":"10.5.0.0/28"}', '10.5.0.0/28 /30 10.5.0.4 10.5.0.12'],
    ['{"Network":"10.0.0.0/8","SubnetLen":16}', '10.0.0.0/8 /16 10.1.0.0 10.255.0.0'],
    ['{"Network":"10.5.0.0/16","SubnetLen":0,"SubnetMin":"0.0.0.0"}', '10.5.0.0/16 /24 10.5.1.0 10.5.255.0'],
    [
      '{"Network":"10.5.0.0/16","SubnetLen":26,"SubnetMin":"10.5.10.64","SubnetMax":"10.5.99.192"}',
      '10.5.0.0/16 /26 10.5.10.64 10.5.99.192',
    ],
  ] as const) {
    const config = parseNetworkConfig(text, backends);
    assert.is(show(config, 4), expected, text);
    assert.is(show(config, 6), 'off');
  }
});

test('flannel’s defaults for IPv6, alone and with IPv4', () => {
  for (const [network, expected] of [
    ['fd00:5::/48', 'fd00:5::/48 /64 fd00:5:0:1:: fd00:5:0:ffff::'],
    ['fd00:5::/62', 'fd00:5::/62 /64 fd00:5:0:1:: fd00:5:0:3::'],
    ['fd00:5::/63', 'fd00:5::/63 /65 fd00:5:0:0:8000:: fd00:5:0:1:8000::'],
    ['fd00:5::/124', 'fd00:5::/124 /126 fd00:5::4 fd00:5::c'],
  ] as const) {
    const alone = parseNetworkConfig(`{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"${network}"}`, backends);
    assert.is(show(alone, 6), expected);
    assert.is(show(alone, 4), 'off');
  }
  const both = parseNetworkConfig('{"EnableIPv6":true,"Network":"10.5.0.0/16","IPv6Network":"fd00:5::/48"}', backends);
  assert.is(show(both, 4), '10.5.0.0/16 /24 10.5.1.0 10.5.255.0');
  assert.is(show(both, 6), 'fd00:5::/48 /64 fd00:5:0:1:: fd00:5:0:ffff::');
  const ignored = parseNetworkConfig('{"Network":"10.5.0.0/16","IPv6Network":"nonsense"}', backends);
  assert.is(show(ignored, 6), 'off', 'a family that is off is not looked at');
});

test('keys in any case, the last of several, unknown ones ignored', () => {
  const config = parseNetworkConfig(
    '{"network":"10.1.0.0/16","NETWORK":"10.5.0.0/16","subnetlen":25,"Colour":"blue","enablenftables":true,' +
      '"BACKEND":{"type":"VXLAN","vni":7,"DIRECTROUTING":true}}',
    backends,
  );
  assert.is(show(config, 4), '10.5.0.0/16 /25 10.5.0.128 10.5.255.128');
  assert.is(config.enableNftables, true);
  assert.equal(config.backend, {
    type: 'vxlan',
    vni: 7,
    port: 8472,
    gbp: false,
    learning: false,
    directRouting: true,
  });
  assert.equal(unknownConfigKeys('{"network":"10.1.0.0/16","SubnetLenn":3,"Backend":{}}'), ['SubnetLenn']);
});

test('backends', () => {
  const backend = (text: string) => parseNetworkConfig(`{"Network":"10.5.0.0/16"${text}}`, backends).backend;
  assert.equal(backend(''), { type: 'other', name: 'udp' });
  assert.equal(backend(',"Backend":{"Type":"host-gw"}'), { type: 'host-gw' });
  assert.equal(backend(',"Backend":{"Type":"WireGuard","PSK":"x"}'), { type: 'other', name: 'wireguard' });
  assert.equal(backend(`,${vxlan}`), {
    type: 'vxlan',
    vni: 1,
    port: 8472,
    gbp: false,
    learning: false,
    directRouting: false,
  });
  assert.equal(backend(',"Backend":{"Type":"vxlan","VNI":99,"Port":4789,"MTU":9000,"GBP":true,"Learning":true}'), {
    type: 'vxlan',
    vni: 99,
    port: 4789,
    mtuBytes: 9000,
    gbp: true,
    learning: true,
    directRouting: false,
  });
});

test('each rule broken names path, value and rule', () => {
  for (const [text, path, message] of [
    ['', '', 'Network config: it is not JSON: '],
    ['[]', '', 'Network config: it is not a JSON object'],
    ['{}', 'Network', `Network config: "Network" is missing: give the cluster's network`],
    ['{"Network":"10.5.0.0"}', 'Network', '"Network" is "10.5.0.0": it must be an IPv4 network such as "10.1.0.0/16"'],
    ['{"Network":"fd00::/48"}', 'Network', 'it must be an IPv4 network'],
    ['{"Network":7}', 'Network', '"Network" is 7: it must be a network such as "10.1.0.0/16", as a string'],
    ['{"Network":"0.0.0.0/0"}', 'Network', 'the whole address space'],
    ['{"Network":"10.5.0.0/29"}', 'Network', 'it is too small: a network of nodes is a /28 or larger'],
    ['{"Network":"10.5.0.0/16","SubnetLen":17}', 'SubnetLen', 'at least 18, so that 10.5.0.0/16 holds four subnets'],
    [
      '{"Network":"10.5.0.0/16","SubnetLen":31}',
      'SubnetLen',
      '"SubnetLen" is 31: it must be a whole number from 0 to 30',
    ],
    ['{"Network":"10.5.0.0/16","SubnetLen":"24"}', 'SubnetLen', '"SubnetLen" is "24"'],
    ['{"Network":"10.5.0.0/16","SubnetMin":"10.6.0.0"}', 'SubnetMin', 'it must lie in Network 10.5.0.0/16'],
    ['{"Network":"10.5.0.0/16","SubnetMin":"10.5.1.4"}', 'SubnetMin', 'the first address of a /24 subnet'],
    ['{"Network":"10.5.0.0/16","SubnetMax":"x"}', 'SubnetMax', 'it must be an IPv4 address'],
    [
      '{"Network":"10.5.0.0/16","SubnetMin":"10.5.9.0","SubnetMax":"10.5.8.0"}',
      'SubnetMax',
      'it must not come before SubnetMin',
    ],
    ['{"EnableIPv4":"yes"}', 'EnableIPv4', 'it must be true or false'],
    ['{"EnableIPv4":false}', 'EnableIPv4', 'IPv4, IPv6 or both must be enabled'],
    ['{"EnableIPv6":true,"Network":"10.5.0.0/16"}', 'IPv6Network', '"IPv6Network" is missing'],
    [
      '{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/125"}',
      'IPv6Network',
      'a network of nodes is a /124 or larger',
    ],
    [
      '{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/48","IPv6SubnetLen":127}',
      'IPv6SubnetLen',
      'from 0 to 126',
    ],
    ['{"Network":"10.5.0.0/16","Backend":"vxlan"}', 'Backend', 'it must be an object such as {"Type": "vxlan"}'],
    ['{"Network":"10.5.0.0/16","Backend":{}}', 'Backend.Type', 'name the backend'],
    ['{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","VNI":16777216}}', 'Backend.VNI', 'from 0 to 16777215'],
    ['{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","Port":-1}}', 'Backend.Port', 'from 0 to 65535'],
    ['{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","MTU":100}}', 'Backend.MTU', '0 (its own) or at least 118'],
    ['{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","GBP":1}}', 'Backend.GBP', 'it must be true or false'],
  ] as const) {
    const error = refused(text);
    assert.is(error.path, path, text);
    assert.ok(error.message.includes(message), `${text}: ${error.message}`);
    assert.not.match(error.message, /\.$/);
  }
});

test('what the config allows a node', () => {
  const config = parseNetworkConfig(
    `{"Network":"10.5.0.0/16","SubnetMin":"10.5.2.0","SubnetMax":"10.5.9.0",${vxlan}}`,
    backends,
  );
  const allows = (v4?: string, v6?: string) =>
    isCompatible(config, { ...(v4 ? { 4: parsePrefix(v4)! } : {}), ...(v6 ? { 6: parsePrefix(v6)! } : {}) });
  assert.is(allows('10.5.2.0/24'), true);
  assert.is(allows('10.5.9.0/24'), true);
  assert.is(allows('10.5.1.0/24'), false);
  assert.is(allows('10.5.10.0/24'), false);
  assert.is(allows('10.5.2.0/25'), false);
  assert.is(allows('10.5.2.0/24', 'fd00::/64'), false, 'a family that is off');
  assert.is(allows(undefined, 'fd00::/64'), false);
});

test.run();
