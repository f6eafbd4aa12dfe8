/** weftd's command line: flanneld's options, and some of its own. */

import { type EtcdEndpoints, etcdOptions, parseEtcdOptions } from '../cluster/etcd/options.ts';
import { type KubernetesOptions, kubernetesOptions, parseKubernetesOptions } from '../cluster/kubernetes/options.ts';
import { ignoredOptions, refuseFlanneldOptions } from '../command/flanneld-options.ts';
import { parseGoPattern } from '../command/go-pattern.ts';
import { formatOptions, type OptionSpec, type ParsedOptions, parseOptions, UsageError } from '../command/options.ts';
import { type Address, type Family, isUnspecified, parseAddress } from '../net/address.ts';
import { defaultPaths } from '../net/paths.ts';
import { withoutTrailingSlashes } from '../net/text.ts';
import type { FilterOptions } from './filter/upkeep.ts';
import type { InterfaceChoice } from './host/external-interface.ts';
import { type LogFormat, type LogLevel, logFormats, logLevels } from './report/log.ts';

export interface DaemonOptions {
  readonly etcd: EtcdEndpoints;
  /** Instead of etcd. */
  readonly kubernetes: KubernetesOptions | undefined;
  readonly choice: InterfaceChoice;
  /** This host's name in the cluster, in Kubernetes that of its Node; undefined: the hostname. */
  readonly node: string | undefined;
  readonly runDir: string;
  readonly stateDir: string;
  readonly subnetFile: string;
  readonly ipMasq: boolean;
  readonly filter: FilterOptions;
  /** Whether to ask the peers by echo requests. */
  readonly probePeers: boolean;
  readonly renewMarginMs: number;
  /** The plugins' folder of reserved addresses. */
  readonly cniDataDir: string;
  /** Where the kernel's settings are, as in /proc/sys. */
  readonly procSysDir: string;
  /** The address of the probe port; undefined: probes are answered on the socket only. */
  readonly healthz: { readonly address: Address; readonly port: number } | undefined;
  readonly leave: boolean;
  /** Leave without asking the store. */
  readonly leaveLocally: boolean;
  /** Leave the lease, the tunnel and the routes to a flanneld that runs on this host again. */
  readonly leaveToFlanneld: boolean;
  /** undefined: text on a terminal, JSON otherwise. */
  readonly logFormat: LogFormat | undefined;
  readonly logLevel: LogLevel;
  /** Options of flanneld that have no effect here; logged once at the start. */
  readonly ignored: readonly string[];
  readonly help: boolean;
  readonly version: boolean;
}

const defaults = {
  ...defaultPaths,
  renewMarginMinutes: 60,
  healthzIp: '127.0.0.1',
  procSysDir: '/proc/sys',
} as const;

const onOff = ['on', 'off'] as const;

