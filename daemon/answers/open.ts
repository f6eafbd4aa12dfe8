/** All parts that answer questions about weftd, built from the parts that they read. */

import type { PathSurvey } from '../../cluster/status.ts';
import type { ClusterStore, ConfigSource } from '../../cluster/store.ts';
import type { Sys } from '../../linux/sys.ts';
import type { Address } from '../../net/address.ts';
import type { Attachments } from '../../reservations/attachments.ts';
import type { OpenedLogger } from '../report/log.ts';
import type { Metrics } from '../report/metrics.ts';
import type { Problems } from '../report/problems.ts';
import type { Progress } from '../report/progress.ts';
import { ClusterNodesSource } from './cluster-nodes.ts';
import { Condition, type ConditionOptions } from './condition.ts';
import { socketDoor, tcpDoor } from './doors.ts';
import { type FiguresOptions, FiguresSource } from './figures.ts';
import { type NodeStatusOptions, NodeStatusSource } from './node-status.ts';
import { type ProbeSources, shareRunning } from './probes.ts';
import { readProcess } from './process-figures.ts';
import { weftdRoutes } from './routes.ts';
import { listenTcp, listenUnix } from './server.ts';

export interface AnswersOptions extends Pick<ConditionOptions, 'membership' | 'activities'> {
  readonly sys: Sys;
  readonly node: string;
  readonly version: string;
  readonly ipMasq: boolean;
  readonly socketPath: string;
  /** The address of the probe port; undefined: none. */
  readonly healthz: { readonly address: Address; readonly port: number } | undefined;
  readonly logger: Pick<OpenedLogger, 'info' | 'error' | 'recent'>;
  readonly problems: Problems;
  readonly metrics: Metrics;
  readonly progress: Progress;
  readonly config: ConfigSource;
  readonly store: ClusterStore;
  readonly dataPath: NodeStatusOptions['dataPath'];
  readonly filter: NodeStatusOptions['filter'];
  readonly attachments: Attachments;
  /** Absent where weftd does not ask the peers by itself. */
  readonly paths: NodeStatusOptions['paths'] & FiguresOptions['paths'];
  readonly survey: { run(): Promise<PathSurvey> };
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
  const { sys, logger, config, store, healthz, metrics, monotonic } = options;
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
  const routes = weftdRoutes({
    status: () => status.read(),
    nodes: () => nodes.list(),
    logs: (number) => logger.recent.after(number),
    stores: { config, leases: store },
    probes,
    survey: () => options.survey.run(),
    now: monotonic,
  });
  const tcp = healthz && (await listenTcp(healthz.address, healthz.port, routes, tcpDoor()));
  if (tcp) logger.info('answers /healthz, /readyz and /metrics', { at: tcp.endpoint });
  const socket = await listenUnix(
    options.socketPath,
    routes,
    socketDoor((error) => logger.error('Cannot answer a request', { error })),
  );
  return {
    condition,
    close() {
      socket.close();
      tcp?.close();
    },
  };
}
