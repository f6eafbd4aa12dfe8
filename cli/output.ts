/** How a verb's answer is written. */

import type { OptionSpec } from '../command/options.ts';

export const jsonOption: OptionSpec = {
  name: 'json',
  kind: 'flag',
  help: 'print JSON, for programs',
  commandLineOnly: true,
};