const specs: readonly OptionSpec[] = [
  ...etcdOptions,
  ...kubernetesOptions,
  {
    name: 'iface',
    kind: 'list',
    placeholder: 'NAME',
    help: 'external interface, by name or address',
    byDefault: "the default route's interface; repeatable, the first match counts",
  },
  {
    name: 'iface-regex',
    kind: 'list',
    takesCommas: true,
    placeholder: 'REGEX',
    help: 'external interface, by a regular expression (RE2) for its name or address',
  },
  {
    name: 'iface-can-reach',
    kind: 'text',
    placeholder: 'ADDRESS',
    help: 'external interface: the one that leads to this address',
  },
  { name: 'public-ip', kind: 'text', placeholder: 'ADDRESS', help: 'IPv4 address at which other hosts reach this one' },
  {
    name: 'public-ipv6',
    kind: 'text',
    placeholder: 'ADDRESS',
    help: 'IPv6 address at which other hosts reach this one',
  },
  {
    name: 'subnet-file',
    kind: 'text',
    placeholder: 'FILE',
    help: "flannel's subnet.env, for plugins and scripts that read it",
    byDefault: defaults.subnetFile,
  },
  {
    name: 'subnet-lease-renew-margin',
    kind: 'integer',
    placeholder: 'MINUTES',
    help: 'renew the subnet lease this many minutes before it expires',
    byDefault: String(defaults.renewMarginMinutes),
    lowest: 1,
    highest: 24 * 60 - 1,
  },
  { name: 'ip-masq', kind: 'flag', help: "masquerade packets that leave the cluster's network" },
  {
    name: 'ip-masq-fully-random-disable',
    kind: 'flag',
    help: 'masquerade with the original port if it is free, instead of a random one',
  },
  {
    name: 'iptables-forward-rules',
    kind: 'flag',
    help: "accept the cluster's packets if Docker or a firewall drops forwarded packets; =false: off",
    byDefault: 'true',
  },
  {
    name: 'peer-lock',
    kind: 'text',
    placeholder: onOff.join('|'),
    help: 'drop tunnel packets that do not come from the public address of a peer, while weftd runs and 30 s after',
    byDefault: 'on',
  },
  {
    name: 'probe-peers',
    kind: 'text',
    placeholder: onOff.join('|'),
    help: 'ask each peer about once a minute by an echo request, and show in the status which do not answer',
    byDefault: 'on',
  },
  {
    name: 'node',
    kind: 'text',
    placeholder: 'NAME',
    help: "this host's name in the cluster",
    byDefault: 'NODE_NAME with --kube-subnet-mgr, else the hostname',
  },
  {
    name: 'run-dir',
    kind: 'text',
    placeholder: 'DIR',
    help: "folder for node.json, which the plugins read, and for weftctl's socket",
    byDefault: defaults.runDir,
  },
  {
    name: 'state-dir',
    kind: 'text',
    placeholder: 'DIR',
    help: 'folder for state that is kept across a reboot',
    byDefault: defaults.stateDir,
  },
  {
    name: 'cni-data-dir',
    kind: 'text',
    placeholder: 'DIR',
    help: "the plugins' address store; weftd counts used and free addresses there",
    byDefault: defaults.cniDataDir,
  },
  {
    name: 'proc-sys-dir',
    kind: 'text',
    placeholder: 'DIR',
    help: "the kernel's settings; for a container, whose own /proc/sys is read-only: where the host's is mounted",
    byDefault: defaults.procSysDir,
  },
  {
    name: 'healthz-ip',
    kind: 'text',
    placeholder: 'ADDRESS',
    help: 'address for /healthz, /readyz and /metrics',
    byDefault: defaults.healthzIp,
  },
  {
    name: 'healthz-port',
    kind: 'integer',
    placeholder: 'PORT',
    help: 'TCP port for these paths; 0: no port. weftd.sock always answers them',
    byDefault: '0',
    lowest: 0,
    highest: 65_535,
  },
  {
    name: 'leave',
    kind: 'flag',
    help: 'give the subnet back, remove everything that weftd made on this host, and exit',
    commandLineOnly: true,
  },
  {
    name: 'local',
    kind: 'flag',
    help: 'with --leave: do not ask etcd, for a cluster whose etcd is gone for good',
    commandLineOnly: true,
  },
  {
    name: 'to-flanneld',
    kind: 'flag',
    help: "with --leave: remove weftd's rules and files only; the subnet and the tunnel are flanneld's now",
    commandLineOnly: true,
  },
  {
    name: 'log-format',
    kind: 'text',
    placeholder: logFormats.join('|'),
    help: 'format of log lines',
    byDefault: 'text on a terminal, else json',
  },
  {
    name: 'log-level',
    kind: 'text',
    placeholder: logLevels.join('|'),
    help: 'lowest level that is logged',
    byDefault: 'info',
  },
  { name: 'version', kind: 'flag', help: 'print the version and exit', commandLineOnly: true },
  { name: 'help', kind: 'flag', help: 'print this help and exit', commandLineOnly: true },
];

export const helpText = (): string =>
  `weftd: gets this host's subnet from etcd or Kubernetes, and connects its containers with those of the other hosts

Usage: weftd [OPTION]...

${formatOptions(specs)}

One dash or two work the same. Options can also come from the environment: WEFTD_ETCD_ENDPOINTS sets
--etcd-endpoints. If it is not set, weftd reads FLANNELD_ETCD_ENDPOINTS.
`;

function addressOption(options: ParsedOptions, name: string, family?: Family): Address | undefined {
  const text = options.text(name);
  if (text === undefined || text === '') return undefined;
  const address = parseAddress(text);
  const kind = family === undefined ? 'IP' : `IPv${family}`;
  if (!address || (family !== undefined && address.family !== family) || isUnspecified(address)) {
    throw new UsageError(`Option --${name} is "${text}": it must be an ${kind} address`);
  }
  return address;
}

