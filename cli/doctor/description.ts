/** The description of `weftctl doctor`, without its code. */

import { defaultPaths } from '../../net/paths.ts';
import { jsonOption } from '../output.ts';
import type { Verb } from '../verb.ts';

export const doctorVerb: Verb = {
  name: 'doctor',
  usage: '',
  summary: 'find out what is wrong on this host, and how to repair it',
  description:
    'Examines this host: weftd, the store, the runtime, plugins, interfaces, rules, addresses and kernel settings. It needs\n' +
    'no weftd, but root. Each finding says what is wrong, why it hurts, and the command that repairs it.\n\n' +
    'Exit status: 0 if all is well, 3 with warnings only, 4 with errors; 1 if it could not run, 2 for a wrong command line.',
  options: [
    jsonOption,
    {
      name: 'fix',
      kind: 'flag',
      help: 'run the commands that harm no packet, container or foreign setting',
      commandLineOnly: true,
    },
    {
      name: 'data-dir',
      kind: 'text',
      placeholder: 'DIR',
      help: "the folder of the plugins' address store",
      byDefault: defaultPaths.cniDataDir,
    },
    {
      name: 'conf-dir',
      kind: 'text',
      placeholder: 'DIR',
      help: "the folder of the runtime's network configurations",
      byDefault: "containerd's setting, or /etc/cni/net.d",
      commandLineOnly: true,
    },
    {
      name: 'bin-dir',
      kind: 'text',
      placeholder: 'DIRS',
      help: "the folders of the runtime's plugins, with colons between",
      byDefault: "containerd's setting, or those of /opt/cni/bin, /usr/lib/cni, /usr/libexec/cni that exist",
      commandLineOnly: true,
    },
    {
      name: 'subnet-file',
      kind: 'text',
      placeholder: 'FILE',
      help: "weftd's file for flannel's plugin",
      byDefault: defaultPaths.subnetFile,
      commandLineOnly: true,
    },
  ],
  most: 0,
  load: () => import('./doctor.ts'),
};
