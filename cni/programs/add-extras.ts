/** ADD of a configuration that asks for all that there is. */

import type { Sys } from '../../linux/sys.ts';
import { runAdd } from '../add.ts';
import { awaitDuplicateDetection } from '../duplicate-detection.ts';
import { addFilters } from '../filters.ts';
import type { CniRequest } from '../spec/request.ts';
import { connectVlans } from '../vlan.ts';

export const addWithExtras = (sys: Sys, request: CniRequest): string =>
  runAdd(sys, request, { addFilters, awaitDuplicateDetection, connectVlans });
