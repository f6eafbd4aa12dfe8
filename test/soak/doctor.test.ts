/** Every fault that `weftctl doctor` must find, one after the other, and every healthy set-up; the gate tries some. */

import { testFaults, testSetUps } from '../cluster/doctor-check.ts';
import { faults } from '../cluster/doctor-faults.ts';
import { setUps } from '../cluster/doctor-healthy.ts';

testFaults('doctor, all faults', faults).run();
testSetUps('doctor, all healthy set-ups', setUps).run();
