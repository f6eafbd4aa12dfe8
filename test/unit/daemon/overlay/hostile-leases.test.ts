/** Random leases, honest and hostile. `npm test -- test/soak/hostile-leases.test.ts` tries twenty times as many. */

import { suite } from 'uvu';
import { checkHostileClusters } from './hostile-clusters.ts';

const test = suite('daemon/overlay/hostile leases');

const cases = 5000;

test(`property: of ${cases} clusters with hostile leases, no harm to the host, and all honest peers are reached`, () =>
  checkHostileClusters(cases));

test.run();
