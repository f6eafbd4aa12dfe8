/** The settings of weftd's service. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { readSettings, variableOf, withSettings } from '../../../../cli/install/settings.ts';

const test = suite('cli/install/settings');
const set = (text: string | undefined, wanted: Record<string, string>): string =>
  withSettings(text, new Map(Object.entries(wanted)));

test('lines are changed in their place, others stay, new ones come last', () => {
  assert.is(
    set('# mine\nA=1\n\nB=2\n; x\n', { B: 'http://[fd00::1]:2379,http://b', C: 'c d' }),
    "# mine\nA=1\n\nB=http://[fd00::1]:2379,http://b\n; x\nC='c d'\n",
  );
  assert.is(set('A=1', {}), 'A=1\n');
});

test('a new file says what it is', () => {
  assert.match(set(undefined, { A: '1' }), /^# Settings of weftd, .*\nA=1\n$/);
});

test('values come back as they were', () => {
  const values = { A: 'plain', B: 'two words', C: 'a$b`c"d', D: '' };
  assert.equal(Object.fromEntries(readSettings(set('', values))), values);
});

test('a value that systemd and shells read differently is refused', () => {
  for (const value of ["it's", 'back\\slash', 'line\nbreak', 'nul\0']) {
    assert.throws(() => set('', { A: value }), /its value has a quote, a backslash or a control character/);
  }
});

test('options have variables', () => {
  assert.is(variableOf('etcd-endpoints'), 'WEFTD_ETCD_ENDPOINTS');
});

test.run();