function healthzOption(options: ParsedOptions): DaemonOptions['healthz'] {
  const text = options.text('healthz-ip') || defaults.healthzIp;
  const address = parseAddress(text);
  if (!address) throw new UsageError(`Option --healthz-ip is "${text}": it must be an IP address of this host`);
  const port = options.integer('healthz-port') ?? 0;
  return port === 0 ? undefined : { address, port };
}

function wordOption<W extends string>(options: ParsedOptions, name: string, words: readonly W[]): W | undefined {
  const text = options.text(name);
  if (text === undefined) return undefined;
  const word = words.find((candidate) => candidate === text);
  if (word === undefined) throw new UsageError(`Option --${name} is "${text}": it must be one of ${words.join(', ')}`);
  return word;
}

function folderOption(options: ParsedOptions, name: string, byDefault: string): string {
  const text = options.text(name) ?? byDefault;
  if (!text.startsWith('/')) throw new UsageError(`Option --${name} is "${text}": it must be an absolute path`);
  return withoutTrailingSlashes(text);
}

function patternsOption(options: ParsedOptions, name: string): readonly string[] {
  const patterns = options.list(name).filter((pattern) => pattern !== '');
  for (const pattern of patterns) {
    try {
      parseGoPattern(pattern);
    } catch (error) {
      throw new UsageError(`Option --${name} is "${pattern}": ${(error as Error).message}`);
    }
  }
  return patterns;
}

/**
 * @param args without the program's name
 * @throws UsageError: one line for the user
 */
export function parseDaemonOptions(
  args: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): DaemonOptions {
  refuseFlanneldOptions(args);
  const options = parseOptions([...specs, ...ignoredOptions], args, environment);
  if (options.words.length > 0) {
    throw new UsageError(`Unexpected argument "${options.words[0]}": weftd takes options only`);
  }
  const kubernetes = parseKubernetesOptions(options);
  const given = options.text('node');
  const node = given ?? ((kubernetes && environment['NODE_NAME']) || undefined);
  if (node !== undefined && !/^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$/.test(node)) {
    const source = given === undefined ? 'Environment variable NODE_NAME' : 'Option --node';
    throw new UsageError(`${source} is "${node}": it must be a host name of letters, digits, ".", "_" and "-"`);
  }
  if (options.flag('local') && !options.flag('leave')) throw new UsageError('Option --local needs --leave');
  const publicAddresses: Partial<Record<Family, Address>> = {};
  for (const [family, name] of [
    [4, 'public-ip'],
    [6, 'public-ipv6'],
  ] as const) {
    const address = addressOption(options, name, family);
    if (address) publicAddresses[family] = address;
  }
  return {
    etcd: parseEtcdOptions(options),
    kubernetes,
    choice: {
      names: options.list('iface').filter((name) => name !== ''),
      patterns: patternsOption(options, 'iface-regex'),
      canReach: addressOption(options, 'iface-can-reach'),
      publicAddresses,
    },
    node,
    runDir: folderOption(options, 'run-dir', defaults.runDir),
    stateDir: folderOption(options, 'state-dir', defaults.stateDir),
    subnetFile: folderOption(options, 'subnet-file', defaults.subnetFile),
    ipMasq: options.flag('ip-masq'),
    filter: {
      peerLock: wordOption(options, 'peer-lock', onOff) !== 'off',
      forward: options.optionalFlag('iptables-forward-rules') ?? true,
      randomPorts: !options.flag('ip-masq-fully-random-disable'),
    },
    probePeers: wordOption(options, 'probe-peers', onOff) !== 'off',
    renewMarginMs: (options.integer('subnet-lease-renew-margin') ?? defaults.renewMarginMinutes) * 60_000,
    cniDataDir: folderOption(options, 'cni-data-dir', defaults.cniDataDir),
    procSysDir: folderOption(options, 'proc-sys-dir', defaults.procSysDir),
    healthz: healthzOption(options),
    leave: options.flag('leave'),
    leaveLocally: options.flag('local'),
    leaveToFlanneld: options.flag('to-flanneld'),
    logFormat: wordOption(options, 'log-format', logFormats),
    logLevel: wordOption(options, 'log-level', logLevels) ?? 'info',
    ignored: ignoredOptions.filter(({ name }) => options.has(name)).map(({ name }) => `--${name}`),
    help: options.flag('help'),
    version: options.flag('version'),
  };
}
