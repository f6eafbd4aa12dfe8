/**
 * The take-over. Everything is in place before flanneld is stopped. From then on the kernel carries the packets until weftd
 * has the data path: neither daemon removes anything when it ends. If weftd does not become ready, flanneld is started
 * again. flanneld's rules are removed when weftd's stand.
 */

import { join } from 'node:path';
import { ParsedOptions } from '../../command/options.ts';
import { printable } from '../../command/printable.ts';
import { defaultPaths } from '../../net/paths.ts';
import { CliError } from '../host.ts';
import { readSmallFile } from '../install/files.ts';
import { installHost } from '../install/install-host.ts';
import { systemctl, systemctlAsk } from '../install/systemd.ts';
import type { VerbContext } from '../verb.ts';
import { returnHost } from './back.ts';
import type { Examination } from './examine.ts';
import type { RunningFlanneld } from './find-flanneld.ts';
import { type Migration, writeMigration } from './migration.ts';
import { removeFlannelRules } from './rules.ts';

const limitBytes = 1024 * 1024;

/** flannel's defaults, said aloud: "weftctl install" asks for what it is not told. */
const flannelEndpoints = 'http://127.0.0.1:4001,http://127.0.0.1:2379';

/** Options of "migrate" that are those of "install". */
const passedOn: readonly string[] = ['conf-dir', 'from', 'bin-dir', 'timeout', 'run-dir'];

interface FlannelList {
  readonly plugins?: readonly { readonly type?: unknown; readonly delegate?: { readonly ipMasq?: unknown } }[];
  readonly delegate?: { readonly ipMasq?: unknown };
}

/**
 * Whether weftd masquerades. Without --ip-masq flannel's plugin tells the bridge plugin to do it, for each container, unless
 * the administrator has forbidden that.
 */
export function wantsMasquerade(settings: ReadonlyMap<string, string>, conflist: string | undefined): boolean {
  if (settings.get('ip-masq') === 'true') return true;
  if (conflist === undefined) return false;
  const list = JSON.parse(conflist) as FlannelList;
  const delegate = list.delegate ?? list.plugins?.find(({ type }) => type === 'flannel')?.delegate;
  return delegate?.ipMasq !== false;
}

/** The options of "weftctl install" for this host. */
function installOptions(
  { settings, conflist }: Examination,
  networksFolder: string,
  context: VerbContext,
): ParsedOptions {
  const text = conflist && readSmallFile(join(networksFolder, conflist.file), limitBytes);
  const etcd = [...settings].filter(([name]) => name.startsWith('etcd-'));
  const others = [...settings].filter(([name]) => !name.startsWith('etcd-') && name !== 'ip-masq');
  const given: [string, string[]][] = [
    ['etcd-endpoints', [flannelEndpoints]],
    ...etcd.map(([name, value]): [string, string[]] => [name, [value]]),
    ['set', others.map(([name, value]) => `${name}=${value}`)],
    ['ip-masq', [String(wantsMasquerade(settings, text))]],
    ['conf-dir', [networksFolder]],
  ];
  for (const name of passedOn) {
    const value = context.options.text(name);
    if (value !== undefined) given.push([name, [value]]);
  }
  return new ParsedOptions(new Map(given), []);
}

/** The steps of the installation, and those after it. @throws CliError: flanneld has the host again */
async function install(
  context: VerbContext,
  migration: Migration,
  { options, beforeStart }: { readonly options: ParsedOptions; readonly beforeStart: () => void },
): Promise<number> {
  const { host } = context;
  let isBegun = false;
  const steps = {
    beforeStart(): void {
      isBegun = true;
      beforeStart();
    },
    undoneBy: 'weftctl migrate --back',
  };
  try {
    await installHost({ ...context, options }, steps);
  } catch (error) {
    if (!isBegun || !(error instanceof CliError)) throw error;
    // The reason first: giving the host back takes a while, and has lines of its own.
    host.stderr(`weftctl: ${printable(error.message)}\n`);
    await returnHost(context, migration);
    throw new CliError(`${migration.unit} has this host again, as it was`, error.details, error);
  }
  for (const gone of removeFlannelRules(await host.loadSys())) host.stdout(`removed ${gone}\n`);
  writeMigration({ ...migration, done: true }, host);
  host.stdout('flannel is gone from this host; "weftctl migrate --back" brings it back\n');
  return 0;
}

export function takeOver(
  context: VerbContext,
  flanneld: RunningFlanneld,
  examination: Examination,
  networksFolder: string,
): Promise<number> {
  const { host } = context;
  const unit = flanneld.unit!;
  const { settings, conflist } = examination;
  const migration: Migration = {
    format: 1,
    unit,
    enabled: systemctlAsk('is-enabled', unit),
    subnetFile: settings.get('subnet-file') ?? defaultPaths.subnetFile,
    done: false,
    ...(conflist ? { conflist: { folder: networksFolder, file: conflist.file } } : {}),
  };
  return install(context, migration, {
    options: installOptions(examination, networksFolder, context),
    beforeStart() {
      writeMigration(migration, host);
      systemctl('disable', '--now', unit);
      host.stdout(`disabled and stopped ${unit}\n`);
    },
  });
}

/** Goes on with a take-over that was interrupted after flanneld's end. weftd's settings are written by then. */
export function resume(context: VerbContext, migration: Migration): Promise<number> {
  const { host, options } = context;
  host.stdout(`going on with the take-over from ${migration.unit} that was interrupted\n`);
  const given = new Map<string, string[]>();
  if (migration.conflist) given.set('conf-dir', [migration.conflist.folder]);
  for (const name of passedOn) {
    const value = options.text(name);
    if (value !== undefined) given.set(name, [value]);
  }
  return install(context, migration, { options: new ParsedOptions(given, []), beforeStart: () => undefined });
}
