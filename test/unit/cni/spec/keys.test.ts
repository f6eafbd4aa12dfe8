import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { foldKeys, lookUp } from '../../../../cni/spec/keys.ts';

const test = suite('cni/spec/keys');

const table = { isGateway: {}, ipam: { ranges: { subnet: {} } } };

test('known keys are renamed at every depth, and others stay', () => {
  const value = { ISGATEWAY: true, Other: { IPAM: 1 }, IPAM: { RANGES: [[{ Subnet: 'x', Unknown: 1 }]] } };
  foldKeys(value, table);
  assert.equal(value, {
    isGateway: true,
    Other: { IPAM: 1 },
    ipam: { ranges: [[{ subnet: 'x', Unknown: 1 }]] },
  } as unknown);
});

test('the exact spelling wins, and null counts as absent', () => {
  const value: Record<string, unknown> = { isgateway: false, isGateway: true, ipam: null };
  foldKeys(value, table);
  assert.equal(value, { isGateway: true });
});

test('a value that is no object is left alone', () => {
  for (const value of [null, 1, 'x', [], [1]]) foldKeys(value, table);
  const value = { ipam: 'x' };
  foldKeys(value, table);
  assert.equal(value, { ipam: 'x' });
});

test('lookUp finds a key in any case', () => {
  assert.is(lookUp({ CNIVERSION: 1 }, 'cniVersion'), 1);
  assert.is(lookUp({ CNIVERSION: 1, cniVersion: 2 }, 'cniVersion'), 2);
  assert.is(lookUp({}, 'toString'), undefined);
});

test('lookUp and foldKeys choose the same spelling, in any order', () => {
  const values = [undefined, null, true, false];
  for (const exact of values) {
    for (const other of values) {
      const entries = Object.entries({ ipMasq: exact, IPMASQ: other }).filter(([, value]) => value !== undefined);
      for (const order of [entries, [...entries].reverse()]) {
        const folded = Object.fromEntries(order);
        foldKeys(folded, { ipMasq: {} });
        assert.is(lookUp(Object.fromEntries(order), 'ipMasq'), folded['ipMasq'], JSON.stringify(order));
      }
    }
  }
});

test.run();
