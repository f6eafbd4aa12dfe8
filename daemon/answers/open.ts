/** Everything that answers questions about weftd, built from the parts that it asks. */

import type { ClusterStore } from '../../cluster/store.ts';
import type { Sys } from '../../linux/sys.ts';
import type { Address } from '../../net/address.ts';
import type { Attachments } from '../../reservations/attachments.ts';
import type { Logger } from '../report/log.ts';
import type { Metrics } from '../report/metrics.ts';
import type { Problems } from '../report/problems.ts';
import type { Progress } from '../report/progress.ts';
import { openApi } from './api.ts';
import { ClusterNodesSource } from './cluster-nodes.ts';
import { Condition, type ConditionOptions } from './condition.ts';
import { FiguresSource } from './figures.ts';
import { type NodeStatusOptions, NodeStatusSource } from './node-status.ts';
import { answerAgeMs, keepFor, openProbeServer, type ProbeSources, shareRunning } from './probes.ts';
import { readProcess } from './process-figures.ts';

export interface AnswersOptions extends Pick<ConditionOptions, 'membership' | 'activities'> {
  readonly sys: Sys;
  readonly node: string;
  readonly version: string;
  readonly ipMasq: boolean;
  readonly socketPath: string;
  /** Where the probes are answered to the network; undefined: nowhere. */
  readonly healthz: { readonly address: Address; readonly port: number } | undefined;
  readonly logger: Pick<Logger, 'info' | 'error'>;
  readonly problems: Problems;
  readonly metrics: Metrics;
  readonly progress: Progress;
  readonly store: ClusterStore;
  readonly dataPath: NodeStatusOptions['dataPath'];
  readonly filter: NodeStatusOptions['filter'];
  readonly attachments: Attachments;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Milliseconds on a clock that does not go back. */
  readonly monotonic: () => number;
}

export interface Answers {
  readonly condition: Condition;
  close(): void;
}

/** @throws Error: an address or a path cannot be listened on */
export async function openAnswers(options: AnswersOptions): Promise<Answers> {
  const { sys, logger, store, healthz, metrics, monotonic } = options;
  const condition = new Condition({ ...options, now: monotonic });
  const nodes = new ClusterNodesSource(store);
  const status = new NodeStatusSource({ ...options, pid: sys.getpid(), condition, nodes });
  const figures = new FiguresSource({
    ...options,
    condition,
    readProcess: () => readProcess(sys),
  });
  const probes: ProbeSources = {
    health: () => condition.health(),
    readiness: () => condition.readiness(),
    metrics: shareRunning(async () => metrics.format(await figures.read())),
  };
  // Root, by the socket, gets the figures of this moment.
  const openProbes = { ...probes, metrics: keepFor(answerAgeMs, monotonic, probes.metrics) };
  const probeServer = healthz && (await openProbeServer(healthz.address, healthz.port, openProbes));
  if (probeServer) logger.info('answers /healthz, /readyz and /metrics', { at: probeServer.endpoint });
  const api = await openApi({
    path: options.socketPath,
    store,
    nodes: () => nodes.list(),
    status: () => status.read(),
    probes,
    onError: (error) => logger.error('Cannot answer a request', { error }),
  });
  return {
    condition,
    close() {
      api.close();
      probeServer?.close();
    },
  };
}
