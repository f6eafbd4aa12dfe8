/** The description of `logs`. */

import { jsonOption } from '../output.ts';
import type { Verb } from '../verb.ts';

export const logsVerb: Verb = {
  name: 'logs',
  usage: '',
  summary: "show the last lines of weftd's log",
  description:
    'weftd keeps its last lines in memory, 1,000 at most. Earlier ones are in the journal: journalctl -u weftd.\n' +
    'With --follow, it goes on showing new lines, also after a restart of weftd.',
  options: [
    jsonOption,
    {
      name: 'lines',
      kind: 'integer',
      placeholder: 'NUMBER',
      help: 'show at most so many of them',
      byDefault: '100',
      lowest: 0,
      highest: 1000,
      commandLineOnly: true,
    },
    {
      name: 'level',
      kind: 'text',
      placeholder: 'LEVEL',
      help: 'leave out lines below this level: debug, info, warn, error',
      commandLineOnly: true,
    },
    { name: 'follow', kind: 'flag', help: 'go on showing new lines', commandLineOnly: true },
    {
      name: 'timeout',
      kind: 'integer',
      placeholder: 'SECONDS',
      help: 'how long --follow goes on; 0: without end',
      byDefault: '3600',
      lowest: 0,
      highest: 86_400,
      commandLineOnly: true,
    },
  ],
  most: 0,
  load: () => import('./logs.ts'),
};
