/** The options for access to Kubernetes, with flannel's names and defaults. Pure. */

import { type OptionSpec, type ParsedOptions, UsageError } from '../../command/options.ts';
import { withoutTrailingSlashes } from '../../net/text.ts';

/** How to reach the API server, and which parts of it to use. */
export interface KubernetesOptions {
  /** Instead of the kubeconfig's, or of the one that a pod finds in its environment. */
  readonly apiUrl?: string;
  /** Absent: the service account of the pod. */
  readonly kubeconfigFile?: string;
  /** Ends with "/" or "-": what the names of the annotations begin with. */
  readonly annotationPrefix: string;
  /** The file with the network config. */
  readonly netConfigPath: string;
  /** Whether to set the condition NetworkUnavailable of this host's Node to False. */
  readonly setNetworkUnavailable: boolean;
}

const defaults = {
  'kube-annotation-prefix': 'flannel.alpha.coreos.com',
  'net-config-path': '/etc/kube-flannel/net-conf.json',
} as const;

/** flannel's names. */
export const kubernetesOptions: readonly OptionSpec[] = [
  { name: 'kube-subnet-mgr', kind: 'flag', help: "use the nodes' podCIDRs in Kubernetes instead of leases in etcd" },
  {
    name: 'kube-api-url',
    kind: 'text',
    placeholder: 'URL',
    help: "Kubernetes' API server",
    byDefault: "the kubeconfig's, else that of the pod's environment",
  },
  {
    name: 'kubeconfig-file',
    kind: 'text',
    placeholder: 'FILE',
    help: 'kubeconfig with the API server and the credentials',
    byDefault: "the pod's service account",
  },
  {
    name: 'kube-annotation-prefix',
    kind: 'text',
    placeholder: 'PREFIX',
    help: "prefix of the annotations of the cluster's Node objects",
    byDefault: defaults['kube-annotation-prefix'],
  },
  {
    name: 'net-config-path',
    kind: 'text',
    placeholder: 'FILE',
    help: 'with --kube-subnet-mgr: the file with the network config',
    byDefault: defaults['net-config-path'],
  },
  {
    name: 'set-node-network-unavailable',
    kind: 'flag',
    help: 'with --kube-subnet-mgr: set the condition NetworkUnavailable of the Node to False; =false: leave it',
    byDefault: 'true',
  },
];

/** flannel's rule: one slash at most, and a separator before the annotation's own name. @throws UsageError */
function parsePrefix(text: string): string {
  const [domain, name = '', ...further] = text.split('/');
  const isValid =
    further.length === 0 &&
    /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/.test(domain!) &&
    domain!.length <= 253 &&
    /^([A-Za-z0-9]([A-Za-z0-9._-]*))?$/.test(name) &&
    name.length <= 40;
  if (!isValid) {
    throw new UsageError(
      `Option --kube-annotation-prefix is "${text}": it must be a prefix such as "flannel.alpha.coreos.com", with one slash at most`,
    );
  }
  const prefix = text.includes('/') ? text : `${text}/`;
  return /[/-]$/.test(prefix) ? prefix : `${prefix}-`;
}

/** @throws UsageError */
function parseUrl(text: string): string {
  const url = URL.parse(text);
  const isPlain = url && /^https?:$/.test(url.protocol) && url.search === '' && url.hash === '' && url.username === '';
  if (!isPlain) {
    throw new UsageError(`Option --kube-api-url is "${text}": it must have the form "https://10.0.0.1:6443"`);
  }
  return withoutTrailingSlashes(url.href);
}

/** Undefined without --kube-subnet-mgr. @throws UsageError */
export const parseKubernetesOptions = (options: ParsedOptions): KubernetesOptions | undefined =>
  options.flag('kube-subnet-mgr') ? readKubernetesOptions(options) : undefined;

/** The options that reach the API server and find a cluster's annotations; all that a tool for people needs. */
export const accessOptions: readonly OptionSpec[] = kubernetesOptions.filter(({ name }) =>
  ['kube-api-url', 'kubeconfig-file', 'kube-annotation-prefix'].includes(name),
);

/** @throws UsageError */
export function readKubernetesOptions(options: ParsedOptions): KubernetesOptions {
  const [apiUrl, kubeconfigFile] = [options.text('kube-api-url'), options.text('kubeconfig-file')];
  return {
    ...(apiUrl ? { apiUrl: parseUrl(apiUrl) } : {}),
    ...(kubeconfigFile ? { kubeconfigFile } : {}),
    annotationPrefix: parsePrefix(options.text('kube-annotation-prefix') || defaults['kube-annotation-prefix']),
    netConfigPath: options.text('net-config-path') || defaults['net-config-path'],
    setNetworkUnavailable: options.optionalFlag('set-node-network-unavailable') ?? true,
  };
}
