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
    // One by one: a call cannot have tens of thousands of arguments.
    else if (key === 'search') for (const value of values) search.push(value);
    else if (key === 'options') for (const value of values) options.push(value);
  }
  return { nameservers, search, options, ...(domain ? { domain } : {}) };
}
