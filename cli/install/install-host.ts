/**
 * `weftctl install`: a host becomes a node. The order keeps containers safe: what can be asked is asked first, and the
 * network configuration is the last file, because from then on the runtime calls the plugins.
 */

import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { UsageError } from '../../command/options.ts';
import { defaultPaths, socketPath } from '../../net/paths.ts';
import { withoutTrailingSlashes } from '../../net/text.ts';
import { CliError } from '../host.ts';
import { SocketSource } from '../source.ts';
import type { VerbContext } from '../verb.ts';
import { asideName, type Conflist, firstName, firstOf, formatConflist, isWefts, listConflists } from './conflist.ts';
import { dockerOptsPath, formatDockerDropIn } from './docker.ts';
import { checkEtcd, findEtcdSettings, toEndpoints } from './etcd-check.ts';
import { readSmallFile } from './files.ts';
import { dockerUnit, type Folders, findPlugin, isDockerHost, knownFolders, osName } from './host-facts.ts';
import { Installer } from './installer.ts';
import { listPluginTables } from './nft-remains.ts';
import { findSources, isFile, missingSources, planPlugins, putPlugins, tellPlugins } from './plugins.ts';
import { Root } from './rooted.ts';
import { askRuntime, waitForNetwork } from './runtime.ts';
import {
  currentSettings,
  putExtras,
  putService,
  putSettings,
  readUnit,
  recordedProgramFolder,
  startOf,
  startService,
  usualProgramFolder,
  waitForWeftd,
} from './service.ts';
import { variableOf } from './settings.ts';
import { readHostSysctls } from './sysctls.ts';
import { dropInPath, isBooted, systemctl } from './systemd.ts';

const conflistLimitBytes = 1024 * 1024;

/** `--set iface=eth1` → WEFTD_IFACE, `eth1`. @throws UsageError */
function givenSettings(texts: readonly string[]): Map<string, string> {
  return new Map(
    texts.map((text) => {
      const [, name, value] = /^(?:--)?([a-z0-9-]+)=(.*)$/s.exec(text) ?? [];
      if (name === undefined) throw new UsageError(`Option --set takes NAME=VALUE, such as iface=eth1, not "${text}"`);
      return [variableOf(name), value!] as const;
    }),
  );
}

/** Where the runtime's plugins and networks are: as given, as the runtime answers, or as known. */
async function findFolders(context: VerbContext, root: Root): Promise<Folders & { readonly asked?: string }> {
  const { options } = context;
  const answered = root.path === '' ? await askRuntime(options.text('cri-socket')) : undefined;
  const found: Folders & { readonly asked?: string } = answered ?? knownFolders(root);
  return {
    ...found,
    plugins: options.text('bin-dir') ?? found.plugins,
    networks: options.text('conf-dir') ?? found.networks,
  };
}

/** The network that is there for Weft to take the place of. Podman's networks are Podman's alone. */
function networkBefore(files: readonly Conflist[], isCri: boolean): Conflist | undefined {
  const first = firstOf(files);
  if (!first || isWefts(first) || first.fault !== undefined) return undefined;
  return isCri || first.types.includes('flannel') ? first : undefined;
}

function putConflist(installer: Installer, folders: Folders, isCri: boolean): string {
  const { root } = installer;
  const folder = root.folder(folders.networks);
  const plugins = root.folder(folders.plugins);
  const files = listConflists(folder);
  const first = firstOf(files);
  if (first && isWefts(first)) {
    installer.tell(`${join(folders.networks, first.file)}: the network "${first.network}" is Weft's already`);
    return first.network!;
  }
  const before = networkBefore(files, isCri);
  const others = files.filter(({ file }) => file !== before?.file).map(({ file }) => file);
  const own = files.find(isWefts);
  const name = firstName(
    others.filter((file) => file !== own?.file),
    own?.file,
  );
  if (name === undefined)
    throw new CliError(`Cannot put a file before "${others[0]}" in "${folders.networks}": rename that`);
  const text = formatConflist(
    before ? readSmallFile(join(folder, before.file), conflistLimitBytes) : undefined,
    (type) => isFile(join(plugins, type)),
  );
  installer.putText(join(folders.networks, name), text);
  const network = (JSON.parse(text) as { name: string }).name;
  installer.record({ network });
  // Not before the new one is there: a runtime without any network takes the node out of service.
  if (before && before.file !== name) {
    installer.setAside(join(folders.networks, before.file), join(folders.networks, asideName(before.file)));
  }
  return network;
}

/** The plugins, and a portmap of this host where the folder has none. */
function installPlugins(installer: Installer, folders: Folders, from: string | undefined, force: boolean): void {
  const { root, host, dryRun } = installer;
  const folder = root.folder(folders.plugins);
  const sources = findSources(host.program, from);
  if (!sources) {
    // An upgrade from weftctl's own folder: the plugins stay.
    if (!isFile(join(folder, 'weft'))) throw missingSources(host.program, from);
    installer.tell(`the plugins in ${folders.plugins} stay as they are`);
    return;
  }
  const portmap = sources.portmap ?? findPlugin(root, 'portmap', folder);
  const plan = planPlugins({
    folder,
    sources: { weft: sources.weft, ...(portmap === undefined || isFile(join(folder, 'portmap')) ? {} : { portmap }) },
    force,
  });
  const put = plan.steps.filter(({ does }) => does === 'put').map(({ name }) => name);
  const sourceOf = (name: string): string => (name === 'portmap' ? portmap! : sources.weft);
  installer.notePlugins(folders.plugins, put, sourceOf);
  if (!dryRun) putPlugins(plan, host);
  for (const line of tellPlugins({ ...plan, folder: folders.plugins }, dryRun, folder)) installer.tell(line);
}

