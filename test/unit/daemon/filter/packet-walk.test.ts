import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  type Condition,
  findHindrance,
  samplePackets,
  type Verdict,
  type WalkRule,
} from '../../../../daemon/filter/packet-walk.ts';
import { parsePrefix } from '../../../../net/prefix.ts';

const prefix = (text: string) => parsePrefix(text)!;
const test = suite('daemon/filter/packet-walk');

const roads = { peers: ['flannel.1'], external: 'eth0', containers: ['cni0'] };
const packets = samplePackets(prefix('10.5.0.0/16'), prefix('10.5.1.0/24'), roads);

const rule = (verdict: Verdict['kind'] | Verdict, ...conditions: Condition[]): WalkRule => ({
  conditions,
  verdict: typeof verdict === 'string' ? ({ kind: verdict } as Verdict) : verdict,
});
const from = (text: string, negated = false): Condition => ({ kind: 'source', prefix: prefix(text), negated });
const to = (text: string, negated = false): Condition => ({ kind: 'destination', prefix: prefix(text), negated });
const input = (name: string, negated = false): Condition => ({
  kind: 'input',
  name: name.replace('+', ''),
  any: name.endsWith('+'),
  negated,
});
const find = (rules: WalkRule[], policy: 'accept' | 'drop' = 'accept', chains: Record<string, WalkRule[]> = {}) =>
  findHindrance(rules, policy, packets, (name) => chains[name] ?? [])?.at;

test('ordinary packets: to and from peers, to the outside and back', () => {
  assert.equal(
    packets.map(({ source, destination, input: i, output, state }) =>
      [source?.length ?? '*', destination?.length ?? '*', i, output, state].join(' '),
    ),
    ['16 24 flannel.1 cni0 new', '24 16 cni0 flannel.1 new', '24 * cni0 eth0 new', '* 24 eth0 cni0 established'],
  );
});

test('the policy decides where no rule does', () => {
  assert.is(find([]), undefined);
  assert.is(find([], 'drop'), 0);
  assert.is(find([rule('none'), rule('accept', { kind: 'special' })], 'drop'), 2);
  assert.is(find([rule('accept')], 'drop'), undefined);
  assert.is(find([rule('return')], 'drop'), 1);
});

test('an accept before a drop is enough only for the packets that it is about', () => {
  assert.is(find([rule('accept', from('10.5.0.0/16')), rule('accept', to('10.5.0.0/16')), rule('drop')]), undefined);
  assert.is(find([rule('accept', from('10.5.0.0/16')), rule('drop')]), 1);
});

test('drops of the cluster’s packets as such hinder, drops of particular ones do not', () => {
  const hinders = (...conditions: Condition[]): boolean => find([rule('drop', ...conditions)]) !== undefined;
  assert.ok(hinders());
  assert.ok(hinders(from('0.0.0.0/0')));
  assert.ok(hinders(from('10.0.0.0/8')));
  assert.ok(hinders(from('10.5.1.0/24')));
  assert.ok(hinders(to('10.6.0.0/16', true)));
  assert.ok(hinders(input('flannel.1')));
  assert.ok(hinders(input('flan+')));
  assert.ok(hinders(input('docker0', true)));
  assert.ok(hinders({ kind: 'family', family: 4, negated: false }));
  assert.ok(hinders({ kind: 'state', states: new Set(['new']), negated: false }));
  assert.not(hinders(from('10.5.1.7/32')));
  assert.not(hinders(from('10.5.2.0/24'), to('10.5.1.0/24')));
  assert.not(hinders(from('192.0.2.0/24')));
  assert.not(hinders(from('fd00::/8')));
  assert.not(hinders(input('eth7')));
  assert.not(hinders(input('flannel.1'), input('cni0')));
  assert.not(hinders({ kind: 'special' }));
  assert.not(hinders({ kind: 'family', family: 6, negated: false }));
  assert.not(hinders({ kind: 'state', states: new Set(['invalid']), negated: false }));
});

test('what is behind a jump counts at the jump; goto does not come back', () => {
  const jump = (chain: string): WalkRule => rule({ kind: 'jump', chain });
  const chains = { deny: [rule('none'), rule('drop')], pass: [rule('return'), rule('drop')], more: [jump('deny')] };
  assert.is(find([rule('none'), jump('deny')], 'accept', chains), 1);
  assert.is(find([jump('more')], 'accept', chains), 0);
  assert.is(find([jump('pass'), rule('accept')], 'drop', chains), undefined);
  assert.is(find([rule({ kind: 'goto', chain: 'pass' }), rule('accept')], 'drop', chains), 2);
  assert.is(find([jump('unknown')], 'accept', chains), undefined);
  assert.is(find([jump('loop')], 'drop', { loop: [jump('loop')] }), 1);
});

test('an interface that is not there yet is no rule’s subject', () => {
  const early = samplePackets(prefix('10.5.0.0/16'), prefix('10.5.1.0/24'), { ...roads, containers: [] });
  const at = (condition: Condition) => findHindrance([rule('drop', condition)], 'accept', early, () => [])?.at;
  assert.is(at({ kind: 'output', name: 'cni0', any: false, negated: false }), undefined);
  assert.is(at({ kind: 'output', name: 'cni0', any: false, negated: true }), 0);
});

test.run();
