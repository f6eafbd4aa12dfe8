/** The options that `attach`, `detach`, `attachments` and `gc` share, and the place that they describe. */

import type { OptionSpec, ParsedOptions } from '../../command/options.ts';
import type { Sys } from '../../linux/sys.ts';
import { withoutTrailingSlashes } from '../../net/text.ts';
import type { ChainPlace } from '../../networks/chain.ts';
import { libcniCacheDir, networkConfDir } from '../../networks/paths.ts';
import type { CliHost } from '../host.ts';

/** The folders of plugins by the runtimes' defaults: containerd and CRI-O, Debian, Fedora. */
const pluginFolders = ['/opt/cni/bin', '/usr/lib/cni', '/usr/libexec/cni'];

export const networkOptions: readonly OptionSpec[] = [
  {
    name: 'conf-dir',
    kind: 'text',
    placeholder: 'DIR',
    help: 'the folder of the network configurations',
    byDefault: networkConfDir,
    commandLineOnly: true,
  },
  {
    name: 'bin-dir',
    kind: 'text',
    placeholder: 'DIR[:DIR]',
    help: 'the folders of the plugins',
    byDefault: `$CNI_PATH, or ${pluginFolders.join(':')}`,
    commandLineOnly: true,
  },
  {
    name: 'cache-dir',
    kind: 'text',
    placeholder: 'DIR',
    help: "the folder of libcni's results",
    byDefault: libcniCacheDir,
    commandLineOnly: true,
  },
];

/** Of one plugin's call. A full address store on a slow disk takes some seconds. */
const pluginTimeoutMs = 60_000;

export interface NetworkPlace extends ChainPlace {
  readonly confDir: string;
  readonly cacheDir: string;
}

export async function networkPlace(host: CliHost, options: ParsedOptions): Promise<NetworkPlace> {
  const sys: Sys = await host.loadSys();
  const folders = (options.text('bin-dir') ?? host.environment['CNI_PATH'] ?? '')
    .split(':')
    .filter((each) => each !== '');
  return {
    sys,
    environment: host.environment,
    pluginFolders: folders.length > 0 ? folders : pluginFolders,
    timeoutMs: pluginTimeoutMs,
    confDir: withoutTrailingSlashes(options.text('conf-dir') ?? networkConfDir),
    cacheDir: withoutTrailingSlashes(options.text('cache-dir') ?? libcniCacheDir),
  };
}
