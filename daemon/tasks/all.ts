/** weftd's tasks, built from the parts that they work on. */

import type { ClusterStore } from '../../cluster/store.ts';
import type { Attachments } from '../../reservations/attachments.ts';
import type { LockRenewal } from '../filter/lock-renewal.ts';
import type { FilterUpkeep } from '../filter/upkeep.ts';
import type { Lifelines } from '../host/lifelines.ts';
import type { Membership } from '../membership/membership.ts';
import type { DataPath } from '../overlay/data-path.ts';
import { Bell } from '../pace/bell.ts';
import { type Task, taskDeadlineMs } from '../pace/task.ts';
import type { PathHealth } from '../probes/path-health.ts';
import type { Logger } from '../report/log.ts';
import type { Metrics } from '../report/metrics.ts';
import type { Problems } from '../report/problems.ts';
import type { Progress } from '../report/progress.ts';
import { AnnounceUp } from './announce-up.ts';
import { collectGarbageTask } from './collect-garbage.ts';
import { lookUpNamesTask } from './look-up-names.ts';
import { MendFilter } from './mend-filter.ts';
import { MendNetwork } from './mend-network.ts';
import { PublishNode } from './publish-node.ts';
import { releaseMemoryTask } from './release-memory.ts';
import { renewLockTask } from './renew-lock.ts';
import { ChangeStopwatch } from './stopwatch.ts';
import { SyncCluster } from './sync-cluster.ts';
import { tellDroppedTask } from './tell-dropped.ts';
import { TellEvents } from './tell-events.ts';
import { VerifyFollowed } from './verify-followed.ts';

export interface TaskParts {
  readonly store: Pick<ClusterStore, 'kind' | 'liveness' | 'reconnect' | 'announceUp' | 'mustAnnounce' | 'event'>;
  readonly membership: Pick<Membership, 'view' | 'sync' | 'renewalDelayMs' | 'memoryDelayMs'>;
  readonly dataPath: Pick<DataPath, 'follow' | 'reconcile' | 'disturb' | 'healedTotal' | 'interfaceProblem'>;
  readonly lifelines: Pick<Lifelines, 'hasNames' | 'refresh'>;
  readonly filter: Pick<FilterUpkeep, 'ensure' | 'tellDropped'>;
  /** Absent where weftd does not ask the peers. */
  readonly pathHealth?: PathHealth | undefined;
  readonly lockRenewal: Pick<LockRenewal, 'run' | 'everyMs' | 'firstMs'>;
  readonly logger: Logger;
  readonly problems: Problems;
  readonly metrics: Metrics;
  readonly progress: Progress;
  readonly node: string;
  readonly version: string;
  readonly isSetUp: () => boolean;
  readonly attachments: Pick<Attachments, 'count'>;
  readonly releaseMemory: () => void;
  readonly collectGarbage: () => void;
  readonly memoryBytes: () => number | undefined;
  /** Milliseconds on a clock that does not go back. */
  readonly now: () => number;
  readonly threadTime: () => number;
  readonly random: () => number;
  /** Of looking at the store and at the kernel although nothing was heard of. */
  readonly resyncMs?: number | undefined;
  readonly deadlineMs?: number | undefined;
}

export interface Tasks {
  readonly all: readonly Task[];
  readonly syncCluster: SyncCluster;
  readonly mendNetwork: MendNetwork;
  readonly mendFilter: MendFilter;
  readonly publishNode: PublishNode;
  /** Asks for a comparison of the data path. */
  readonly network: Bell;
}

const defaultResyncMs = 60_000;

export function makeTasks(parts: TaskParts): Tasks {
  const {
    lockRenewal,
    releaseMemory,
    collectGarbage,
    memoryBytes,
    resyncMs = defaultResyncMs,
    deadlineMs = taskDeadlineMs,
  } = parts;
  const bells = {
    sync: new Bell(),
    network: new Bell(),
    filter: new Bell(),
    publish: new Bell(),
    announce: new Bell(),
    verify: new Bell(),
    memory: new Bell(),
  };
  const stopwatch = new ChangeStopwatch(parts);
  const verification = new VerifyFollowed({ bells, now: parts.now });
  const shared = { ...parts, bells, stopwatch, resyncMs, deadlineMs };
  const syncCluster = new SyncCluster({ ...shared, verification });
  const mendNetwork = new MendNetwork(shared);
  const mendFilter = new MendFilter(shared);
  const publishNode = new PublishNode(shared);
  return {
    all: [
      syncCluster,
      mendNetwork,
      mendFilter,
      publishNode,
      ...(parts.store.announceUp ? [new AnnounceUp(shared)] : []),
      ...(parts.store.event ? [new TellEvents(shared)] : []),
      verification,
      renewLockTask(lockRenewal, mendFilter),
      tellDroppedTask(parts.filter),
      ...(parts.pathHealth ? [parts.pathHealth] : []),
      lookUpNamesTask(parts.lifelines, parts.dataPath, bells.network),
      releaseMemoryTask({
        release: releaseMemory,
        manyChanges: bells.memory,
        restedMs: () => verification.restedMs,
        now: parts.now,
      }),
      collectGarbageTask({
        collect: collectGarbage,
        memoryBytes,
        isFlooded: () => parts.problems.isFlooded,
        changed: bells.sync,
        now: parts.now,
      }),
    ],
    syncCluster,
    mendNetwork,
    mendFilter,
    publishNode,
    network: bells.network,
  };
}
