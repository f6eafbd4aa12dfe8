/** ADD of a configuration that asks for more than links and addresses. */

import type { Sys } from '../../linux/sys.ts';
import { runAdd } from '../add.ts';
import { ipamPlugins } from '../delegate.ts';
import { addParts } from '../parts.ts';
import type { CniRequest, Deliver } from '../spec/request.ts';

export const addWithExtras = (sys: Sys, request: CniRequest, deliver: Deliver): void =>
  void runAdd(sys, request, addParts, deliver, ipamPlugins);
