/** Every fault that `weftctl doctor` must find, one after the other; the gate tries a fault of each kind. */

import { testFaults } from '../cluster/doctor-check.ts';
import { faults } from '../cluster/doctor-faults.ts';

testFaults('doctor, all faults', faults).run();
