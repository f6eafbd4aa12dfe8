/**
 * `weftctl uninstall`: undoes what `weftctl install` has recorded, in the order that leaves nobody hanging: the service ends
 * and cannot start again, the lease goes back while the settings are still there, the runtime gets its former network,
 * then interfaces, rules, kernel settings, and the files last. A step that fails does not stop the next ones; the record
 * stays until everything is gone.
 */

import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, renameSync, rmdirSync, rmSync, unlinkSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { printable } from '../../command/printable.ts';
import { NetlinkError, SyscallError } from '../../linux/errors.ts';
import type { Sys } from '../../linux/sys.ts';
import { defaultPaths } from '../../net/paths.ts';
import { openAttachmentReader } from '../../reservations/attachments.ts';
import { CliError, type CliHost } from '../host.ts';
import { readMigration } from '../migrate/migration.ts';
import type { VerbContext } from '../verb.ts';
import { dockerOptsPath } from './docker.ts';
import { drain, type LiveContainer } from './drain.ts';
import { fileError, kindOf, putFile, readBytes, removeUnfinished, syncFolder } from './files.ts';
import { removeEmptyTables } from './nft-remains.ts';
import { type Installation, type RecordedFile, readRecord, recordPath, savedFolder, sha256 } from './record.ts';
import { portsOf, removeBridges, removeContainerEnds } from './remaining-links.ts';
import { Root } from './rooted.ts';
import { currentSettings, recordedProgramFolder, usualProgramFolder } from './service.ts';
import { variableOf } from './settings.ts';
import { restoreSysctls } from './sysctls.ts';
import { dropInPath, isBooted, systemctl, systemctlAsk, unitName, unitPath } from './systemd.ts';

const largestFile = 1024 * 1024 * 1024;
const leaveTimeoutMs = 120_000;
/** Where the plugins keep what they know of containers, as far as weftctl knows it. */
const storeFolder = defaultPaths.cniDataDir;

const shownContainers = 10;

/** Whether docker0 was given the node's subnet. */
const servesDocker = ({ files }: Installation): boolean =>
  files.some(({ path }) => path === dropInPath('docker.service', 'weft.conf'));

/** Containers with an interface. One whose reservation is all that is left does not live. */
function liveContainers(sys: Sys): LiveContainer[] {
  const found = openAttachmentReader(sys, storeFolder).list();
  return found
    .filter(({ host }) => host !== 'missing')
    .map(({ containerId, ifname, network }) => ({ containerId, ifname, network }));
}

/** Docker's containers on docker0, by their interfaces: their addresses are of the subnet that is given back. */
const dockerContainers = (sys: Sys, record: Installation): LiveContainer[] =>
  servesDocker(record)
    ? portsOf(sys, 'docker0').map((name) => ({
        containerId: `Docker's behind ${name}`,
        ifname: 'eth0',
        network: 'docker0',
      }))
    : [];

const describe = ({ containerId, ifname, network }: LiveContainer): string =>
  `${containerId} (${ifname} in the network "${network}")`;

function describeAll(containers: readonly LiveContainer[]): string[] {
  const shown = containers.slice(0, shownContainers).map(describe);
  return containers.length > shown.length ? [...shown, `and ${containers.length - shown.length} more`] : shown;
}

export class Uninstaller {
  readonly host: CliHost;
  readonly root: Root;
  readonly dryRun: boolean;
  readonly record: Installation;
  readonly #failures: string[] = [];
  readonly #left: string[] = [];

  constructor(host: CliHost, root: Root, dryRun: boolean, record: Installation) {
    this.host = host;
    this.root = root;
    this.dryRun = dryRun;
    this.record = record;
  }

  get failures(): readonly string[] {
    return this.#failures;
  }

  /** What stays on the host, with the reason. */
  get left(): readonly string[] {
    return this.#left;
  }

  tell(line: string): void {
    this.host.stdout(`${printable(line)}\n`);
  }

  leave(line: string): void {
    this.#left.push(line);
    this.tell(`left ${line}`);
  }

