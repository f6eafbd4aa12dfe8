/**
 * Shows this node's problems on its object in the store, where people look: Kubernetes keeps such events for an hour. Only
 * problems that a person has to mend, and that last, are shown. The store's own troubles cannot be: it would have to be asked.
 */

import type { ClusterStore, NodeEvent } from '../../cluster/store.ts';
import { StoreRefusedError } from '../../cluster/store-errors.ts';
import type { Task } from '../pace/task.ts';
import type { Logger } from '../report/log.ts';
import type { Problem, Problems } from '../report/problems.ts';

export interface TellEventsOptions {
  readonly store: Pick<ClusterStore, 'event'>;
  readonly problems: Pick<Problems, 'all'>;
  readonly logger: Pick<Logger, 'warn' | 'debug'>;
  /** Milliseconds on a clock that does not go back. */
  readonly now: () => number;
  readonly deadlineMs: number;
}

/** A problem that ends by itself before that is not shown. */
const lastingMs = 5000;
/** A problem that lasts is shown again before the store forgets it. */
const againMs = 50 * 60_000;
/** A problem may come, change and go without end: no kind is shown more often than that. */
const perKindMs = 10 * 60_000;
/** After a refusal. */
const refusedMs = 60 * 60_000;

/** Without an answer of the store, nothing can be told to it. */
const untold: ReadonlySet<string> = new Set(['etcd', 'kubernetes', 'cluster']);

/** `external-interface` → `ExternalInterface` */
const reasonOf = (code: string): string =>
  code
    .split('-')
    .map((word) => word.slice(0, 1).toUpperCase() + word.slice(1))
    .join('');

export class TellEvents implements Task {
  readonly name = 'telling of problems';
  readonly everyMs = 10_000;
  readonly jitter = 0.1;
  readonly deadlineMs: number;
  readonly firstMs = 10_000;
  readonly #options: TellEventsOptions;
  /** By the code of a kind: what was shown last, and when. */
  readonly #shown = new Map<string, { readonly message: string; readonly atMs: number }>();
  #nextMs = Number.NEGATIVE_INFINITY;
  #isRefusalTold = false;

  constructor(options: TellEventsOptions) {
    this.#options = options;
    this.deadlineMs = options.deadlineMs;
  }

  async run(): Promise<undefined> {
    const { store, problems, now } = this.#options;
    if (!store.event || now() < this.#nextMs) return;
    // Of several of one kind the first.
    const byCode = new Map<string, Problem>();
    for (const problem of problems.all) {
      const { code, severity } = problem.head;
      if (problem.isOwn && severity === 'error' && !untold.has(code) && !byCode.has(code)) byCode.set(code, problem);
    }
    for (const problem of byCode.values()) {
      if (this.#isDue(problem)) await this.#tell(problem);
    }
  }

  #isDue({ head: { code }, message, sinceMs }: Problem): boolean {
    const nowMs = this.#options.now();
    if (nowMs - sinceMs < lastingMs) return false;
    const shown = this.#shown.get(code);
    return !shown || nowMs - shown.atMs >= (shown.message === message ? againMs : perKindMs);
  }

  async #tell({ head: { code }, message }: Problem): Promise<void> {
    const { store, now } = this.#options;
    const event: NodeEvent = { reason: reasonOf(code), message };
    await store.event?.(event);
    this.#shown.set(code, { message, atMs: now() });
  }

  /** weftd works without. */
  failed(error: Error): void {
    const { logger, now } = this.#options;
    if (!(error instanceof StoreRefusedError)) {
      logger.debug(`${error.message}; trying again`);
      return;
    }
    this.#nextMs = now() + refusedMs;
    if (this.#isRefusalTold) return;
    this.#isRefusalTold = true;
    logger.warn(`${error.message}; problems of this node are not shown as events`);
  }
}
