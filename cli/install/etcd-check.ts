/** etcd as weftd will use it: asked before anything is changed, and its answers in words. */

import { checkWriteRights } from '../../cluster/etcd/check-rights.ts';
import { type EtcdEndpoints, parseEndpoints } from '../../cluster/etcd/options.ts';
import type { ParsedOptions } from '../../command/options.ts';
import { CliError, type CliHost } from '../host.ts';
import { clockOf, EtcdSource, SocketSource } from '../source.ts';
import { readSmallFile } from './files.ts';
import type { Root } from './rooted.ts';
import { readSettings, variableOf } from './settings.ts';

const timeoutMs = 5000;
const limitBytes = 1024 * 1024;

/** weftd's options for etcd, each with a variable of the service. */
const optionNames = [
  'etcd-endpoints',
  'etcd-prefix',
  'etcd-cafile',
  'etcd-certfile',
  'etcd-keyfile',
  'etcd-username',
  'etcd-password',
] as const;

const fields = {
  'etcd-cafile': 'caFile',
  'etcd-certfile': 'certFile',
  'etcd-keyfile': 'keyFile',
  'etcd-username': 'username',
  'etcd-password': 'password',
} as const;

/** Where flannel's packages keep its settings. */
const flannelFiles = ['/etc/default/flanneld', '/etc/sysconfig/flanneld'];

/**
 * The settings for etcd: of the command line and the environment, of an earlier installation, of flannel, or as the person
 * answers.
 * @throws CliError if nothing tells the endpoints
 */
export async function findEtcdSettings(
  host: CliHost,
  root: Root,
  options: ParsedOptions,
  current: ReadonlyMap<string, string>,
): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const name of optionNames) {
    const given = options.text(name);
    if (given !== undefined) found.set(variableOf(name), given);
  }
  const endpoints = variableOf('etcd-endpoints');
  if (found.has(endpoints) || current.has(endpoints) || current.has('FLANNELD_ETCD_ENDPOINTS')) return found;
  const flannel = new Map(
    flannelFiles.flatMap((path) => [...readSettings(readSmallFile(root.folder(path), limitBytes) ?? '')]),
  );
  for (const name of optionNames) {
    const variable = variableOf(name);
    const ofFlannel = ['FLANNELD_', 'FLANNEL_'].map((start) => flannel.get(variable.replace('WEFTD_', start)));
    const value = ofFlannel.find((each) => each !== undefined && each !== '');
    if (value !== undefined && !found.has(variable)) found.set(variable, value);
  }
  if (found.has(endpoints)) return found;
  const answer = await host.askLine?.("etcd's endpoints, comma-separated (such as http://10.0.0.1:2379): ");
  if (answer === undefined || answer.trim() === '') {
    throw new CliError("Cannot install without etcd's endpoints: give them with --etcd-endpoints http://10.0.0.1:2379");
  }
  return found.set(endpoints, answer.trim());
}

/** @throws UsageError for malformed endpoints */
export function toEndpoints(settings: ReadonlyMap<string, string>): EtcdEndpoints {
  const value = (name: string): string | undefined =>
    settings.get(variableOf(name)) ?? settings.get(variableOf(name).replace('WEFTD_', 'FLANNELD_'));
  const texts = Object.entries(fields).flatMap(([name, field]) => {
    const text = value(name);
    return text === undefined || text === '' ? [] : [[field, text]];
  });
  return {
    endpoints: parseEndpoints(value('etcd-endpoints') ?? '', "etcd's endpoints"),
    prefix: value('etcd-prefix') || '/coreos.com/network',
    ...Object.fromEntries(texts),
  };
}

/**
 * Reads the network config and the leases, and asks for the right to write.
 * @returns lines for the person
 * @throws StoreError with the remedy
 */
export async function checkEtcd(host: CliHost, etcd: EtcdEndpoints): Promise<string[]> {
  const source = new EtcdSource(etcd, host, new SocketSource(''));
  try {
    const config = await source.config();
    const { nodes } = await source.nodes();
    await checkWriteRights({ etcd, clock: clockOf(host), random: host.random, timeoutMs });
    const at = `${etcd.endpoints.join(',')} ${etcd.prefix}`;
    return [
      `etcd answers, and lets this host read and write: ${at}, ${nodes.length} ${nodes.length === 1 ? 'node' : 'nodes'} there`,
      ...(config === undefined
        ? [
            `etcd has no network configuration yet, and weftd waits for one: weftctl --etcd-endpoints ${etcd.endpoints.join(',')} ` +
              `config set '{"Network": "10.244.0.0/16"}'`,
          ]
        : []),
    ];
  } finally {
    source.close();
  }
}
