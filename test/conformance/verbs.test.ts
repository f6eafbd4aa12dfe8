/** DEL, CHECK, STATUS and GC, calls of IPAM plugins, and configurations that are refused. */

import { chmodSync, copyFileSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import type { PodSpace } from '../lab/bare-host.ts';
import { execute } from '../lab/commands.ts';
import { describeNamespace, readLinks } from '../lab/kernel-state.ts';
import { namespacePath } from '../lab/namespaces.ts';
import { pluginFolder } from '../lab/plugin.ts';
import { referenceFolder } from '../lab/project.ts';
import { fails, own, succeeds } from '../support/cni.ts';
import { fixture } from '../support/fixture.ts';
import { conformance } from './rows.ts';
import { Sites } from './site.ts';

const { before, after, row, test, run } = conformance('verbs');
const sites = fixture(
  { before, after },
  () => new Sites('verbs'),
  (made) => made.remove(),
);
const v4 = { subnet: '10.1.2.0/24' };
const gateway = { isDefaultGateway: true };
/** A site with one pod, attached by bridge's keys and these. */
const attached = (keys: Record<string, unknown> = {}, ipam: Record<string, unknown> = v4) =>
  sites().make().attached(keys, ipam);

row(93, () => {
  const { site, pod, configuration, result } = attached();
  site.delete(pod, configuration);
  site.delete(pod, configuration);
  site.delete(pod, { ...configuration, prevResult: result });
  assert.equal(readLinks(pod.namespace), []);

  const gone = attached();
  gone.site.scratch.removeNamespaces([gone.pod.namespace]);
  gone.site.delete(gone.pod, gone.configuration);
  assert.equal(gone.site.reservations(), []);
  assert.equal(
    readLinks(gone.site.namespace).map(({ name }) => name),
    ['br0'],
  );

  const file = join(site.folder, 'file');
  writeFileSync(file, '');
  // A runtime repeats a DEL that fails, for ever: there is nothing left to do.
  site.delete({ ...pod, path: file }, configuration);
});

test('DEL with a CNI_NETNS that is no container frees everything and succeeds', () => {
  for (const kind of ['a plain file', 'a FIFO', 'the own namespace', 'a long name'] as const) {
    const { site, pod, configuration } = attached();
    const path = join(site.folder, 'netns');
    if (kind === 'a plain file') writeFileSync(path, '');
    if (kind === 'a FIFO') execute(['mkfifo', path]);
    const paths = { 'the own namespace': namespacePath(site.namespace), 'a long name': `/${'x'.repeat(5000)}` };
    const netns = kind in paths ? paths[kind as keyof typeof paths] : path;
    site.delete(pod, configuration, { netns });
    site.delete(pod, configuration, { netns });
    assert.equal(site.reservations(), [], kind);
    assert.equal(readLinks(pod.namespace), [], kind);
  }
});

test("DEL leaves a veth whose alias says that it is another attachment's, and GC one that was renamed", () => {
  const { site, pod, configuration } = attached({ cniVersion: '1.1.0' });
  const other = site.addPod();
  site.add(other, configuration);
  const hostEnd = (id: string) => readLinks(site.namespace).find(({ alias }) => alias === `weft net ${id} eth0`)!.name;
  // The other's interface has the name that this attachment's had.
  const name = hostEnd(pod.id);
  const others = hostEnd(other.id);
  site.ip('link', 'set', name, 'down');
  site.ip('link', 'set', name, 'name', 'elsewhere');
  site.ip('link', 'set', others, 'down');
  site.ip('link', 'set', others, 'name', name);
  site.delete(pod, configuration, { netns: '' });
  assert.is(hostEnd(other.id), name);
  const valid = [{ containerID: other.id, ifname: 'eth0' }];
  const collect = { ...configuration, 'cni.dev/valid-attachments': valid };
  succeeds(site.call('weft', { command: 'GC', stdin: collect }));
  assert.is(hostEnd(other.id), name);
  assert.not(readLinks(site.namespace).some((link) => link.name === 'elsewhere'));
  site.delete(other, configuration);
  assert.equal(readLinks(other.namespace), []);
});

test('DEL without a namespace frees the address and removes the link', () => {
  for (const netns of [undefined, '']) {
    const { site, pod, configuration } = attached();
    site.delete(pod, configuration, { netns });
    assert.equal(site.reservations(), []);
    assert.equal(
      readLinks(site.namespace).map(({ name }) => name),
      ['br0'],
    );
    assert.equal(readLinks(pod.namespace), []);
  }
});

row(94, () => {
  const { site, pod, configuration, result } = attached(gateway, { ...v4, routes: [{ dst: '192.168.0.0/16' }] });
  const outcome = site.check(pod, configuration, result);
  succeeds(outcome);
  assert.is(outcome.stdout, '');
  fails(site.weft('CHECK', pod, configuration), [6, 7], /prevResult/);

  const wrong = structuredClone(result);
  wrong.interfaces![2]!.sandbox = '/run/netns/another';
  fails(site.check(pod, configuration, wrong), [7, 8, 110]);

  site.podIp(pod, 'route', 'del', '192.168.0.0/16');
  fails(site.check(pod, configuration, result), own, /192\.168/);
  site.podIp(pod, 'route', 'add', '192.168.0.0/16', 'dev', 'eth0');
  succeeds(site.check(pod, configuration, result));

  site.podIp(pod, 'addr', 'flush', 'dev', 'eth0', 'scope', 'global');
  fails(site.check(pod, configuration, result), own, /10\.1\.2\.2/);

  site.podIp(pod, 'link', 'del', 'eth0');
  fails(site.check(pod, configuration, result), own, /eth0/);
});

test('CHECK detects a missing reservation, a missing bridge port and a missing bridge', () => {
  const { site, pod, configuration, result } = attached();
  const hostVeth = result.interfaces![1]!.name;
  site.ip('link', 'set', hostVeth, 'nomaster');
  fails(site.check(pod, configuration, result), own, /br0/);
  site.ip('link', 'set', hostVeth, 'master', 'br0');
  succeeds(site.check(pod, configuration, result));
  succeeds(site.call('weft-ipam', { command: 'DEL', containerId: pod.id, ifname: 'eth0', stdin: configuration }));
  fails(site.check(pod, configuration, result), own);
});

row(95, () => {
  const site = sites().make();
  const absent = { ...site.bridge(), ipam: { type: 'absent-ipam' } };
  fails(site.call('weft', { command: 'STATUS', stdin: absent }), 50, /absent-ipam/);
  succeeds(site.call('weft', { command: 'STATUS', stdin: site.bridge() }));
  // A delegate's own word on it passes.
  const plugin = join(site.folder, 'tired');
  writeFileSync(
    plugin,
    '#!/bin/sh\ncat > /dev/null\necho \'{"cniVersion":"1.1.0","code":51,"msg":"Tired","details":""}\'\nexit 1\n',
  );
  chmodSync(plugin, 0o755);
  const tired = { ...absent, ipam: { type: 'tired' } };
  fails(site.call('weft', { command: 'STATUS', stdin: tired, path: `${pluginFolder}:${site.folder}` }), 51, /Tired/);
});

row(96, () => {
  const site = sites().make();
  const resolvConf = join(site.folder, 'resolv.conf');
  writeFileSync(resolvConf, 'nameserver 192.0.2.3\nsearch a.example\n');
  const ipam = { ...v4, resolvConf };
  assert.equal(site.add(site.addPod(), site.bridge({}, ipam)).dns, {
    nameservers: ['192.0.2.3'],
    search: ['a.example'],
  });
  const dns = { nameservers: ['192.0.2.9'] };
  assert.equal(site.add(site.addPod(), site.bridge({ dns }, ipam)).dns, dns);
});

row(114, () => {
  const { site, pod, configuration, result } = attached(gateway);
  const { isDefaultGateway: _, ...bare } = configuration;
  succeeds(site.check(pod, bare, { ...result, routes: null, dns: {} }));
  site.podIp(pod, 'route', 'del', 'default');
  succeeds(site.check(pod, bare, { ...result, routes: null, dns: {} }));
  fails(site.check(pod, bare, result), own);
  site.delete(pod, bare);
  assert.equal(site.reservations(), []);
});

test('GC removes the links and addresses of attachments that are not listed', () => {
  const site = sites().make();
  const [podA, podB] = site.addPods(2) as [PodSpace, PodSpace];
  const configuration = site.bridge({ cniVersion: '1.1.0' });
  site.add(podA, configuration);
  const kept = site.add(podB, configuration);
  const valid = { 'cni.dev/valid-attachments': [{ containerID: podB.id, ifname: 'eth0' }] };
  succeeds(site.call('weft', { command: 'GC', stdin: { ...configuration, ...valid } }));
  assert.equal(site.reservations(), ['10.1.2.3']);
  assert.equal(
    readLinks(site.namespace)
      .map(({ name }) => name)
      .sort(),
    ['br0', kept.interfaces![1]!.name].sort(),
  );
  succeeds(site.check(podB, configuration, kept));
  succeeds(site.call('weft', { command: 'GC', stdin: configuration }));
  assert.equal(site.reservations(), []);
});

test('a wrong configuration is refused, and the error names the key', () => {
  const site = sites().make();
  const pod = site.addPod();
  for (const [keys, name] of [
    [{ mtu: 'big' }, 'mtu'],
    [{ mtu: -1 }, 'mtu'],
    [{ isGateway: 'yes' }, 'isGateway'],
    [{ bridge: 'a/b' }, 'bridge'],
    [{ bridge: 'a-name-that-is-too-long' }, 'bridge'],
    [{ hairpinMode: 3 }, 'hairpinMode'],
    [{ ipam: 'weft-ipam' }, 'ipam'],
    [{ dns: { nameservers: 'x' } }, 'nameservers'],
  ] as const) {
    site.refuses(() => site.weft('ADD', pod, site.bridge(keys)), [6, 7], new RegExp(name));
  }
});

test('another IPAM plugin is called for ADD, and for DEL', () => {
  const site = sites().make();
  const pod = site.addPod();
  const ipam = { type: 'host-local', dataDir: site.dataDir, ...v4 };
  const path = `${pluginFolder}:/usr/lib/cni`;
  const configuration = { ...site.bridge(gateway), ipam };
  const result = site.add(pod, configuration, { path });
  assert.equal(site.podLink(pod).addresses, ['10.1.2.2/24']);
  succeeds(site.check(pod, configuration, result, { path }));
  site.delete(pod, configuration, { path });
  assert.equal(site.reservations(), []);
  const wrong = { ...configuration, ipam: { ...ipam, routes: [{ dst: '192.168.0.0/16', gw: '203.0.113.7' }] } };
  site.refuses(() => site.weft('ADD', pod, wrong, { path }), own);
  const absent = { ...configuration, ipam: { type: 'absent-ipam' } };
  site.refuses(() => site.weft('ADD', pod, absent, { path }), 50, /absent-ipam/);
});

test('the plugin refuses to call itself or a copy of itself as its IPAM plugin', () => {
  const site = sites().make();
  const pod = site.addPod();
  copyFileSync(`${pluginFolder}/weft`, join(site.folder, 'weft'));
  symlinkSync(`${pluginFolder}/weft`, join(site.folder, 'another-name'));
  for (const type of ['weft', 'another-name']) {
    const configuration = { ...site.bridge({ cniVersion: '1.1.0' }), ipam: { type } };
    for (const command of ['ADD', 'DEL', 'STATUS', 'GC']) {
      fails(site.weft(command, pod, configuration, { path: site.folder }), [7, 112], /itself/);
    }
  }
});

test('an ADD whose answer cannot be written leaves nothing', () => {
  const site = sites().make();
  const pod = site.addPod();
  site.writeNodeFile();
  const pipe = join(site.folder, 'pipe');
  // The pipe has no reader by the time the program starts.
  const closedPipe = `mkfifo ${pipe}; exec 3<>${pipe} 4>${pipe} 3>&-; rm ${pipe}; exec "$@" >&4 4>&-`;
  const configurations = [
    site.overlay(),
    site.bridge({ cniVersion: '1.1.0', ipMasq: true, macspoofchk: true, isGateway: true }),
  ];
  for (const configuration of configurations) {
    site.add(pod, configuration);
    site.delete(pod, configuration);
    for (const script of ['exec "$@" >/dev/full', closedPipe]) {
      const through = ['sh', '-c', script, 'sh'];
      const state = () => [
        ...describeNamespace(site.namespace),
        ...describeNamespace(pod.namespace),
        ...site.reservations(`${configuration['name']}`),
      ];
      const before = state();
      const environment = { PATH: process.env['PATH']! };
      const outcome = site.weft('ADD', pod, configuration, { through, environment });
      assert.is(outcome.status, 1, script);
      assert.match(outcome.stderr, /"code":5,"msg":"Cannot write the answer to stdout"/, script);
      assert.equal(state(), before, script);
      const ipamOnly = { ...configuration, ipam: { ...(configuration['ipam'] as object), subnet: '10.1.2.0/24' } };
      const ipam = site.call('weft-ipam', {
        command: 'ADD',
        containerId: pod.id,
        netns: pod.path,
        ifname: 'eth0',
        stdin: ipamOnly,
        through,
        environment,
      });
      assert.is(ipam.status, 1, script);
      assert.equal(state(), before, script);
      assert.is(site.call('weft', { command: 'VERSION', stdin: '{}', through, environment }).status, 1, script);
    }
  }
});

test('a configuration of very many keys is refused at once', () => {
  const site = sites().make();
  const pod = site.addPod();
  const keys = Object.fromEntries(Array.from({ length: 200_000 }, (_, i) => [`key-${i}`, i]));
  for (const command of ['ADD', 'DEL', 'CHECK']) {
    const outcome = site.weft(command, pod, { ...site.bridge(), ...keys }, { through: ['timeout', '5'] });
    fails(outcome, 5, /on stdin is larger than 2 MiB/);
  }
});

test('the error for deep or long input is clear and short', () => {
  const site = sites().make();
  const pod = site.addPod();
  const deep = `${'{"a":'.repeat(5000)}1${'}'.repeat(5000)}`;
  const lists = `${'['.repeat(5000)}${']'.repeat(5000)}`;
  for (const text of [
    `{"cniVersion":${deep},"name":"net","type":"weft"}`,
    `{"cniVersion":"1.0.0","name":"net","type":"weft","ipam":${lists}}`,
    `{"cniVersion":"1.0.0","name":"net","type":"weft","ipam":{"type":${deep}}}`,
    `{"cniVersion":"1.0.0","name":"net","type":"weft","ipam":{"type":"weft-ipam","ranges":${lists}}}`,
  ]) {
    const document = site.refuses(() => site.weft('ADD', pod, text), [6, 7]);
    assert.ok(document.msg!.length < 700, document.msg);
  }
  const { msg } = site.refuses(
    () => site.weft('ADD', pod, site.bridge(), { netns: `/${'x'.repeat(50_000)}` }),
    [8, 108],
  );
  assert.ok(msg!.length < 700, msg);
});

row(122, () => {
  const site = sites().make();
  const pod = site.addPod();
  // flannel's plugin hands this to its delegate; libraries pass it on without a version.
  const ranges = [[{ subnet: '10.96.7.0/24' }], [{ subnet: 'fd00:96:0:7::/64' }]];
  const configuration = {
    name: 'cbr0',
    type: 'weft',
    bridge: 'br0',
    hairpinMode: true,
    isGateway: true,
    isDefaultGateway: true,
    ipMasq: true,
    mtu: 1450,
    ipam: site.ipam({ ranges, routes: [{ dst: '10.96.0.0/16' }, { dst: 'fd00:96::/48' }] }),
  };
  const result = succeeds(site.weft('ADD', pod, configuration));
  assert.is(result.ip4?.ip, '10.96.7.2/24');
  assert.is(result.ip6?.ip, 'fd00:96:0:7::2/64');
  // The next of the chain takes it and hands it on.
  const chained = { name: 'cbr0', type: 'tuning', mtu: 1400, prevResult: result };
  const executable = `${referenceFolder}/tuning`;
  assert.equal(succeeds(site.weft('ADD', pod, chained, { executable })).ip4, result.ip4);
  assert.is(site.podLink(pod).mtu, 1400);
  site.delete(pod, { ...configuration, prevResult: result });
  site.delete(pod, configuration);
  assert.equal(site.reservations('cbr0'), []);
});

test('another IPAM plugin finds the interface in place; the interface is removed if the plugin gives no address', () => {
  const site = sites().make();
  const pod = site.addPod();
  const file = join(site.folder, 'calls');
  const plugin = (name: string, answer: string) => {
    const lines = [
      '#!/bin/sh',
      'cat > /dev/null',
      `nsenter --net="$CNI_NETNS" ip link show "$CNI_IFNAME" > /dev/null && echo "$CNI_COMMAND with" >> ${file}`,
      `nsenter --net="$CNI_NETNS" ip link show "$CNI_IFNAME" > /dev/null 2>&1 || echo "$CNI_COMMAND without" >> ${file}`,
      answer,
    ];
    writeFileSync(join(site.folder, name), lines.join('\n'), { mode: 0o755 });
  };
  const environment = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' };
  const options = { path: site.folder, environment };
  const calls = () => readFileSync(file, 'utf8').trim().split('\n');
  plugin('looking', `echo '{"cniVersion":"1.0.0","ips":[{"address":"10.7.0.9/24","gateway":"10.7.0.1"}]}'`);
  const configuration = { ...site.bridge(gateway), ipam: { type: 'looking' } };
  site.add(pod, configuration, options);
  assert.equal(calls(), ['ADD with']);
  assert.equal(site.podLink(pod).addresses, ['10.7.0.9/24']);
  assert.equal(site.link('br0').addresses, ['10.7.0.1/24']);
  site.delete(pod, configuration, options);
  assert.equal(calls(), ['ADD with', 'DEL without']);
  // One whose answer cannot be done is called off, when the link is gone.
  plugin(
    'wrong',
    `echo '{"cniVersion":"1.0.0","ips":[{"address":"10.7.0.9/24"}],"routes":[{"dst":"10.8.0.0/16","gw":"192.0.2.1"}]}'`,
  );
  const wrong = { ...site.bridge(gateway), ipam: { type: 'wrong' } };
  site.refuses(() => site.weft('ADD', pod, wrong, options), own, /10\.8\.0\.0/);
  assert.equal(calls().slice(2), ['ADD with', 'DEL without']);
});

run();
