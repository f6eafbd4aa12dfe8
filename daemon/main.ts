/** weftd: puts the parts together, and ends cleanly. */

import { hostname } from 'node:os';
import type { Clock } from '../cluster/clock.ts';
import { keysBelow } from '../cluster/etcd/keys.ts';
import { formatLeaseMemory, parseLeaseMemory } from '../cluster/lease-memory.ts';
import type { PerFamily } from '../cluster/network-config.ts';
import type { ClusterStore } from '../cluster/store.ts';
import { UsageError } from '../command/options.ts';
import { readText } from '../linux/files.ts';
import { openNetlink } from '../linux/netlink/connection.ts';
import { dumpLinks } from '../linux/netlink/link.ts';
import { clock as clocks, type Sys } from '../linux/sys.ts';
import type { Family } from '../net/address.ts';
import type { Prefix } from '../net/prefix.ts';
import { countAddresses } from './answers/addresses.ts';
import { openApi } from './answers/api.ts';
import { healthLimits } from './answers/health.ts';
import { answerAgeMs, keepFor, openProbeServer, type ProbeSources } from './answers/probes.ts';
import { readProcess } from './answers/process-figures.ts';
import { ServiceManager } from './answers/service-manager.ts';
import { FilterEvents } from './filter/filter-events.ts';
import { lockLifeMs } from './filter/peer-lock.ts';
import { tableName } from './filter/rule-table.ts';
import { openRules, type Rules } from './filter/rules.ts';
import { FilterUpkeep } from './filter/upkeep.ts';
import { DeviceLocks } from './host/device-lock.ts';
import { networkEvents, openKernelEvents, packetFilterEvents } from './host/events.ts';
import { FolderBusyError, lockFolders, NodeFiles, socketPath } from './host/files.ts';
import { leave } from './leave.ts';
import { Loop } from './loop.ts';
import { Membership, type MembershipMemory } from './membership/membership.ts';
import { type DaemonOptions, helpText, parseDaemonOptions } from './options.ts';
import { DataPath } from './overlay/data-path.ts';
import { Healing } from './overlay/healing.ts';
import { Kernel } from './overlay/kernel.ts';
import { type Logger, openLogger } from './report/log.ts';
import { Metrics } from './report/metrics.ts';
import { Problems } from './report/problems.ts';

/** What the process has, handed in by the entry point. */
export interface DaemonHost {
  readonly sys: Sys;
  /** Without the program's name. */
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly version: string;
  /** Name and version of what runs the code. */
  readonly runtime: string;
  readonly stdout: (text: string) => void;
  readonly stderr: (text: string) => void;
  readonly stderrIsTerminal: boolean;
  /** Gives back the memory that is no longer in use: much of what starting takes. Takes some tens of milliseconds. */
  readonly releaseMemory: () => void;
  /** Calls back at each of the signals. */
  readonly onSignal: (signal: 'SIGTERM' | 'SIGINT' | 'SIGHUP', callback: () => void) => void;
}

/** How long after the start what it took is given back: most of it soon, the rest when all is at rest. */
const releasesMs = [2000, 15_000];

/** When the peer lock is renewed first. */
const firstRenewalMs = 1000;

/** include/uapi/linux/capability.h */
const CAP_NET_ADMIN = 12;

/** Whether this process may change the network, by `CapEff` of proc(5). */
function mayAdministerNetwork(sys: Sys): boolean {
  const match = /^CapEff:\s*([0-9a-f]+)$/m.exec(readText(sys, '/proc/self/status') ?? '');
  return match !== null && ((BigInt(`0x${match[1]}`) >> BigInt(CAP_NET_ADMIN)) & 1n) === 1n;
}

function randomNumber(sys: Sys): number {
  const buffer = new ArrayBuffer(4);
  sys.getrandom(buffer, 0, 4);
  return new Uint32Array(buffer)[0]! / 2 ** 32;
}

function randomBytes(sys: Sys, count: number): Uint8Array {
  const buffer = new ArrayBuffer(count);
  sys.getrandom(buffer, 0, count);
  return new Uint8Array(buffer);
}

