import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { formatAddress } from '../../../net/address.ts';
import {
  formatNodeFile,
  formatSubnetEnv,
  gatewayOf,
  NodeFileError,
  type NodeNetwork,
  parseNodeFile,
  parseSubnetEnv,
  readNodeFiles,
} from '../../../net/node-file.ts';
import { formatPrefix, parsePrefix } from '../../../net/prefix.ts';

const dualStack: NodeNetwork = {
  node: 'alpha',
  networks: ['10.5.0.0/16', 'fd00:5::/48'].map((text) => parsePrefix(text)!),
  subnets: ['10.5.72.0/24', 'fd00:5:0:34::/64'].map((text) => parsePrefix(text)!),
  mtuBytes: 1450,
  ipMasq: true,
};

test('node.json is written and read back', () => {
  const back = parseNodeFile(formatNodeFile(dualStack));
  assert.equal(back, dualStack);
});

test("subnet.env is flannel's, byte for byte", () => {
  assert.is(
    formatSubnetEnv(dualStack),
    'FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.72.1/24\n' +
      'FLANNEL_IPV6_NETWORK=fd00:5::/48\nFLANNEL_IPV6_SUBNET=fd00:5:0:34::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n',
  );
  const four = { ...dualStack, networks: dualStack.networks.slice(0, 1), subnets: dualStack.subnets.slice(0, 1) };
  assert.is(
    formatSubnetEnv({ ...four, ipMasq: false }),
    'FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.72.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n',
  );
});

test('subnet.env is read back, with SUBNET masked and NETWORK a list', () => {
  assert.equal(parseSubnetEnv(formatSubnetEnv(dualStack)), { ...dualStack, node: '' });
  const several = parseSubnetEnv(
    'FLANNEL_NETWORK=10.5.0.0/16,10.6.0.0/16\nFLANNEL_SUBNET=10.5.72.1/24\nFLANNEL_MTU=1450\n',
  );
  assert.equal(several.networks.map(formatPrefix), ['10.5.0.0/16', '10.6.0.0/16']);
  assert.is(several.ipMasq, false);
});

test('the error for a broken file says what is wrong', () => {
  const cases: [() => unknown, RegExp][] = [
    [() => parseNodeFile('{'), /not JSON/],
    [() => parseNodeFile('[]'), /"networks" is not a list/],
    [() => parseNodeFile('null'), /not a JSON object/],
    [() => parseNodeFile('{"networks":[],"subnets":[],"mtu":1450}'), /"subnets" is empty/],
    [() => parseNodeFile('{"networks":[],"subnets":["10.5.0.0"],"mtu":1450}'), /"10\.5\.0\.0", which is no subnet/],
    [() => parseNodeFile('{"networks":[],"subnets":["10.5.0.0/24"],"mtu":"x"}'), /MTU is "x"/],
    [() => parseSubnetEnv(''), /neither FLANNEL_SUBNET/],
    [() => parseSubnetEnv('FLANNEL_SUBNET=10.5.72.1/24'), /MTU/],
  ];
  for (const [parse, message] of cases) {
    assert.throws(parse, (error: unknown) => error instanceof NodeFileError && message.test(error.message));
  }
});

test('the gateway is the first address of the subnet', () => {
  assert.equal(
    dualStack.subnets.map((subnet) => formatAddress(gatewayOf(subnet))),
    ['10.5.72.1', 'fd00:5:0:34::1'],
  );
});

test('node.json comes before subnet.env, and a file that cannot be read is reported', () => {
  const env = 'FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n';
  const read = (files: Record<string, string>) => {
    const unreadable: string[] = [];
    const network = readNodeFiles(
      { runDir: '/run/x', subnetFile: '/env' },
      (path) => files[path],
      (path) => unreadable.push(path),
    );
    return [network?.node, unreadable];
  };
  const json = formatNodeFile({ ...parseSubnetEnv(env), node: 'n1' });
  assert.equal(read({ '/run/x/node.json': json, '/env': env }), ['n1', []]);
  assert.equal(read({ '/env': env }), ['', []]);
  assert.equal(read({ '/run/x/node.json': '{', '/env': env }), ['', ['/run/x/node.json']]);
  assert.equal(read({}), [undefined, []]);
});

test.run();
