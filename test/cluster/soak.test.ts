/** A short soak, always the same one, with a fault of each kind: see test/soak/soak.ts. `npm test -- soak` runs a long one. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { checkSoak } from '../soak/check.ts';
import { planFaults } from '../soak/faults.ts';
import { hostCount } from '../soak/soak.ts';

const test = suite('soak');

test('the same seed gives the same faults, another seed gives others; each kind occurs', () => {
  const faults = planFaults(3826, 33_000, hostCount);
  assert.equal(planFaults(3826, 33_000, hostCount), faults);
  assert.not.equal(planFaults(3827, 33_000, hostCount), faults);
  assert.is(new Set(faults.map(({ kind }) => kind)).size, 9);
});

test('no wrong delivery, no lasting loss, and loss only where the hosts’ network was cut or a device removed', () =>
  checkSoak({ seed: 3826, durationMs: 33_000 }));

test.run();
