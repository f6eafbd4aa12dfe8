/** flanneld's options that weftd does not have, for people who bring their unit file. Pure. */

import { type OptionSpec, UsageError } from './options.ts';

const ignored = (name: string, kind: OptionSpec['kind'] = 'text'): OptionSpec => ({ name, kind, help: '' });

/** weftd accepts these, so that a unit file keeps working, and logs those that are set. */
export const ignoredOptions: readonly OptionSpec[] = [
  ignored('iptables-resync'),
  ignored('ip-blackhole-route', 'flag'),
  // Options of flanneld's logger: weftd has --log-level and --log-format, and writes to stderr.
  ignored('v'),
  ...['logtostderr', 'alsologtostderr', 'one_output', 'skip_headers', 'skip_log_headers', 'add_dir_header'].map(
    (name) => ignored(name, 'flag'),
  ),
  ...['stderrthreshold', 'vmodule', 'log_dir', 'log_file', 'log_file_max_size', 'log_backtrace_at'].map((name) =>
    ignored(name),
  ),
];

const clientMode =
  "belongs to flanneld's client and server mode, which flannel has given up: every weftd asks the store itself; give etcd's endpoints by --etcd-endpoints";
const multiCluster =
  "belongs to a trial of Kubernetes that was given up: weftd takes the node's podCIDRs with --kube-subnet-mgr";
const severalNetworks =
  'served several networks by one flanneld, which flannel has given up: run one weftd for each, with its own --etcd-prefix, --run-dir, --state-dir and --subnet-file';
const ipsec = 'belongs to the ipsec backend, which weftd does not have';

/** Without these, a network would not be what the unit file asks for. */
const refused: Readonly<Record<string, string>> = {
  remote: clientMode,
  'remote-keyfile': clientMode,
  'remote-certfile': clientMode,
  'remote-cafile': clientMode,
  listen: clientMode,
  networks: severalNetworks,
  'use-multi-cluster-cidr': multiCluster,
  'charon-executable-path': ipsec,
  'charon-viciuri': ipsec,
};

/** What each of flanneld's options in the command line is that weftd refuses. */
export function refusedFlanneldOptions(args: readonly string[]): string[] {
  const end = args.indexOf('--');
  return (end < 0 ? args : args.slice(0, end)).flatMap((arg) => {
    const name = /^--?([a-z][a-z-]*)(?:=|$)/.exec(arg)?.[1];
    return name !== undefined && Object.hasOwn(refused, name) ? [`Option --${name} ${refused[name]}`] : [];
  });
}

/** Tells what an option of flanneld is, instead of that it is unknown. @throws UsageError */
export function refuseFlanneldOptions(args: readonly string[]): void {
  const [first] = refusedFlanneldOptions(args);
  if (first !== undefined) throw new UsageError(first);
}
