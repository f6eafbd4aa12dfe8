/** `weftctl install`. With `--plugins`: the plugins alone, and then the network configuration that makes runtimes call them. */

import { basename, join } from 'node:path';
import { UsageError } from '../../command/options.ts';
import { printable } from '../../command/printable.ts';
import { CliError } from '../host.ts';
import type { VerbContext } from '../verb.ts';
import { firstOf, inOrder, listConflists, parseConflist } from './conflist.ts';
import { ensureFolder, kindOf, putFile, readBytes } from './files.ts';
import { findSources, missingSources, planPlugins, putPlugins, tellPlugins } from './plugins.ts';
import { Root } from './rooted.ts';

const conflistLimitBytes = 1024 * 1024;

/** A configuration that is ready to be put into the folder. */
interface NewConflist {
  readonly folder: string;
  readonly name: string;
  readonly bytes: Buffer;
}

/** Reads the configuration before anything is changed. @throws CliError */
function readConflist(path: string, folder: string): NewConflist {
  const bytes = readBytes(path, conflistLimitBytes);
  if (!bytes) throw new CliError(`Cannot read "${path}": it is not there`);
  const name = basename(path);
  const { fault } = parseConflist(name, bytes.toString('utf8'));
  if (fault !== undefined) throw new CliError(`Cannot use "${path}" as a network configuration: ${fault}`);
  if (!/\.conf(list)?$/.test(name)) {
    throw new CliError(`Cannot use "${path}": runtimes read names that end in .conflist or .conf`);
  }
  const kind = kindOf(join(folder, name));
  if (kind === 'folder' || kind === 'other') {
    throw new CliError(`Cannot put "${name}" into "${folder}": something that is no file has that name`);
  }
  return { folder, name, bytes };
}

/** Puts the configuration, unless it is there, and tells which one runtimes use. */
function putConflist({ folder, name, bytes }: NewConflist, context: VerbContext, dryRun: boolean): string[] {
  const path = join(folder, name);
  const isThere = kindOf(path) === 'file' && readBytes(path, conflistLimitBytes)?.equals(bytes) === true;
  if (!isThere && !dryRun) {
    ensureFolder(folder);
    putFile(path, bytes, 0o644, context.host);
  }
  const first = firstOf(listConflists(folder))?.file;
  const isBehind = first !== undefined && first !== name && inOrder([first, name])[0] === first;
  return [
    isThere ? `${path}: already there` : `${dryRun ? 'would put' : 'put'} ${name} into ${folder}`,
    ...(isBehind ? [`runtimes use ${join(folder, first)}, which comes first by name: move it away`] : []),
  ];
}

function installPlugins(context: VerbContext): void {
  const { host, options } = context;
  const dryRun = options.flag('dry-run');
  const root = new Root(options.text('root'));
  const folder = root.folder(options.text('bin-dir') ?? '/opt/cni/bin');
  const from = options.text('from');
  const sources = findSources(host.program, from);
  if (!sources) throw missingSources(host.program, from);
  const source = options.text('conflist');
  const conflist =
    source === undefined ? undefined : readConflist(source, root.folder(options.text('conf-dir') ?? '/etc/cni/net.d'));
  const plan = planPlugins({ folder, sources, force: options.flag('force') });
  const tell = (lines: readonly string[]): void => host.stdout(lines.map((line) => `${printable(line)}\n`).join(''));
  if (!dryRun) putPlugins(plan, host);
  tell(tellPlugins(plan, dryRun));
  // The last step: from now on the runtime calls the plugins.
  if (conflist) tell(putConflist(conflist, context, dryRun));
}

export async function run(context: VerbContext): Promise<number> {
  if (context.options.flag('plugins')) {
    installPlugins(context);
    return 0;
  }
  if (context.options.has('conflist')) throw new UsageError('Option --conflist belongs to --plugins');
  const { installHost } = await import('./install-host.ts');
  return installHost(context);
}
