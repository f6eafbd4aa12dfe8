/** Addresses that the caller asks for: by CNI_ARGS, by `args.cni`, by `runtimeConfig`. */

import { dual, type Family, show, v4, v6 } from './family.ts';

export function requested({ ipam, main }: Family): void {
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
  const both = [
    'IgnoreUnknown=1',
    'IgnoreUnknown=true;K8S_POD_NAME=x',
    'IgnoreUnknown=0;FOO=1',
    'IgnoreUnknown=x',
    ';',
    'ip=10.1.2.9',
    'IgnoreUnknown=1;IP=10.1.2.9;FOO=a=b',
    'IgnoreUnknown=T',
    'IP=10.1.2.9, 10.1.2.10',
    'K=V;IgnoreUnknown=1',
  ];
  const ipamAlone = [
    'FOO=1',
    'FOO',
    'IP=10.1.2.9;',
    '=',
    'IP==',
    'IP=10.1.2.9;IP=10.1.2.10',
    'IgnoreUnknown=yes',
    ' IP=10.1.2.9',
    'MAC=c2:b0:57:49:47:f1',
  ];
  for (const args of [...both, ...ipamAlone]) ipam(`CNI_ARGS ${args}`, v4, { step: { args } });
  for (const args of both) main(`CNI_ARGS ${args}`, {}, v4, { step: { args } });
}
