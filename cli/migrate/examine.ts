/** Everything that flannel has on this host, and what hinders Weft from taking it over. Changes nothing. */

import { parseEtcdOptions } from '../../cluster/etcd/options.ts';
import { backendName, isOtherBackend, type NetworkConfig, parseNetworkConfig } from '../../cluster/network-config.ts';
import { StoreError } from '../../cluster/store-errors.ts';
import { ParsedOptions } from '../../command/options.ts';
import { backends } from '../../daemon/backends/map.ts';
import type { Sys } from '../../linux/sys.ts';
import { type NodeNetwork, parseSubnetEnv } from '../../net/node-file.ts';
import { defaultPaths } from '../../net/paths.ts';
import { formatPrefix } from '../../net/prefix.ts';
import { openAttachmentReader } from '../../reservations/attachments.ts';
import { CliError, type CliHost } from '../host.ts';
import { type Conflist, listConflists } from '../install/conflist.ts';
import { readSmallFile } from '../install/files.ts';
import { EtcdSource, type SocketSource } from '../source.ts';
import { count } from '../text.ts';
import type { RunningFlanneld } from './find-flanneld.ts';
import { translateOptions } from './translate.ts';

/** What hinders, and what mends it. */
export interface Hindrance {
  readonly what: string;
  readonly remedy: string;
}

export interface Examination {
  readonly facts: readonly string[];
  readonly hindrances: readonly Hindrance[];
  /** By weftd's option. */
  readonly settings: ReadonlyMap<string, string>;
  readonly node: NodeNetwork | undefined;
  /** flannel's configuration, if the runtime has one. */
  readonly conflist: Conflist | undefined;
}

export interface ExamineOptions {
  readonly host: CliHost;
  readonly sys: Sys;
  readonly flanneld: RunningFlanneld;
  readonly isBooted: boolean;
  readonly socket: SocketSource;
  readonly networksFolder: string;
}

const limitBytes = 64 * 1024;

class Notes {
  readonly facts: string[] = [];
  readonly hindrances: Hindrance[] = [];

  hinder(what: string, remedy: string): void {
    this.hindrances.push({ what, remedy });
  }
}

function examineProcess({ flanneld, isBooted }: ExamineOptions, notes: Notes): void {
  const { pid, unit, isContained } = flanneld;
  notes.facts.push(`flanneld is process ${pid}${unit === undefined ? '' : `, the service ${unit}`}`);
  if (unit === undefined && isContained) {
    notes.hinder(
      `flanneld (process ${pid}) runs in a container, which its own manager would start again`,
      'replace its DaemonSet by the one in examples/kubernetes, or stop the container and use "weftctl install"',
    );
  } else if (unit === undefined || !isBooted) {
    notes.hinder(
      `flanneld (process ${pid}) is no service of systemd, so that it can be neither stopped for good nor started again`,
      'make it a service, or stop it yourself and use "weftctl install"',
    );
  }
}

function readSubnetFile(path: string, notes: Notes): NodeNetwork | undefined {
  const start = 'flanneld writes it when it has a subnet; see its log';
  try {
    const text = readSmallFile(path, limitBytes);
    if (text === undefined) {
      notes.hinder(`There is no file "${path}"`, start);
      return undefined;
    }
    return parseSubnetEnv(text);
  } catch (error) {
    notes.hinder(`Cannot read "${path}": ${(error as Error).message}`, start);
    return undefined;
  }
}

const importHint =
  'an etcd of flannel 0.11 has it in its v2 API: bring it with "weftctl config import-v2", and flannel up to date';

