/**
 * Masquerading and the check of MACs: rules that appear with ADD and go with DEL.
 * @guest
 */

import { createHash } from 'node:crypto';
import { symlinkSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import type { PodSpace } from '../lab/bare-host.ts';
import { execute, findProgram, run as runProgram } from '../lab/commands.ts';
import { bothFolders } from '../lab/plugin.ts';
import { referenceFolder } from '../lab/project.ts';
import { fails, own, succeeds } from '../support/cni.ts';
import { fixture } from '../support/fixture.ts';
import { hasCheck } from '../support/versions.ts';
import { conformance } from './rows.ts';
import { type Site, Sites } from './site.ts';

const { before, after, row, test, run } = conformance('filters');
const sites = fixture(
  { before, after },
  () => new Sites('filters'),
  (made) => made.remove(),
);

const v4 = { subnet: '10.1.2.0/24' };
const dual = { ranges: [[v4], [{ subnet: 'fd00:1::/64' }]] };
const sha512 = (text: string): string => createHash('sha512').update(text).digest('hex');
const iptablesChain = (network: string, id: string): string => `CNI-${sha512(network + id)}`.slice(0, 28);

const nft = (site: Site, ...words: string[]): string => {
  const { status, stdout } = execute(['nft', ...words], { namespace: site.namespace });
  return status === 0 ? stdout : '';
};
/** The rules of a chain, without their counters. */
const rulesOf = (site: Site, ...chain: string[]): string[] =>
  nft(site, 'list', 'chain', ...chain)
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => / comment "|^(ip6?|goto|jump) /.test(line));
const masqueraded = (site: Site): string[] => rulesOf(site, 'inet', 'cni_plugins_masquerade', 'masq_checks');
const iptables = (site: Site, program = 'iptables'): string[] =>
  runProgram([program, '-t', 'nat', '-S'], { namespace: site.namespace })
    .split('\n')
    .filter((line) => /CNI-/.test(line));

function comment(id: string, network = 'net', ifname = 'eth0'): string {
  const mark = `${sha512(network).slice(0, 16)}-${sha512(`${ifname}:${id}`).slice(0, 16)}`;
  return `${mark}, net: ${network}, if: ${ifname}, id: ${id}`;
}

/** A site with a pod attached by these keys. */
function attached(keys: Record<string, unknown>, ipam: Record<string, unknown> = v4) {
  const site = sites().make();
  const pod = site.addPod();
  const configuration = site.bridge({ isDefaultGateway: true, ...keys }, ipam);
  return { site, pod, configuration, result: site.add(pod, configuration) };
}

row(91, () => {
  const { site, pod, configuration, result } = attached({ ipMasq: true }, dual);
  assert.equal(masqueraded(site), [
    `ip saddr 10.1.2.2 ip daddr != 10.1.2.0/24 masquerade comment "${comment(pod.id)}"`,
    `ip6 saddr fd00:1::2 ip6 daddr != fd00:1::/64 masquerade comment "${comment(pod.id)}"`,
  ]);
  if (hasCheck()) succeeds(site.check(pod, configuration, result));
  nft(site, 'flush', 'chain', 'inet', 'cni_plugins_masquerade', 'masq_checks');
  if (hasCheck()) fails(site.check(pod, configuration, result), own, /masquerade/);
  site.delete(pod, configuration);
  site.add(pod, configuration);
  const other = site.addPod();
  site.add(other, configuration);
  assert.is(masqueraded(site).length, 4);
  site.delete(pod, configuration);
  assert.ok(masqueraded(site).every((line) => line.includes(`id: ${other.id}`)));
  site.delete(other, configuration);
  assert.equal(masqueraded(site), []);
  site.refuses(() => site.weft('ADD', pod, { ...configuration, ipMasqBackend: 'magic' }), 7, /magic/);
});

row(92, () => {
  const { site, pod, configuration, result } = attached({ macspoofchk: true });
  assert.is(rulesOf(site, 'bridge', 'nat', 'PREROUTING').length, 1);
  assert.ok(site.pings(pod.namespace, '10.1.2.1'));
  if (hasCheck()) succeeds(site.check(pod, configuration, result));
  site.podIp(pod, 'link', 'set', 'eth0', 'address', '02:00:00:00:00:99');
  assert.not(site.pings(pod.namespace, '10.1.2.1'), 'another MAC is not let through');
  site.delete(pod, configuration);
  assert.not.match(nft(site, 'list', 'ruleset'), /macspoofchk|cni-br-iface/);
  site.delete(pod, configuration);
});

row(111, () => {
  const { site, pod, configuration } = attached({ ipMasq: true, ipMasqBackend: 'iptables' }, dual);
  const chain = iptablesChain('net', pod.id);
  const jumps = (program: string) => iptables(site, program).filter((line) => line.startsWith('-A POSTROUTING'));
  assert.match(jumps('iptables').join(), new RegExp(`-s 10\\.1\\.2\\.2/32 .*-j ${chain}`));
  assert.match(jumps('ip6tables').join(), new RegExp(`-s fd00:1::2/128 .*-j ${chain}`));
  site.delete(pod, configuration);
  for (const program of ['iptables', 'ip6tables']) assert.equal(iptables(site, program), []);

  const byNft = attached({ ipMasq: true, ipMasqBackend: 'nftables' });
  assert.match(masqueraded(byNft.site).join(), new RegExp(`id: ${byNft.pod.id}"`));
  assert.equal(rulesOf(byNft.site, 'inet', 'cni_plugins_masquerade', 'postrouting'), [
    'ip daddr 224.0.0.0/4 return',
    'ip6 daddr ff00::/8 return',
    'goto masq_checks',
  ]);
});

row(112, () => {
  const { site, pod, configuration } = attached({ ipMasq: true, ipMasqBackend: 'iptables' });
  const chain = iptablesChain('net', pod.id);
  assert.is(chain.length, 28);
  const rules = iptables(site).filter((line) => line.startsWith(`-A ${chain}`));
  assert.match(rules[0]!, /-d 10\.1\.2\.0\/24 .*-j ACCEPT$/);
  assert.match(rules[1]!, /! -d 224\.0\.0\.0\/4 .*-j MASQUERADE$/);
  // Whichever is configured when it goes.
  site.delete(pod, { ...configuration, ipMasqBackend: 'nftables' }, { netns: '' });
  assert.equal(iptables(site), []);
  site.add(pod, { ...configuration, ipMasqBackend: 'nftables' });
  site.delete(pod, configuration, { netns: undefined });
  assert.equal(masqueraded(site), []);
});

row(113, () => {
  const { site, pod, result } = attached({ macspoofchk: true });
  const [, hostVeth, container] = result.interfaces!;
  const [chain, tag] = [`cni-br-iface-${pod.id}-eth0`, `comment "macspoofchk-${pod.id}-eth0"`];
  const table = nft(site, 'list', 'table', 'bridge', 'nat');
  assert.match(table, /chain PREROUTING \{\s+type filter hook prerouting priority (-300|raw|dstnat); policy accept;/);
  assert.equal(rulesOf(site, 'bridge', 'nat', 'PREROUTING'), [`iifname "${hostVeth!.name}" jump ${chain} ${tag}`]);
  assert.equal(rulesOf(site, 'bridge', 'nat', chain), [`jump ${chain}-mac ${tag}`]);
  assert.equal(rulesOf(site, 'bridge', 'nat', `${chain}-mac`), [
    `ether saddr ${container!.mac} return ${tag}`,
    `drop ${tag}`,
  ]);
});

test('a machine that knows only the host answers a masqueraded pod, and no other pod', () => {
  const site = sites().make();
  const outside = site.scratch.addNamespace('outside');
  site.ip('link', 'add', 'uplink', 'type', 'veth', 'peer', 'name', 'uplink', 'netns', outside);
  site.ip('addr', 'add', '192.0.2.1/24', 'dev', 'uplink');
  site.ip('link', 'set', 'uplink', 'up');
  for (const words of ['addr add 192.0.2.2/24 dev uplink', 'link set uplink up']) {
    runProgram(['ip', '-n', outside, ...words.split(' ')]);
  }
  for (const [keys, answers] of [
    [{ ipMasq: true }, true],
    [{ ipMasq: true, ipMasqBackend: 'iptables' }, true],
    [{}, false],
  ] as const) {
    const pod = site.addPod();
    const configuration = site.bridge({ isDefaultGateway: true, ...keys });
    site.add(pod, configuration);
    assert.is(site.pings(pod.namespace, '192.0.2.2'), answers, JSON.stringify(keys));
    site.delete(pod, configuration);
  }
});

test('DEL without a namespace removes the packet-filter rules', () => {
  for (const netns of ['', undefined]) {
    const { site, pod, configuration } = attached({ ipMasq: true, macspoofchk: true });
    site.delete(pod, configuration, { netns });
    assert.not.match(nft(site, 'list', 'ruleset'), /saddr/);
  }
});

test('GC removes the rules of vanished attachments of this network, and no others', () => {
  const { site, pod, configuration } = attached({ cniVersion: '1.1.0', ipMasq: true, macspoofchk: true });
  const [kept, elsewhere] = site.addPods(2) as [typeof pod, typeof pod];
  site.add(kept, configuration);
  const other = {
    ...configuration,
    name: 'other',
    ipam: site.ipam({ subnet: '10.1.2.0/24', rangeStart: '10.1.2.99' }),
  };
  site.add(elsewhere, other);
  const valid = { 'cni.dev/valid-attachments': [{ containerID: kept.id, ifname: 'eth0' }] };
  succeeds(site.call('weft', { command: 'GC', stdin: { ...configuration, ...valid } }));
  const text = nft(site, 'list', 'ruleset');
  assert.not.match(text, new RegExp(`${pod.id}(-eth0)?"`));
  for (const { id } of [kept, elsewhere]) {
    assert.match(text, new RegExp(`id: ${id}"`));
    assert.match(text, new RegExp(`macspoofchk-${id}-eth0"`));
  }
  succeeds(site.call('weft', { command: 'GC', stdin: configuration }));
  succeeds(site.call('weft', { command: 'GC', stdin: other }));
  assert.not.match(nft(site, 'list', 'ruleset'), /saddr|cni-br-iface/);
});

for (const variant of ['nft', 'legacy']) {
  test(`GC and DEL remove the rules that iptables-${variant} made for vanished attachments of this network, and no others`, () => {
    const site = sites().make();
    const folder = site.scratch.makeFolder(`iptables-${variant}`);
    for (const program of ['iptables', 'ip6tables']) {
      for (const verb of ['', '-restore', '-save']) {
        symlinkSync(findProgram(`${program}-${variant}${verb}`), join(folder, `${program}${verb}`));
      }
    }
    const environment = { PATH: folder };
    const list = (program: string): string =>
      runProgram([join(folder, program), '-t', 'nat', '-S'], { namespace: site.namespace });
    const keys = { cniVersion: '1.1.0', isDefaultGateway: true, ipMasq: true, ipMasqBackend: 'iptables' };
    const configuration = site.bridge(keys, dual);
    const [gone, kept, elsewhere, foreign] = site.addPods(4) as [PodSpace, PodSpace, PodSpace, PodSpace];
    site.add(gone, configuration, { environment });
    site.add(kept, configuration, { environment });
    const ranges = [[{ ...v4, rangeStart: '10.1.2.99' }], [{ subnet: 'fd00:1::/64', rangeStart: 'fd00:1::99' }]];
    const other = { ...configuration, name: 'other', ipam: site.ipam({ ranges }) };
    site.add(elsewhere, other, { environment });
    // Somebody's rule with such a comment, and another chain.
    const words = ['-m', 'comment', '--comment', `name: "net" id: "${foreign.id}"`];
    for (const rule of [
      ['-N', 'CNI-foreign'],
      ['-A', 'POSTROUTING', '-s', '192.0.2.1', ...words, '-j', 'CNI-foreign'],
    ]) {
      runProgram([join(folder, 'iptables'), '-t', 'nat', ...rule], { namespace: site.namespace });
    }
    const collect = (stdin: Record<string, unknown>): void => {
      succeeds(site.call('weft', { command: 'GC', environment, stdin }));
    };
    const chains = (program: string): string[] =>
      [...list(program).matchAll(/^-N (CNI-\S+)$/gm)].map(([, name]) => name!).sort();
    const made = (...pods: readonly (readonly [string, PodSpace])[]): string[] =>
      pods.map(([network, { id }]) => iptablesChain(network, id)).sort();
    for (const program of ['iptables', 'ip6tables']) {
      const extra = program === 'iptables' ? ['CNI-foreign'] : [];
      assert.equal(chains(program), [...made(['net', gone], ['net', kept], ['other', elsewhere]), ...extra].sort());
    }
    collect({ ...configuration, 'cni.dev/valid-attachments': [{ containerID: kept.id, ifname: 'eth0' }] });
    for (const program of ['iptables', 'ip6tables']) {
      const extra = program === 'iptables' ? ['CNI-foreign'] : [];
      assert.equal(chains(program), [...made(['net', kept], ['other', elsewhere]), ...extra].sort());
      assert.not.match(list(program), new RegExp(`id: \\\\"${gone.id}\\\\"`));
      for (const { id } of [kept, elsewhere]) assert.match(list(program), new RegExp(`-s .* id: \\\\"${id}\\\\"`));
    }
    site.delete(kept, configuration, { environment, netns: '' });
    collect(other);
    assert.equal([chains('iptables'), chains('ip6tables')], [['CNI-foreign'], []]);
    assert.match(list('iptables'), /-s 192\.0\.2\.1\/32 /);
  });
}

test('GC starts no program for a network that does not masquerade', () => {
  const site = sites().make();
  for (const program of ['iptables', 'ip6tables']) {
    runProgram([`${program}-legacy`, '-t', 'nat', '-S'], { namespace: site.namespace });
  }
  const environment = { PATH: '/nonexistent' };
  const configuration = site.bridge({ cniVersion: '1.1.0' });
  succeeds(site.call('weft', { command: 'GC', environment, stdin: configuration }));
  fails(site.call('weft', { command: 'GC', environment, stdin: { ...configuration, ipMasq: true } }), 112, /iptables/);
});

test('packets to containers on other hosts of the overlay are not masqueraded', () => {
  const site = sites().make();
  site.writeNodeFile();
  site.add(site.addPod(), site.overlay({ ipMasq: true }));
  assert.match(masqueraded(site).join(), /ip saddr 10\.96\.7\.2 ip daddr != 10\.96\.0\.0\/16 masquerade/);
});

test('a failure after the rules are set removes the rules, and a refusal by iptables leaves nothing', () => {
  const site = sites().make();
  const [first, pod] = site.addPods(2) as [Site['pods'][0], Site['pods'][0]];
  const configuration = site.bridge({ ipMasq: true, ipMasqBackend: 'iptables', macspoofchk: true });
  site.add(first, site.bridge());
  const document = site.refuses(
    () => site.weft('ADD', pod, configuration, { environment: { PATH: '/nonexistent' } }),
    50,
    /iptables-restore/,
  );
  assert.match(document.msg!, /ipMasqBackend/);
  assert.not.match(nft(site, 'list', 'ruleset'), /cni-br-iface/);
});

test("DEL removes what the reference's bridge plugin has set up", () => {
  const site = sites().make();
  const pod = site.addPod();
  const keys = { ipMasq: true, macspoofchk: true, isDefaultGateway: true, type: 'bridge' };
  const ipam = { type: 'host-local', dataDir: site.dataDir, ...v4 };
  const configuration = { ...site.bridge(keys), ipam };
  const environment = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' };
  const bridge = { executable: `${referenceFolder}/bridge`, path: bothFolders, environment };
  const result = site.add(pod, configuration, bridge);
  assert.ok(iptables(site).length > 0);
  site.delete(pod, { ...configuration, type: 'weft', ipam: { ...ipam, type: 'weft-ipam' }, prevResult: result });
  assert.equal(iptables(site), []);
  assert.not.match(nft(site, 'list', 'ruleset'), /macspoofchk|cni-br-iface/);
  assert.equal(site.reservations(), []);
});

run();
