/**
 * `weftctl doctor`, in short: a fault of each kind. `npm test -- test/soak/doctor.test.ts` injects all of them, and the part
 * `soak` does.
 */

import { testFaults } from './doctor-check.ts';
import { faults } from './doctor-faults.ts';

testFaults(
  'doctor',
  faults.filter(({ inGate }) => inGate),
).run();
