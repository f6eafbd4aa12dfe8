/** The descriptions of `attach`, `detach` and `attachments`. */

import type { OptionSpec } from '../../command/options.ts';
import { jsonOption, outputOptions } from '../output.ts';
import type { Verb } from '../verb.ts';
import { networkOptions } from './options.ts';

const nameOption: OptionSpec = {
  name: 'name',
  kind: 'text',
  placeholder: 'NAME',
  help: "the interface's name in the container",
  byDefault: 'for attach, the first free one from eth1 on',
  commandLineOnly: true,
};

export const attachVerbs: readonly Verb[] = [
  {
    name: 'attach',
    usage: 'CONTAINER NETWORK',
    summary: 'give a running container one more interface',
    description:
      'CONTAINER is a name or an id that Docker, Podman or a CRI runtime knows, or the number of a process. Where several\n' +
      'know it, put the runtime before it: docker:web, podman:web, cri:web, pid:1234. NETWORK is the name of a\n' +
      'configuration in --conf-dir; its plugins make the interface. It is gone when the container ends or restarts.\n' +
      'A default route that the container already has stays in force.',
    options: [
      jsonOption,
      { name: 'ip', kind: 'text', placeholder: 'ADDRESS', help: 'ask for this address', commandLineOnly: true },
      { name: 'mac', kind: 'text', placeholder: 'MAC', help: 'ask for this MAC address', commandLineOnly: true },
      nameOption,
      ...networkOptions,
    ],
    most: 2,
    load: () => import('./attach.ts'),
  },
  {
    name: 'detach',
    usage: 'CONTAINER NETWORK',
    summary: 'remove an interface that "attach" made',
    description: 'Takes the words that "attach" takes. The container may be gone.',
    options: [nameOption, ...networkOptions],
    most: 2,
    load: () => import('./detach.ts'),
  },
  {
    name: 'attachments',
    usage: '',
    summary: 'show the interfaces that "attach" made',
    description: 'With --check, the plugins say whether each interface is as it should be.',
    options: [
      ...outputOptions,
      { name: 'check', kind: 'flag', help: 'have the plugins check each interface', commandLineOnly: true },
      ...networkOptions,
    ],
    most: 0,
    load: () => import('./attachments.ts'),
  },
];
