/**
 * `weftctl uninstall --plugins`: takes back what `weftctl install --plugins` has put on a node, as a pod does that cleans it. The
 * network configuration goes first, so that the runtime starts nothing more with Weft. The plugins stay while containers
 * need them: without its plugin no runtime can delete a container.
 */

import { rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { printable } from '../../command/printable.ts';
import { defaultPaths } from '../../net/paths.ts';
import { openAttachmentReader } from '../../reservations/attachments.ts';
import { CliError } from '../host.ts';
import type { VerbContext } from '../verb.ts';
import { isWefts, parseConflist } from './conflist.ts';
import { fileError, kindOf, readSmallFile, syncFolder } from './files.ts';
import { isFile, isOwn, ownNames } from './plugins.ts';

const limitBytes = 1024 * 1024;

/** Removes a file for good. @throws CliError */
function remove(folder: string, name: string): void {
  try {
    rmSync(join(folder, name));
    syncFolder(folder);
  } catch (error) {
    throw fileError('remove', join(folder, name), error);
  }
}

/** @throws CliError */
export async function removePlugins({ host, options }: VerbContext): Promise<number> {
  const dryRun = options.flag('dry-run');
  const tell = (line: string): void => host.stdout(`${printable(line)}\n`);
  const take = (folder: string, name: string): void => {
    if (!dryRun) remove(folder, name);
    tell(`${dryRun ? 'would remove' : 'removed'} ${join(folder, name)}`);
  };

  const confDir = options.text('conf-dir') ?? '/etc/cni/net.d';
  const conflist = options.text('conflist');
  if (conflist !== undefined) {
    const name = basename(conflist);
    const path = join(confDir, name);
    const kind = kindOf(path);
    if (kind === 'file') {
      const isOurs = isWefts(parseConflist(name, readSmallFile(path, limitBytes) ?? ''));
      if (isOurs) take(confDir, name);
      else tell(`left ${path}: it does not name the plugin "weft"`);
    } else if (kind !== 'missing') tell(`left ${path}: it is no file`);
  }

  const binDir = options.text('bin-dir') ?? '/opt/cni/bin';
  const dataDir = options.text('data-dir') ?? defaultPaths.cniDataDir;
  const needed = openAttachmentReader(await host.loadSys(), dataDir)
    .list()
    .filter((each) => each.host !== 'missing').length;
  if (needed > 0 && !options.flag('force')) {
    throw new CliError(
      `Cannot remove the plugins in "${binDir}": ${needed} ${needed === 1 ? 'container' : 'containers'} of this host could not be deleted without them; delete their pods first, or say --force`,
    );
  }
  for (const name of ownNames) {
    const path = join(binDir, name);
    if (isFile(path) && isOwn(path)) take(binDir, name);
  }
  return 0;
}
