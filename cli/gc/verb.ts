/** The description of `gc`. */

import { defaultPaths } from '../../net/paths.ts';
import { networkOptions } from '../attach/options.ts';
import { outputOptions } from '../output.ts';
import type { Verb } from '../verb.ts';

export const gcVerb: Verb = {
  name: 'gc',
  usage: '',
  summary: 'free the addresses of containers that ended without a DEL',
  description:
    'Frees an attachment only if its interface is gone, no network namespace of this machine has its address, and no\n' +
    'runtime (CRI, Podman, Docker) knows the container, both now and after --grace. If a runtime does not answer, nothing\n' +
    'is freed. It shows what it frees or keeps, and why. The exit status is 1 if a plugin fails.',
  options: [
    ...outputOptions,
    { name: 'dry-run', kind: 'flag', help: 'show what would be freed, and free nothing', commandLineOnly: true },
    {
      name: 'grace',
      kind: 'integer',
      placeholder: 'SECONDS',
      help: 'the time between the two looks',
      byDefault: '10',
      lowest: 0,
      highest: 3600,
      commandLineOnly: true,
    },
    {
      name: 'without',
      kind: 'list',
      placeholder: 'RUNTIME',
      help: 'do not ask docker, podman or cri: it is not used here',
      commandLineOnly: true,
    },
    {
      name: 'data-dir',
      kind: 'text',
      placeholder: 'DIR',
      help: "the folder of the plugins' address store",
      byDefault: defaultPaths.cniDataDir,
    },
    ...networkOptions,
  ],
  most: 0,
  load: () => import('./gc.ts'),
};
