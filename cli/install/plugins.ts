/**
 * The plugins in the runtime's folder.
 *
 * Host ports are the work of the reference plugin `portmap`; Weft has none of its own. Whoever has attached a container
 * with host ports must also delete it: a portmap of ours in the same place would leave the rules of running pods behind, and
 * one under another name would miss the conflists that name `portmap`. All distributions and Kubernetes installers ship
 * the reference's, and it can do nf_tables since 1.6. So Weft puts a portmap into the folder if it finds one, and says where
 * it comes from if not.
 */

import { spawnSync } from 'node:child_process';
import { closeSync, constants, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { printable } from '../../command/printable.ts';
import { CliError, type CliHost } from '../host.ts';
import { ensureFolder, type Kind, kindOf, Placing, readBytes, removeAbandoned } from './files.ts';

/** The names of Weft's executable of plugins; the first is the file itself. */
export const ownNames = ['weft', 'weft-ipam', 'flannel', 'loopback'] as const;

export const portmapAdvice =
  'it comes with the package "containernetworking-plugins" (Arch Linux: "cni-plugins") or from ' +
  'https://github.com/containernetworking/plugins/releases; put it there and run this command again';

/** The last bytes of the executable. */
const mark = 'WEFTARC1';
const largestPlugin = 512 * 1024 * 1024;
const versionTimeoutMs = 5000;

export interface PluginSources {
  /** Weft's executable. */
  readonly weft: string;
  readonly portmap?: string;
}

/** A regular file, also behind a link. */
export const isFile = (path: string): boolean => {
  try {
    return statSync(path).isFile();
  } catch {
    return false;
  }
};

/**
 * Where the plugins are taken from: beside weftctl as in an image, or in `cni` beside its folder as in a release.
 * @param program weftctl's own path
 * @param from a folder that the person names
 * @returns undefined if there are none
 */
export function findSources(program: string, from: string | undefined): PluginSources | undefined {
  const folders =
    from === undefined
      ? [dirname(program), join(dirname(dirname(program)), 'cni')]
      : [from, join(from, 'cni'), join(from, 'bin')];
  const folder = folders.find((each) => isOwn(join(each, 'weft')));
  if (folder === undefined) return undefined;
  const portmap = join(folder, 'portmap');
  return { weft: join(folder, 'weft'), ...(isFile(portmap) ? { portmap } : {}) };
}

export function missingSources(program: string, from: string | undefined): CliError {
  const where =
    from === undefined ? `"${dirname(program)}" and "${join(dirname(dirname(program)), 'cni')}"` : `"${from}"`;
  return new CliError(`Cannot find the plugin "weft" in ${where}: name the folder of an unpacked release with --from`);
}

/** Whether the file is Weft's executable of plugins, of whatever version. */
export function isOwn(path: string): boolean {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    return false;
  }
  try {
    const status = fstatSync(fd);
    if (!status.isFile() || status.size < mark.length) return false;
    const end = Buffer.alloc(mark.length);
    return readSync(fd, end, 0, end.length, status.size - end.length) === end.length && end.toString('latin1') === mark;
  } catch {
    return false;
  } finally {
    closeSync(fd);
  }
}

