/** Every route of weftd. The probe port has only the probes. cluster/status.ts defines the answers. */

import type { ConfigPorts } from '../../cluster/administration.ts';
import type { ClusterNodes, NodeStatus, PathSurvey, RecentLog } from '../../cluster/status.ts';
import { configRoutes } from './config-routes.ts';
import { answerAgeMs, keepFor, type ProbeSources, probeRoutes, shareRunning } from './probes.ts';
import { jsonAnswer, type Route } from './route.ts';

export interface RouteSources {
  readonly status: () => Promise<NodeStatus>;
  readonly nodes: () => Promise<ClusterNodes>;
  /** @param number of the last line that the client knows */
  readonly logs: (number: number) => RecentLog;
  readonly stores: ConfigPorts;
  readonly probes: ProbeSources;
  readonly survey: () => Promise<PathSurvey>;
  /** Milliseconds on a clock that does not go back. */
  readonly now: () => number;
}

/** Of the query `?after=N`; 0 for any other. */
const numberAfter = (target: string): number => Number(/[?&]after=([0-9]{1,15})(?:&|$)/.exec(target)?.[1] ?? 0);

export const weftdRoutes = ({ status, nodes, logs, stores, probes, survey, now }: RouteSources): Route[] => [
  // With thousands of peers each takes tens of milliseconds, and a client that has gone is not noticed before the answer
  // is written. So requests share one answer, instead of occupying weftd one after the other.
  { method: 'GET', path: '/status', handle: shareRunning(async () => jsonAnswer(200, await status())) },
  { method: 'GET', path: '/nodes', handle: shareRunning(async () => jsonAnswer(200, await nodes())) },
  { method: 'GET', path: '/logs', handle: ({ target }) => jsonAnswer(200, logs(numberAfter(target))) },
  ...configRoutes(stores),
  // It sends packets, so it is no GET. Whoever asks meanwhile gets the same answer.
  {
    method: 'PUT',
    path: '/paths',
    deadlineMs: 15_000,
    handle: shareRunning(async () => jsonAnswer(200, await survey())),
  },
  // Root gets current figures on the socket.
  ...probeRoutes(probes, 'socket'),
  ...probeRoutes({ ...probes, metrics: keepFor(answerAgeMs, now, probes.metrics) }, 'tcp'),
];