  /** Does one step, and goes on if it fails. */
  attempt(done: string, work: () => void): void {
    if (this.dryRun) {
      this.tell(`would: ${done}`);
      return;
    }
    try {
      work();
      this.tell(done);
    } catch (error) {
      if (!(error instanceof CliError) && !(error instanceof SyscallError) && !(error instanceof NetlinkError))
        throw error;
      this.#failures.push(error.message);
      this.host.stderr(`weftctl: ${printable(error.message)}\n`);
    }
  }
}

/** Ends the service for good. */
export function stopService(uninstaller: Uninstaller): void {
  if (!isBooted(uninstaller.root) || !systemctlAsk('cat', unitName)) return;
  uninstaller.attempt(`disabled and stopped ${unitName}`, () => void systemctl('disable', '--now', unitName));
}

/**
 * Gives the lease back, by weftd itself: it reads the service's settings.
 * @param how `--local`, or `--to-flanneld`: the lease and the tunnel are flanneld's
 * @throws CliError: nothing was removed
 */
export function giveLeaseBack(uninstaller: Uninstaller, how?: '--local' | '--to-flanneld'): void {
  const { root, host, dryRun } = uninstaller;
  const program = join(recordedProgramFolder(uninstaller.record) ?? usualProgramFolder, 'weftd');
  if (root.path !== '') return;
  if (!existsSync(program)) {
    uninstaller.leave(`the subnet's lease and weftd's interfaces and rules: ${program} is gone`);
    return;
  }
  if (dryRun) {
    uninstaller.tell('would: give the lease back and remove what weftd made');
    return;
  }
  const { status, stderr, error } = spawnSync(program, ['--leave', ...(how === undefined ? [] : [how])], {
    encoding: 'utf8',
    timeout: leaveTimeoutMs,
    killSignal: 'SIGKILL',
    stdio: ['ignore', 'ignore', 'pipe'],
    env: Object.fromEntries(Object.entries(host.environment).filter(([name]) => !/^(WEFTD|FLANNELD|BUN)_/.test(name))),
  });
  if (status === 0) {
    const isGivenBack = (stderr ?? '').includes('lease given back');
    if (how === '--to-flanneld') {
      uninstaller.tell("removed weftd's rules and files; the subnet and the tunnel are flanneld's");
      return;
    }
    const ofLease =
      how === '--local'
        ? 'the lease ends by itself'
        : isGivenBack
          ? 'gave the lease back'
          : 'etcd has no lease of this host';
    uninstaller.tell(`removed what weftd made; ${ofLease}`);
    return;
  }
  const said = (stderr ?? '').trim().split('\n').at(-1) ?? '';
  throw new CliError(`"${program} --leave" failed: ${error ? error.message : said}`, [
    'weftd is stopped, and its files are still there: run this command again when etcd answers, or with --local if it never will',
  ]);
}

const isNetwork = ({ path }: RecordedFile): boolean => /\.conf(list)?$/.test(path) && !path.startsWith('/etc/systemd/');

/** The runtime's former network, then none of Weft's. */
export function restoreNetworks(uninstaller: Uninstaller): void {
  for (const { from, to } of uninstaller.record.moved) {
    const [target, aside] = [uninstaller.root.at(from), uninstaller.root.at(to)];
    if (kindOf(aside) === 'missing') continue;
    if (kindOf(target) !== 'missing') {
      uninstaller.leave(`${to}: there is a new ${from}`);
      continue;
    }
    uninstaller.attempt(`brought ${from} back`, () => {
      try {
        renameSync(aside, target);
        syncFolder(dirname(target));
      } catch (error) {
        throw fileError('bring back', from, error);
      }
    });
  }
  for (const { path, sha256: hash } of uninstaller.record.files.filter(isNetwork)) removeFile(uninstaller, path, hash);
}

/** Removes a file that was put there, or gives the file before it its place. */
function removeFile(uninstaller: Uninstaller, path: string, hash: string): void {
  const { root, record } = uninstaller;
  const target = join(root.folder(dirname(path)), basename(path));
  const kind = kindOf(target);
  if (kind === 'missing') return;
  if (kind !== 'file' || sha256(readBytes(target, largestFile) ?? Buffer.alloc(0)) !== hash) {
    uninstaller.leave(`${path}: somebody has changed it`);
    return;
  }
  const saved = record.saved.find((each) => each.path === path);
  const before = saved && readBytes(root.at(saved.copy), largestFile);
  uninstaller.attempt(saved ? `brought the former ${path} back` : `removed ${path}`, () => {
    try {
      if (saved && before) putFile(target, before, saved.mode, uninstaller.host);
      else unlinkSync(target);
    } catch (error) {
      throw fileError('remove', path, error);
    }
  });
}

