/** weftd as a service: its unit, its settings, its start, and why it waits. */

import { existsSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { printable } from '../../command/printable.ts';
import { defaultPaths } from '../../net/paths.ts';
import { CliError } from '../host.ts';
import type { Source } from '../source.ts';
import { waitUntilReady } from '../wait.ts';
import { readSmallFile } from './files.ts';
import { hasLegacyTables } from './host-facts.ts';
import type { Installer } from './installer.ts';
import type { Installation } from './record.ts';
import { readSettings, withSettings } from './settings.ts';
import { dropInPath, isBooted, lastLogLines, systemctl, systemctlAsk, unitName, unitPath } from './systemd.ts';

const limitBytes = 1024 * 1024;
export const usualProgramFolder = '/usr/local/bin';

/** Completions have the programs' names, too. */
const sharedFolder = '/usr/local/share/';

/** Where an installation has put weftd; undefined before the first. */
export const recordedProgramFolder = ({ files }: Pick<Installation, 'files'>): string | undefined => {
  const isProgram = (path: string): boolean =>
    path.endsWith('/weftd') && !path.startsWith('/etc/') && !path.startsWith(sharedFolder);
  const program = files.find(({ path }) => isProgram(path));
  return program && dirname(program.path);
};

/** weftd runs the command of the older iptables, which opens a raw socket and a lock file. */
const legacyDropIn = `# Made by "weftctl install": this host has rules of the older iptables, and weftd adds its own there by that command.
[Service]
CapabilityBoundingSet=CAP_NET_RAW
# Where the file is missing, it cannot be made below the read-only folders of this unit.
ExecStartPre=+/bin/touch /run/xtables.lock
`;

/** The unit of this release, or the one that is installed. @throws CliError */
export function readUnit(installer: Installer, from: string | undefined): string {
  const base = dirname(dirname(installer.host.program));
  const folders = from === undefined ? [base] : [from, dirname(from)];
  for (const folder of folders) {
    for (const path of [join(folder, 'systemd', unitName), join(folder, 'examples', unitName)]) {
      const text = readSmallFile(path, limitBytes);
      if (text !== undefined) return text;
    }
  }
  const installed = readSmallFile(installer.root.at(unitPath), limitBytes);
  if (installed !== undefined) return installed;
  throw new CliError(
    `Cannot find "systemd/${unitName}" in "${folders[0]}": run weftctl from an unpacked release, or name its folder with --from`,
  );
}

/** @returns whether a file of the service is another now */
export function putService(installer: Installer, unit: string, folder: string): boolean {
  const text = unit.replace(/^ExecStart=.*\/weftd$/m, () => `ExecStart=${folder}/weftd`);
  let changed = installer.putText(unitPath, text);
  if (installer.root.path === '' && hasLegacyTables()) {
    installer.tell('this host has rules of the older iptables: weftd gets CAP_NET_RAW for them');
    changed = installer.putText(dropInPath(unitName, 'legacy-iptables.conf'), legacyDropIn) || changed;
  }
  return changed;
}

export function currentSettings(installer: Pick<Installer, 'root'>): Map<string, string> {
  return readSettings(readSmallFile(installer.root.at(defaultPaths.serviceSettings), limitBytes) ?? '');
}

/** @returns whether the file is another now */
export function putSettings(installer: Installer, wanted: ReadonlyMap<string, string>): boolean {
  const path = defaultPaths.serviceSettings;
  const target = installer.root.at(path);
  const text = withSettings(readSmallFile(target, limitBytes), wanted);
  // A password is for root alone, and a file that is hidden already stays so.
  const before = statSync(target, { throwIfNoEntry: false });
  const isSecret = text.includes('PASSWORD=') || (before !== undefined && (before.mode & 0o077) === 0);
  return installer.putText(path, text, isSecret ? 0o600 : 0o644);
}

/** Enables the service and starts it, or starts it again if something of it has changed. */
export function startService(installer: Installer, isChanged: boolean, folder: string): void {
  const { dryRun, root } = installer;
  if (root.path !== '') {
    installer.tell(
      `${root.path} is an image: enable the service there with "systemctl --root=${root.path} enable weftd"`,
    );
    return;
  }
  if (!isBooted(root)) {
    installer.tell(`this host has no systemd: start ${folder}/weftd with the settings of /etc/default/weftd yourself`);
    return;
  }
  if (dryRun) {
    installer.tell(`would enable and start ${unitName}`);
    return;
  }
  const isEnabled = systemctlAsk('is-enabled', unitName);
  systemctl('daemon-reload');
  if (!isEnabled) {
    installer.record({ enabled: true });
    systemctl('enable', unitName);
  }
  const isActive = systemctlAsk('is-active', unitName);
  // The unit is ready only once the host has a subnet. The reason why it waits is told below, so that systemctl must not.
  // A unit that waits is not active, and starting it again would leave it with its old settings.
  systemctl(isChanged ? 'restart' : 'start', '--no-block', unitName);
  if (isActive && !isChanged) installer.tell(`${unitName} runs already`);
  else installer.tell(isActive ? `restarted ${unitName}` : `enabled and started ${unitName}`);
}

/** When the weftd that runs was started; undefined if none answers. */
export async function startOf(source: Source): Promise<string | undefined> {
  try {
    return (await source.status()).startedAt;
  } catch (error) {
    if (error instanceof CliError) return undefined;
    throw error;
  }
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const takeOverMs = 15_000;
const pollMs = 100;

/**
 * Waits until containers can start.
 * @param before the start of a weftd that is being replaced: its answers do not count
 * @throws CliError when time has run out, with the service's last lines
 */
export async function waitForWeftd(
  installer: Installer,
  source: Source,
  timeoutMs: number,
  before: string | undefined,
): Promise<void> {
  for (let waitedMs = 0; before !== undefined && waitedMs < takeOverMs; waitedMs += pollMs) {
    if ((await startOf(source)) !== before) break;
    await pause(pollMs);
  }
  try {
    await waitUntilReady(installer.host, source, timeoutMs);
  } catch (error) {
    if (!(error instanceof CliError)) throw error;
    const lines = isBooted(installer.root) ? lastLogLines().map(printable) : [];
    throw new CliError(
      error.message,
      [
        'the network configuration was not put in place: run this command again once weftd is ready',
        ...lines.map((line) => `journal: ${line}`),
      ],
      error,
    );
  }
  installer.tell('weftd is ready: containers can start');
}

/** The files of a release that people use: pages and completions. @returns nothing: they matter to no service */
export function putExtras(installer: Installer, base: string): void {
  const extras: readonly [string, string][] = [
    ['man/man8/weftd.8', '/usr/local/share/man/man8/weftd.8'],
    ['man/man1/weftctl.1', '/usr/local/share/man/man1/weftctl.1'],
    ...['weftd', 'weftctl'].flatMap((name): [string, string][] => [
      [`completions/bash/${name}`, `/usr/local/share/bash-completion/completions/${name}`],
      [`completions/zsh/_${name}`, `/usr/local/share/zsh/site-functions/_${name}`],
      [`completions/fish/${name}.fish`, `/usr/local/share/fish/vendor_completions.d/${name}.fish`],
    ]),
  ];
  for (const [source, path] of extras) {
    if (!existsSync(join(base, source))) continue;
    try {
      installer.copy(path, join(base, source));
    } catch (error) {
      // Some distributions have a /usr that nobody writes. Nothing needs these files.
      if (!(error instanceof CliError) || (error.cause as NodeJS.ErrnoException | undefined)?.code !== 'EROFS')
        throw error;
      return;
    }
  }
}
