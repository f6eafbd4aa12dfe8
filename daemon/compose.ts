/**
 * Builds the parts that running and leaving have in common, from the bottom up. Each gets the parts below it when it is
 * made, and none is changed from outside afterwards. Nothing runs yet: service.ts sets it going.
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
import type { Prefix } from '../net/prefix.ts';
import type { Attachments } from '../reservations/attachments.ts';
import { backends } from './backends/map.ts';
import { FilterFeatures } from './filter/features.ts';
import { FilterEvents } from './filter/filter-events.ts';
import { PacketFilter, tableName } from './filter/packet-filter.ts';
import { lockLifeMs } from './filter/peer-lock.ts';
import { FilterUpkeep, partsFor } from './filter/upkeep.ts';
import { Ways } from './filter/ways.ts';
import { openAttachments } from './host/attachments.ts';
import { DeviceLocks } from './host/device-lock.ts';
import { KernelEvents, packetFilterEvents } from './host/events.ts';
import { ExternalChoice } from './host/external-choice.ts';
import { NodeFiles } from './host/files.ts';
import { openFormerSubnets } from './host/former-subnets.ts';
import { connectedNetworks, ownAddresses } from './host/host-state.ts';
import { Lifelines } from './host/lifelines.ts';
import { RememberedState } from './host/remembered-state.ts';
import { IdentityKeeper } from './membership/identity.ts';
import { Membership } from './membership/membership.ts';
import { openMemory } from './membership/memory-file.ts';
import type { DaemonOptions } from './options.ts';
import { DataPath } from './overlay/data-path.ts';
import { Healing } from './overlay/healing.ts';
import { Kernel } from './overlay/kernel.ts';
import { removeEverything, removeForFlanneld } from './overlay/removal.ts';
import { foldRepeats } from './report/folding-logger.ts';
import { limitLines, storeLines } from './report/line-budget.ts';
import type { OpenedLogger } from './report/log.ts';
import { Metrics } from './report/metrics.ts';
import { Problems } from './report/problems.ts';
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

/** The pause before a broken stream of the packet filter's events is reopened. */
const filterRetryMs = 1000;

function randomBytes(sys: Sys, count: number): ArrayBuffer {
  const buffer = new ArrayBuffer(count);
  sys.getrandom(buffer, 0, count);
  return buffer;
}

export const randomNumber = (sys: Sys): number => new Uint32Array(randomBytes(sys, 4))[0]! / 2 ** 32;

function byFamily(subnets: readonly Prefix[]): PerFamily<Prefix> {
  const result: { [family in Family]?: Prefix } = {};
  for (const subnet of subnets) result[subnet.address.family] ??= subnet;
  return result;
}

export const clockOf = (sys: Sys): Clock => ({
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