const removeTree = (path: string): void => rmSync(path, { recursive: true, force: true });

/** Removes the folder if nothing is in it. */
function removeEmptyFolder(path: string): boolean {
  try {
    rmdirSync(path);
    return true;
  } catch {
    return false;
  }
}

const isNetworkName = (network: string | undefined): network is string =>
  network !== undefined && /^[\w.-]+$/.test(network) && !network.startsWith('.');

/** The plugins' store: reservations of nobody, and the folders that held them. */
function removeStore(uninstaller: Uninstaller): void {
  const { network } = uninstaller.record;
  const folder = uninstaller.root.folder(storeFolder);
  if (!isNetworkName(network)) return;
  const own = join(folder, network);
  if (kindOf(own) !== 'folder') return;
  // An address is a container's, also if its interface is gone: its runtime has yet to delete it.
  const addresses = readdirSync(own).filter(
    (name) => /^[0-9a-f.:_-]+$/i.test(name) && /\d/.test(name) && !name.startsWith('last'),
  );
  if (addresses.length > 0) {
    uninstaller.leave(
      `${storeFolder}/${network}: ${addresses.length} addresses are reserved; their runtime has not deleted these containers`,
    );
    return;
  }
  uninstaller.attempt(`removed ${storeFolder}/${network}`, () => {
    removeTree(own);
    removeIndex(uninstaller, network);
  });
}

/** weft-ipam's index of a network's addresses, which no other program reads. */
function removeIndex({ root }: Uninstaller, network: string): void {
  const folder = join(root.folder(storeFolder), '.weft');
  removeTree(join(folder, network));
  removeEmptyFolder(folder);
}

/** Files that an installation has not finished, and one that Docker's drop-in makes. */
function removeUnrecorded({ root, record }: Uninstaller): void {
  for (const folder of new Set(record.files.map(({ path }) => dirname(path)))) removeUnfinished(root.folder(folder));
  if (servesDocker(record)) {
    rmSync(root.at(dockerOptsPath), { force: true });
  }
  // In an image, and without systemd, nobody else removes the link that enables the service.
  const link = root.at(`/etc/systemd/system/multi-user.target.wants/${unitName}`);
  if (kindOf(link) === 'link' && kindOf(root.at(unitPath)) === 'missing') rmSync(link);
}

/** Weft's own folders: what is in them is Weft's alone. */
function removeFolders(uninstaller: Uninstaller): void {
  const { root, record } = uninstaller;
  for (const path of [savedFolder, '/var/lib/weft', '/run/weft']) {
    const target = root.at(path);
    if (kindOf(target) === 'folder') uninstaller.attempt(`removed ${path}`, () => removeTree(target));
  }
  for (const path of [storeFolder, dirname(storeFolder), '/run/flannel']) removeEmptyFolder(root.folder(path));
  for (const path of [...record.folders].reverse()) removeEmptyFolder(root.at(path));
}

/** @throws CliError while containers live */
async function refuseLiveContainers(context: VerbContext, uninstaller: Uninstaller): Promise<void> {
  const { options, host } = context;
  if (uninstaller.root.path !== '') return;
  const sys = await host.loadSys();
  const list = (): LiveContainer[] => [...liveContainers(sys), ...dockerContainers(sys, uninstaller.record)];
  let live = list();
  if (live.length > 0 && options.flag('drain-first') && !uninstaller.dryRun) {
    await drain(host, live, (line) => uninstaller.tell(line));
    live = list();
  }
  if (live.length === 0) return;
  if (options.flag('force')) {
    uninstaller.tell(`${live.length} containers lose their network: ${describeAll(live).join(', ')}`);
    return;
  }
  throw new CliError(
    `${live.length} ${live.length === 1 ? 'container' : 'containers'} of Weft's network still live on this host; nothing was changed`,
    [...describeAll(live), 'stop them, or let --drain-first do it, or add --force: they lose their network then'],
  );
}