/** For tests: intervals and lives that would be hours otherwise. In milliseconds and seconds. */
function testSettings(environment: DaemonHost['environment']) {
  const integer = (name: string): number | undefined => {
    const text = environment[name];
    return text !== undefined && /^[1-9]\d*$/.test(text) ? Number(text) : undefined;
  };
  return {
    leaseTtlSeconds: integer('WEFTD_TEST_LEASE_TTL_SECONDS'),
    renewMarginMs: integer('WEFTD_TEST_RENEW_MARGIN_MS'),
    resyncMs: integer('WEFTD_TEST_RESYNC_MS'),
    etcdTimeoutMs: integer('WEFTD_TEST_ETCD_TIMEOUT_MS'),
    heartbeatMs: integer('WEFTD_TEST_ETCD_HEARTBEAT_MS'),
    stuckMs: integer('WEFTD_TEST_STUCK_MS'),
    lockLifeMs: integer('WEFTD_TEST_LOCK_LIFE_MS'),
  };
}

export const byFamily = (subnets: readonly Prefix[]): PerFamily<Prefix> => {
  const result: { [family in Family]?: Prefix } = {};
  for (const subnet of subnets) result[subnet.address.family] ??= subnet;
  return result;
};

/** Interfaces that the plugins made carry an alias that begins with this. */
const containerAlias = /^weft /;

function countContainers(sys: Sys): number | undefined {
  try {
    const connection = openNetlink(sys);
    try {
      return connection.dump(dumpLinks({ kind: 'veth' })).filter(({ alias }) => containerAlias.test(alias ?? ''))
        .length;
    } finally {
      connection.close();
    }
  } catch {
    return undefined;
  }
}

/** The file of whom we know. It is of use in a double misfortune only: whatever ails it is told, and no more. */
function openMemory(files: NodeFiles, prefix: string, problems: Problems): MembershipMemory {
  const told = <T>(work: () => T): T | undefined => {
    try {
      const result = work();
      problems.report('memory', undefined);
      return result;
    } catch (error) {
      problems.report('memory', (error as Error).message);
      return undefined;
    }
  };
  return {
    read: () =>
      told(() => {
        const text = files.readMemory();
        return text === undefined ? undefined : parseLeaseMemory(text, keysBelow(prefix));
      }),
    write: (memory) => told(() => files.writeMemory(formatLeaseMemory(memory, prefix))),
  };
}

/** The parts that running and leaving have in common. */
export interface DaemonParts {
  readonly sys: Sys;
  readonly options: DaemonOptions;
  readonly node: string;
  readonly version: string;
  readonly logger: Logger;
  readonly problems: Problems;
  readonly metrics: Metrics;
  readonly store: ClusterStore;
  readonly files: NodeFiles;
  readonly dataPath: DataPath;
  readonly filter: FilterUpkeep;
  readonly filterEvents: FilterEvents;
  readonly rules: Pick<Rules, 'port' | 'concerns' | 'renewLock'>;
  readonly membership: Membership;
  readonly countContainers: () => number | undefined;
  readonly close: () => void;
}

