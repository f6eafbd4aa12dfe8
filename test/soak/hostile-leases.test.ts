/** The property of random leases, with many more clusters than in the gate. `WEFT_HOSTILE_LEASES` gives their number. */

import { suite } from 'uvu';
import { checkHostileClusters } from '../unit/daemon/overlay/hostile-clusters.ts';

const test = suite('hostile leases, at length');

const cases = Number(process.env['WEFT_HOSTILE_LEASES'] ?? 100_000);

test(`property: of ${cases} clusters with hostile leases, no harm to the host, and all honest peers are reached`, () =>
  checkHostileClusters(cases));

test.run();
