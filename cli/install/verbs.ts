/** The descriptions of `install` and `uninstall`. */

import type { OptionSpec } from '../../command/options.ts';
import type { Verb } from '../verb.ts';

const option = (name: string, help: string, more: Partial<OptionSpec> = {}): OptionSpec => ({
  name,
  kind: 'flag',
  help,
  commandLineOnly: true,
  ...more,
});

const text = (name: string, placeholder: string, help: string, byDefault?: string): OptionSpec =>
  option(name, help, { kind: 'text', placeholder, ...(byDefault === undefined ? {} : { byDefault }) });

export const installVerbs: readonly Verb[] = [
  {
    name: 'install',
    usage: '--plugins',
    summary: 'put the plugins into the folder of the container runtime',
    description: `Puts weft, weft-ipam, flannel and loopback into the runtime's folder, and portmap if it is beside them. Every name
has the old file or the new one at any time. It leaves a newer file and another package's file alone and says so.
The plugins come from the folder of weftctl itself or from "cni" beside it, as in an unpacked release.
With --conflist, it then puts that network configuration into the runtime's folder of configurations.`,
    options: [
      option('plugins', 'put the plugins in place, and nothing else'),
      text('bin-dir', 'DIR', "the runtime's folder of plugins", '/opt/cni/bin'),
      text('conf-dir', 'DIR', "the runtime's folder of network configurations", '/etc/cni/net.d'),
      text('conflist', 'FILE', 'put this network configuration there, as the last step', 'none'),
      text('from', 'DIR', 'take the plugins from this folder', "weftctl's own"),
      text('root', 'DIR', 'install into an image: all other folders are below this one', '/'),
      option('force', "replace newer files and other packages' files, too"),
      option('dry-run', 'say what would be done and do nothing'),
    ],
    most: 0,
    load: () => import('./install.ts'),
  },
];
