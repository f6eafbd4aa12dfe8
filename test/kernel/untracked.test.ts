/**
 * The tunnel's packets and connection tracking: this machine's kernel, and other programs' rules made by their real commands.
 * As root.
 * @guest
 */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { TunnelSample } from '../../daemon/filter/state-judge.ts';
import { untrackedContent, untrackedPart } from '../../daemon/filter/untracked.ts';
import { sys } from '../../linux/sys-bun.ts';
import { parsePrefix } from '../../net/prefix.ts';
import { run } from '../lab/commands.ts';
import { openRules, type RuleSettings, type Rules } from '../lab/filter-rules.ts';
import { addCable, insideNamespace as inside, ipBatch } from '../lab/namespaces.ts';
import { sendRaw } from '../lab/raw-packets.ts';
import { Scratch } from '../lab/scratch.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('untracked');

const header = { ipProtocol: 17, udpPort: 8472, vni: 1 } as const;
/** Masquerading makes the kernel track connections. */
const settings: RuleSettings = {
  networks: { 4: parsePrefix('10.1.0.0/16')!, 6: parsePrefix('fd00::/48')! },
  subnets: [{ 4: parsePrefix('10.1.1.0/24')!, 6: parsePrefix('fd00:0:0:1::/64')! }],
  ipMasq: true,
  randomPorts: true,
  forward: false,
  lock: undefined,
};
const content = untrackedContent({ outer: { 4: header, 6: header }, lifeMs: 600_000 });

class Bench {
  readonly scratch = new Scratch('untracked');
  readonly host = this.scratch.addNamespace('host');
  readonly other = this.scratch.addNamespace('other');
  readonly rules: Rules;
  nowMs = 0;

  constructor() {
    addCable({ namespace: this.host, device: 'eth0' }, { namespace: this.other, device: 'eth0' });
    const add = (addresses: string): string[] => [
      ...addresses.split(' ').map((address) => `addr add ${address} dev eth0 nodad`),
      'link set eth0 up',
    ];
    ipBatch(this.host, add('192.0.2.1/24 2001:db8::1/64'));
    ipBatch(this.other, add('192.0.2.2/24 2001:db8::2/64'));
    const mac = (namespace: string): string =>
      /link\/ether (\S+)/.exec(run(['ip', 'link', 'show', 'eth0'], { namespace }))![1]!;
    const known = (at: string, of: string, ...addresses: string[]): void =>
      ipBatch(
        at,
        addresses.map((address) => `neigh add ${address} lladdr ${mac(of)} dev eth0`),
      );
    known(this.other, this.host, '192.0.2.1', '2001:db8::1');
    known(this.host, this.other, '192.0.2.2', '2001:db8::2');
    ipBatch(this.other, ['route add 198.51.100.0/24 via 192.0.2.1']);
    ipBatch(this.host, ['route add 198.51.100.0/24 via 192.0.2.2']);
    run(['sysctl', '-qw', 'net.ipv4.ip_forward=1'], { namespace: this.host });
    const silent = { debug() {}, info() {}, warn() {}, error() {} };
    const roads = () => ({ peers: [], external: 'eth0', containers: [] });
    // Listings of the older tables serve for some seconds.
    const later = { ...sys, clock_gettime: (clock: number) => sys.clock_gettime(clock) + this.nowMs };
    this.rules = openRules(later, silent, { name: 'weft', now: () => this.nowMs, addresses: () => [], roads });
  }

  set(isUntracked: boolean): number {
    return inside(this.host, () => this.rules.ensure(settings, {}, isUntracked ? [content] : []).changes);
  }

  run(...argv: string[]): string {
    return run(argv, { namespace: this.host });
  }

  nft(stdin: string): void {
    run(['nft', '-f', '-'], { namespace: this.host, stdin });
  }

  judges(sample: Partial<TunnelSample> = {}): readonly string[] {
    this.nowMs += 20_000;
    const vxlan = { family: 4, protocol: 17, port: 8472, external: 'eth0' } as const;
    return inside(this.host, () => this.rules.stateJudges([{ ...vxlan, ...sample }]));
  }
}

const bench = fixture(
  test,
  () => new Bench(),
  ({ rules, scratch }) => {
    rules.close();
    scratch.remove();
  },
);

const hex = (value: number, digits = 4): string => value.toString(16).padStart(digits, '0');
let sourcePort = 20_000;
/** A VXLAN packet of a flow of its own. */
function vxlan(port = 8472): string {
  const body = `08000000${hex(1, 6)}00${'00'.repeat(60)}`;
  return `${hex(sourcePort++)}${hex(port)}${hex(body.length / 2 + 8)}0000${body}`;
}

/** How many connections the host tracks more than before. */
function tracks(packets: () => void): number {
  const count = (): number => Number(bench().run('sysctl', '-n', 'net.netfilter.nf_conntrack_count'));
  const before = count();
  packets();
  return count() - before;
}
const arrive =
  (to = '192.0.2.1', port?: number) =>
  (): void => {
    for (let i = 0; i < 5; i++)
      sendRaw(bench().other, to.includes(':') ? '2001:db8::2' : '192.0.2.2', to, 17, vxlan(port));
  };
const leave = (to: string) => (): void => {
  for (let i = 0; i < 5; i++) sendRaw(bench().host, to.includes(':') ? '2001:db8::1' : '192.0.2.1', to, 17, vxlan());
};

