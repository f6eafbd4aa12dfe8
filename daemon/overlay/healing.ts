/**
 * Counts weftd's changes in the kernel by their cause, and logs repairs, so that people learn of programs that change
 * weftd's state.
 */

import type { DesiredState } from '../backends/entries.ts';
import { Budget } from '../pace/budget.ts';
import type { Logger } from '../report/log.ts';
import type { ChangeKind, Metrics } from '../report/metrics.ts';
import { Causes } from './causes.ts';
import { formatOperation, isDeviceOperation, type Operation } from './plan.ts';

const minuteMs = 60_000;
const minutes = 60;

export interface HealingSummary {
  readonly total: number;
  readonly lastHour: number;
  /** The last repair, and its time on the clock that was handed in. */
  readonly last: { readonly what: string; readonly atMs: number } | undefined;
}

export interface HealingOptions {
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, 'programmed' | 'healed' | 'failed'>;
  /** Milliseconds on a clock that does not go back. */
  readonly now: () => number;
}

const kindOf = (kind: Operation['kind']): ChangeKind => kind.split('-')[1] as ChangeKind;

export class Healing {
  readonly #options: HealingOptions;
  readonly #causes = new Causes();
  #mending: ReadonlySet<Operation> = new Set();
  /** A new device is being made because another one is desired: it starts with the kernel's own settings. */
  #replaces = false;
  /** The last input, as text, of each setting and of the packet filter's table. */
  readonly #settings = new Map<string, () => string>();
  /** Repairs since the start. */
  total = 0;
  #lastWhat: string | undefined;
  #lastMs = 0;
  /** Per minute, the newest first; the time at which the newest began. */
  readonly #history: number[] = Array(minutes).fill(0);
  #historyMs: number;
  /** One line each, for a few: a device may lose a thousand entries. */
  readonly #each: Budget;
  /** One line for the rest of a comparison; limited, because somebody may repeat the damage forever. */
  readonly #rest: Budget;
  #untold = 0;

  constructor(options: HealingOptions) {
    this.#options = options;
    this.#historyMs = options.now();
    this.#each = new Budget(20, 0.002, options.now);
    this.#rest = new Budget(200, 0.005, options.now);
  }

  /** Called before the planned steps: changes of settings meanwhile may be a consequence. */
  prepare(desired: DesiredState, planned: readonly Operation[]): void {
    const onDevices = planned.filter(isDeviceOperation);
    const mending = this.#causes.judge(desired, onDevices);
    this.#replaces = onDevices.some((operation) => operation.kind === 'add-device' && !mending.has(operation));
  }

  /** Whether the step healed, by the last `note`. */
  mended(operation: Operation): boolean {
    return this.#mending.has(operation);
  }

  /** Called afterwards. It decides only now which steps healed, so that no repair waits for it. */
  note(
    desired: DesiredState,
    planned: readonly Operation[],
    outcomes: readonly { readonly operation: Operation; readonly error: Error | undefined }[],
  ): void {
    const { metrics } = this.#options;
    this.#mending = this.#causes.judge(desired, planned);
    const programmed = new Map<Operation['kind'], number>();
    const mended: Operation[] = [];
    const failed = new Set<Operation>();
    for (const { operation, error } of outcomes) {
      if (error) {
        metrics.failed(kindOf(operation.kind));
        failed.add(operation);
      } else if (this.#mending.has(operation)) {
        mended.push(operation);
      } else {
        programmed.set(operation.kind, (programmed.get(operation.kind) ?? 0) + 1);
      }
    }
    for (const [kind, count] of programmed) metrics.programmed(kindOf(kind), count);
    const byKind = new Map<Operation['kind'], number>();
    for (const { kind } of mended) byKind.set(kind, (byKind.get(kind) ?? 0) + 1);
    for (const [kind, count] of byKind) metrics.healed(kindOf(kind), count);
    this.#tell(mended.length, (i) => formatOperation(mended[i]!));
    let open: readonly Operation[] = [];
    if (outcomes.length < planned.length || failed.size > 0) {
      const tried = new Set(outcomes.map(({ operation }) => operation));
      open = planned.filter((operation) => failed.has(operation) || !tried.has(operation));
    }
    this.#causes.note(desired, open, this.#mending);
    this.#replaces = false;
  }

  /** The desired state is no longer known to be present: until the next `note`, nothing counts as healing. */
  forget(): void {
    this.#mending = new Set();
    this.#causes.forget();
  }

  /**
   * The kernel's settings, or the packet filter's table, now match the desired ones, or did already.
   * @param key the subject
   * @param wanted their input, as text: a change for the same input as before is a repair. Called only if needed
   * @param done the changes, in words
   * @returns whether the changes are repairs; those are logged
   */
  noteSettings(kind: ChangeKind, key: string, wanted: () => string, done: readonly string[]): boolean {
    const before = this.#settings.get(key);
    this.#settings.set(key, wanted);
    if (done.length === 0) return false;
    if (this.#replaces || before?.() !== wanted()) {
      this.#options.metrics.programmed(kind, done.length);
      return false;
    }
    this.#options.metrics.healed(kind, done.length);
    this.#tell(done.length, (i) => done[i]!);
    return true;
  }

  /** A change that the kernel refused, of a setting or of the packet filter. */
  noteFailure(kind: ChangeKind): void {
    this.#options.metrics.failed(kind);
  }

  get summary(): HealingSummary {
    this.#turnHistory();
    return {
      total: this.total,
      lastHour: this.#history.reduce((a, b) => a + b, 0),
      last: this.#lastWhat === undefined ? undefined : { what: this.#lastWhat, atMs: this.#lastMs },
    };
  }

  /**
   * Something was healed, or not: then earlier lines that were held back may be logged now.
   * @param what the words for one of `count` changes
   */
  #tell(count: number, what: (i: number) => string): void {
    const { logger, now } = this.#options;
    if (count > 0) {
      this.total += count;
      this.#turnHistory();
      this.#history[0]! += count;
      this.#lastWhat = what(count - 1);
      this.#lastMs = now();
      let told = 0;
      while (told < count && this.#each.take()) logger.info(`healed: ${what(told++)}`);
      this.#untold += count - told;
    }
    if (this.#untold === 0 || !this.#rest.take()) return;
    logger.info(`healed: ${this.#lastWhat}`, this.#untold > 1 ? { andOthers: this.#untold - 1 } : {});
    this.#untold = 0;
  }

  #turnHistory(): void {
    const passed = Math.floor((this.#options.now() - this.#historyMs) / minuteMs);
    if (passed <= 0) return;
    this.#history.unshift(...Array<number>(Math.min(passed, minutes)).fill(0));
    this.#history.length = minutes;
    this.#historyMs += passed * minuteMs;
  }
}
