/**
 * weftd's rules among those of others: iptables of both kinds, and tables such as firewalld's, each with its real
 * command. Packets say whether they serve. As root.
 */

import { spawn } from 'node:child_process';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { ForwardOutcome } from '../../daemon/filter/foreign-forward.ts';
import { tableName } from '../../daemon/filter/packet-filter.ts';
import type { Roads } from '../../daemon/filter/packet-walk.ts';
import { sys } from '../../linux/sys-bun.ts';
import { parsePrefix } from '../../net/prefix.ts';
import { run } from '../lab/commands.ts';
import { FilterHost, filterSettings as settings } from '../lab/filter-host.ts';
import { openRules, type Rules } from '../lab/filter-rules.ts';
import { insideNamespace } from '../lab/namespaces.ts';
import { Scratch } from '../lab/scratch.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('forward');
const roads: Roads = { peers: ['flannel.1'], external: 'eth0', containers: ['cni0'] };

class Bench {
  readonly scratch = new Scratch('forward');
  readonly host = new FilterHost(this.scratch);
  readonly log: string[] = [];
  nowMs = 0;
  readonly rules: Rules = this.open('weft');

  open(name: string, port = sys): Rules {
    const logger = { debug() {}, info: (line: string) => void this.log.push(line), warn() {}, error() {} };
    return openRules(port, logger, { name, now: () => this.nowMs, roads: () => roads, addresses: () => [] });
  }

  /** What a look mended, by place; and what it could not. */
  look(rules = this.rules, wanted = settings): Record<string, string> {
    this.nowMs += 5000;
    const { forward } = insideNamespace(this.host.namespace, () => rules.ensure(wanted));
    const told = ({ place, mended, problem }: ForwardOutcome): [string, string][] =>
      (mended ?? problem) === undefined ? [] : [[place, (mended ?? problem)!]];
    return Object.fromEntries(forward.flatMap(told));
  }

  leave(rules = this.rules): void {
    insideNamespace(this.host.namespace, () => rules.remove());
    rules.close();
  }

  /** All of the packet filter but weftd's own table. */
  clear(): void {
    this.leave();
    this.host.run('nft', 'flush', 'ruleset');
  }
}

const bench = fixture(
  test,
  async () => {
    const made = new Bench();
    await made.host.whenForwarding();
    return made;
  },
  (made) => made.scratch.remove(),
);

const iptables = (family: 4 | 6, ...words: string[]): string =>
  bench().host.run(family === 4 ? 'iptables-nft' : 'ip6tables-nft', ...words);
const listed = (family: 4 | 6): string[] => iptables(family, '-S').trim().split('\n');

const weft4 = ['-A WEFT-FORWARD -s 10.5.0.0/16 -j ACCEPT', '-A WEFT-FORWARD -d 10.5.0.0/16 -j ACCEPT'];
const forwardRules = (): string[] => listed(4).filter((line) => line.startsWith('-A FORWARD'));

test('on a host without other rules, weftd adds no forward rules', () => {
  assert.equal(bench().look(), {});
  assert.is(bench().host.run('nft', 'list', 'tables').trim(), 'table inet weft');
  assert.is(bench().host.forwards(), '46');
});

test("with iptables' FORWARD at DROP, weftd adds rules that iptables lists, and packets pass", () => {
  const { host } = bench();
  for (const family of [4, 6] as const) iptables(family, '-P', 'FORWARD', 'DROP');
  assert.is(host.forwards(), '');
  assert.equal(bench().look(), {
    'ip filter FORWARD': 'the policy of "ip filter FORWARD" is drop',
    'ip6 filter FORWARD': 'the policy of "ip6 filter FORWARD" is drop',
  });
  assert.is(host.forwards(), '46');
  assert.equal(listed(4), [
    '-P INPUT ACCEPT',
    '-P FORWARD DROP',
    '-P OUTPUT ACCEPT',
    '-N WEFT-FORWARD',
    '-A FORWARD -j WEFT-FORWARD',
    ...weft4,
  ]);
  assert.ok(listed(6).includes('-A WEFT-FORWARD -d fd00:5::/50 -j ACCEPT'));
  assert.equal(bench().look(), {});
});

test("iptables can save, restore, check and delete weftd's rules", () => {
  const { host } = bench();
  const saved = host.run('iptables-nft-save');
  assert.not.match(saved, /incompatible/);
  run(['iptables-nft-restore', '--test'], { namespace: host.namespace, stdin: saved });
  iptables(4, '-C', 'FORWARD', '-j', 'WEFT-FORWARD');
  iptables(4, '-C', 'WEFT-FORWARD', '-s', '10.5.0.0/16', '-j', 'ACCEPT');
  // What iptables makes of its own listing is what weftd made: there is nothing to mend.
  run(['iptables-nft-restore'], { namespace: host.namespace, stdin: saved });
  assert.equal(bench().look(), {});
  iptables(4, '-D', 'WEFT-FORWARD', '-s', '10.5.0.0/16', '-j', 'ACCEPT');
  iptables(4, '-A', 'WEFT-FORWARD', '-s', '10.5.0.0/16', '-j', 'ACCEPT');
  assert.equal(bench().look(), { 'ip filter FORWARD': 'they were changed' });
});

