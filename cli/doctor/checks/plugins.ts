/** What a container runtime finds of Weft: its network configuration, and the plugins that it names. */

import { addressBits } from '../../../net/address.ts';
import type { ConfigurationFile } from '../conflists.ts';
import { all, command, type HostCheck, type HostFinding, quote } from '../host-check.ts';
import { type HostView, usualPluginFolders } from '../host-view.ts';

/** The whole configuration of a network of Weft, in one line. */
const conflist = '{"cniVersion":"1.0.0","name":"weft","plugins":[{"type":"weft","ipam":{"type":"weft-ipam"}}]}';

const writeConflist = (path: string): string => `echo ${quote(conflist)} > ${quote(path)}`;

/** Whether another program, such as Docker, serves this host's containers by itself: then no runtime needs plugins. */
const servesDocker = (host: HostView): boolean =>
  host.addresses.some(
    ({ index, prefix }) =>
      prefix.length < addressBits(prefix.address.family) &&
      host.isInSubnets(prefix) &&
      host.link(index)?.name === 'docker0',
  );

const firstWeft = (host: HostView): ConfigurationFile | undefined => host.configurations().find(({ isWeft }) => isWeft);

const conflistMissing: HostCheck = {
  code: 'conflist-missing',
  title: 'the container runtime has no network configuration of Weft',
  severity: 'error',
  costMs: 1,
  why: 'the runtime starts containers without a network, or in another one, and Kubernetes calls the node NotReady',
  remedy: '`echo \'{"cniVersion":"1.0.0","name":"weft",…}\' > /etc/cni/net.d/10-weft.conflist`',
  safe: false,
  find(host) {
    const { confDir } = host.paths;
    if (firstWeft(host) || servesDocker(host)) return [];
    const path = `${confDir}/10-weft.conflist`;
    return [
      {
        subject: confDir,
        facts: {},
        what: `No configuration in "${confDir}" names the plugin "weft"`,
        command: all(command('mkdir', '-p', confDir), writeConflist(path)),
      },
    ];
  },
};

const conflistBroken: HostCheck = {
  code: 'conflist-broken',
  title: 'a network configuration cannot be read',
  severity: 'error',
  costMs: 1,
  why: 'a runtime skips the file, or has no network at all because of it',
  remedy: 'rewrite the file, or rename it so that it no longer ends in .conflist',
  safe: false,
  find: (host) =>
    host.configurations().flatMap(({ path, broken, isWeft }) =>
      broken === undefined
        ? []
        : {
            subject: path,
            facts: { reason: broken },
            what: `The network configuration "${path}" cannot be used: ${broken}`,
            command: isWeft ? writeConflist(path) : command('mv', '--', path, `${path}.disabled`),
          },
    ),
};

const conflistOrder: HostCheck = {
  code: 'conflist-order',
  title: "another network configuration comes before Weft's",
  severity: 'error',
  costMs: 1,
  why: 'a runtime uses the first file by name: new containers get another network',
  remedy: '`mv /etc/cni/net.d/05-other.conflist /etc/cni/net.d/05-other.conflist.disabled`',
  safe: false,
  find(host) {
    const own = firstWeft(host);
    if (!own) return [];
    return host
      .configurations()
      .filter(({ path, broken, isWeft }) => broken === undefined && !isWeft && path < own.path)
      .map(({ path }) => ({
        subject: path,
        facts: { weft: own.path },
        what: `"${path}" comes before "${own.path}": the runtime uses the first one`,
        command: command('mv', '--', path, `${path}.disabled`),
      }));
  },
};

/** Where CRI's own tool is, and a runtime that answers it. */
const criSockets = ['/run/containerd/containerd.sock', '/run/crio/crio.sock', '/run/k3s/containerd/containerd.sock'];

