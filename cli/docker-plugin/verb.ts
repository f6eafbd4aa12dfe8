/** The description of `docker-plugin`. */

import { networkOptions } from '../attach/options.ts';
import type { Verb } from '../verb.ts';
import { defaultSocket } from './socket.ts';

export const dockerPluginVerb: Verb = {
  name: 'docker-plugin',
  usage: '',
  summary: "be Docker's network driver on this host, until stopped",
  description:
    'Docker finds the driver by its socket. Then containers of plain Docker can join a network of the plugins:\n\n' +
    '  docker network create -d weft --ipam-driver null weft\n' +
    '  docker run --network weft IMAGE\n\n' +
    'The addresses are those of this host, as of any container of that network; "docker run --ip" is not possible. Run it\n' +
    'as a service before Docker. It keeps nothing in memory, so it may be restarted at any time.',
  options: [
    {
      name: 'socket',
      kind: 'text',
      placeholder: 'FILE',
      help: "the driver's socket; Docker names the driver after it",
      byDefault: defaultSocket,
      commandLineOnly: true,
    },
    {
      name: 'network',
      kind: 'text',
      placeholder: 'NAME',
      help: 'the network in --conf-dir that containers join',
      byDefault: 'weft',
      commandLineOnly: true,
    },
    ...networkOptions,
  ],
  most: 0,
  load: () => import('./docker-plugin.ts'),
};
