/**
 * Runs weftd: builds the tasks, the answers and the loop on the parts of compose.ts, and opens the streams of events last,
 * because they call into all of it.
 */

import { clock as clocks } from '../linux/sys.ts';
import { socketPath } from '../net/paths.ts';
import { openAnswers } from './answers/open.ts';
import { readAnonymousBytes } from './answers/process-figures.ts';
import { ServiceManager } from './answers/service-manager.ts';
import { clockOf, type NodeParts, type ProcessHost, randomNumber } from './compose.ts';
import { KernelEvents, networkEvents } from './host/events.ts';
import { findLiveFlanneld } from './host/live-flanneld.ts';
import { Loop } from './loop.ts';
import { Bell } from './pace/bell.ts';
import { openProbes } from './probes/open.ts';
import type { ProblemKind } from './report/problem-catalogue.ts';
import { Progress } from './report/progress.ts';
import { StandAside } from './stand-aside.ts';
import { makeTasks } from './tasks/all.ts';
import { readTestSettings } from './test-settings.ts';

/** The running weftd. */
export interface Service {
  /** Compares everything again, and reports to the service manager when that is done. */
  reload(): void;
  /** The data path and the lease stay. */
  stop(): Promise<void>;
}

/** The pause before a broken stream of the network's events is reopened. */
const networkRetryMs = 100;

/** How long the start waits for the addresses of endpoints that are given by name. */
const namesTimeoutMs = 1000;

/** @throws Error: an address or a path cannot be listened on */
export async function startService(host: ProcessHost, parts: NodeParts): Promise<Service> {
  const { sys } = host;
  const { logger, config, store, options, problems, dataPath, filterEvents, filterStream, membership, packetFilter } =
    parts;
  const now = (): number => sys.clock_gettime(clocks.CLOCK_REALTIME);
  const monotonic = (): number => sys.clock_gettime(clocks.CLOCK_MONOTONIC);
  const random = (): number => randomNumber(sys);
  const settings = readTestSettings(host.environment);
  const progress = new Progress(now());
  const probes = openProbes({ ...parts, sys, now: monotonic, time: now, roundMs: settings.probeMs });
  const tasks = makeTasks({
    ...parts,
    version: host.version,
    progress,
    isSetUp: () => parts.files.readNetwork(() => {}) !== undefined,
    releaseMemory: host.releaseMemory,
    collectGarbage: host.collectGarbage,
    memoryBytes: () => readAnonymousBytes(sys),
    now: monotonic,
    threadTime: () => sys.clock_gettime(clocks.CLOCK_THREAD_CPUTIME_ID),
    random,
    lockRenewal: packetFilter.renewal,
    pathHealth: options.probePeers ? probes.health : undefined,
    resyncMs: settings.resyncMs,
    deadlineMs: settings.stuckMs,
  });
  const changed = new Bell();
  const loop = new Loop({ tasks: tasks.all, problems, now: monotonic, random, changed });
  const answers = await openAnswers({
    ...parts,
    sys,
    version: host.version,
    ipMasq: options.ipMasq,
    socketPath: socketPath(options.runDir),
    healthz: options.healthz,
    progress,
    paths: options.probePeers ? probes.health : undefined,
    survey: probes.survey,
    activities: () => loop.activities,
    now,
    monotonic,
  });
  const manager = new ServiceManager({
    sys,
    environment: host.environment,
    monotonic,
    status: () => answers.condition.summary(),
    isAlive: () => answers.condition.health() === undefined,
    onError: (error) => logger.warn(error.message),
  });
  changed.listen(() => manager.statusMayHaveChanged());
  const reportEvents = (kind: ProblemKind, error: Error | undefined): void =>
    problems.report(kind, error && `Cannot receive the kernel's events: ${error.message}; comparing everything again`);
  const networkStream = new KernelEvents(sys, networkEvents, networkRetryMs);
  const watches: { close(): void }[] = [];
  const begin = async (): Promise<void> => {
    filterStream.start({
      ownPort: () => packetFilter.port,
      isRelevant: (message) =>
        filterEvents.isRelevant(message, (family, table) => packetFilter.concerns(family, table)),
      onEvent: () => tasks.mendFilter.heard(),
      onProblem: (error) => reportEvents('packet filter events', error),
    });
    networkStream.start({
      interest: () => dataPath.interest,
      onEvent: (subject) => {
        if (subject === 'host') dataPath.disturb();
        tasks.mendNetwork.heard();
      },
      onProblem: (error) => {
        dataPath.noteHearing(error === undefined);
        reportEvents('network events', error);
      },
    });
    // Otherwise the first comparison could let a peer's subnet cover them.
    if (parts.lifelines.hasNames) {
      const timeout = new Promise<void>((resolve) => setTimeout(resolve, namesTimeoutMs));
      await Promise.race([parts.lifelines.refresh(), timeout]);
    }
    if (progress.isStopping) return;
    loop.start();
    watches.push(
      store.watch(
        () => tasks.syncCluster.heard(),
        (error) => tasks.syncCluster.watchFailed(error),
      ),
      config.watch(() => tasks.syncCluster.heard()),
    );
  };
  const aside = new StandAside({
    find: () => findLiveFlanneld(sys),
    report: (reason) => problems.report('flanneld', reason),
    begin,
    setTimer: clockOf(sys).setTimer,
  });
  await aside.start();
  manager.start();
  const tellReady = (): void => void progress.whenReady().then(() => manager.ready());
  tellReady();
  return {
    reload() {
      manager.reloading();
      if (aside.hasBegun) {
        tasks.syncCluster.heard();
        tasks.network.ring();
      }
      // Report READY now. The status shows the outcome.
      tellReady();
    },
    async stop() {
      manager.stopping();
      progress.stop();
      aside.close();
      loop.stop();
      for (const watch of watches) watch.close();
      // Before that it knows nothing of the cluster, and is nobody in it.
      if (aside.hasBegun) {
        membership.remember(true);
        await tasks.publishNode.withdraw();
      }
      filterStream.close();
      networkStream.close();
      answers.close();
      probes.health.close();
      parts.close();
    },
  };
}
