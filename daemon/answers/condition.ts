/** weftd's condition in a word and in a line, for the probes, the service manager and the status. */

import type { Lease } from '../../cluster/lease.ts';
import { valuesOf } from '../../cluster/network-config.ts';
import type { NodeStatus, PeerStatus } from '../../cluster/status.ts';
import { formatPrefix } from '../../net/prefix.ts';
import type { Membership } from '../membership/membership.ts';
import type { Figures } from '../report/metrics.ts';
import type { Problems } from '../report/problems.ts';
import type { Progress } from '../report/progress.ts';
import { type Activity, stuckActivity } from './health.ts';

/** The data path, as far as it is shown; undefined before it first exists. */
export interface DataPathView {
  readonly external: { readonly name: string };
  readonly devices: readonly string[];
  readonly mtuBytes: number;
  readonly peers: readonly {
    readonly lease: Lease;
    readonly path: PeerStatus['path'];
    readonly problem: string | undefined;
  }[];
  /** Asked for every second: without the peers one by one. */
  readonly peerCounts: Figures['peers'];
}

export interface ConditionOptions {
  readonly progress: Pick<Progress, 'isReady' | 'isStopping'>;
  readonly problems: Pick<Problems, 'list' | 'ofThisNode'>;
  readonly membership: Pick<Membership, 'view'>;
  readonly dataPath: { readonly state: DataPathView | undefined };
  /** The periodic tasks. */
  readonly activities: () => readonly Activity[];
  /** Milliseconds on a clock that does not go back. */
  readonly now: () => number;
}

export class Condition {
  readonly #options: ConditionOptions;

  constructor(options: ConditionOptions) {
    this.#options = options;
  }

  /** The task that is stuck; undefined while all are alive. */
  health(): string | undefined {
    const { progress, activities, now } = this.#options;
    return progress.isStopping ? undefined : stuckActivity(activities(), now());
  }

  /** Why containers cannot be started yet; undefined once they can. */
  readiness(): string | undefined {
    const { progress, problems, membership } = this.#options;
    if (progress.isStopping) return 'stopping';
    return progress.isReady && !membership.view?.takenBy ? undefined : (problems.list()[0] ?? 'starting');
  }

  get state(): NodeStatus['state'] {
    const { progress, problems } = this.#options;
    if (progress.isStopping) return 'stopping';
    if (!progress.isReady) return 'starting';
    return problems.ofThisNode().length > 0 ? 'degraded' : 'running';
  }

  countPeers(): Figures['peers'] {
    return this.#options.dataPath.state?.peerCounts ?? { total: 0, programmed: 0, withProblem: 0 };
  }

  /** One line, for the service manager. */
  summary(): string {
    const { membership, problems } = this.#options;
    const { view } = membership;
    const { total, programmed } = this.countPeers();
    const subnets = view && !view.takenBy ? valuesOf(view.own.subnets).map(formatPrefix).join(' ') : '';
    const peers = `${total} ${total === 1 ? 'peer' : 'peers'}${programmed < total ? `, ${total - programmed} not reached` : ''}`;
    const [problem] = problems.list(['peer']);
    return `${this.state}${view ? `: ${subnets}, ${peers}` : ''}${problem === undefined ? '' : `; ${problem}`}`;
  }
}
