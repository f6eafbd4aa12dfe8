/** Whether tests run on this machine or in the guest (test/guest/machine.mjs), which has another kernel and is slow. */

import { existsSync } from 'node:fs';

export const inGuest = existsSync('/run/guest');

/** How many times longer than on a machine of its own everything may take: the guest is emulated. */
export const patience = inGuest ? 20 : 1;