test('the tunnel’s packets take no places in the table of connections; others do', () => {
  assert.is(bench().set(false), 1);
  assert.is(tracks(arrive()), 5);
  assert.is(tracks(leave('192.0.2.2')), 5);
  assert.is(bench().set(true), 1);
  assert.is(bench().set(true), 0, 'the rules are read back as they were written');
  assert.is(tracks(arrive()), 0);
  assert.is(tracks(leave('192.0.2.2')), 0);
  assert.is(tracks(arrive('2001:db8::1')), 0);
  assert.is(tracks(leave('2001:db8::2')), 0);
  assert.is(tracks(arrive('192.0.2.1', 8473)), 5);
  // What the host forwards may be translated.
  assert.is(tracks(arrive('198.51.100.1')), 5);
  run(['nft', '-c', '-f', '-'], { namespace: bench().host, stdin: bench().run('nft', 'list', 'ruleset') });
});

test('what somebody changes in the rules is set right again', () => {
  bench().run('nft', 'flush', 'chain', 'inet', 'weft', 'untracked-in');
  assert.is(tracks(arrive()), 5);
  assert.is(bench().set(true), 1);
  assert.is(tracks(arrive()), 0);
  assert.is(bench().rules.counters(untrackedPart)!.packets, 0);
});

test('rules of iptables-services for new connections judge; those for the port alone do not', () => {
  const iptables = (words: string): string => bench().run('iptables-nft', ...words.split(' '));
  assert.equal(bench().judges(), []);
  iptables('-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT');
  iptables('-A INPUT -i lo -j ACCEPT');
  iptables('-A INPUT -p tcp -m state --state NEW -m tcp --dport 22 -j ACCEPT');
  iptables('-A INPUT -p udp -m state --state NEW -m udp --dport 8472 -j ACCEPT');
  iptables('-A INPUT -j REJECT --reject-with icmp-host-prohibited');
  assert.equal(bench().judges(), ['ip filter INPUT']);
  assert.equal(bench().judges({ family: 6 }), [], 'of IPv4 only');
  iptables('-R INPUT 4 -p udp -m udp --dport 8472 -j ACCEPT');
  assert.equal(bench().judges(), []);
  iptables('-D INPUT 4');
  assert.equal(bench().judges(), ['ip filter INPUT'], 'the port is in no rule: ssh’s rule makes it uncertain');
  assert.equal(bench().judges({ protocol: 4, port: undefined } as unknown as TunnelSample), ['ip filter INPUT']);
  bench().run('nft', 'flush', 'table', 'ip', 'filter');
  assert.equal(bench().judges(), []);
});

test('ufw’s chains do not judge with a rule for the port', () => {
  const rules = [
    '*filter',
    ':INPUT DROP [0:0]',
    ':OUTPUT ACCEPT [0:0]',
    ':ufw-before-input - [0:0]',
    ':ufw-user-input - [0:0]',
    ':ufw-track-output - [0:0]',
    '-A INPUT -j ufw-before-input',
    '-A OUTPUT -j ufw-track-output',
    '-A ufw-before-input -i lo -j ACCEPT',
    '-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
    '-A ufw-before-input -m conntrack --ctstate INVALID -j DROP',
    '-A ufw-before-input -j ufw-user-input',
    '-A ufw-track-output -p udp -m conntrack --ctstate NEW -j ACCEPT',
    '-A ufw-user-input -p udp -m udp --dport 8472 -j ACCEPT',
    'COMMIT',
    '',
  ];
  run(['iptables-nft-restore'], { namespace: bench().host, stdin: rules.join('\n') });
  assert.equal(bench().judges(), []);
  bench().run('iptables-nft', '-F', 'ufw-user-input');
  assert.equal(bench().judges(), ['ip filter INPUT'], 'its way out has a rule for new connections');
  bench().run('nft', 'delete', 'table', 'ip', 'filter');
});

test('firewalld’s table does not judge where its rule for the port takes untracked packets', () => {
  const table = (states: string): string => `
    table inet firewalld {
      chain filter_INPUT {
        type filter hook input priority 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname "lo" accept
        jump filter_INPUT_ZONES
        ct state { invalid } drop
        reject with icmpx type admin-prohibited
      }
      chain filter_INPUT_ZONES {
        iifname "eth0" goto filter_IN_public
      }
      chain filter_IN_public {
        jump filter_IN_public_allow
      }
      chain filter_IN_public_allow {
        tcp dport 22 ct state { new, untracked } accept
        udp dport { 8472, 51820 } ct state ${states} accept
      }
    }`;
  bench().nft(table('{ new, untracked }'));
  assert.equal(bench().judges(), []);
  bench().nft(`delete table inet firewalld\n${table('{ new }')}`);
  assert.equal(bench().judges(), ['inet firewalld filter_INPUT']);
  bench().nft('delete table inet firewalld');
});

test('a map of verdicts by the state judges only where weftd does not see the port accepted', () => {
  const table = (rule: string): string => `
    table inet guard {
      chain input {
        type filter hook input priority 0; policy drop;
        ct state vmap { established : accept, related : accept, invalid : drop }
        ${rule}
      }
    }`;
  bench().nft(table('udp dport 8472 accept'));
  assert.equal(bench().judges(), []);
  bench().nft(`delete table inet guard\n${table('udp dport 8000-9000 accept')}`);
  assert.equal(bench().judges(), ['inet guard input']);
  bench().nft('delete table inet guard');
});

test('the older iptables’ rules judge, too', () => {
  const legacy = (words: string): string => bench().run('iptables-legacy', ...words.split(' '));
  legacy('-P INPUT DROP');
  legacy('-A INPUT -p udp -m state --state NEW -m udp --dport 8472 -j ACCEPT');
  assert.equal(bench().judges(), ['legacy iptables filter INPUT']);
  legacy('-P INPUT ACCEPT');
  assert.equal(bench().judges(), []);
});

test.run();
