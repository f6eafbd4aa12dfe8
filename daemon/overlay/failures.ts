/** Steps that failed: each is tried again after a pause that grows, and reported until it is done or no longer planned. */

import { formatPrefix } from '../../net/prefix.ts';
import type { HostState } from '../host/host-state.ts';
import { Backoff } from '../pace/wakeup.ts';
import type { Logger } from '../report/log.ts';
import type { Problems } from '../report/problems.ts';
import type { Healing } from './healing.ts';
import type { Outcome } from './kernel.ts';
import { deviceOf, formatOperation, isDeviceOperation, type Operation } from './plan.ts';

export interface Failure {
  readonly operation: Operation;
  readonly message: string;
  readonly backoff: Backoff;
  readonly dueMs: number;
}

export interface FailuresOptions {
  readonly healing: Pick<Healing, 'mended'>;
  readonly logger: Logger;
  readonly problems: Pick<Problems, 'reportAll'>;
  /** Milliseconds on a clock that does not go back. */
  readonly now: () => number;
  /** From 0 to below 1. */
  readonly random: () => number;
}

const firstRetryMs = 500;
const lastRetryMs = 60_000;

export class Failures {
  readonly #options: FailuresOptions;
  #failures = new Map<string, Failure>();
  /** The part of the host's state that steps may have failed for. */
  #circumstances = '';

  constructor(options: FailuresOptions) {
    this.#options = options;
  }

  get list(): Failure[] {
    return [...this.#failures.values()];
  }

  get none(): boolean {
    return this.#failures.size === 0;
  }

  /** Until the first failure is due again; infinite where nothing failed. */
  get retryDelayMs(): number {
    const due = Math.min(Number.POSITIVE_INFINITY, ...this.list.map(({ dueMs }) => dueMs));
    return Math.max(0, due - this.#options.now());
  }

  /** Tries everything again at once when the host has another link or address, which a step may have waited for. */
  noteHost({ links, addresses }: HostState, external: string): void {
    // Links of containers come and go, and nothing of ours depends on them.
    const own = links.filter(({ kind, name }) => kind !== 'veth' || name === external);
    const indexes = new Set(own.map(({ index }) => index));
    const circumstances = [
      ...own.map(({ index, name, flags, mtuBytes }) => `${index} ${name} ${flags} ${mtuBytes}`),
      ...addresses.flatMap(({ index, prefix }) => (indexes.has(index) ? `${index} ${formatPrefix(prefix)}` : [])),
    ].join();
    if (circumstances === this.#circumstances) return;
    this.#circumstances = circumstances;
    const nowMs = this.#options.now();
    for (const [key, failure] of this.#failures) this.#failures.set(key, { ...failure, dueMs: nowMs });
  }

  /** The steps that may be tried now. Entries of a device that cannot be had now wait with it. */
  due(planned: readonly Operation[]): Operation[] {
    const missing = new Set(
      planned.filter((operation) => operation.kind === 'add-device' && !this.#isDue(operation)).map(deviceOf),
    );
    return planned.filter((operation) => this.#isDue(operation) && !missing.has(deviceOf(operation)));
  }

  #isDue(operation: Operation): boolean {
    if (this.#failures.size === 0) return true;
    const failure = this.#failures.get(formatOperation(operation));
    return !failure || failure.dueMs <= this.#options.now();
  }

  /** Keeps the failures of steps that are still planned, and reports each by its subject. */
  note(planned: readonly Operation[], outcomes: readonly Outcome[]): void {
    const { healing, logger, problems, now, random } = this.#options;
    const keys = new Set(this.#failures.size > 0 ? planned.map(formatOperation) : []);
    const failures = new Map([...this.#failures].filter(([key]) => keys.has(key)));
    const failedDevices = new Set<string>();
    for (const { operation, error } of outcomes) {
      // Formatting 15,000 operations is slow.
      if (!error && failures.size === 0 && !isDeviceOperation(operation) && !logger.tellsDebug) continue;
      const key = formatOperation(operation);
      if (!error) {
        failures.delete(key);
        if (!isDeviceOperation(operation) || healing.mended(operation)) logger.debug(key);
        else logger.info(key, operation.kind === 'remove-device' ? { because: operation.because } : {});
        continue;
      }
      // A device's failure stands for those of all its entries.
      if (operation.kind === 'add-device') failedDevices.add(error.message);
      else if (failedDevices.has(error.message)) continue;
      const backoff = failures.get(key)?.backoff ?? new Backoff(firstRetryMs, lastRetryMs, random);
      failures.set(key, { operation, message: error.message, backoff, dueMs: now() + backoff.next() });
    }
    this.#failures = failures;
    // A thousand entries that fail with their device are one problem.
    const subjects = new Map([...failures].map(([key, { message }]) => [message, key]));
    problems.reportAll('step', new Map([...subjects].map(([message, key]) => [key, message])));
  }
}