test("every change to weftd's rules is undone", () => {
  const before = listed(4);
  const harms = [
    '-F FORWARD',
    '-F WEFT-FORWARD',
    '-F',
    '-A FORWARD -j WEFT-FORWARD',
    '-I WEFT-FORWARD -j DROP',
    '-D WEFT-FORWARD 2',
    '-E WEFT-FORWARD WEFT-BACKWARD',
  ];
  for (const harm of harms) {
    iptables(4, ...harm.split(' '));
    assert.ok('ip filter FORWARD' in bench().look(), harm);
    if (harm.startsWith('-E')) continue;
    assert.equal(listed(4), before, harm);
  }
  iptables(4, '-F', 'WEFT-BACKWARD');
  iptables(4, '-D', 'FORWARD', '-j', 'WEFT-BACKWARD');
  iptables(4, '-X', 'WEFT-BACKWARD');
  assert.equal(bench().look(), {});
  assert.equal(listed(4), before);
});

test("weftd's rules move before a rule that drops the cluster's packets; a rule about particular packets stays first", () => {
  const { host } = bench();
  for (const drop of [
    '-j DROP',
    '-j REJECT',
    '-s 10.0.0.0/8 -j DROP',
    '-i flannel.1 -j DROP',
    '! -i docker0 -o cni0 -j DROP',
    '-m conntrack --ctstate NEW -m comment --comment closed -j DROP',
    '! -s 192.0.2.0/24 -j REJECT --reject-with icmp-host-prohibited',
  ]) {
    iptables(4, '-I', 'FORWARD', ...drop.split(' '));
    assert.ok('ip filter FORWARD' in bench().look(), drop);
    assert.is(forwardRules()[0], '-A FORWARD -j WEFT-FORWARD', drop);
    assert.is(host.forwards(), '46', drop);
    iptables(4, '-D', 'FORWARD', ...drop.split(' '));
    assert.equal(bench().look(), {}, drop);
  }
  for (const particular of [
    '-s 10.5.7.7 -j DROP',
    '-p tcp --dport 25 -j REJECT',
    '-m conntrack --ctstate INVALID -j DROP',
    '-i eth7 -j DROP',
    '-s 192.0.2.0/24 -j DROP',
    '-m mark --mark 1 -j DROP',
  ]) {
    iptables(4, '-I', 'FORWARD', ...particular.split(' '));
    assert.equal(bench().look(), {}, particular);
    assert.is(host.forwards(), '46', particular);
    iptables(4, '-D', 'FORWARD', ...particular.split(' '));
  }
});

test("jumps to chains of others, such as Docker's and a network policy's, stay first unless those drop the cluster's packets", () => {
  const { host } = bench();
  for (const words of [
    '-N DOCKER-USER',
    '-A DOCKER-USER -j RETURN',
    '-N DOCKER',
    '-A DOCKER ! -i docker0 -o docker0 -j DROP',
    '-N cali-FORWARD',
    '-A cali-FORWARD -i cali+ -j DROP',
    '-I FORWARD -o docker0 -j DOCKER',
    '-I FORWARD -j DOCKER-USER',
    '-I FORWARD -j cali-FORWARD',
  ]) {
    iptables(4, ...words.split(' '));
  }
  assert.equal(bench().look(), {});
  assert.is(forwardRules().length, 4);
  assert.is(host.forwards(), '46');
  // What such a chain does to all of the cluster's packets counts as if it stood there.
  iptables(4, '-A', 'cali-FORWARD', '-j', 'DROP');
  assert.is(host.forwards(), '6');
  assert.equal(bench().look(), { 'ip filter FORWARD': 'rule 1 of "ip filter FORWARD" drops the cluster\'s packets' });
  assert.is(forwardRules()[0], '-A FORWARD -j WEFT-FORWARD');
  assert.is(host.forwards(), '46');
});

test('each of two networks on a host has a chain of its own', () => {
  const other = bench().open(tableName('/blue/network'));
  const theirs = {
    ...settings,
    networks: { 4: parsePrefix('10.6.0.0/16')! },
    subnets: [{ 4: parsePrefix('10.6.1.0/24')! }],
  };
  assert.ok('ip filter FORWARD' in bench().look(other, theirs));
  assert.equal([bench().look(), bench().look(other, theirs)], [{}, {}]);
  assert.is(listed(4).filter((line) => line.startsWith('-N WEFT-FORWARD')).length, 2);
  bench().leave(other);
  assert.is(listed(4).filter((line) => line.startsWith('-N WEFT-FORWARD')).length, 1);
});

