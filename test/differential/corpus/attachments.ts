/** One attachment after another: MACs and addresses that are asked for, repeated calls, odd namespaces, CHECK of other results. */

import type { Step } from './case.ts';
import { dual, type Family, show, v4 } from './family.ts';
import { mac, otherResults, previousResults } from './previous-results.ts';

export function requests({ main }: Family): void {
  main('mac by CNI_ARGS', {}, v4, { step: { args: `IgnoreUnknown=1;MAC=${mac}` } });
  main('mac by CNI_ARGS alone', {}, v4, { step: { args: `MAC=${mac}` } });
  main('mac by CNI_ARGS, L2', {}, undefined, { step: { args: `MAC=${mac}` } });
  main('mac by args.cni', { args: { cni: { mac } } });
  main('mac by runtimeConfig', { runtimeConfig: { mac } });
  main('mac in capitals', { runtimeConfig: { mac: mac.toUpperCase() } });
  main('mac by all three', { runtimeConfig: { mac }, args: { cni: { mac: '0a:58:0a:01:02:07' } } }, v4, {
    step: { args: 'IgnoreUnknown=1;MAC=ca:fe:00:00:00:09' },
  });
  main('mac by two', { args: { cni: { mac: '0a:58:0a:01:02:07' } } }, v4, {
    step: { args: 'IgnoreUnknown=1;MAC=ca:fe:00:00:00:09' },
  });
  for (const bad of [
    'x',
    'c2:11:22:33:44',
    '01:00:5e:00:00:01',
    '00:00:00:00:00:00',
    'ff:ff:ff:ff:ff:ff',
    '',
    7,
    null,
    'c2-b0-57-49-47-f1',
    'c2b0.5749.47f1',
    '02:00:00:00:00:00:00:01',
  ]) {
    main(`runtimeConfig.mac ${show(bad)}`, { runtimeConfig: { mac: bad } });
    if (typeof bad === 'string') main(`CNI_ARGS MAC ${bad}`, {}, v4, { step: { args: `IgnoreUnknown=1;MAC=${bad}` } });
  }
  main('runtimeConfig of others', {
    runtimeConfig: {
      portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }],
      bandwidth: { ingressRate: 1 },
      dns: {},
      aliases: { net: ['x'] },
    },
  });
  main('RuntimeConfig in capitals', { RUNTIMECONFIG: { MAC: mac } });
  main('requested IP', { isGateway: true }, v4, { step: { args: 'IP=10.1.2.77' } });
  main('requested gateway', { isGateway: true }, v4, { step: { args: 'IP=10.1.2.1' } });
  main(
    'requested IP with runtimeConfig, dual',
    { isGateway: true, runtimeConfig: { ips: ['10.1.2.8', 'fd00:1::8'] } },
    dual,
  );
}

export function attachments({ drawFor, main }: Family): void {
  const added: Step = { command: 'ADD' };
  main('repeated ADD', {}, v4, { steps: [added, added, { command: 'DEL' }], version: '1.0.0' });
  main('repeated ADD with a requested IP', {}, v4, {
    steps: [added, { command: 'ADD', args: 'IP=10.1.2.99' }, { command: 'DEL' }],
    version: '1.0.0',
  });
  main('ADD of another container into the same namespace', {}, v4, {
    steps: [added, { command: 'ADD', id: 'c2' }, { command: 'DEL', id: 'c2' }],
    version: '1.0.0',
  });
  main('two interfaces', { isDefaultGateway: true }, v4, {
    steps: [
      added,
      { command: 'ADD', ifname: 'eth1', keys: { isDefaultGateway: false } },
      { command: 'DEL' },
      { command: 'DEL', ifname: 'eth1' },
    ],
    version: '1.0.0',
  });
  main('ADD after DEL', { isGateway: true }, v4, {
    steps: [added, { command: 'DEL' }, added, { command: 'DEL' }],
    version: '1.0.0',
  });
  for (const [name, step] of [
    ['an absent namespace', { netns: '/run/netns/absent-x' }],
    ['a file for a namespace', { netns: '@folder/file' }],
    ['a folder for a namespace', { netns: '@folder' }],
    ['the own namespace', { netns: '@host' }],
    ['the own namespace, allowed', { netns: '@host', environment: { CNI_NETNS_OVERRIDE: '1' } }],
    ['ifname lo', { ifname: 'lo' }],
    ['ifname a%d', { ifname: 'a%d' }],
    ['ifname of 15', { ifname: 'x'.repeat(15) }],
    ['ifname ethé', { ifname: 'ethé' }],
    ['ifname eth0.100', { ifname: 'eth0.100' }],
    ['ifname all', { ifname: 'all' }],
    ['ifname default', { ifname: 'default' }],
    ['a long id', { id: 'x'.repeat(250) }],
    ['no CNI_PATH', { path: '' }],
    ['an empty CNI_PATH', { path: ':' }],
    ['a CNI_PATH without plugins', { path: '/' }],
    ['plugins in the second folder', { path: '/absent:@plugins' }],
  ] as [string, Omit<Step, 'command'>][]) {
    main(name, {}, v4, { step, version: '1.0.0' });
  }
  main('DEL without ADD', {}, v4, { steps: [{ command: 'DEL' }, { command: 'DEL', netns: '' }] });
  main('DEL without a namespace', { isGateway: true }, v4, {
    steps: [added, { command: 'DEL', netns: '' }],
    version: '1.0.0',
  });
  main('DEL with prevResult', { isGateway: true }, v4, {
    steps: [added, { command: 'DEL', prevResult: 'added' }],
    version: '1.0.0',
  });
  main('DEL with ranges that became invalid', {}, v4, {
    steps: [
      added,
      { command: 'DEL', keys: { ipam: { type: '@ipam', dataDir: '@store', ranges: [[{ subnet: '10.9.2.0/32' }]] } } },
    ],
  });
  main('DEL with a bridge that became another', {}, v4, {
    steps: [added, { command: 'DEL', keys: { bridge: 'br9' } }],
  });
  main('CHECK without prevResult', {}, v4, { steps: [added, { command: 'CHECK' }], version: '1.0.0' });
  main('CHECK without ADD', {}, v4, {
    steps: [{ command: 'CHECK', prevResult: () => ({ cniVersion: '1.0.0' }) }],
    version: '1.0.0',
  });
  for (const [name, prevResult] of [...previousResults, ...otherResults]) {
    const step = { command: 'CHECK', prevResult };
    main(`CHECK of ${name}`, { isDefaultGateway: true }, v4, {
      steps: [added, step, { command: 'DEL' }],
      version: drawFor(`CHECK of ${name}, version`).pick(['0.4.0', '1.0.0']),
    });
  }
  main('ADD with prevResult', {}, v4, {
    steps: [{ command: 'ADD', prevResult: () => ({ cniVersion: '1.0.0', ips: [] }) }],
    version: '1.0.0',
  });
  main('ADD with a bad prevResult', {}, v4, {
    steps: [{ command: 'ADD', prevResult: () => ({ cniVersion: '9.9.9' }) }],
    version: '1.0.0',
  });
}
