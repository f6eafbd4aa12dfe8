/**
 * The two sides of a comparison, the reference plugins and Weft, each with a host, pods and an address store of its
 * own. A configuration is written once, with words for what differs between the sides, and each side fills them in.
 */

import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BareHost } from '../lab/bare-host.ts';
import { execute, executeAsync, runAsync } from '../lab/commands.ts';
import { namespacePath } from '../lab/namespaces.ts';
import { type CniDocument, pluginFolder } from '../lab/plugin.ts';
import type { Scratch } from '../lab/scratch.ts';
import type { Case, Step } from './corpus/case.ts';

export const referenceFolder = process.env['WEFT_TEST_REFERENCE'] ?? '/usr/lib/cni';

/** Older references do not speak 1.1.0. */
export function referenceAge(): 'older' | 'newest' {
  const { stdout } = execute([join(referenceFolder, 'bridge')], { environment: { CNI_COMMAND: 'VERSION' } });
  return stdout.includes('"1.1.0"') ? 'newest' : 'older';
}

export type SideName = 'reference' | 'weft';

interface Programs {
  readonly folder: string;
  readonly main: string;
  readonly ipam: string;
}

const programs: Readonly<Record<SideName, Programs>> = {
  reference: { folder: referenceFolder, main: 'bridge', ipam: 'host-local' },
  weft: { folder: pluginFolder, main: 'weft', ipam: 'weft-ipam' },
};

/** The outcome of one step, without the values that always differ between the sides. */
export interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** The one JSON document on stdout, as lines `path = value`; undefined where there is none, or no JSON. */
  readonly document: CniDocument | undefined;
  readonly result: readonly string[];
  readonly host: readonly string[];
  readonly container: readonly string[];
  readonly store: readonly string[];
  /** The rules of the host's packet filter. */
  readonly rules: readonly string[];
}

/** MACs that cases ask for: they are compared, all others are a matter of chance. */
export const requestedMacs = ['c2:b0:57:49:47:f1', '0a:58:0a:01:02:07', 'ca:fe:00:00:00:09'];

const macOf = (mac: string): string => (requestedMacs.includes(mac.toLowerCase()) ? mac : '<mac>');
const nameOf = (name: string): string => (/^veth[0-9a-f]{8,11}$/.test(name) ? '<veth>' : name);

/** `path = value`, one line a leaf; an empty list or object is a leaf. */
function flatten(value: unknown, path: string): string[] {
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value);
    if (entries.length > 0) {
      return entries.flatMap(([key, item]) =>
        flatten(item, Array.isArray(value) ? `${path}[${key}]` : path === '' ? key : `${path}.${key}`),
      );
    }
  }
  return [`${path} = ${JSON.stringify(value)}`];
}

function resultLines(document: CniDocument, side: Side): string[] {
  return flatten(document, '').map((line) =>
    line
      .replace(/"((?:[0-9a-f]{2}:){5}[0-9a-f]{2})"/i, (_, mac: string) => `"${macOf(mac)}"`)
      .replace(/"(veth[0-9a-f]{8,11})"/, '"<veth>"')
      .replaceAll(side.pods[0]!, '@pod')
      .replaceAll(side.pods[1]!, '@other')
      .replaceAll(namespacePath(side.host), '@host'),
  );
}

interface IpLink {
  ifname: string;
  flags: string[];
  mtu: number;
  qdisc?: string;
  operstate: string;
  master?: string;
  address?: string;
  linkinfo?: { info_kind?: string; info_data?: Record<string, unknown>; info_slave_data?: Record<string, unknown> };
  addr_info: {
    family: string;
    local: string;
    prefixlen: number;
    scope: string;
    broadcast?: string;
    noprefixroute?: boolean;
  }[];
}

interface IpRoute {
  type?: string;
  dst: string;
  gateway?: string;
  dev?: string;
  table?: string;
  protocol?: string;
  scope?: string;
  prefsrc?: string;
  metric?: number;
  flags?: string[];
  metrics?: Record<string, number>[];
}

