import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { formatCause, planRepair } from '../../../../daemon/filter/forward-plan.ts';
import type { SamplePacket, WalkRule } from '../../../../daemon/filter/packet-walk.ts';
import { parsePrefix } from '../../../../net/prefix.ts';

const test = suite('daemon/filter/forward-plan');

const cluster = parsePrefix('10.5.0.0/16')!;
const packet: SamplePacket = {
  family: 4,
  source: cluster,
  destination: cluster,
  input: 'cni0',
  output: 'flannel.1',
  state: 'new',
};

/** Rules by a letter: weftd's own, one that drops everything, one that is about something else. */
const read = (rule: string): WalkRule => ({
  conditions: rule === 'else' ? [{ kind: 'special' }] : [],
  verdict: rule === 'own' ? { kind: 'accept' } : rule === 'drop' ? { kind: 'drop' } : { kind: 'none' },
});
const plan = (
  rules: readonly string[],
  changes: { policy?: 'drop'; isTargetRight?: boolean; isPermanent?: boolean } = {},
) => {
  const repair = planRepair<string>({
    rules,
    policy: 'accept',
    isOwn: (rule) => rule === 'own' || rule === 'old',
    read,
    chains: () => [],
    packets: [packet],
    isRight: (own) => own.join() === 'own',
    isTargetRight: true,
    isPermanent: false,
    ...changes,
  });
  return (
    repair && { why: formatCause(repair.cause, 'of it', 'its policy'), anew: repair.isBaseWrong, place: repair.place }
  );
};

test('nothing is done where nothing is dropped, unless the rules are to be there in any case', () => {
  assert.is(plan(['else']), undefined);
  assert.equal(plan(['else'], { isPermanent: true }), { why: 'they are not there', anew: true, place: 1 });
  assert.is(plan(['else', 'own'], { isPermanent: true }), undefined);
});

test('weftd’s rules belong in front of the first that drops the packets, and may stand further in front', () => {
  assert.equal(plan(['else', 'drop']), { why: "rule 2 of it drops the cluster's packets", anew: true, place: 1 });
  assert.is(plan(['else', 'own', 'drop']), undefined);
  assert.is(plan(['own', 'else', 'drop']), undefined);
  assert.equal(plan(['else', 'drop', 'own']), {
    why: "rule 2 of it drops the cluster's packets",
    anew: true,
    place: 1,
  });
  assert.equal(plan(['else'], { policy: 'drop' }), { why: 'its policy is drop', anew: true, place: 1 });
  assert.is(plan(['else', 'own'], { policy: 'drop' }), undefined);
});

test('rules of weftd’s that were changed, and a chain of its own that was', () => {
  assert.equal(plan(['old', 'drop']), { why: 'they were changed', anew: true, place: 0 });
  assert.equal(plan(['own', 'own', 'drop']), { why: 'they were changed', anew: true, place: 0 });
  assert.equal(plan(['own', 'drop'], { isTargetRight: false }), { why: 'they were changed', anew: false, place: 0 });
});

test.run();
