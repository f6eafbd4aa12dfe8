/** Every check of `weftctl doctor`, in the order of its report. A new check goes into a file beside this one. */

import type { HostCheck } from '../host-check.ts';
import { addressChecks } from './addresses.ts';
import { interfaceChecks } from './interfaces.ts';
import { peerChecks } from './peers.ts';
import { pluginChecks } from './plugins.ts';
import { ruleChecks } from './rules.ts';
import { serviceChecks } from './service.ts';
import { settingChecks } from './settings.ts';

export const checks: readonly HostCheck[] = [
  ...serviceChecks,
  ...pluginChecks,
  ...interfaceChecks,
  ...peerChecks,
  ...ruleChecks,
  ...addressChecks,
  ...settingChecks,
];