/** The config in etcd, if weftd can run it. */
function judgeConfig(text: string | undefined, place: string, notes: Notes): NetworkConfig | undefined {
  if (text === undefined) {
    notes.hinder(`There is no network config at "${place}" in etcd's v3 API`, importHint);
    return undefined;
  }
  let config: NetworkConfig;
  try {
    config = parseNetworkConfig(text, backends);
  } catch (error) {
    notes.hinder((error as Error).message, 'mend it with "weftctl config set"; flanneld reads it at its start only');
    return undefined;
  }
  if (isOtherBackend(config.backend)) {
    notes.hinder(
      `The network's backend is "${backendName(config.backend)}", which Weft does not run; it runs ${[...backends.keys()].join(', ')}`,
      'change the backend of the whole cluster first, or keep flannel',
    );
  }
  if (config.problem !== undefined) notes.facts.push(config.problem);
  return config;
}

async function examineCluster(
  { host, socket }: ExamineOptions,
  settings: ReadonlyMap<string, string>,
  node: NodeNetwork | undefined,
  notes: Notes,
): Promise<void> {
  const etcd = parseEtcdOptions(new ParsedOptions(new Map([...settings].map(([name, text]) => [name, [text]])), []));
  const source = new EtcdSource(etcd, host, socket);
  try {
    const [document, { nodes, malformed }] = await Promise.all([source.config(), source.nodes()]);
    const config = judgeConfig(document?.text, `${etcd.prefix}/config`, notes);
    if (config) {
      const networks = Object.values(config.networks).map(({ network }) => formatPrefix(network));
      notes.facts.push(
        `etcd at ${source.name}, prefix ${etcd.prefix}: ${backendName(config.backend)}, ${networks.join(' ')}`,
      );
    }
    if (malformed.length > 0)
      notes.facts.push(`${count(malformed.length, 'entry')} in etcd cannot be read; Weft skips them`);
    const subnets = node?.subnets.map(formatPrefix) ?? [];
    const own = nodes.find((lease) => subnets.length > 0 && subnets.every((subnet) => lease.subnets.includes(subnet)));
    if (own) {
      notes.facts.push(
        `subnet ${subnets.join(' ')}, leased to ${own.publicAddresses.join(' ')}${own.reservation ? ' as a reservation' : ''}`,
      );
    } else if (node) {
      notes.hinder(
        `etcd has no lease of this host's subnet ${subnets.join(' ')}: weftd would take another one, and the containers would lose their addresses`,
        'restart flanneld, so that it leases its subnet again',
      );
    }
  } catch (error) {
    if (!(error instanceof StoreError) && !(error instanceof CliError)) throw error;
    notes.hinder(error.message, 'weftd needs etcd as flanneld does: mend this first');
  } finally {
    source.close();
  }
}

export async function examine(options: ExamineOptions): Promise<Examination> {
  const { flanneld, sys, networksFolder } = options;
  const notes = new Notes();
  examineProcess(options, notes);
  const { settings, ignored, hindrances } = translateOptions(flanneld.args, flanneld.environment);
  for (const what of hindrances) notes.hinder(what, 'change the options of flanneld');
  if (ignored.length > 0) {
    notes.facts.push(`options that weftd does not need: ${ignored.map((name) => `--${name}`).join(' ')}`);
  }
  const node = readSubnetFile(settings.get('subnet-file') ?? defaultPaths.subnetFile, notes);
  if (settings.get('kube-subnet-mgr') === 'true') notes.facts.push("the subnet is Kubernetes': the Node's podCIDRs");
  else if (hindrances.length === 0) await examineCluster(options, settings, node, notes);
  const conflist = listConflists(networksFolder).find(({ types }) => types.includes('flannel'));
  notes.facts.push(
    conflist
      ? `network "${conflist.network}" of ${networksFolder}/${conflist.file}`
      : `no network of flannel's in ${networksFolder}`,
  );
  const containers = new Set(
    openAttachmentReader(sys, defaultPaths.cniDataDir)
      .list()
      .map(({ containerId }) => containerId),
  );
  notes.facts.push(count(containers.size, 'container'));
  return { facts: notes.facts, hindrances: notes.hindrances, settings, node, conflist };
}