async function openParts(host: DaemonHost, options: DaemonOptions, logger: Logger): Promise<DaemonParts> {
  const { sys, version } = host;
  const settings = testSettings(host.environment);
  const monotonic = (): number => sys.clock_gettime(clocks.CLOCK_MONOTONIC);
  const random = (): number => randomNumber(sys);
  const node = options.node ?? hostname();
  const problems = new Problems(logger, monotonic);
  const metrics = new Metrics({ version, runtime: host.runtime, monotonic });
  const clock: Clock = {
    nowMs: () => sys.clock_gettime(clocks.CLOCK_REALTIME),
    setTimer(callback, delayMs) {
      const timer = setTimeout(callback, delayMs);
      timer.unref();
      return { cancel: () => clearTimeout(timer) };
    },
  };
  const { openEtcdStore } = await import('../cluster/etcd/store.ts');
  const store = openEtcdStore({
    etcd: options.etcd,
    clock,
    random,
    observer: metrics,
    ...(settings.leaseTtlSeconds === undefined ? {} : { leaseTtlSeconds: settings.leaseTtlSeconds }),
    ...(settings.etcdTimeoutMs === undefined ? {} : { timeoutMs: settings.etcdTimeoutMs }),
    ...(settings.heartbeatMs === undefined ? {} : { heartbeatMs: settings.heartbeatMs }),
  });
  const files = new NodeFiles(sys, options);
  const kernel = new Kernel(sys);
  const filterEvents: FilterEvents = new FilterEvents((family, table) => rules.concerns(family, table));
  const rules: Rules = openRules(sys, logger, {
    name: tableName(store.prefix),
    now: monotonic,
    roads: () => filter.roads(),
    changedBy: () => filterEvents.takeChanger(),
    addresses: () => kernel.readInterfaces().flatMap(({ addresses }) => addresses),
    keepLock: options.filter.peerLock,
  });
  const healing = new Healing({ logger, metrics, now: monotonic });
  const filter: FilterUpkeep = new FilterUpkeep({
    rules,
    healing,
    problems,
    readInterfaces: () => kernel.readInterfaces(),
    ipMasq: options.ipMasq,
    filter: options.filter,
    ...(settings.lockLifeMs === undefined ? {} : { lockLifeMs: settings.lockLifeMs }),
  });
  const locks = new DeviceLocks(sys);
  const dataPath = new DataPath({
    kernel,
    filter,
    healing,
    files,
    logger,
    problems,
    node,
    choice: options.choice,
    ipMasq: options.ipMasq,
    peerLock: options.filter.peerLock,
    now: monotonic,
    random,
    randomMacBytes: () => randomBytes(sys, 6),
    lockDevice: (name) => locks.take(name),
  });
  const before = files.readNetwork((error) => problems.report('node files', error.message));
  const membership = new Membership({
    store,
    logger,
    problems,
    metrics,
    node,
    version,
    renewMarginMs: settings.renewMarginMs ?? options.renewMarginMs,
    previous: before && byFamily(before.subnets),
    now: clock.nowMs,
    monotonic,
    random,
    memory: openMemory(files, store.prefix, problems),
    isInUse: (subnet) => dataPath.isInUse(subnet),
    identify: (config, leases) => dataPath.identify(config, leases),
  });
  return {
    sys,
    options,
    node,
    version,
    logger,
    problems,
    metrics,
    store,
    files,
    dataPath,
    filter,
    filterEvents,
    rules,
    membership,
    countContainers: () => countContainers(sys),
    close() {
      store.close();
      kernel.close();
      rules.close();
      locks.close();
    },
  };
}

