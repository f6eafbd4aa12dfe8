/**
 * Builds weftd's parts from the bottom up. Each gets the parts below it when it is made, and none is changed from
 * outside afterwards. Streams of events are opened last, because they call into all of it.
 */

import { lookup } from 'node:dns/promises';
import { hostname } from 'node:os';
import type { Clock } from '../cluster/clock.ts';
import type { PerFamily } from '../cluster/network-config.ts';
import type { ClusterStore, ConfigSource, Stores } from '../cluster/store.ts';
import { StoreError } from '../cluster/store-errors.ts';
import { findNodeName, openStore } from '../cluster/stores/open-store.ts';
import { clock as clocks, type Sys } from '../linux/sys.ts';
import type { Address, Family } from '../net/address.ts';
import { socketPath } from '../net/paths.ts';
import type { Prefix } from '../net/prefix.ts';
import type { Attachments } from '../reservations/attachments.ts';
import { openAnswers } from './answers/open.ts';
import { readAnonymousBytes } from './answers/process-figures.ts';
import { ServiceManager } from './answers/service-manager.ts';
import { backends } from './backends/map.ts';
import { FilterFeatures } from './filter/features.ts';
import { FilterEvents } from './filter/filter-events.ts';
import { PacketFilter, tableName } from './filter/packet-filter.ts';
import { lockLifeMs } from './filter/peer-lock.ts';
import { FilterUpkeep, partsFor } from './filter/upkeep.ts';
import { Ways } from './filter/ways.ts';
import { openAttachments } from './host/attachments.ts';
import { DeviceLocks } from './host/device-lock.ts';
import { KernelEvents, networkEvents, packetFilterEvents } from './host/events.ts';
import { ExternalChoice } from './host/external-choice.ts';
import { NodeFiles } from './host/files.ts';
import { openFormerSubnets } from './host/former-subnets.ts';
import { connectedNetworks, ownAddresses } from './host/host-state.ts';
import { Lifelines } from './host/lifelines.ts';
import { findLiveFlanneld } from './host/live-flanneld.ts';
import { RememberedState } from './host/remembered-state.ts';
import { Loop } from './loop.ts';
import { IdentityKeeper } from './membership/identity.ts';
import { Membership } from './membership/membership.ts';
import { openMemory } from './membership/memory-file.ts';
import type { DaemonOptions } from './options.ts';
import { DataPath } from './overlay/data-path.ts';
import { Healing } from './overlay/healing.ts';
import { Kernel } from './overlay/kernel.ts';
import { removeEverything, removeForFlanneld } from './overlay/removal.ts';
import { Bell } from './pace/bell.ts';
import { foldRepeats } from './report/folding-logger.ts';
import { limitLines, storeLines } from './report/line-budget.ts';
import type { OpenedLogger } from './report/log.ts';
import { Metrics } from './report/metrics.ts';
import type { ProblemKind } from './report/problem-catalogue.ts';
import { Problems } from './report/problems.ts';
import { Progress } from './report/progress.ts';
import { StandAside } from './stand-aside.ts';
import { makeTasks } from './tasks/all.ts';
import { readTestSettings } from './test-settings.ts';

/** The part of the process that the parts use, handed in by the entry point. */
export interface ProcessHost {
  readonly sys: Sys;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly version: string;
  /** Name and version of the JavaScript runtime. */
  readonly runtime: string;
  /** Returns unused memory, such as most of the start's. Takes some tens of milliseconds. */
  readonly releaseMemory: () => void;
  /** Frees what nothing refers to. Takes about as long. */
  readonly collectGarbage: () => void;
}

/** The parts that running and leaving have in common. */
export interface NodeParts {
  readonly options: DaemonOptions;
  readonly node: string;
  readonly logger: OpenedLogger;
  readonly problems: Problems;
  readonly metrics: Metrics;
  readonly config: ConfigSource;
  readonly store: ClusterStore;
  readonly files: NodeFiles;
  readonly dataPath: DataPath;
  readonly lifelines: Lifelines;
  readonly filter: FilterUpkeep;
  readonly filterStream: KernelEvents;
  readonly filterEvents: FilterEvents;
  readonly packetFilter: Pick<PacketFilter, 'port' | 'concerns' | 'renewal'>;
  readonly membership: Membership;
  readonly attachments: Attachments;
  /** The addresses that this host has or is said to have. */
  readonly hostAddresses: () => Address[];
  /** Returns what could not be removed. */
  readonly removeEverything: () => Error[];
  /** Without devices, routes and subnet.env. */
  readonly removeForFlanneld: () => Error[];
  readonly close: () => void;
}

