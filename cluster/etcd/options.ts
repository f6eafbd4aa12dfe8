/** The options for access to etcd, with flannel's names, and etcd's defaults. Pure. */

import { type OptionSpec, type ParsedOptions, UsageError } from '../../command/options.ts';
import { defaultPrefix } from './keys.ts';

/** How to reach etcd. */
export interface EtcdEndpoints {
  /** `http://host:port` or `https://host:port`, at least one. */
  readonly endpoints: readonly string[];
  readonly prefix: string;
  readonly caFile?: string;
  readonly certFile?: string;
  readonly keyFile?: string;
  readonly username?: string;
  readonly password?: string;
}

const defaultEndpoints = 'http://127.0.0.1:4001,http://127.0.0.1:2379';

/** flannel's names. */
export const etcdOptions: readonly OptionSpec[] = [
  {
    name: 'etcd-endpoints',
    kind: 'text',
    placeholder: 'URLS',
    help: 'etcd endpoints, comma-separated',
    byDefault: defaultEndpoints,
  },
  { name: 'etcd-prefix', kind: 'text', placeholder: 'KEY', help: 'prefix of all keys', byDefault: defaultPrefix },
  { name: 'etcd-cafile', kind: 'text', placeholder: 'FILE', help: "certificate authority of etcd's certificate" },
  { name: 'etcd-certfile', kind: 'text', placeholder: 'FILE', help: 'client certificate' },
  { name: 'etcd-keyfile', kind: 'text', placeholder: 'FILE', help: "client certificate's key" },
  { name: 'etcd-username', kind: 'text', placeholder: 'NAME', help: 'user name, if etcd requires one' },
  { name: 'etcd-password', kind: 'text', placeholder: 'TEXT', help: 'password; better set WEFTD_ETCD_PASSWORD' },
];

/** @throws UsageError */
function parseEndpoint(text: string, subject: string): string {
  const match = /^(?:(https?):\/\/)?(\[[0-9A-Fa-f:.]+\]|[^\s/:[\]]+)(?::(\d{1,5}))?\/?$/.exec(text);
  if (!match) {
    throw new UsageError(`${subject} holds "${text}": an endpoint has the form "http://10.0.0.1:2379"`);
  }
  const [, scheme = 'http', host, port = '2379'] = match;
  return `${scheme}://${host}:${port}`;
}

/**
 * Endpoints, comma-separated.
 * @param subject for messages: where the text comes from
 * @throws UsageError
 */
export function parseEndpoints(text: string, subject: string): string[] {
  const endpoints = text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
    .map((part) => parseEndpoint(part, subject));
  if (endpoints.length === 0) throw new UsageError(`${subject} is empty: give at least one endpoint`);
  return endpoints;
}

/** @throws UsageError */
export function parseEtcdOptions(options: ParsedOptions): EtcdEndpoints {
  const endpoints = parseEndpoints(options.text('etcd-endpoints') ?? defaultEndpoints, 'Option --etcd-endpoints');
  const texts = {
    caFile: options.text('etcd-cafile'),
    certFile: options.text('etcd-certfile'),
    keyFile: options.text('etcd-keyfile'),
    username: options.text('etcd-username'),
    password: options.text('etcd-password'),
  };
  if ((texts.certFile === undefined) !== (texts.keyFile === undefined)) {
    throw new UsageError('Options --etcd-certfile and --etcd-keyfile belong together: give both or none');
  }
  const given = Object.fromEntries(Object.entries(texts).filter(([, text]) => text !== undefined && text !== ''));
  return { endpoints, prefix: options.text('etcd-prefix') ?? defaultPrefix, ...given };
}
