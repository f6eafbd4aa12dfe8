/** Which configurations ask for more than links and addresses: the code for that is loaded for them alone. */

import { lookUp } from '../spec/keys.ts';
import type { CniRequest } from '../spec/request.ts';

const keys = ['ipMasq', 'macspoofchk'] as const;

export const asksForExtras = ({ configuration }: CniRequest): boolean =>
  keys.some((key) => Boolean(lookUp(configuration, key)));
