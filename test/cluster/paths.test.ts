/** Whether packets reach the peers, in short: the file of this name in test/soak/ has all of it. */

import { testPaths } from './paths-check.ts';

testPaths('paths', false).run();
