/** `weftctl migrate`: examines, then takes over or gives back. */

import { UsageError } from '../../command/options.ts';
import { printable } from '../../command/printable.ts';
import { defaultPaths, socketPath } from '../../net/paths.ts';
import { withoutTrailingSlashes } from '../../net/text.ts';
import { CliError } from '../host.ts';
import { knownFolders } from '../install/host-facts.ts';
import { Root } from '../install/rooted.ts';
import { askRuntime } from '../install/runtime.ts';
import { isBooted, systemctlText } from '../install/systemd.ts';
import { SocketSource } from '../source.ts';
import { count } from '../text.ts';
import type { VerbContext } from '../verb.ts';
import { type Examination, examine } from './examine.ts';
import { findFlanneld } from './find-flanneld.ts';
import { type Migration, readMigration } from './migration.ts';

const isMainProcess = (unit: string, pid: number): boolean =>
  systemctlText('show', '-p', 'MainPID', '--value', unit)?.trim() === String(pid);

/** @throws CliError with everything that hinders */
function tell({ host }: VerbContext, { facts, hindrances }: Examination): void {
  for (const fact of facts) host.stdout(`${printable(fact)}\n`);
  if (hindrances.length === 0) return;
  throw new CliError(
    `Cannot take this host over from flannel: ${hindrances.length === 1 ? 'something hinders' : `${count(hindrances.length, 'thing')} hinder`}, and nothing was changed`,
    hindrances.flatMap(({ what, remedy }) => [what, `  → ${remedy}`]),
  );
}

/** Without a flanneld there is nothing to take over. @throws CliError */
async function refuseWithout(socket: SocketSource, migration: Migration | undefined): Promise<never> {
  if (migration) {
    throw new CliError('Weft has this host already: flanneld was stopped by an earlier "weftctl migrate"', [
      '"weftctl status" shows this node; "weftctl migrate --back" gives the host back to flanneld',
    ]);
  }
  const runsWeftd = await socket.status().then(
    () => true,
    () => false,
  );
  throw new CliError(
    runsWeftd ? 'weftd runs on this host already, and no flanneld' : 'No flanneld runs on this host',
    runsWeftd ? [] : ['start it, so that its options can be read, or use "weftctl install" for a host without flannel'],
  );
}

export async function run(context: VerbContext): Promise<number> {
  const { host, options } = context;
  if (options.flag('back')) {
    if (options.flag('check')) throw new UsageError('Options --check and --back exclude each other');
    const { giveBack } = await import('./back.ts');
    return giveBack(context);
  }
  const runDir = withoutTrailingSlashes(options.text('run-dir') ?? defaultPaths.runDir);
  const socket = new SocketSource(socketPath(runDir));
  const sys = await host.loadSys();
  const flanneld = findFlanneld(sys, isMainProcess);
  if (!flanneld) {
    const migration = readMigration();
    if (!migration || migration.done || options.flag('check')) return refuseWithout(socket, migration);
    const { resume } = await import('./take-over.ts');
    return resume(context, migration);
  }
  const root = new Root(undefined);
  const folders = (await askRuntime(undefined)) ?? knownFolders(root);
  const networksFolder = options.text('conf-dir') ?? folders.networks;
  const examination = await examine({ host, sys, flanneld, isBooted: isBooted(root), socket, networksFolder });
  tell(context, examination);
  if (options.flag('check')) {
    host.stdout('nothing hinders: "weftctl migrate" takes this host over\n');
    return 0;
  }
  const { takeOver } = await import('./take-over.ts');
  return takeOver(context, flanneld, examination, networksFolder);
}
