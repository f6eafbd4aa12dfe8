/**
 * `weftctl doctor`, in short: some faults and set-ups. `npm test -- test/soak/doctor.test.ts` has all of them, and the part
 * `soak` does.
 */

import { testFaults, testSetUps } from './doctor-check.ts';
import { faults } from './doctor-faults.ts';
import { setUps } from './doctor-healthy.ts';

testFaults(
  'doctor',
  faults.filter(({ inGate }) => inGate),
).run();

testSetUps(
  'doctor, healthy',
  setUps.filter(({ inGate }) => inGate),
).run();