const conflistNotLoaded: HostCheck = {
  code: 'conflist-not-loaded',
  title: 'the container runtime has not loaded the network configuration',
  severity: 'error',
  costMs: 100,
  why: 'the runtime does not start containers before it has loaded the file',
  remedy: '`systemctl restart containerd`',
  safe: false,
  async find(host, signal) {
    const crictl = host.findProgram('crictl');
    const socket = criSockets.find((path) => typeof host.sys.stat(path) !== 'number');
    if (crictl === undefined || socket === undefined || !firstWeft(host)) return [];
    const args = ['--runtime-endpoint', `unix://${socket}`, '--timeout', '2s', 'info', '--output', 'json'];
    const { status, stdout, stderr } = await host.runProgram(crictl, args, { signal, timeoutMs: 2500 });
    const service = socket.includes('crio') ? 'crio' : 'containerd';
    const found = (what: string): HostFinding[] => [
      { subject: socket, facts: {}, what, command: command('systemctl', 'restart', service) },
    ];
    if (status !== 0) return found(`The runtime at "${socket}" does not answer: ${firstLine(stderr)}`);
    const { status: runtime } = JSON.parse(stdout) as {
      status?: { conditions?: { type?: string; status?: boolean; message?: string }[] };
    };
    const network = runtime?.conditions?.find(({ type }) => type === 'NetworkReady');
    return network?.status === false
      ? found(`The runtime at "${socket}" has no network: ${firstLine(network.message ?? '')}`)
      : [];
  },
};

const firstLine = (text: string): string => text.trim().split('\n')[0]!.slice(0, 300);

/** The plugins that Weft's configuration names, with the path of each; undefined where no folder has it. */
function namedPlugins(host: HostView): { readonly name: string; readonly path: string | undefined }[] {
  // The first configuration that the runtime can use; others are not Weft's business.
  return (firstWeft(host)?.types ?? [])
    .filter((name) => !name.includes('/'))
    .map((name) => ({
      name,
      path: folders(host)
        .map((folder) => `${folder}/${name}`)
        .find((path) => host.isFile(path)),
    }));
}

const folders = ({ paths }: HostView): readonly string[] => paths.binDirs;

/** weftctl's own folder: the release has the plugins beside it. */
function ownFolder({ sys }: HostView): string {
  const path = sys.readlink('/proc/self/exe');
  return typeof path === 'number' ? '' : path.slice(0, path.lastIndexOf('/'));
}

/** A good copy of the plugin somewhere else. */
function otherCopy(host: HostView, name: string, not: string): string | undefined {
  return [ownFolder(host), '/usr/local/bin', ...folders(host), ...usualPluginFolders]
    .map((folder) => `${folder}/${name}`)
    .find((path) => path !== not && isExecutable(host, path) && architectureFault(host, path) === undefined);
}

const isExecutable = ({ sys }: HostView, path: string): boolean => {
  const status = sys.stat(path);
  return typeof status !== 'number' && (status.mode & 0o111) !== 0;
};

/** Debian's package of the reference plugins. */
const referencePackage = 'containernetworking-plugins';
const referenceFolder = '/usr/lib/cni';
const ownPlugins = new Set(['weft', 'weft-ipam', 'flannel', 'loopback']);

/** Puts the plugin where the runtime looks. */
function installCommand(host: HostView, name: string, to: string): string | undefined {
  const copy = otherCopy(host, name, to);
  if (copy !== undefined) return command('install', '-m', '0755', '--', copy, to);
  if (ownPlugins.has(name) || host.findProgram('apt-get') === undefined) return undefined;
  const from = `${referenceFolder}/${name}`;
  const install = command('apt-get', 'install', '-y', referencePackage);
  return from === to ? install : all(install, command('install', '-m', '0755', '--', from, to));
}

const pluginMissing: HostCheck = {
  code: 'plugin-missing',
  title: "a plugin is not in the runtime's folder",
  severity: 'error',
  costMs: 1,
  why: 'no container starts: the runtime cannot find the program',
  remedy: "copy the plugin into the runtime's folder, such as `install -m 0755 weft /opt/cni/bin/weft`",
  safe: true,
  find: (host) =>
    namedPlugins(host).flatMap(({ name, path }) => {
      if (path !== undefined) return [];
      const to = `${folders(host)[0]}/${name}`;
      const repair = installCommand(host, name, to);
      return {
        subject: name,
        facts: { folders: folders(host).join(':') },
        what: `The plugin "${name}" is not in ${folders(host)
          .map((folder) => `"${folder}"`)
          .join(' or ')}`,
        // A package is the host's business.
        safe: repair?.startsWith('apt-get') !== true,
        ...(repair === undefined ? {} : { command: all(command('mkdir', '-p', folders(host)[0]!), repair) }),
      };
    }),
};

