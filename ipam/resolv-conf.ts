/** Parses the part of resolv.conf(5) that CNI's `dns` has. */

import type { Dns } from '../cni/spec/results.ts';

/**
 * Comments begin with `#` or `;`; `nameserver`, `search` and `options` accumulate over lines; the last `domain` counts.
 */
export function parseResolvConf(text: string): Dns {
  const nameservers: string[] = [];
  const search: string[] = [];
  const options: string[] = [];
  let domain = '';
  for (const line of text.split('\n')) {
    const [key, ...values] = line.trim().split(/\s+/);
    const [first] = values;
    if (first === undefined) continue;
    if (key === 'nameserver') nameservers.push(first);
    else if (key === 'domain') domain = first;
    else if (key === 'search') search.push(...values);
    else if (key === 'options') options.push(...values);
  }
  return { nameservers, search, options, ...(domain ? { domain } : {}) };
}
