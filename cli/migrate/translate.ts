/** flanneld's options as settings of weftd. Pure. */

import { etcdOptions } from '../../cluster/etcd/options.ts';
import { ignoredOptions, refusedFlanneldOptions } from '../../command/flanneld-options.ts';
import { type OptionSpec, type ParsedOptions, parseOptions, UsageError } from '../../command/options.ts';

const text = (name: string): OptionSpec => ({ name, kind: 'text', help: '' });
const flag = (name: string): OptionSpec => ({ name, kind: 'flag', help: '' });
const list = (name: string, takesCommas = false): OptionSpec => ({ name, kind: 'list', help: '', takesCommas });

/** weftd has these under the same names. */
const shared: readonly OptionSpec[] = [
  ...etcdOptions,
  list('iface'),
  list('iface-regex', true),
  text('iface-can-reach'),
  text('public-ip'),
  text('public-ipv6'),
  text('subnet-file'),
  text('subnet-lease-renew-margin'),
  flag('ip-masq'),
  flag('ip-masq-fully-random-disable'),
  flag('iptables-forward-rules'),
  text('healthz-ip'),
  text('healthz-port'),
  flag('kube-subnet-mgr'),
  text('kube-api-url'),
  text('kubeconfig-file'),
  text('kube-annotation-prefix'),
  text('net-config-path'),
  flag('set-node-network-unavailable'),
];

export interface Translation {
  /** By weftd's option: `iface` → `eth1`. */
  readonly settings: ReadonlyMap<string, string>;
  /** Options without a meaning for weftd, which are left out. */
  readonly ignored: readonly string[];
  /** Why weftd cannot do what this flanneld does. */
  readonly hindrances: readonly string[];
}

const none: Omit<Translation, 'hindrances'> = { settings: new Map(), ignored: [] };

/** One value for an environment variable. */
function textOf(options: ParsedOptions, { name, kind }: OptionSpec): string {
  const values = options.list(name);
  if (kind !== 'list') return values.at(-1)!;
  // weftd takes the first interface that any of several patterns fits; flanneld tries one pattern after the other.
  if (name === 'iface-regex') return values.length === 1 ? values[0]! : values.map((each) => `(?:${each})`).join('|');
  return values.join(',');
}

/** Variables of the process's environment that are flanneld's own. */
const ofFlanneld = (environment: Readonly<Record<string, string | undefined>>) =>
  Object.fromEntries(Object.entries(environment).filter(([name]) => name.startsWith('FLANNELD_')));

/**
 * @param args flanneld's command line without the program
 * @param environment of its process
 */
export function translateOptions(
  args: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): Translation {
  const hindrances = refusedFlanneldOptions(args);
  if (hindrances.length > 0) return { ...none, hindrances };
  let options: ParsedOptions;
  try {
    options = parseOptions([...shared, ...ignoredOptions], args, ofFlanneld(environment));
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return { ...none, hindrances: [`weftctl does not know an option of this flanneld: ${error.message}`] };
  }
  const settings = new Map(
    shared.filter(({ name }) => options.has(name)).map((spec) => [spec.name, textOf(options, spec)]),
  );
  // flanneld answers on all addresses unless it is told otherwise, weftd on the loopback.
  const port = settings.get('healthz-port');
  if (port !== undefined && port !== '0' && !settings.has('healthz-ip')) settings.set('healthz-ip', '0.0.0.0');
  return {
    settings,
    ignored: ignoredOptions.filter(({ name }) => options.has(name)).map(({ name }) => name),
    hindrances,
  };
}
