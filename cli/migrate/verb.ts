/** The description of `weftctl migrate`. */

import type { OptionSpec } from '../../command/options.ts';
import type { Verb } from '../verb.ts';

const flag = (name: string, help: string): OptionSpec => ({ name, kind: 'flag', help, commandLineOnly: true });

const text = (name: string, placeholder: string, help: string, byDefault: string): OptionSpec => ({
  name,
  kind: 'text',
  placeholder,
  help,
  byDefault,
  commandLineOnly: true,
});

export const migrateVerb: Verb = {
  name: 'migrate',
  usage: '',
  summary: 'take this host over from flanneld in place, or give it back',
  description: `Reads the options of the flanneld that runs here, and looks at everything that it has: the network in etcd, the
subnet's lease, subnet.env, the runtime's network configuration and the containers. If something hinders, it says what and
how to mend it, and changes nothing. Then it installs Weft as "weftctl install" does, stops flanneld, starts weftd with the
same options, waits until it is ready, and puts Weft's network configuration before flannel's. flanneld's packet filter
rules go last, when weftd's stand. Packets of running containers keep flowing all the time.

With --back, flanneld has the host again as it was, and Weft is uninstalled. Containers stay, whoever attached them.`,
  options: [
    flag('check', 'say what hinders, and change nothing'),
    flag('back', 'give the host back to flanneld'),
    text('conf-dir', 'DIR', "the runtime's folder of networks", 'as the runtime says'),
    text('bin-dir', 'DIR', "the runtime's folder of plugins", 'as the runtime says'),
    text('from', 'DIR', 'take the files from this folder', "weftctl's own release"),
    {
      name: 'timeout',
      kind: 'integer',
      placeholder: 'SECONDS',
      help: 'how long weftd may take until it is ready; then flanneld has the host again',
      byDefault: '120',
      lowest: 1,
      highest: 86_400,
      commandLineOnly: true,
    },
  ],
  most: 0,
  load: () => import('./run.ts'),
};