/** The running weftd. */
export interface Service {
  /** Compares everything again, and reports to the service manager when that is done. */
  reload(): void;
  /** The data path and the lease stay. */
  stop(): Promise<void>;
}

/** The pause before a broken event stream is reopened. */
const filterRetryMs = 1000;
const networkRetryMs = 100;

function randomBytes(sys: Sys, count: number): ArrayBuffer {
  const buffer = new ArrayBuffer(count);
  sys.getrandom(buffer, 0, count);
  return buffer;
}

const randomNumber = (sys: Sys): number => new Uint32Array(randomBytes(sys, 4))[0]! / 2 ** 32;

function byFamily(subnets: readonly Prefix[]): PerFamily<Prefix> {
  const result: { [family in Family]?: Prefix } = {};
  for (const subnet of subnets) result[subnet.address.family] ??= subnet;
  return result;
}

/** How long the start waits for the addresses of endpoints that are given by name. */
const namesTimeoutMs = 1000;

const clockOf = (sys: Sys): Clock => ({
  nowMs: () => sys.clock_gettime(clocks.CLOCK_REALTIME),
  setTimer(callback, delayMs) {
    const timer = setTimeout(callback, delayMs);
    timer.unref();
    return { cancel: () => clearTimeout(timer) };
  },
});

/** @throws Error: nobody knows it now */
async function nodeName(
  { node, kubernetes }: DaemonOptions,
  { environment }: ProcessHost,
  clock: Clock,
): Promise<string> {
  if (node !== undefined) return node;
  try {
    const found = await findNodeName({ kubernetes, environment, clock });
    // kubelet's own default is the hostname in lower case.
    return found ?? (kubernetes ? hostname().toLowerCase() : hostname());
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    const advice = 'give it by --node or NODE_NAME';
    throw new Error(`Cannot find the name of this host's Node: ${error.message}; ${advice}`, { cause: error });
  }
}

