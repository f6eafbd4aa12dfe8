/** Whether packets reach the peers: a firewall, the MTU, another way back, a host that is down, missing rights. */

import { testPaths } from '../cluster/paths-check.ts';

testPaths('paths, all', true).run();
