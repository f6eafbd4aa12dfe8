/** ADD of a configuration that asks for more than links and addresses. */

import type { Sys } from '../../linux/sys.ts';
import { runAdd } from '../add.ts';
import { addParts } from '../parts.ts';
import type { CniRequest } from '../spec/request.ts';

export const addWithExtras = (sys: Sys, request: CniRequest): string => runAdd(sys, request, addParts);