/** @param open opens the store of the cluster's leases and config */
export async function composeNode(
  host: ProcessHost,
  options: DaemonOptions,
  logger: OpenedLogger,
  open: (...parameters: Parameters<typeof openStore>) => Promise<Stores> = openStore,
): Promise<NodeParts> {
  const { sys, version } = host;
  const settings = readTestSettings(host.environment);
  const monotonic = (): number => sys.clock_gettime(clocks.CLOCK_MONOTONIC);
  const random = (): number => randomNumber(sys);
  const problems = new Problems(logger, monotonic);
  const metrics = new Metrics({ version, runtime: host.runtime, monotonic });
  const clock = clockOf(sys);
  const node = await nodeName(options, host, clock);
  const { kubernetes, etcd } = options;
  const { config, leases: store } = await open({
    ...(kubernetes ? { kubernetes, node, environment: host.environment } : { etcd }),
    backends,
    clock,
    random,
    observer: metrics,
    leaseTtlSeconds: settings.leaseTtlSeconds,
    timeoutMs: settings.storeTimeoutMs,
    heartbeatMs: settings.heartbeatMs,
    silenceMs: settings.silenceMs,
  });
  const files = new NodeFiles(sys, options);
  const kernel = new Kernel(sys, options.procSysDir);
  const filterStream = new KernelEvents(sys, packetFilterEvents, filterRetryMs);
  const filterEvents = new FilterEvents(() => filterStream.poll());
  const ways = new Ways(() => kernel.readInterfaces());
  const lifeMs = settings.lockLifeMs ?? lockLifeMs;
  const features = new FilterFeatures();
  const filterParts = partsFor(options.filter, {
    ipMasq: options.ipMasq,
    lockLifeMs: lifeMs,
    now: monotonic,
    features,
  });
  const repairs = foldRepeats(logger, monotonic);
  const packetFilter = new PacketFilter(sys, repairs, {
    name: tableName(store.scope),
    families: filterParts.map(({ family }) => family),
    now: monotonic,
    changedBy: () => filterEvents.takeChanger(),
    addresses: () => kernel.readInterfaces().flatMap(({ addresses }) => addresses),
    lockLifeMs: lifeMs,
    keepLock: options.filter.peerLock,
  });
  const healing = new Healing({ logger: repairs, metrics, now: monotonic });
  const filter = new FilterUpkeep({
    filter: packetFilter,
    parts: filterParts,
    features,
    logger,
    now: monotonic,
    foreignChains: options.filter.forward,
    healing,
    problems,
    ways,
  });
  const locks = new DeviceLocks(sys, (message) => logger.warn(message));
  const remembered = new RememberedState(files, (error) => problems.report('state file', error?.message));
  const lifelines = new Lifelines({
    sys,
    endpoints: () => store.health().endpoints,
    kind: store.kind,
    lookUp: async (name) => (await lookup(name, { all: true })).map(({ address }) => address),
    setTimer: clock.setTimer,
    now: monotonic,
  });
  const external = new ExternalChoice({
    choice: options.choice,
    peerLock: options.filter.peerLock,
    remembered,
    storeAddresses: () => lifelines.ofStore,
    told: () => store.nodeAddresses?.(),
  });
  const dataPath = new DataPath({
    kernel,
    backends,
    filter,
    healing,
    files,
    logger: limitLines(logger, 'data path', storeLines, monotonic),
    problems,
    node,
    external,
    remembered,
    lifelines: () => lifelines.current,
    ipMasq: options.ipMasq,
    now: monotonic,
    random,
  });
  const identity = new IdentityKeeper({
    node,
    backends,
    external,
    remembered,
    readHost: () => kernel.readHostAlone(),
    hostView: (state) => kernel.hostView(state),
    settledHost: () => dataPath.settledHost,
    findOwn: store.findOwn && ((leases) => store.findOwn?.(leases)),
    randomMacBytes: () => new Uint8Array(randomBytes(sys, 6)),
    monotonic,
    lockDevice: (name, advice) => locks.take(name, advice),
  });
  const attachments = openAttachments(sys, options.cniDataDir);
  const before = files.readNetwork((error) => problems.report('node files', error.message));
  const membership = new Membership({
    config,
    store,
    logger: limitLines(logger, 'lease', storeLines, monotonic),
    problems,
    metrics,
    node,
    version,
    backends,
    renewMarginMs: settings.renewMarginMs ?? options.renewMarginMs,
    // After a reboot the node files are gone, as they are in /run.
    previous: before ? byFamily(before.subnets) : remembered.current.subnets[0],
    remembered,
    now: clock.nowMs,
    monotonic,
    random,
    ...(store.memory ? { memory: openMemory(files, store.memory, problems, store.kind) } : {}),
    withdraw: () => {
      const isGone = files.withdrawNetwork((error) => problems.report('node files', error.message));
      if (isGone) logger.warn('node files withdrawn');
    },
    formerSubnets: openFormerSubnets(sys, attachments),
    lookEveryMs: settings.resyncMs,
    hostNetworks: () => connectedNetworks(kernel.readInterfaces()),
    identity,
  });
  return {
    options,
    node,
    logger,
    problems,
    metrics,
    config,
    store,
    files,
    dataPath,
    lifelines,
    filter,
    filterStream,
    filterEvents,
    packetFilter,
    membership,
    attachments,
    hostAddresses: () => [...ownAddresses(kernel.readInterfaces()), ...Object.values(options.choice.publicAddresses)],
    removeEverything: () => removeEverything({ kernel, filter, files, remembered, logger }),
    removeForFlanneld: () => removeForFlanneld({ filter, files }),
    close() {
      store.close();
      kernel.close();
      packetFilter.close();
      locks.close();
    },
  };
}

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
      parts.close();
    },
  };
}