/** Docker's own network. @throws CliError */
function installDocker(installer: Installer, unit: string, programFolder: string): void {
  const changed = installer.putText(dropInPath('docker.service', 'weft.conf'), formatDockerDropIn(unit, programFolder));
  if (!installer.dryRun && isBooted(installer.root)) systemctl('daemon-reload');
  installer.tell(
    changed
      ? 'Docker uses this node\'s subnet from its next start: "systemctl restart docker" (its containers stop meanwhile)'
      : "docker.service uses this node's subnet already",
  );
}

/** Before weftd first runs: what it will change, as it is. */
async function noteHost(installer: Installer): Promise<void> {
  if (installer.isUpgrade || installer.dryRun || installer.root.path !== '') return;
  const sys = await installer.host.loadSys();
  installer.record({
    sysctls: readHostSysctls(sys),
    interfaces: readdirSync('/sys/class/net').filter((name) => name.length <= 15),
    tables: listPluginTables(sys),
  });
}

/** What "weftctl migrate" does between the steps, and says at the end. */
export interface InstallSteps {
  /** All files are there, and weftd is about to start. */
  readonly beforeStart?: () => void;
  /** The command that undoes the installation. */
  readonly undoneBy?: string;
}

export async function installHost(context: VerbContext, steps: InstallSteps = {}): Promise<number> {
  const { host, options } = context;
  const root = new Root(options.text('root'));
  const installer = new Installer(host, root, options.flag('dry-run'));
  const from = options.text('from');
  const name = osName(root) ?? 'unknown Linux';
  const isDocker = options.flag('docker') || (options.optionalFlag('docker') === undefined && isDockerHost(root));
  const docker = isDocker ? dockerUnit(root) : undefined;
  if (isDocker && docker === undefined) throw new CliError('Cannot set up Docker: this host has no docker.service');
  const folders = isDocker ? undefined : await findFolders(context, root);
  installer.tell(
    folders
      ? `${name}; plugins in ${folders.plugins}, networks in ${folders.networks}, as ${folders.from} has it`
      : `${name}; containers are Docker's own`,
  );
  // Everything that may be refused, before anything is changed.
  const unit = readUnit(installer, from);
  const given = givenSettings(options.list('set'));
  const current = currentSettings(installer);
  const isKubernetes = [given, current].some((settings) => settings.get(variableOf('kube-subnet-mgr')) === 'true');
  const etcd = isKubernetes ? new Map<string, string>() : await findEtcdSettings(host, root, options, current);
  const settings = new Map([...etcd, ...given]);
  const ipMasq = options.optionalFlag('ip-masq');
  if (ipMasq !== undefined || !current.has(variableOf('ip-masq'))) {
    settings.set(variableOf('ip-masq'), String(ipMasq ?? true));
  }
  if (!isKubernetes && root.path === '') {
    for (const line of await checkEtcd(host, toEndpoints(new Map([...current, ...settings])))) installer.tell(line);
  }
  if (!installer.dryRun) installer.record({ version: host.version });
  await noteHost(installer);

  const programFolder = withoutTrailingSlashes(
    options.text('program-dir') ?? recordedProgramFolder(installer.recorder.current) ?? usualProgramFolder,
  );
  const program = join(dirname(host.program), 'weftd');
  let isChanged = installer.putProgram(join(programFolder, 'weftd'), program, ['weftctl', 'mk-docker-opts.sh']);
  putExtras(installer, dirname(dirname(host.program)));
  if (folders) installPlugins(installer, folders, from, options.flag('force'));
  isChanged = putSettings(installer, settings) || isChanged;
  isChanged = putService(installer, unit, programFolder) || isChanged;

  const runDir = options.text('run-dir') ?? new Map([...current, ...settings]).get(variableOf('run-dir'));
  const source = new SocketSource(socketPath(withoutTrailingSlashes(runDir ?? defaultPaths.runDir)));
  const before = isChanged ? await startOf(source) : undefined;
  steps.beforeStart?.();
  startService(installer, isChanged, programFolder);
  const waits = root.path === '' && !installer.dryRun;
  if (waits) {
    const isReplaced = isBooted(root) ? before : undefined;
    await waitForWeftd(installer, source, (options.integer('timeout') ?? 120) * 1000, isReplaced);
  }
  if (docker !== undefined) {
    installDocker(installer, docker, programFolder);
    installer.tell(`${dockerOptsPath} is written at Docker's start`);
  }
  if (folders) {
    const network = putConflist(installer, folders, folders.asked !== undefined);
    if (waits && folders.asked !== undefined) installer.tell(await waitForNetwork(folders.asked, network));
  }
  installer.tell(
    installer.dryRun
      ? 'nothing was changed'
      : `done; "weftctl status" shows this node, "${steps.undoneBy ?? 'weftctl uninstall'}" undoes all of this`,
  );
  return 0;
}
