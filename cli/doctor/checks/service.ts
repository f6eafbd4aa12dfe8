/** weftd itself, and the store of the cluster that it asks. */

import { request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { etcdOptions, parseEtcdOptions } from '../../../cluster/etcd/options.ts';
import { StoreError } from '../../../cluster/store-errors.ts';
import { parseOptions, UsageError } from '../../../command/options.ts';
import { readText } from '../../../linux/files.ts';
import { missingInSubnetEnv, NodeFileError, parseNodeFile, parseSubnetEnv } from '../../../net/node-file.ts';
import { nodeFilePath } from '../../../net/paths.ts';
import { formatPrefix } from '../../../net/prefix.ts';
import { CliError } from '../../host.ts';
import { EtcdSource, SocketSource } from '../../source.ts';
import { command, type HostCheck, type HostFinding } from '../host-check.ts';
import type { HostView } from '../host-view.ts';

const start = command('systemctl', 'start', 'weftd');
export const restart = command('systemctl', 'restart', 'weftd');

const weftdDown: HostCheck = {
  code: 'weftd-down',
  title: 'weftd does not run',
  severity: 'error',
  costMs: 10,
  why: 'packets still flow, but no change of the cluster reaches this host, and its subnet expires after a day',
  remedy: '`systemctl start weftd`',
  safe: false,
  async find(host) {
    const status = await host.status();
    if (!(status instanceof CliError)) return [];
    return [{ subject: '', facts: {}, what: status.message, command: start }];
  },
};

const weftdProblem: HostCheck = {
  code: 'weftd-problem',
  title: 'weftd reports a problem',
  severity: 'error',
  costMs: 10,
  why: 'the line says what weftd cannot do: containers may not start, or packets may not arrive',
  remedy: '`weftctl status`',
  safe: false,
  async find(host) {
    const status = await host.status();
    if (status instanceof CliError) return [];
    const found: HostFinding[] = (status.findings ?? []).map(({ code, severity, subject, message, since }) => ({
      code,
      severity,
      subject,
      facts: {},
      sinceMs: Date.parse(since),
      what: message,
    }));
    // An older weftd gives its problems as lines only.
    if (status.findings === undefined) {
      found.push(...status.problems.map((what) => ({ subject: '', facts: {}, what })));
    }
    if (status.stuck !== undefined) {
      found.push({ subject: 'weftd', facts: {}, what: `weftd itself is stuck: ${status.stuck}`, command: restart });
    }
    if (found.length === 0 && status.state === 'starting') {
      found.push({ subject: 'weftd', facts: {}, what: 'weftd has not set the network up yet' });
    }
    return found;
  },
};

const weftdVersion: HostCheck = {
  code: 'weftd-version',
  title: "weftd's version is not weftctl's",
  severity: 'warning',
  costMs: 10,
  why: 'the files were upgraded and the service was not: it still runs the old version',
  remedy: '`systemctl restart weftd`',
  safe: false,
  async find(host) {
    const status = await host.status();
    if (status instanceof CliError || status.version === host.version) return [];
    const facts = { version: status.version };
    const what = `weftd is of version ${status.version}, and weftctl of ${host.version}`;
    return [{ subject: '', facts, what, command: restart }];
  },
};

const readLimit = 1024 * 1024;

const nodeFiles: HostCheck = {
  code: 'node-files',
  title: "a file of weftd's for the plugins is missing or damaged",
  severity: 'error',
  costMs: 1,
  why: 'no container starts: the plugins do not know the subnet',
  remedy: '`systemctl restart weftd`',
  safe: false,
  async find(host) {
    const status = await host.status();
    // Without a subnet there are no such files, and weftd tells why it has none.
    if (status instanceof CliError || status.subnets.length === 0) return [];
    const { runDir, subnetFile } = host.paths;
    const check = (path: string, fault: (text: string) => string | undefined): HostFinding | readonly never[] => {
      let why: string | undefined;
      try {
        const text = readText(host.sys, path, readLimit);
        why = text === undefined ? 'it is missing' : fault(text);
      } catch (error) {
        why = (error as Error).message;
      }
      if (why === undefined) return [];
      return {
        subject: path,
        facts: { reason: why },
        what: `The file "${path}" cannot be used: ${why}`,
        command: restart,
      };
    };
    const has = (subnets: readonly string[]): string | undefined =>
      subnets.some((subnet) => status.subnets.includes(subnet)) ? undefined : `it names ${subnets.join(' and ')}`;
    const guarded = (fault: (text: string) => string | undefined) => (text: string) => {
      try {
        return fault(text);
      } catch (error) {
        if (error instanceof NodeFileError) return error.message;
        throw error;
      }
    };
    return [
      check(
        nodeFilePath(runDir),
        guarded((text) => has(parseNodeFile(text).subnets.map(formatPrefix))),
      ),
      check(
        subnetFile,
        guarded((text) => {
          const missing = missingInSubnetEnv(text);
          if (missing.length > 0) return `it has no ${missing.join(', ')}`;
          return has(parseSubnetEnv(text).subnets.map(formatPrefix));
        }),
      ),
    ].flat();
  },
};

/** How etcd is reached: by the command line, or by the service's settings. Undefined where another store is used. */
function etcdOf(host: HostView): ReturnType<typeof parseEtcdOptions> | undefined {
  const settings = host.serviceSettings();
  if (Object.keys(settings).some((name) => /_KUBE_SUBNET_MGR$/.test(name))) return undefined;
  try {
    const environment = { ...settings, ...host.host.environment };
    const args = host.host.args.filter(
      (arg, i, list) => /^--?etcd-/.test(arg) || /^--?etcd-[a-z]+$/.test(list[i - 1] ?? ''),
    );
    return parseEtcdOptions(parseOptions(etcdOptions, args, environment));
  } catch (error) {
    if (error instanceof UsageError) return undefined;
    throw error;
  }
}

const etcdCheck: HostCheck = {
  code: 'etcd',
  title: 'etcd does not answer, or refuses',
  severity: 'error',
  costMs: 100,
  why: 'no new host can join, and this host loses its subnet when its lease ends',
  remedy:
    'see that etcd runs, that WEFTD_ETCD_ENDPOINTS in /etc/default/weftd names it, and that the user has the rights',
  safe: false,
  async find(host) {
    // weftd's own findings say more while it runs.
    if (await host.isRunning()) return [];
    const etcd = etcdOf(host);
    if (!etcd) return [];
    const source = new EtcdSource(etcd, host.host, new SocketSource(''));
    try {
      if ((await source.config()) !== undefined) return [];
      return [
        {
          code: 'network-config',
          subject: etcd.prefix,
          facts: {},
          what: `etcd has no network config at "${etcd.prefix}/config"`,
          command: command('weftctl', '--etcd-endpoints', etcd.endpoints.join(), 'config', 'set', defaultConfig),
        },
      ];
    } catch (error) {
      if (!(error instanceof StoreError || error instanceof CliError)) throw error;
      return [{ subject: etcd.endpoints.join(), facts: {}, what: error.message }];
    } finally {
      source.close();
    }
  },
};

const defaultConfig = '{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}';

/** A difference that breaks certificates and leases' times, and that no NTP leaves. */
const clockLimitMs = 30_000;
const clockTimeoutMs = 1500;

/** The `Date` of any answer. The server need not be known: nothing is told to it, and a lie costs a line of text. */
function askDate(endpoint: string, signal: AbortSignal): Promise<number | undefined> {
  return new Promise((resolve) => {
    const options = { signal, timeout: clockTimeoutMs, method: 'GET' };
    const url = `${endpoint.replace(/\/$/, '')}/version`;
    const take = (response: { headers: { date?: string | undefined }; destroy(): unknown }): void => {
      resolve(Date.parse(response.headers.date ?? ''));
      response.destroy();
    };
    const asking = url.startsWith('https:')
      ? requestHttps(url, { ...options, rejectUnauthorized: false }, take)
      : requestHttp(url, options, take);
    asking.on('timeout', () => asking.destroy(new Error('no answer')));
    asking.on('error', () => resolve(undefined));
    asking.end();
  });
}

const clockCheck: HostCheck = {
  code: 'clock',
  title: "this host's clock differs from the store's",
  severity: 'warning',
  costMs: 50,
  why: 'certificates count as expired or not yet valid, and the times in logs and leases mislead',
  remedy: '`timedatectl set-ntp true`',
  safe: false,
  async find(host, signal) {
    const status = await host.status();
    const endpoints = status instanceof CliError ? (etcdOf(host)?.endpoints ?? []) : status.etcd.endpoints;
    for (const endpoint of endpoints.slice(0, 3)) {
      const askedMs = host.nowMs;
      const dateMs = await askDate(endpoint, signal);
      if (dateMs === undefined || Number.isNaN(dateMs)) continue;
      const differenceMs = (host.nowMs + askedMs) / 2 - dateMs;
      if (Math.abs(differenceMs) < clockLimitMs) return [];
      const seconds = Math.round(Math.abs(differenceMs) / 1000);
      const direction = differenceMs > 0 ? 'ahead of' : 'behind';
      return [
        {
          subject: endpoint,
          facts: { seconds },
          what: `This host's clock is ${seconds} s ${direction} that of "${endpoint}"`,
          command: command('timedatectl', 'set-ntp', 'true'),
        },
      ];
    }
    return [];
  },
};

export const serviceChecks: readonly HostCheck[] = [
  weftdDown,
  weftdProblem,
  weftdVersion,
  nodeFiles,
  etcdCheck,
  clockCheck,
];