test('--iptables-forward-rules=false removes the rules, and so does --leave', () => {
  const off = { ...settings, forward: false };
  bench().look(bench().rules, off);
  assert.not.match(listed(4).join(), /WEFT/);
  assert.ok('ip filter FORWARD' in bench().look());
  bench().leave();
  assert.not.match(bench().host.run('nft', 'list', 'ruleset'), /weft/i);
  bench().clear();
});

test('weftd opens an nft firewall that rejects unknown packets', () => {
  const { host } = bench();
  // As firewalld makes it.
  run(['nft', '-f', '-'], {
    namespace: host.namespace,
    stdin: `table inet firewalld {
      chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname "lo" accept
        ct state invalid drop
        ip6 daddr { ::/96, ::ffff:0.0.0.0/96 } reject with icmpv6 addr-unreachable
        jump filter_FORWARD_ZONES
        ct state invalid drop
        reject with icmpx admin-prohibited
      }
      chain filter_FORWARD_ZONES {
        iifname "eth0" goto filter_FWD_public
        goto filter_FWD_public
      }
      chain filter_FWD_public {
        meta l4proto { icmp, ipv6-icmp } return
      }
    }`,
  });
  assert.is(host.forwards(), '');
  assert.equal(bench().look(), {
    'inet firewalld filter_FORWARD': 'rule 8 of "inet firewalld filter_FORWARD" drops the cluster\'s packets',
  });
  assert.is(host.forwards(), '46');
  const shown = host.run('nft', 'list', 'chain', 'inet', 'firewalld', 'filter_FORWARD');
  assert.match(shown, /ip saddr 10\.5\.0\.0\/16 accept comment "weft forward"/);
  assert.match(shown, /ip6 daddr fd00:5::\/50 accept comment "weft forward"/);
  assert.equal(bench().look(), {});
  // A reload of the firewall makes it anew.
  host.run('nft', 'insert', 'rule', 'inet', 'firewalld', 'filter_FORWARD', 'drop');
  assert.ok('inet firewalld filter_FORWARD' in bench().look());
  assert.is(host.forwards(), '46');
  bench().clear();
});

test('weftd opens a chain with policy drop in any other table', () => {
  const { host } = bench();
  host.run('nft', 'add', 'table', 'ip', 'mine');
  host.run('nft', 'add', 'chain', 'ip', 'mine', 'pass', '{ type filter hook forward priority -5; policy drop; }');
  assert.is(host.forwards(), '6');
  assert.equal(bench().look(), { 'ip mine pass': 'the policy of "ip mine pass" is drop' });
  assert.is(host.forwards(), '46');
  bench().clear();
});

test('a chain that weftd cannot open is reported, and does not stop the work on others', () => {
  const { host } = bench();
  for (const family of [4, 6] as const) iptables(family, '-P', 'FORWARD', 'DROP');
  // The name is taken by a chain that nothing can jump to.
  const hooked = '{ type filter hook forward priority 10; policy accept; }';
  host.run('nft', 'add', 'chain', 'ip', 'filter', 'WEFT-FORWARD', hooked);
  const outcomes = bench().look();
  assert.match(
    outcomes['ip filter FORWARD'] ?? '',
    /^Cannot accept the cluster's packets in "ip filter FORWARD", which may drop them: Cannot .*EOPNOTSUPP/,
  );
  assert.is(outcomes['ip6 filter FORWARD'], 'the policy of "ip6 filter FORWARD" is drop');
  assert.is(host.forwards(), '6');
  host.run('nft', 'delete', 'chain', 'ip', 'filter', 'WEFT-FORWARD');
  assert.equal(bench().look(), { 'ip filter FORWARD': 'the policy of "ip filter FORWARD" is drop' });
  assert.is(host.forwards(), '46');
  bench().clear();
});