/** flanneld would stay switched off, and this host without a network. @throws CliError */
function refuseTakenOver({ root }: Uninstaller, isForced: boolean): void {
  const migration = root.path === '' && !isForced ? readMigration() : undefined;
  if (!migration) return;
  throw new CliError(`Weft has taken this host over from ${migration.unit}; nothing was changed`, [
    '"weftctl migrate --back" gives it back, with its containers',
    'for a host that shall have neither: --force',
  ]);
}

/** Without these steps containers must be gone, and the lease is given back. */
export interface DepartureSteps {
  /** Gives the host to somebody else, with its containers. */
  readonly handOver?: (uninstaller: Uninstaller) => Promise<void>;
}

export async function run(context: VerbContext): Promise<number> {
  if (!context.options.flag('plugins')) return await uninstallHost(context);
  const { removePlugins } = await import('./remove-plugins.ts');
  const status = await removePlugins(context);
  // A pod that ended would be started again.
  if (status === 0 && context.options.flag('stay')) await new Promise(() => setInterval(() => {}, 1 << 30));
  return status;
}

export async function uninstallHost(context: VerbContext, { handOver }: DepartureSteps = {}): Promise<number> {
  const { host, options } = context;
  const root = new Root(options.text('root'));
  const record = readRecord(root);
  if (!record) {
    throw new CliError(
      `Cannot uninstall: "${root.path}${recordPath}" does not exist, so that "weftctl install" was not run here`,
      [
        'for a node that was set up by hand: "systemctl disable --now weftd", then "weftd --leave", then remove the files',
      ],
    );
  }
  const uninstaller = new Uninstaller(host, root, options.flag('dry-run'), record);
  const settings = currentSettings({ root });
  if (handOver) await handOver(uninstaller);
  else {
    refuseTakenOver(uninstaller, options.flag('force'));
    await refuseLiveContainers(context, uninstaller);
    stopService(uninstaller);
    giveLeaseBack(uninstaller, options.flag('local') ? '--local' : undefined);
  }
  restoreNetworks(uninstaller);
  if (root.path === '') {
    const sys = await host.loadSys();
    uninstaller.attempt('looked for bridges and rules of the plugins', () => {
      if (options.flag('force')) removeContainerEnds(sys);
      for (const name of removeBridges(sys, record.interfaces)) uninstaller.tell(`removed the bridge ${name}`);
      for (const name of removeEmptyTables(sys, record.tables)) uninstaller.tell(`removed the table ${name}`);
    });
    uninstaller.attempt('looked at the kernel settings', () => {
      const { restored, left } = restoreSysctls(sys, record);
      for (const line of restored) uninstaller.tell(line);
      for (const line of left) uninstaller.leave(line);
    });
  }
  for (const { path, sha256: hash } of record.files.filter((file) => !isNetwork(file))) {
    removeFile(uninstaller, path, hash);
  }
  if (isBooted(root) && !uninstaller.dryRun)
    uninstaller.attempt('reloaded systemd', () => void systemctl('daemon-reload'));
  if (uninstaller.dryRun) return 0;
  removeUnrecorded(uninstaller);
  // The containers that stay have their addresses in it.
  if (!handOver) removeStore(uninstaller);
  else if (isNetworkName(record.network)) removeIndex(uninstaller, record.network);
  if (servesDocker(record) && isBooted(root) && systemctlAsk('is-active', 'docker.service')) {
    uninstaller.leave('docker0\'s address, until Docker starts again: "systemctl restart docker"');
  }
  const runDir = settings.get(variableOf('run-dir'));
  if (runDir !== undefined) uninstaller.leave(`${runDir}: it is no folder of the default`);
  if (uninstaller.failures.length > 0) {
    throw new CliError('Weft is not wholly uninstalled: mend what is said above, and run this command again');
  }
  removeFolders(uninstaller);
  uninstaller.tell(
    uninstaller.left.length === 0
      ? 'Weft is uninstalled; the host is as it was'
      : 'Weft is uninstalled, but for what was left',
  );
  return 0;
}
