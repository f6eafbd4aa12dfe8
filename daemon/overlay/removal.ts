/** Removes everything that weftd made on this host: routes, entries, devices, rules, files. */

import type { FilterPort } from '../filter/upkeep.ts';
import type { NodeFiles } from '../host/files.ts';
import type { RememberedState } from '../host/remembered-state.ts';
import type { Logger } from '../report/log.ts';
import { nothingDesired } from './desired.ts';
import type { Kernel } from './kernel.ts';
import { formatOperation, plan } from './plan.ts';

export interface RemovalOptions {
  readonly kernel: Pick<Kernel, 'readHost' | 'readActual' | 'apply'>;
  readonly filter: Pick<FilterPort, 'remove'>;
  readonly files: Pick<NodeFiles, 'removeAll' | 'removeOwn'>;
  readonly remembered: Pick<RememberedState, 'current' | 'reload'>;
  readonly logger: Logger;
}

/**
 * Removes weftd's rules and files, and leaves devices, routes and subnet.env to the flanneld that has taken them over.
 * @returns what could not be removed
 */
export function removeForFlanneld({ filter, files }: Pick<RemovalOptions, 'filter' | 'files'>): Error[] {
  const errors: Error[] = [];
  for (const step of [() => filter.remove(), () => files.removeOwn()]) {
    try {
      step();
    } catch (error) {
      errors.push(error as Error);
    }
  }
  return errors;
}

/**
 * Goes on past errors.
 * @returns what could not be removed
 */
export function removeEverything(options: RemovalOptions): Error[] {
  const { kernel, filter, files, remembered, logger } = options;
  // A weftd that was just stopped may have added to it.
  remembered.reload();
  const errors: Error[] = [];
  const attempt = (step: () => void): void => {
    try {
      step();
    } catch (error) {
      errors.push(error as Error);
    }
  };
  attempt(() => {
    const { devices, networks, gateways } = remembered.current;
    const host = kernel.readHost();
    const names = new Set(devices.keys());
    const desired = nothingDesired(networks, [...names], gateways);
    const outcomes = kernel.apply(plan(desired, kernel.readActual(host, names)).operations, host);
    for (const { operation, error } of outcomes) {
      if (error) errors.push(error);
      else logger.info(formatOperation(operation));
    }
  });
  attempt(() => filter.remove());
  // The files last, and only once nothing is left that they are needed for.
  if (errors.length === 0) attempt(() => files.removeAll());
  return errors;
}