test('the problem about a table that only its owner may change names the way out', async () => {
  const { host } = bench();
  const nft = spawn('nsenter', [`--net=/run/netns/${host.namespace}`, 'nft', '-i'], {
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  try {
    nft.stdin.write('add table inet firewalld { flags owner; }\n');
    nft.stdin.write('add chain inet firewalld pass { type filter hook forward priority 10; policy drop; }\n');
    const list = (): string => host.run('nft', 'list', 'ruleset');
    await waitFor('the table', () => /chain pass[^}]*policy drop/.test(list()));
    const outcome = bench().look()['inet firewalld pass'];
    assert.match(outcome ?? '', /drops the cluster's packets, and weftd cannot add to it/);
    assert.match(
      outcome ?? '',
      /--zone=trusted --add-source=10\.5\.0\.0\/16 --add-source=fd00:5::\/50 && firewall-cmd/,
    );
  } finally {
    nft.stdin.end();
    await new Promise((resolve) => nft.once('exit', resolve));
  }
  await waitFor('the table to go with its owner', () => Object.keys(bench().look()).length === 0);
  bench().clear();
});

test('weftd opens the FORWARD chain of legacy iptables', () => {
  const { host } = bench();
  for (const command of ['iptables-legacy', 'ip6tables-legacy']) host.run(command, '-P', 'FORWARD', 'DROP');
  assert.is(host.forwards(), '');
  assert.equal(Object.values(bench().look()), ['its policy is drop', 'its policy is drop']);
  assert.is(host.forwards(), '46');
  const legacy = (): string[] => host.run('iptables-legacy', '-S').trim().split('\n');
  const before = legacy();
  assert.equal(before.slice(3), ['-N WEFT-FORWARD', '-A FORWARD -j WEFT-FORWARD', ...weft4]);
  assert.equal(bench().look(), {});
  for (const harm of [
    '-F',
    '-F WEFT-FORWARD',
    '-D FORWARD 1',
    '-A FORWARD -j WEFT-FORWARD',
    '-I WEFT-FORWARD -j DROP',
  ]) {
    host.run('iptables-legacy', ...harm.split(' '));
    assert.ok('legacy iptables filter FORWARD' in bench().look(), harm);
    assert.equal(legacy(), before, harm);
  }
  const particular = ['-p', 'tcp', '--dport', '25', '-m', 'comment', '--comment', 'no "mail" here', '-j', 'DROP'];
  host.run('iptables-legacy', '-I', 'FORWARD', ...particular);
  assert.equal(bench().look(), {});
  host.run('iptables-legacy', '-I', 'FORWARD', '-s', '10.0.0.0/8', '-j', 'REJECT');
  assert.equal(bench().look(), { 'legacy iptables filter FORWARD': "rule 1 of it drops the cluster's packets" });
  assert.is(host.forwards(), '46');
  bench().leave();
  assert.not.match(host.run('iptables-legacy', '-S'), /WEFT/);
  assert.is(host.forwards(), '');
});

test('a legacy iptables that hangs is killed, reported and tried less often, and weftd recovers once it works', () => {
  const { host } = bench();
  for (const command of ['iptables-legacy', 'ip6tables-legacy']) {
    host.run(command, '-P', 'FORWARD', 'DROP');
    host.run(command, '-F');
  }
  let hangs = true;
  let runs = 0;
  const other = bench().open('weft', {
    ...sys,
    spawn: (path, argv, ...rest) => {
      runs++;
      return hangs ? sys.spawn('/bin/sleep', ['sleep', '60'], ...rest) : sys.spawn(path, argv, ...rest);
    },
  });
  const startMs = performance.now();
  const problems = bench().look(other);
  assert.ok(performance.now() - startMs < 30_000);
  assert.match(
    problems['legacy iptables filter FORWARD'] ?? '',
    /^Cannot run ".*iptables-legacy -S": ETIMEDOUT \(it did not end within 2 s, and was killed\); the cluster's/,
  );
  assert.match(problems['legacy ip6tables filter FORWARD'] ?? '', /^Cannot run ".*ip6tables-legacy -S": ETIMEDOUT/);
  bench().look(other);
  bench().look(other);
  assert.is(runs, 4);
  hangs = false;
  bench().nowMs += 60_000;
  assert.equal(Object.values(bench().look(other)), ['its policy is drop', 'its policy is drop']);
  assert.is(host.forwards(), '46');
  assert.equal(bench().look(other), {});
  bench().leave(other);
});

test('weftd gives in to a program that undoes its rules again and again, and names the place', () => {
  const { host } = bench();
  for (const command of ['iptables-legacy', 'ip6tables-legacy']) {
    host.run(command, '-P', 'FORWARD', 'ACCEPT');
    host.run(command, '-F');
  }
  host.run('nft', 'add', 'table', 'ip', 'mine');
  host.run('nft', 'add', 'chain', 'ip', 'mine', 'pass', '{ type filter hook forward priority -5; policy drop; }');
  const look = () => {
    bench().nowMs += 20;
    return insideNamespace(host.namespace, () => bench().rules.ensure(settings));
  };
  let repairs = 0;
  for (; repairs < 100; repairs++) {
    const { forward, againMs } = look();
    if (forward[0]?.problem !== undefined) {
      assert.match(forward[0].problem, /Another program keeps undoing weftd's rules in "ip mine pass"/);
      assert.ok(againMs > 0 && againMs <= 1000);
      break;
    }
    host.run('nft', 'flush', 'chain', 'ip', 'mine', 'pass');
  }
  assert.ok(repairs > 20 && repairs < 50, String(repairs));
  bench().nowMs += 2000;
  assert.ok(look().forward[0]?.mended);
  bench().clear();
});

test.run();
