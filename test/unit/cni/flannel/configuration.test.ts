import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { delegateConfiguration, formatGoJson, readFlannelKeys } from '../../../../cni/flannel/configuration.ts';
import { missingInSubnetEnv, parseSubnetEnv } from '../../../../net/node-file.ts';
import { refused } from '../refused.ts';

const test = suite('cni/flannel/configuration');

const env = parseSubnetEnv('FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.17.1/24\nFLANNEL_MTU=1472\n');

test('JSON is as Go writes it: sorted keys, no white space, signs of HTML escaped, no prototype touched', () => {
  const value = JSON.parse('{"10":1,"9":2,"__proto__":{"a":1},"b":"<>&\\u2028é","a":[1e21,null,true,-0.5]}') as unknown;
  assert.is(
    formatGoJson(value),
    '{"10":1,"9":2,"__proto__":{"a":1},"a":[1e+21,null,true,-0.5],"b":"\\u003c\\u003e\\u0026\\u2028é"}',
  );
  assert.equal(JSON.parse(formatGoJson(value)), value);
});

test('a configuration nested too deeply is refused', () => {
  const deep = JSON.parse(`${'['.repeat(400)}${']'.repeat(400)}`) as unknown;
  refused(() => formatGoJson(deep), 6, /nested too deeply/);
});

test("fields of a route stand in flannel's order, and zeros are left out where Go leaves them out", () => {
  const route = { scope: 0, table: 0, mtu: 0, priority: 3, gw: '10.1.17.9', dst: '10.9.0.0/16' };
  const request = { network: 'cbr0', configuration: { ipam: { routes: [route] } } };
  const text = formatGoJson(delegateConfiguration(request, readFlannelKeys(request.configuration), env));
  assert.match(text, /"routes":\[\{"dst":"10.9.0.0\/16","gw":"10.1.17.9","priority":3,"table":0,"scope":0\},/);
});

test('keys are found in any case, and a path keeps no slash at its end', () => {
  const keys = readFlannelKeys({ DataDir: '/x/', SUBNETFILE: '/y', Delegate: { type: 'ptp' } });
  assert.equal([keys.dataDir, keys.subnetFile, keys.delegate], ['/x', '/y', { type: 'ptp' }]);
  assert.is(readFlannelKeys({}).dataDir, '/var/lib/cni/flannel');
});

test('another delegate than bridge gets no isGateway', () => {
  const request = { network: 'cbr0', configuration: { delegate: { type: 'ptp' } } };
  assert.not('isGateway' in delegateConfiguration(request, readFlannelKeys(request.configuration), env));
});

test('the variables that subnet.env lacks are told, one of the two families is enough', () => {
  assert.equal(missingInSubnetEnv(''), [
    'FLANNEL_NETWORK or FLANNEL_IPV6_NETWORK',
    'FLANNEL_SUBNET or FLANNEL_IPV6_SUBNET',
    'FLANNEL_MTU',
    'FLANNEL_IPMASQ',
  ]);
  const six = 'FLANNEL_IPV6_NETWORK=fd00::/48\nFLANNEL_IPV6_SUBNET=fd00::1/64\nFLANNEL_MTU=1\nFLANNEL_IPMASQ=';
  assert.equal(missingInSubnetEnv(six), ['FLANNEL_IPMASQ']);
});

test.run();