/** The version that an executable of ours tells; undefined if it cannot run here. */
export function versionOf(path: string): string | undefined {
  const { stdout, stderr } = spawnSync(path, [], {
    env: {},
    encoding: 'utf8',
    timeout: versionTimeoutMs,
    killSignal: 'SIGKILL',
    maxBuffer: 64 * 1024,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const told = / plugin v(\S{1,64})\n/.exec(`${stdout ?? ''}${stderr ?? ''}`)?.[1];
  return told !== undefined && /^\d+\.\d+\.\d+/.test(told) ? told : undefined;
}

/** Whether version `a` is later than `b`, by their numbers. A pre-release comes before its release. */
export function isLater(a: string, b: string): boolean {
  const parts = (text: string): number[] => text.split(/[-+]/, 1)[0]!.split('.').map(Number);
  const [left, right] = [parts(a), parts(b)];
  for (let i = 0; i < 3; i++) {
    if (left[i] !== right[i]) return (left[i] ?? 0) > (right[i] ?? 0);
  }
  return b.includes('-') && !a.includes('-');
}

/** The same bytes, and nothing but the owner may write them. */
function isSame(path: string, bytes: Uint8Array): boolean {
  const status = statSync(path);
  if (status.size !== bytes.length || (status.mode & 0o777) !== 0o755) return false;
  return readBytes(path, largestPlugin)?.equals(bytes) === true;
}

export interface PluginStep {
  readonly name: string;
  readonly does: 'put' | 'same' | 'leave';
  /** What is there now. */
  readonly before: Kind;
  /** Why it is left. */
  readonly reason?: string;
}

interface Question {
  readonly folder: string;
  readonly sources: PluginSources;
  /** Replaces newer files and other programs, too. */
  readonly force: boolean;
}

const kindNames: Record<Kind, string> = {
  missing: 'missing',
  file: 'a file',
  folder: 'a folder',
  link: 'a link',
  other: 'no regular file',
};

/** What is to be done for one name. @throws CliError where the name cannot be had */
function planName(name: string, bytes: Uint8Array, version: string | undefined, question: Question): PluginStep {
  const { folder, force } = question;
  const path = join(folder, name);
  const before = kindOf(path);
  if (before === 'missing') return { name, does: 'put', before };
  if (before === 'folder' || before === 'other') {
    throw new CliError(
      `Cannot put "${name}" into "${folder}": ${kindNames[before]} has that name; nothing was changed`,
    );
  }
  // A link that leads nowhere is in nobody's use. One that leads to a program is that program.
  if (before === 'link' && !isFile(path)) return { name, does: 'put', before };
  if (before === 'file' && isSame(path, bytes)) return { name, does: 'same', before };
  if (force) return { name, does: 'put', before };
  if (!isOwn(path)) {
    if (name.startsWith('weft')) {
      throw new CliError(
        `Cannot put "${name}" into "${folder}": another program has that name; nothing was changed: remove it, or add --force`,
      );
    }
    const reason = name === 'portmap' ? 'there is one' : "it is another package's";
    return { name, does: 'leave', before, reason: `${reason}; --force replaces it` };
  }
  const installed = version === undefined ? undefined : versionOf(path);
  if (installed !== undefined && isLater(installed, version!)) {
    return { name, does: 'leave', before, reason: `it is newer (${installed}); --force replaces it` };
  }
  return { name, does: 'put', before };
}

export interface PluginPlan {
  readonly folder: string;
  readonly sources: PluginSources;
  /** Of Weft's executable. */
  readonly version?: string;
  readonly steps: readonly PluginStep[];
}

/** Looks at the folder, and changes nothing. @throws CliError */
export function planPlugins(question: Question): PluginPlan {
  const { folder, sources } = question;
  const weft = readBytes(sources.weft, largestPlugin);
  if (!weft) throw new CliError(`Cannot read "${sources.weft}": it is not there`);
  const version = versionOf(sources.weft);
  if (version === undefined) {
    throw new CliError(`Cannot run "${sources.weft}": is it built for another kind of machine?`);
  }
  const steps = ownNames.map((name) => planName(name, weft, version, question));
  const portmap = sources.portmap === undefined ? undefined : readBytes(sources.portmap, largestPlugin);
  if (portmap) steps.push(planName('portmap', portmap, undefined, question));
  return { folder, sources, version, steps };
}

/** Puts the plugins that the plan names, all durable before the first has its name. @throws CliError */
export function putPlugins({ folder, sources, steps }: PluginPlan, host: Pick<CliHost, 'random' | 'nowMs'>): void {
  ensureFolder(folder);
  removeAbandoned(folder, host.nowMs());
  const wanted = steps.filter(({ does }) => does === 'put').map(({ name }) => name);
  const placing = new Placing(folder, host);
  try {
    let first: string | undefined;
    for (const name of wanted) {
      if (name === 'portmap') placing.addCopy(name, sources.portmap!, 0o755);
      else if (first !== undefined) placing.addLink(name, first, 0o755);
      else {
        first = name;
        placing.addCopy(name, sources.weft, 0o755);
      }
    }
    placing.finish();
  } finally {
    placing.abandon();
  }
}

const list = (names: readonly string[]): string =>
  names.length < 2 ? names.join('') : `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;

/**
 * One line a kind of outcome.
 * @param here the folder's path on this host, where it differs from the one that is told
 */
export function tellPlugins({ folder, steps, version }: PluginPlan, dryRun: boolean, here = folder): string[] {
  const names = (does: PluginStep['does']): string[] =>
    steps.filter((each) => each.does === does).map(({ name }) => name);
  const [put, same] = [names('put'), names('same')];
  return [
    ...(put.length > 0 ? [`${dryRun ? 'would put' : 'put'} ${list(put)} into ${folder} (version ${version})`] : []),
    ...(same.length > 0 ? [`${list(same)} in ${folder}: already this version`] : []),
    ...steps.flatMap(({ name, does, reason }) => (does === 'leave' ? [`left ${name} in ${folder}: ${reason}`] : [])),
    ...(steps.some(({ name }) => name === 'portmap') || isFile(join(here, 'portmap'))
      ? []
      : [`no portmap in ${folder}, so that containers get no host ports: ${portmapAdvice}`]),
  ].map(printable);
}
