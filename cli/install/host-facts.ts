/** What a host is: its distribution, its container runtimes, and the folders in which these look for plugins and networks. */

import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { CliError } from '../host.ts';
import { kindOf, readSmallFile } from './files.ts';
import type { Root } from './rooted.ts';

const limitBytes = 1024 * 1024;

/** How containers get their network on this host. */
export type Kind = 'cri' | 'cni' | 'docker';

export interface Folders {
  readonly plugins: string;
  readonly networks: string;
  /** Who named them, for the line that tells it. */
  readonly from: string;
}

const read = (root: Root, path: string): string | undefined => {
  try {
    return readSmallFile(root.folder(path), limitBytes);
  } catch (error) {
    if (error instanceof CliError) return undefined;
    throw error;
  }
};

/** The distribution's name, os-release(5); undefined if there is no such file. */
export function osName(root: Root): string | undefined {
  const text = read(root, '/etc/os-release') ?? read(root, '/usr/lib/os-release');
  const value = /^PRETTY_NAME=(.*)$/m.exec(text ?? '')?.[1]?.trim();
  return value?.replace(/^(["'])(.*)\1$/, '$2');
}

const isFolder = (path: string): boolean => {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
};

/** The plugins that every CNI installation has. */
const usualPlugins = ['bridge', 'loopback', 'host-local', 'portmap'];
const hasPlugins = (folder: string): boolean => usualPlugins.some((name) => existsSync(join(folder, name)));

const k3sNetworks = '/var/lib/rancher/k3s/agent/etc/cni/net.d';

/** k3s' folder of plugins; later versions have one that upgrades do not replace. */
function k3sPlugins(root: Root): string | undefined {
  return ['/var/lib/rancher/k3s/data/cni', '/var/lib/rancher/k3s/data/current/bin'].find((path) =>
    isFolder(root.folder(path)),
  );
}

const isK3s = (root: Root): boolean => isFolder(root.folder('/var/lib/rancher/k3s'));
const isNomad = (root: Root): boolean =>
  isFolder(root.folder('/etc/nomad.d')) ||
  isFolder(root.folder('/opt/nomad')) ||
  isFolder(root.folder('/opt/cni/config'));

/** A value in a configuration of containerd or Podman (TOML), such as `bin_dir = "/usr/lib/cni"`. */
function tomlText(text: string, key: string): string | undefined {
  const line = text.split('\n').find((each) => each.trimStart().startsWith(key) && /^\s*\w+\s*=/.test(each));
  return /["'](\/[^"']*)["']/.exec(line ?? '')?.[1];
}

/** What a stopped or unknown runtime has in its configuration. */
function configuredFolders(root: Root): Partial<Folders> {
  const containerd = read(root, '/etc/containerd/config.toml') ?? '';
  const crio = read(root, '/etc/crio/crio.conf') ?? '';
  const nomad = readFolder(root, '/etc/nomad.d');
  const hcl = (key: string): string | undefined => tomlText(nomad, key);
  const plugins =
    tomlText(containerd, 'bin_dir') ?? tomlText(crio, 'plugin_dir') ?? hcl('cni_path')?.split(':')[0] ?? undefined;
  const networks = tomlText(containerd, 'conf_dir') ?? tomlText(crio, 'network_dir') ?? hcl('cni_config_dir');
  return { ...(plugins === undefined ? {} : { plugins }), ...(networks === undefined ? {} : { networks }) };
}

/** The text of all of Nomad's configuration files. */
function readFolder(root: Root, path: string): string {
  const folder = root.folder(path);
  if (!isFolder(folder)) return '';
  const names = readdirSync(folder).filter((name) => /\.(hcl|json)$/.test(name));
  return names
    .slice(0, 100)
    .map((name) => read(root, join(path, name)) ?? '')
    .join('\n');
}

/**
 * The folders where no runtime can be asked: those that a configuration names, else the known ones, the first with plugins
 * in it.
 */
export function knownFolders(root: Root): Folders {
  const configured = configuredFolders(root);
  if (isK3s(root)) {
    const plugins = k3sPlugins(root);
    if (plugins !== undefined) return { plugins, networks: k3sNetworks, from: 'k3s' };
  }
  const known = ['/usr/lib/cni', '/opt/cni/bin', '/usr/libexec/cni'];
  const folders = known.filter((path) => isFolder(root.folder(path)));
  const plugins =
    configured.plugins ?? folders.find((path) => hasPlugins(root.folder(path))) ?? folders[0] ?? '/opt/cni/bin';
  const networks = configured.networks ?? (isNomad(root) ? '/opt/cni/config' : '/etc/cni/net.d');
  const from =
    configured.plugins !== undefined || configured.networks !== undefined ? "the runtime's configuration" : 'this host';
  return { plugins, networks, from };
}

const unitFolders = ['/etc/systemd/system', '/usr/lib/systemd/system', '/lib/systemd/system'];

/** Docker's unit, as its package has it; undefined without Docker. */
export function dockerUnit(root: Root): string | undefined {
  for (const folder of unitFolders) {
    const text = read(root, join(folder, 'docker.service'));
    if (text !== undefined) return text;
  }
  return undefined;
}

const programFolders = ['/usr/bin', '/usr/local/bin', '/usr/sbin', '/bin'];
const hasProgram = (root: Root, name: string): boolean =>
  programFolders.some((folder) => existsSync(root.folder(join(folder, name))));

/** Docker's own network serves a host on which nothing else runs containers. */
export const isDockerHost = (root: Root): boolean =>
  dockerUnit(root) !== undefined &&
  !['podman', 'kubelet', 'nerdctl', 'nomad', 'crio', 'k3s'].some((name) => hasProgram(root, name)) &&
  !isK3s(root) &&
  !isNomad(root);

/** Another folder of plugins on this host that has this one. */
export function findPlugin(root: Root, name: string, except: string): string | undefined {
  const folders = ['/usr/lib/cni', '/opt/cni/bin', '/usr/libexec/cni', '/var/lib/rancher/k3s/data/current/bin'];
  for (const folder of folders) {
    const path = root.folder(folder);
    if (path === except) continue;
    const found = join(path, name);
    // k3s' plugins are links to one program that looks at its name: a copy of it would not be the plugin.
    if (kindOf(found) === 'file') return found;
  }
  return undefined;
}

/** Whether rules of the older iptables are in the kernel: weftd then runs `iptables-legacy`, which opens a raw socket. */
export const hasLegacyTables = (): boolean =>
  ['/proc/net/ip_tables_names', '/proc/net/ip6_tables_names'].some((path) => {
    try {
      // The files have no size.
      return (readSmallFile(path, limitBytes) ?? '') !== '';
    } catch {
      return false;
    }
  });
