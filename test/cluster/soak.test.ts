/** A short soak, always the same one, with a fault of each kind: see test/support/soak.ts. `npm test -- soak` runs a long one. */

import { suite } from 'uvu';
import { checkSoak } from '../support/soak-check.ts';

const test = suite('soak');

test('no wrong delivery, no lasting loss, and loss only where the hosts’ network was cut or a device taken away', () =>
  checkSoak({ seed: 3826, durationMs: 33_000 }));

test.run();
