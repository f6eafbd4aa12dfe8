/** Shows in the store that this node's network stands, once it does: Kubernetes lets pods come only then. */

import type { ClusterStore } from '../../cluster/store.ts';
import type { Bell } from '../pace/bell.ts';
import type { Task } from '../pace/task.ts';
import type { Problems } from '../report/problems.ts';
import type { Progress } from '../report/progress.ts';

export interface AnnounceUpOptions {
  readonly store: Pick<ClusterStore, 'announceUp' | 'mustAnnounce'>;
  readonly progress: Pick<Progress, 'isReady' | 'whenReady' | 'isStopping'>;
  readonly problems: Pick<Problems, 'report'>;
  readonly bells: { readonly announce: Bell };
  readonly deadlineMs: number;
}

export class AnnounceUp implements Task {
  readonly name = 'announcing the network';
  /** Somebody may say otherwise, or make the node anew. The look itself costs nothing. */
  readonly everyMs = 10_000;
  readonly jitter = 0.1;
  readonly deadlineMs: number;
  readonly pauseMs = 1000;
  readonly wakeOn: readonly Bell[];
  readonly #options: AnnounceUpOptions;
  #isAnnounced = false;

  constructor(options: AnnounceUpOptions) {
    this.#options = options;
    this.deadlineMs = options.deadlineMs;
    this.wakeOn = [options.bells.announce];
    if (options.store.announceUp) void options.progress.whenReady().then(() => options.bells.announce.ring());
  }

  async run(): Promise<number | undefined> {
    const { store, progress, problems } = this.#options;
    if (!store.announceUp || !progress.isReady || progress.isStopping) return Number.POSITIVE_INFINITY;
    if (this.#isAnnounced && !store.mustAnnounce) return undefined;
    await store.announceUp();
    this.#isAnnounced = true;
    problems.report('liveness', undefined);
    return undefined;
  }

  failed(error: Error): void {
    const problem = `${error.message}; trying again; Kubernetes may place no pods on this node until then`;
    this.#options.problems.report('liveness', problem, 'debug');
  }
}