/** Runs until a signal ends it. */
async function serve(host: DaemonHost, parts: DaemonParts): Promise<number> {
  const { sys, logger, store, options } = parts;
  const monotonic = (): number => sys.clock_gettime(clocks.CLOCK_MONOTONIC);
  const { resyncMs, stuckMs, lockLifeMs: lifeMs = lockLifeMs } = testSettings(host.environment);
  const loop = new Loop({
    ...parts,
    pid: sys.getpid(),
    isSetUp: () => parts.files.readNetwork(() => {}) !== undefined,
    ipMasq: options.ipMasq,
    now: () => sys.clock_gettime(clocks.CLOCK_REALTIME),
    monotonic,
    threadTime: () => sys.clock_gettime(clocks.CLOCK_THREAD_CPUTIME_ID),
    random: () => randomNumber(sys),
    countAddresses: (subnets) => countAddresses(sys, options.cniDataDir, subnets),
    readProcess: () => readProcess(sys),
    onChange: () => manager.statusMayHaveChanged(),
    ...(resyncMs === undefined ? {} : { intervals: { resyncMs } }),
    ...(stuckMs === undefined ? {} : { healthLimits: { ...healthLimits, runMs: stuckMs } }),
  });
  const stopped = new Promise<string>((resolve) => {
    host.onSignal('SIGTERM', () => resolve('SIGTERM'));
    host.onSignal('SIGINT', () => resolve('SIGINT'));
  });
  host.onSignal('SIGHUP', () => {
    logger.info('asked to look at everything again', { signal: 'SIGHUP' });
    manager.reloading();
    loop.wakeAll();
    // As it is said: what comes of it, the status tells.
    void loop.whenReady().then(() => manager.ready());
  });
  const manager = new ServiceManager({
    sys,
    environment: host.environment,
    monotonic,
    status: () => loop.summary(),
    isAlive: () => loop.health() === undefined,
    onError: (error) => logger.warn(error.message),
  });
  parts.metrics.show(() => loop.figures());
  const probes: ProbeSources = {
    health: () => loop.health(),
    readiness: () => loop.readiness(),
    metrics: () => parts.metrics.format(),
  };
  // Root, by the socket, sees what is so now.
  const openProbes = { ...probes, metrics: keepFor(answerAgeMs, monotonic, probes.metrics) };
  const probeServer =
    options.healthz && (await openProbeServer(options.healthz.address, options.healthz.port, openProbes));
  if (probeServer) logger.info('answers /healthz, /readyz and /metrics', { at: probeServer.endpoint });
  const api = await openApi({
    path: socketPath(options.runDir),
    store,
    status: () => loop.freshStatus(),
    probes,
    onError: (error) => logger.error('Cannot answer a request', { error }),
  });
  const eventProblem =
    (subject: string) =>
    (error: Error | undefined): void =>
      parts.problems.report(subject, error && `Cannot hear of the kernel's changes: ${error.message}; looking again`);
  const filterEvents = openKernelEvents(sys, {
    source: packetFilterEvents,
    ownPort: () => parts.rules.port,
    isRelevant: (message) => parts.filterEvents.isRelevant(message),
    onEvent: () => loop.wakeRules(),
    onProblem: eventProblem('packet filter events'),
    retryDelayMs: 1000,
  });
  parts.filterEvents.poll = () => filterEvents.poll();
  const events = [
    filterEvents,
    openKernelEvents(sys, {
      source: networkEvents,
      interest: () => parts.dataPath.interest,
      onEvent: (subject) => {
        if (subject === 'host') parts.dataPath.disturb();
        loop.wakeKernel();
      },
      onProblem: (error) => {
        parts.dataPath.hears = error === undefined;
        eventProblem('network events')(error);
      },
      retryDelayMs: 100,
    }),
  ];
  loop.start();
  manager.start();
  void loop.whenReady().then(() => manager.ready());
  const renewLock = (): void => {
    try {
      parts.rules.renewLock();
    } catch {
      // Whoever took it away is met when the rules are looked at.
      loop.wakeRules();
    }
  };
  // Soon, too: what an earlier weftd has left may not hold for much longer, and etcd may be away.
  const firstRenewal = setTimeout(renewLock, Math.min(firstRenewalMs, lifeMs / 3));
  const renewal = setInterval(renewLock, lifeMs / 3);
  const releases = releasesMs.map((ms) => {
    const timer = setTimeout(() => host.releaseMemory(), ms);
    timer.unref();
    return timer;
  });
  const signal = await stopped;
  clearTimeout(firstRenewal);
  clearInterval(renewal);
  for (const timer of releases) clearTimeout(timer);
  manager.stopping();
  await loop.stop();
  for (const stream of events) stream.close();
  api.close();
  probeServer?.close();
  parts.close();
  logger.info('stopped; the data path and the lease stay', { signal });
  return 0;
}

async function runWith(host: DaemonHost, options: DaemonOptions, logger: Logger): Promise<number> {
  const { sys } = host;
  if (!mayAdministerNetwork(sys)) {
    logger.error('weftd needs the right to change the network (CAP_NET_ADMIN): run it as root');
    return 1;
  }
  for (const option of options.ignored) logger.warn(`option ${option} has no effect in weftd`);
  if (options.leave) return leave(() => openParts(host, options, logger), sys, options, logger);
  const lock = lockFolders(sys, options);
  try {
    const parts = await openParts(host, options, logger);
    logger.info('weftd starts', {
      version: host.version,
      node: parts.node,
      etcd: options.etcd.endpoints.join(','),
      prefix: options.etcd.prefix,
    });
    return await serve(host, parts);
  } finally {
    lock.release();
  }
}

/**
 * Runs weftd until it is stopped.
 * @returns the exit status: 0; 1 where it could not run; 2 for a wrong command line
 */
export async function run(host: DaemonHost): Promise<number> {
  let options: DaemonOptions;
  try {
    options = parseDaemonOptions(host.args, host.environment);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    host.stderr(`weftd: ${error.message}\n`);
    return 2;
  }
  if (options.help) {
    host.stdout(helpText());
    return 0;
  }
  if (options.version) {
    host.stdout(`weftd ${host.version}\n`);
    return 0;
  }
  const logger = openLogger({
    level: options.logLevel,
    format: options.logFormat ?? (host.stderrIsTerminal ? 'text' : 'json'),
    write: host.stderr,
    now: () => host.sys.clock_gettime(clocks.CLOCK_REALTIME),
  });
  try {
    return await runWith(host, options, logger);
  } catch (error) {
    const { name, message, stack } = error as Error;
    const expected = error instanceof FolderBusyError || name === 'SyscallError' || name === 'Error';
    logger.error(message, expected ? {} : { stack });
    return 1;
  }
}
