/** weftd: its command line, its rights, its log, its locks and its signals. */

import { messageOf } from '../command/fault.ts';
import { UsageError } from '../command/options.ts';
import { CAP_NET_ADMIN, hasCapability } from '../linux/capability.ts';
import { SyscallError } from '../linux/errors.ts';
import { clock as clocks } from '../linux/sys.ts';
import { readSysctl } from '../linux/sysctl.ts';
import { defaultPaths } from '../net/paths.ts';
import { composeNode, type ProcessHost } from './compose.ts';
import { FolderBusyError, lockFolders } from './host/folder-lock.ts';
import { readServiceSettings } from './host/service-settings.ts';
import { leave } from './leave.ts';
import { type DaemonOptions, helpText, parseDaemonOptions } from './options.ts';
import { Bell } from './pace/bell.ts';
import { type OpenedLogger, openLogger } from './report/log.ts';
import { startService } from './service.ts';

type Signal = 'SIGTERM' | 'SIGINT' | 'SIGHUP';

/** The process, handed in by the entry point. */
export interface DaemonHost extends ProcessHost {
  /** Without the program's name. */
  readonly args: readonly string[];
  readonly stdout: (text: string) => void;
  readonly stderr: (text: string) => void;
  readonly stderrIsTerminal: boolean;
  /** Calls back at each of the signals. */
  readonly onSignal: (signal: Signal, callback: () => void) => void;
}

/** Runs until a signal ends it. */
async function serve(host: DaemonHost, options: DaemonOptions, logger: OpenedLogger): Promise<number> {
  const parts = await composeNode(host, options, logger);
  logger.info('weftd starts', {
    version: host.version,
    node: parts.node,
    ...(options.kubernetes
      ? { kubernetes: parts.store.health().endpoints.join(',') || (options.kubernetes.kubeconfigFile ?? '') }
      : { etcd: options.etcd.endpoints.join(',') }),
    prefix: parts.store.place,
  });
  const stopped = new Promise<Signal>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) host.onSignal(signal, () => resolve(signal));
  });
  // From now on, because the signal would end the process.
  const hangup = new Bell();
  host.onSignal('SIGHUP', () => {
    logger.info('asked to look at everything again', { signal: 'SIGHUP' });
    hangup.ring();
  });
  const service = await startService(host, parts);
  hangup.listen(() => service.reload());
  const signal = await stopped;
  await service.stop();
  logger.info('stopped; the data path and the lease stay', { signal });
  return 0;
}

async function runWith(host: DaemonHost, options: DaemonOptions, logger: OpenedLogger): Promise<number> {
  const { sys } = host;
  if (!hasCapability(sys, CAP_NET_ADMIN)) {
    logger.error('weftd needs the right to change the network (CAP_NET_ADMIN): run it as root');
    return 1;
  }
  // Otherwise all settings would count as ones that this kernel lacks.
  if (readSysctl(sys, ['net', 'ipv4', 'ip_forward'], options.procSysDir) === undefined) {
    logger.error(
      `Cannot find the kernel's settings: "${options.procSysDir}" (--proc-sys-dir) has no net/ipv4/ip_forward; mount the host's /proc/sys/net as "${options.procSysDir}/net"`,
    );
    return 1;
  }
  for (const option of options.ignored) logger.warn(`option ${option} has no effect in weftd`);
  if (options.leave) return leave(() => composeNode(host, options, logger), sys, options, logger);
  const lock = lockFolders(sys, options);
  try {
    return await serve(host, options, logger);
  } finally {
    lock.release();
  }
}

/**
 * The environment; for `--leave`, which a person runs by hand, also the settings of the service, where the environment has
 * none.
 */
function environmentOf({ sys, args, environment }: DaemonHost): DaemonHost['environment'] {
  if (!args.some((arg) => /^--?leave$/.test(arg))) return environment;
  return { ...readServiceSettings(sys, defaultPaths.serviceSettings), ...environment };
}

/**
 * Runs weftd until it is stopped.
 * @returns the exit status: 0; 1 where it could not run; 2 for a wrong command line
 */
export async function run(host: DaemonHost): Promise<number> {
  let options: DaemonOptions;
  try {
    options = parseDaemonOptions(host.args, environmentOf(host));
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
    const { stack } = error as Error;
    // A plain Error is one line for the user, such as that of an address that is in use.
    const expected =
      error instanceof FolderBusyError || error instanceof SyscallError || (error as Error).constructor === Error;
    const isDebugged = Boolean(host.environment['WEFTD_DEBUG']);
    logger.error(messageOf(error), expected || !isDebugged ? {} : { stack });
    return 1;
  }
}