interface IpConfig {
  family: string;
  interface: string;
  forwarding: boolean;
}

interface IpNeighbour {
  dst: string;
  dev: string;
}

function linkLines(link: IpLink): string[] {
  const { ifname, flags, mtu, master, address = '', linkinfo, addr_info } = link;
  if (ifname === 'lo') return [];
  const name = nameOf(ifname);
  const state = ['UP', 'LOWER_UP', 'PROMISC'].filter((flag) => flags.includes(flag)).join(',');
  const kind = linkinfo?.info_kind;
  const port = linkinfo?.info_slave_data;
  return [
    // A bridge's operational state follows its ports' after a while.
    `link ${name} ${kind} mtu ${mtu} ${state}${kind === 'bridge' ? '' : ` ${link.operstate}`} mac ${macOf(address)} qdisc ${link.qdisc}`,
    ...(kind === 'bridge' ? [`bridge ${name} vlan_filtering ${linkinfo?.info_data?.['vlan_filtering']}`] : []),
    ...(port
      ? [
          `port ${name} of ${master} ${['state', 'hairpin', 'isolated', 'learning', 'flood', 'guard'].map((key) => `${key} ${port[key]}`).join(' ')}`,
        ]
      : []),
    // Link-local addresses come of themselves, sooner or later.
    ...addr_info
      .filter(({ scope }) => scope !== 'link')
      .map(
        ({ local, prefixlen, scope, broadcast, noprefixroute }) =>
          `address ${name} ${local}/${prefixlen} ${scope}${broadcast ? ` brd ${broadcast}` : ''}${noprefixroute ? ' noprefixroute' : ''}`,
      ),
  ];
}

function routeLines(route: IpRoute): string[] {
  const { type = 'unicast', dst, gateway, dev = '', table, protocol, scope, prefsrc, metric, flags, metrics } = route;
  // The kernel's own for each address and device.
  if (type !== 'unicast' && type !== 'blackhole') return [];
  if (/^(fe80:|ff00:)/.test(dst)) return [];
  const words = { via: gateway, table, proto: protocol, scope, src: prefsrc, metric, metrics: metrics?.[0] };
  const said = Object.entries(words)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => ` ${key} ${typeof value === 'object' ? JSON.stringify(value) : value}`);
  // A bridge's carrier follows its ports' after a while, and `linkdown` with it.
  const flagged = (flags ?? []).filter((flag) => flag !== 'linkdown').map((flag) => ` ${flag}`);
  return [`route ${dst} dev ${nameOf(dev)}${said.join('')}${flagged.join('')}`];
}

const questions = ['addr show', 'route show table all', 'netconf show', 'neigh show nud permanent'];

/** A link whose operational state has not followed its carrier yet. */
const isSettling = ({ ifname, flags, operstate }: IpLink): boolean =>
  ifname !== 'lo' && flags.includes('UP') && flags.includes('LOWER_UP') && operstate === 'DOWN';

interface NamespaceState {
  readonly isSettling: boolean;
  readonly namespace: string;
  readonly lines: readonly string[];
  readonly links: readonly string[];
}

/** Links, addresses, routes, forwarding and configured neighbours of a namespace, by one `ip`. */
async function stateOf(namespace: string): Promise<NamespaceState> {
  const stdin = questions.map((question) => `${question}\n`).join('');
  const text = await runAsync(['ip', '-n', namespace, '-j', '-d', '-batch', '-'], { stdin });
  const [links, routes, configs, neighbours] = text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as unknown[]) as [IpLink[], IpRoute[], IpConfig[], IpNeighbour[]];
  const lines = [
    ...links.flatMap(linkLines),
    ...routes.flatMap(routeLines),
    ...configs
      .filter((config) => config.interface === 'all' && config.forwarding)
      .map(({ family }) => `forwarding ${family}`),
    ...neighbours.map(({ dev, dst }) => `neighbour ${dst} dev ${nameOf(dev)}`),
  ];
  return {
    isSettling: links.some(isSettling),
    namespace,
    lines: lines.sort(),
    links: links.map(({ ifname }) => ifname).filter((name) => name !== 'lo'),
  };
}