const pluginNotExecutable: HostCheck = {
  code: 'plugin-not-executable',
  title: 'a plugin may not be executed',
  severity: 'error',
  costMs: 1,
  why: 'no container starts: the runtime cannot run the program',
  remedy: '`chmod 0755 /opt/cni/bin/weft`',
  safe: true,
  find: (host) =>
    namedPlugins(host).flatMap(({ name, path }) =>
      path === undefined || isExecutable(host, path)
        ? []
        : {
            subject: name,
            facts: { path },
            what: `The plugin "${path}" is not executable`,
            command: command('chmod', '0755', '--', path),
          },
    ),
};

/** Of an ELF header (elf.h): the class, the byte order, e_machine. */
const elf = { magic: [0x7f, 0x45, 0x4c, 0x46], classAt: 4, machineAt: 18, bytes: 20 } as const;
const machines: Readonly<Record<number, string>> = { 3: 'x86', 40: 'arm', 62: 'x64', 183: 'arm64', 243: 'riscv64' };

function machineOf(head: Uint8Array | undefined): number | 'script' | undefined {
  if (!head || head.length < 2) return undefined;
  if (head[0] === 0x23 && head[1] === 0x21) return 'script';
  if (head.length < elf.bytes || elf.magic.some((byte, i) => head[i] !== byte)) return undefined;
  return head[elf.machineAt]! | (head[elf.machineAt + 1]! << 8);
}

/** Why this host cannot run the file. */
function architectureFault(host: HostView, path: string): string | undefined {
  const machine = machineOf(host.head(path, elf.bytes));
  if (machine === 'script') return undefined;
  if (machine === undefined) return 'it is no program';
  const own = machineOf(host.head('/proc/self/exe', elf.bytes));
  if (own === undefined || machine === own) return undefined;
  const name = (number: number | string): string => machines[Number(number)] ?? `machine ${number}`;
  return `it is for ${name(machine)}, and this host is ${name(own)}`;
}

const pluginArchitecture: HostCheck = {
  code: 'plugin-architecture',
  title: 'a plugin is for another kind of processor',
  severity: 'error',
  costMs: 1,
  why: 'no container starts: the kernel refuses the program with "exec format error"',
  remedy: "take the plugin from the release for this host's processor: `install -m 0755 weft /opt/cni/bin/weft`",
  safe: false,
  find: (host) =>
    namedPlugins(host).flatMap(({ name, path }) => {
      const fault = path === undefined ? undefined : architectureFault(host, path);
      if (path === undefined || fault === undefined) return [];
      const repair = installCommand(host, name, path);
      return {
        subject: name,
        facts: { path },
        what: `The plugin "${path}" cannot run here: ${fault}`,
        ...(repair === undefined ? {} : { command: repair }),
      };
    }),
};

const pluginVersion: HostCheck = {
  code: 'plugin-version',
  title: "a plugin's version is not weftctl's",
  severity: 'warning',
  costMs: 20,
  why: 'an upgrade was left half done: fixes of the newer version are not in force for new containers',
  remedy: '`install -m 0755 weft /opt/cni/bin/weft`',
  safe: false,
  async find(host, signal) {
    const own = namedPlugins(host).filter(({ name }) => name === 'weft' || name === 'weft-ipam');
    const found: HostFinding[] = [];
    for (const { name, path } of own) {
      if (path === undefined || !isExecutable(host, path) || architectureFault(host, path) !== undefined) continue;
      const { stderr } = await host.runProgram(path, [], { signal, timeoutMs: 2000 });
      const version = /^CNI \S+ plugin v(\S+)/.exec(stderr)?.[1];
      if (version === host.version) continue;
      const repair = installCommand(host, name, path);
      found.push({
        subject: name,
        facts: { path, version: version ?? 'unknown' },
        what: `The plugin "${path}" is of version ${version ?? 'unknown'}, and weftctl of ${host.version}`,
        ...(repair === undefined ? {} : { command: repair }),
      });
    }
    return found;
  },
};

export const pluginChecks: readonly HostCheck[] = [
  conflistMissing,
  conflistBroken,
  conflistOrder,
  conflistNotLoaded,
  pluginMissing,
  pluginNotExecutable,
  pluginArchitecture,
  pluginVersion,
];
