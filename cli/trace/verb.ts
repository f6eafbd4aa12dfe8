/** The description of `trace`. */

import { outputOptions } from '../output.ts';
import type { Verb } from '../verb.ts';

export const traceVerb: Verb = {
  name: 'trace',
  usage: '',
  summary: 'show where the plugins spend their time',
  description:
    'Shows the last traced calls of the plugins on this host, the slowest, and the usual times of each stage. A call is\n' +
    'traced if its network configuration has "trace": true, or if WEFT_TRACE=1 is in the environment of the runtime.',
  options: [
    ...outputOptions,
    {
      name: 'last',
      kind: 'integer',
      placeholder: 'COUNT',
      help: 'show so many calls',
      byDefault: '10',
      lowest: 1,
      highest: 10_000,
      commandLineOnly: true,
    },
  ],
  most: 0,
  load: () => import('./trace.ts'),
};