/** Weft's index lies beside the reservations and is nobody else's affair. */
const isIndex = (path: string): boolean => /(^|\/)\.weft\//.test(path);

function storeLines(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => !isIndex(path.slice(folder.length + 1)))
    .map((path) => `${path.slice(folder.length + 1)} ${JSON.stringify(readFileSync(path, 'utf8'))}`)
    .sort();
}

/** Whether the case is about rules at all; most are not. */
const hasRules = ({ configuration, program }: Case): boolean =>
  program === 'main' && /ipmasq|macspoofchk/i.test(JSON.stringify(configuration));

/** The packet filter's tables, chains and rules, each with where it stands; without counters. */
async function rulesOf(namespace: string): Promise<string[]> {
  const path: string[] = [];
  const lines: string[] = [];
  for (const line of (await runAsync(['nft', '-s', 'list', 'ruleset'], { namespace })).split('\n')) {
    const text = line
      .trim()
      .replace(/\bveth[0-9a-f]{8,11}\b/g, '<veth>')
      .replace(/\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b/g, macOf);
    if (text === '' || text.startsWith('#')) continue;
    if (text === '}') path.pop();
    else lines.push([...path, text.replace(/ \{$/, '')].join(': '));
    if (text.endsWith('{')) path.push(text.slice(0, -2));
  }
  return lines.sort();
}

export class Side {
  readonly name: SideName;
  readonly host: string;
  /** Paths of the namespaces. */
  readonly pods: readonly [string, string];
  readonly folder: string;
  readonly store: string;
  readonly #programs: Programs;
  readonly #added = new Map<string, CniDocument>();
  /** After the last step. */
  #seen: NamespaceState[] = [];

  constructor(name: SideName, scratch: Scratch, lane: number) {
    this.name = name;
    this.#programs = programs[name];
    const host = new BareHost(scratch, `${name[0]}${lane}`);
    this.host = host.namespace;
    this.pods = host.addPodSpaces(2).map(({ path }) => path) as [string, string];
    this.folder = host.folder;
    this.store = host.dataDir;
    writeFileSync(join(this.folder, 'file'), '');
  }

  /** A configuration's text with this side's words. */
  fill(text: string): string {
    const { main, ipam } = this.#programs;
    return text
      .replaceAll('@main', main)
      .replaceAll('@ipam', ipam)
      .replaceAll('@store', this.store)
      .replaceAll('@folder', this.folder)
      .replaceAll('@pod', this.pods[0])
      .replaceAll('@other', this.pods[1])
      .replaceAll('@host', namespacePath(this.host));
  }

  #stdinOf(definition: Case, step: Step): string {
    const { configuration } = definition;
    const whole = step.configuration ?? configuration;
    if (typeof whole === 'string') return this.fill(whole);
    const keys = { ...whole, ...step.keys };
    const previous = step.prevResult;
    if (previous === undefined || previous === 'none') return this.fill(JSON.stringify(keys));
    const added = this.#added.get(`${step.id ?? 'c1'}/${step.ifname ?? 'eth0'}`);
    const prevResult = previous === 'added' ? added : previous(structuredClone(added ?? {}));
    return this.fill(JSON.stringify({ ...keys, prevResult }));
  }

  async run(definition: Case, step: Step): Promise<Outcome> {
    const { folder, main, ipam } = this.#programs;
    const { id = 'c1', ifname = 'eth0', netns = '@pod', path = '@plugins' } = step;
    const variables = {
      CNI_COMMAND: step.command,
      CNI_CONTAINERID: id,
      CNI_IFNAME: ifname,
      CNI_NETNS: netns === '' ? null : this.fill(netns),
      CNI_PATH: path === '' ? null : path.replaceAll('@plugins', folder),
      CNI_ARGS: step.args,
      // iptables has to be found by the reference.
      PATH: process.env['PATH'] ?? '',
      ...step.environment,
    };
    const environment = Object.fromEntries(
      Object.entries(variables).filter((entry): entry is [string, string] => entry[1] != null),
    );
    const program = join(folder, definition.program === 'ipam' ? ipam : main);
    const stdin = this.#stdinOf(definition, step);
    const { status, stdout, stderr } = await executeAsync([program], {
      namespace: this.host,
      stdin,
      environment,
      timeoutMs: 30_000,
    });
    let document: CniDocument | undefined;
    try {
      document = stdout.trim() === '' ? undefined : (JSON.parse(stdout) as CniDocument);
    } catch {
      // Told by the raw text.
    }
    if (step.command === 'ADD' && status === 0 && document) this.#added.set(`${id}/${ifname}`, document);
    return {
      status,
      stdout,
      stderr,
      document,
      result: status === 0 && document ? resultLines(document, this) : [],
      ...(await this.#look(definition)),
      store: storeLines(this.store),
      rules: hasRules(definition) ? await rulesOf(this.host) : [],
    };
  }

  /** The namespaces that the case is about. */
  #namespacesOf({ program, steps }: Case): string[] {
    if (program === 'ipam') return [];
    const pods = this.pods.map((path) => path.split('/').pop()!);
    return [this.host, ...pods.slice(0, steps.some(({ netns }) => netns === '@other') ? 2 : 1)];
  }

  async #look(definition: Case): Promise<Pick<Outcome, 'host' | 'container'>> {
    const look = async () => await Promise.all(this.#namespacesOf(definition).map(stateOf));
    let seen = await look();
    // The reference does not wait for the links' states. Weft does, so its first state counts.
    for (let again = 0; this.name === 'reference' && again < 20 && seen.some((one) => one.isSettling); again++) {
      seen = await look();
    }
    this.#seen = seen;
    const [host, ...pods] = this.#seen;
    return {
      host: host?.lines ?? [],
      container: pods.flatMap(({ lines }, i) => lines.map((line) => (i === 0 ? line : `other: ${line}`))),
    };
  }

  async prepare({ host = [], store = {}, files = {} }: Case): Promise<void> {
    if (host.length > 0) {
      await runAsync(['ip', '-n', this.host, '-batch', '-'], { stdin: host.map((line) => `${line}\n`).join('') });
    }
    for (const [name, content] of Object.entries(store)) {
      const path = join(this.store, name);
      mkdirSync(join(path, '..'), { recursive: true });
      writeFileSync(path, content, { mode: 0o600 });
    }
    for (const [name, content] of Object.entries(files)) writeFileSync(join(this.folder, name), content);
  }

  /** As new: no links, no store, no forwarding. */
  async reset(definition: Case): Promise<void> {
    this.#added.clear();
    rmSync(this.store, { recursive: true, force: true });
    for (const { namespace, lines, links } of this.#seen) {
      if (links.length > 0) {
        const stdin = links.map((name) => `link del dev ${name}\n`).join('');
        // The end of a pair takes the other with it, so some are gone already.
        const { stderr } = await executeAsync(['ip', '-n', namespace, '-force', '-batch', '-'], { stdin });
        const told = stderr.split('\n').filter((line) => !/^(Cannot find device|Command failed|$)/.test(line));
        if (told.length > 0) throw new Error(`${definition.name} leaves links in ${namespace}: ${told.join(', ')}`);
      }
      for (const line of lines.filter((text) => text.startsWith('forwarding '))) {
        const key = line.endsWith('inet6') ? 'net.ipv6.conf.all.forwarding' : 'net.ipv4.ip_forward';
        await runAsync(['sysctl', '-q', '-w', `${key}=0`], { namespace });
      }
    }
    this.#seen = [];
    if (hasRules(definition)) await runAsync(['nft', 'flush', 'ruleset'], { namespace: this.host });
  }
}
