/**
 * `weftctl migrate --back`. flannel's network configuration comes back first, with a record for each container that Weft has
 * attached: flannel's plugin deletes containers by these. Then flanneld starts, and only when its rules stand do weftd's go.
 */

import { lstatSync } from 'node:fs';
import { join } from 'node:path';
import { ParsedOptions } from '../../command/options.ts';
import { printable } from '../../command/printable.ts';
import { parseSubnetEnv } from '../../net/node-file.ts';
import { defaultPaths } from '../../net/paths.ts';
import { openAttachmentReader } from '../../reservations/attachments.ts';
import { CliError } from '../host.ts';
import { ensureFolder, kindOf, putFile, readSmallFile } from '../install/files.ts';
import { systemctl, systemctlAsk, unitName } from '../install/systemd.ts';
import { giveLeaseBack, restoreNetworks, stopService, type Uninstaller, uninstallHost } from '../install/uninstall.ts';
import { count } from '../text.ts';
import type { VerbContext } from '../verb.ts';
import { type Migration, readMigration } from './migration.ts';
import { formatRecord } from './records.ts';

const limitBytes = 1024 * 1024;
const readyMs = 60_000;
const pollMs = 100;
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

interface FlannelList {
  readonly cniVersion?: string;
  readonly name?: string;
  readonly plugins?: readonly Record<string, unknown>[];
}

/** The part of flannel's configuration that is the plugin's own. */
function flannelPart(text: string): { cniVersion: string; name: string; delegate: Record<string, unknown> } {
  const list = JSON.parse(text) as FlannelList & Record<string, unknown>;
  const plugin = list.plugins?.find(({ type }) => type === 'flannel') ?? list;
  const delegate = plugin['delegate'];
  return {
    cniVersion: list.cniVersion ?? '0.3.1',
    name: list.name ?? 'cbr0',
    delegate: typeof delegate === 'object' && delegate !== null ? (delegate as Record<string, unknown>) : {},
  };
}

/** Records for the containers that have none. */
async function writeRecords({ host }: VerbContext, { conflist, subnetFile }: Migration): Promise<void> {
  const text = conflist && readSmallFile(join(conflist.folder, conflist.file), limitBytes);
  const env = readSmallFile(subnetFile, limitBytes);
  if (text === undefined || env === undefined) return;
  const { cniVersion, name, delegate } = flannelPart(text);
  const record = formatRecord({ cniVersion, name, node: parseSubnetEnv(env), delegate });
  const attachments = openAttachmentReader(await host.loadSys(), defaultPaths.cniDataDir).list();
  const folder = defaultPaths.flannelDataDir;
  ensureFolder(folder);
  let written = 0;
  for (const { containerId, network } of attachments) {
    const path = join(folder, containerId);
    if (network !== name || !/^[A-Za-z0-9][\w.-]*$/.test(containerId) || kindOf(path) !== 'missing') continue;
    putFile(path, Buffer.from(record), 0o600, host);
    written++;
  }
  if (written > 0) host.stdout(`wrote flannel's records of ${count(written, 'container')} that Weft has attached\n`);
}

const identityOf = (path: string): string => {
  const status = lstatSync(path, { throwIfNoEntry: false });
  return status ? `${status.dev}:${status.ino}:${status.mtimeMs}` : '';
};

/** Starts flanneld, and waits until it has written subnet.env anew: by then its rules stand. @throws CliError */
async function startFlanneld({ unit, enabled, subnetFile }: Migration): Promise<void> {
  const before = identityOf(subnetFile);
  if (enabled) systemctl('enable', unit);
  // It runs already if an earlier attempt was interrupted. The reason of a wait is in the journal.
  systemctl(systemctlAsk('is-active', unit) ? 'restart' : 'start', '--no-block', unit);
  for (let waitedMs = 0; waitedMs < readyMs; waitedMs += pollMs) {
    const now = identityOf(subnetFile);
    if (now !== '' && now !== before && systemctlAsk('is-active', unit)) return;
    await pause(pollMs);
  }
  throw new CliError(`${unit} has not written "${subnetFile}" within ${readyMs / 1000} s: see "journalctl -u ${unit}"`);
}

/** @throws CliError: weftd has the host again */
async function handOver(uninstaller: Uninstaller, context: VerbContext, migration: Migration): Promise<void> {
  restoreNetworks(uninstaller);
  await writeRecords(context, migration);
  stopService(uninstaller);
  try {
    await startFlanneld(migration);
  } catch (error) {
    if (!(error instanceof CliError)) throw error;
    systemctl('disable', '--now', migration.unit);
    systemctl('enable', '--now', '--no-block', unitName);
    throw new CliError(error.message, [
      `weftd has the host again; the runtime's network configuration is flannel's already: "weftctl migrate" takes it back`,
    ]);
  }
  uninstaller.tell(`${migration.enabled ? 'enabled and ' : ''}started ${migration.unit}`);
  giveLeaseBack(uninstaller, '--to-flanneld');
}

/** Everything of Weft's goes, and flanneld has the host. */
export const returnHost = (context: VerbContext, migration: Migration): Promise<number> =>
  uninstallHost(
    { ...context, options: new ParsedOptions(new Map(), []) },
    { handOver: (uninstaller) => handOver(uninstaller, context, migration) },
  );

export async function giveBack(context: VerbContext): Promise<number> {
  const migration = readMigration();
  if (!migration) {
    throw new CliError('Cannot give this host back: "weftctl migrate" has not taken it from flannel', [
      'for a host without flannel: "weftctl uninstall"',
    ]);
  }
  const status = await returnHost(context, migration);
  context.host.stdout(`${printable(migration.unit)} has this host again\n`);
  return status;
}
