/**
 * What weftd does to the kernel, counted by its cause, and what it mends, told: somebody else changes what is weftd's,
 * and whoever looks after the host wants to know.
 */

import { Causes } from './causes.ts';
import type { DesiredState } from './kernel-state.ts';
import type { Logger } from './log.ts';
import type { ChangeKind, Metrics } from './metrics.ts';
import { formatOperation, type Operation } from './plan.ts';

/** So many lines may come at once, and so many a second in the long run: a thousand entries may go with a device. */
const burstLines = 10;
const linesPerSecond = 1;

const minuteMs = 60_000;
const minutes = 60;

export interface HealingSummary {
  readonly total: number;
  readonly lastHour: number;
  /** The last thing mended, and when, on the clock that was handed in. */
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
  private readonly options: HealingOptions;
  private readonly causes = new Causes();
  private mending: ReadonlySet<Operation> = new Set();
  /** What each setting, and the packet filter's table, was made from last, as text. */
  private readonly settings = new Map<string, () => string>();
  /** Changes that mended, since the start. */
  total = 0;
  private lastWhat: (() => string) | undefined;
  private lastMs = 0;
  /** By minute, the youngest first; the time at which the first began. */
  private readonly history: number[] = Array(minutes).fill(0);
  private historyMs: number;
  private lines = burstLines;
  private linesMs: number;
  private untold = 0;

  constructor(options: HealingOptions) {
    this.options = options;
    this.historyMs = options.now();
    this.linesMs = this.historyMs;
  }

  /** Before the planned steps are done. */
  judge(desired: DesiredState, planned: readonly Operation[]): void {
    this.mending = this.causes.judge(desired, planned);
    // A new device begins with the kernel's settings.
    for (const operation of planned) {
      if (operation.kind !== 'add-device' || this.mends(operation)) continue;
      for (const name of this.settings.keys()) {
        if (name.includes(`.${operation.device.name}.`)) this.settings.delete(name);
      }
    }
  }

  /** Whether the step mends, by the last `judge`. */
  mends(operation: Operation): boolean {
    return this.mending.has(operation);
  }

  /** After it. */
  note(
    desired: DesiredState,
    planned: readonly Operation[],
    outcomes: readonly { readonly operation: Operation; readonly error: Error | undefined }[],
  ): void {
    const { metrics } = this.options;
    const programmed = new Map<Operation['kind'], number>();
    const failed = new Set<Operation>();
    for (const { operation, error } of outcomes) {
      if (error) {
        metrics.failed(kindOf(operation.kind));
        failed.add(operation);
      } else if (this.mends(operation)) {
        this.tell(kindOf(operation.kind), () => formatOperation(operation));
      } else {
        programmed.set(operation.kind, (programmed.get(operation.kind) ?? 0) + 1);
      }
    }
    for (const [kind, count] of programmed) metrics.programmed(kindOf(kind), count);
    let open: readonly Operation[] = [];
    if (outcomes.length < planned.length || failed.size > 0) {
      const tried = new Set(outcomes.map(({ operation }) => operation));
      open = planned.filter((operation) => failed.has(operation) || !tried.has(operation));
    }
    this.causes.note(desired, open, this.mending);
    this.tellRest();
  }

  /** What was wanted is no longer known for certain to be there: until the next `note`, nothing mends. */
  forget(): void {
    this.mending = new Set();
    this.causes.forget();
  }

  /**
   * A setting, or a table of the packet filter, that was brought to what it should be, or was so already.
   * @param name what it is, for the log
   * @param value what it was to be, as text: with the same one as before, a change mends. Asked for only then
   * @param changes how many were made
   */
  noteSetting(kind: ChangeKind, name: string, value: () => string, changes: number): void {
    const before = this.settings.get(name);
    this.settings.set(name, value);
    if (changes === 0) return;
    if (before?.() !== value()) {
      this.options.metrics.programmed(kind, changes);
      return;
    }
    this.tell(kind, () => `set ${name}`, changes);
    this.tellRest();
  }

  /** A change that the kernel refused, of a setting or of the packet filter. */
  noteFailure(kind: ChangeKind): void {
    this.options.metrics.failed(kind);
  }

  get summary(): HealingSummary {
    this.turnHistory();
    return {
      total: this.total,
      lastHour: this.history.reduce((a, b) => a + b, 0),
      last: this.lastWhat && { what: this.lastWhat(), atMs: this.lastMs },
    };
  }

  private tell(kind: ChangeKind, what: () => string, count = 1): void {
    const { logger, metrics, now } = this.options;
    metrics.healed(kind, count);
    this.total += count;
    this.turnHistory();
    this.history[0]! += count;
    this.lastWhat = what;
    this.lastMs = now();
    if (this.room() < 1) this.untold += count;
    else {
      this.lines--;
      logger.info(`healed: ${what()}`);
    }
  }

  /** What no line was left for, as a number. */
  private tellRest(): void {
    if (this.untold === 0 || this.room() < 0) return;
    this.lines--;
    this.options.logger.info('healed more', { changes: this.untold });
    this.untold = 0;
  }

  /** How many lines may be written now. */
  private room(): number {
    const nowMs = this.options.now();
    this.lines = Math.min(burstLines, this.lines + ((nowMs - this.linesMs) / 1000) * linesPerSecond);
    this.linesMs = nowMs;
    return this.lines;
  }

  private turnHistory(): void {
    const passed = Math.floor((this.options.now() - this.historyMs) / minuteMs);
    if (passed <= 0) return;
    this.history.unshift(...Array<number>(Math.min(passed, minutes)).fill(0));
    this.history.length = minutes;
    this.historyMs += passed * minuteMs;
  }
}
