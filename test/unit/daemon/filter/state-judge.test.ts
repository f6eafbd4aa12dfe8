import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { parseListing } from '../../../../daemon/filter/legacy-iptables.ts';
import type { Condition, WalkRule } from '../../../../daemon/filter/packet-walk.ts';
import { type JudgedChain, judgesState, type TunnelSample } from '../../../../daemon/filter/state-judge.ts';

const test = suite('daemon/filter/state-judge');

const vxlan: TunnelSample = { family: 4, protocol: 17, port: 8472, external: 'eth0' };
const ipip: TunnelSample = { family: 4, protocol: 4, external: 'eth0' };

/** A chain of a table that `iptables -S` lists. */
function chain(text: string, name = 'INPUT'): JudgedChain {
  const { chains, dropping } = parseListing(text);
  const rules = (of: string): readonly WalkRule[] => (chains.get(of) ?? []).map(({ rule }) => rule);
  return {
    way: name === 'INPUT' ? 'in' : 'out',
    rules: rules(name),
    policy: dropping.has(name) ? 'drop' : 'accept',
    chains: rules,
    all: () => [...chains.keys()].flatMap(rules),
  };
}
const judges = (text: string, name = 'INPUT'): boolean[] =>
  [vxlan, ipip].map((sample) => judgesState(chain(text, name), sample));

/** RHEL's iptables-services: the shipped rules, and one for the tunnel. */
const services = (rule: string): string => `-P INPUT ACCEPT
-P FORWARD ACCEPT
-P OUTPUT ACCEPT
-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p icmp -j ACCEPT
-A INPUT -i lo -j ACCEPT
-A INPUT -p tcp -m state --state NEW -m tcp --dport 22 -j ACCEPT
${rule}
-A INPUT -j REJECT --reject-with icmp-host-prohibited
`;

test('iptables-services: a rule for new connections to the port judges, one for the port alone does not', () => {
  assert.equal(judges(services('-A INPUT -p udp -m state --state NEW -m udp --dport 8472 -j ACCEPT'))[0], true);
  assert.equal(judges(services('-A INPUT -p udp -m conntrack --ctstate NEW -m udp --dport 8472 -j ACCEPT'))[0], true);
  assert.equal(judges(services('-A INPUT -p udp -m udp --dport 8472 -j ACCEPT'))[0], false);
  assert.equal(judges(services('-A INPUT -p udp -m udp --dport 8000:9000 -j ACCEPT'))[0], false);
  // Rules that are not understood: any rule for new connections counts, ssh's among them.
  assert.equal(judges(services('-A INPUT -p udp -m multiport --dports 8472,51820 -j ACCEPT'))[0], true);
  // IPIP's answers are part of its connection.
  assert.equal(judges(services(''))[1], true);
  assert.equal(judges(services('-A INPUT -p ipencap -j ACCEPT'))[1], false);
});

const ufw = (rule: string): string => `-P INPUT DROP
-P FORWARD DROP
-P OUTPUT ACCEPT
-N ufw-before-input
-N ufw-before-output
-N ufw-not-local
-N ufw-track-output
-N ufw-user-input
-A INPUT -j ufw-before-input
-A OUTPUT -j ufw-before-output
-A OUTPUT -j ufw-track-output
-A ufw-before-input -i lo -j ACCEPT
-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-input -m conntrack --ctstate INVALID -j DROP
-A ufw-before-input -p icmp -m icmp --icmp-type 3 -j ACCEPT
-A ufw-before-input -j ufw-not-local
-A ufw-before-input -d 224.0.0.251/32 -p udp -m udp --dport 5353 -j ACCEPT
-A ufw-before-input -j ufw-user-input
-A ufw-before-output -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-not-local -m addrtype --dst-type LOCAL -j RETURN
-A ufw-not-local -m limit --limit 3/min --limit-burst 10 -j LOG
-A ufw-track-output -p tcp -m conntrack --ctstate NEW -j ACCEPT
-A ufw-track-output -p udp -m conntrack --ctstate NEW -j ACCEPT
${rule}
`;

test('ufw: a rule for the port does not judge', () => {
  assert.equal(judges(ufw('-A ufw-user-input -p udp -m udp --dport 8472 -j ACCEPT'))[0], false);
  assert.equal(judges(ufw('-A ufw-user-input -p udp -m udp --dport 8472 -j ACCEPT'), 'OUTPUT'), [false, false]);
  assert.equal(judges(ufw(''))[1], true);
  // `ufw default deny outgoing`
  const closed = ufw('').replace('-P OUTPUT ACCEPT', '-P OUTPUT DROP');
  assert.equal(judges(closed, 'OUTPUT')[0], true);
});

const firewalld = (states: string): string => `-P INPUT ACCEPT
-P FORWARD ACCEPT
-N INPUT_ZONES
-N IN_public
-N IN_public_allow
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT
-A INPUT -i lo -j ACCEPT
-A INPUT -j INPUT_ZONES
-A INPUT -m conntrack --ctstate INVALID -j DROP
-A INPUT -j REJECT --reject-with icmp-host-prohibited
-A INPUT_ZONES -i eth0 -g IN_public
-A IN_public -j IN_public_allow
-A IN_public_allow -p udp -m udp --dport 8472 -m conntrack --ctstate ${states} -j ACCEPT
`;

test('firewalld: its rules for ports take untracked packets, too', () => {
  assert.equal(judges(firewalld('NEW,UNTRACKED'))[0], false);
  assert.equal(judges(firewalld('NEW'))[0], true);
});

test('a host without a firewall, and Kubernetes’ rules for new connections to services, do not judge', () => {
  assert.equal(judges('-P INPUT ACCEPT\n'), [false, false]);
  const kubernetes = `-P INPUT ACCEPT
-N KUBE-FIREWALL
-N KUBE-SERVICES
-A INPUT -m conntrack --ctstate NEW -j KUBE-SERVICES
-A INPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP
-A KUBE-SERVICES -d 10.96.0.10/32 -p udp -m udp --dport 53 -j REJECT --reject-with icmp-port-unreachable
`;
  assert.equal(judges(kubernetes), [false, false]);
});

test('a rule that drops untracked packets judges', () => {
  assert.equal(judges('-P INPUT ACCEPT\n-A INPUT -m conntrack --ctstate INVALID,UNTRACKED -j DROP\n'), [true, true]);
});

test('a chain that is not understood judges if any of its table’s rules goes by the state in an unknown way', () => {
  const some: Condition = { kind: 'some state' };
  const rule = (conditions: readonly Condition[]): WalkRule => ({ conditions, verdict: { kind: 'accept' } });
  const unknown = (rules: readonly WalkRule[]): JudgedChain => ({
    way: 'in',
    rules: [],
    policy: 'drop',
    chains: () => [],
    all: () => rules,
  });
  assert.ok(judgesState(unknown([rule([some])]), vxlan));
  assert.not(judgesState(unknown([rule([{ kind: 'special' }])]), vxlan));
});

test.run();
