/** What this kernel's packet filter can do: some hosts' kernels lack modules, and one rule too many fails the whole table. */

import { hasCode, NetlinkError } from '../../linux/errors.ts';
import { fibComment } from './container-lock.ts';
import { untrackedComment } from './untracked.ts';

/** Everything is assumed until the kernel refuses a rule. */
export class FilterFeatures {
  readonly #missing = new Set<string>();

  get hasFib(): boolean {
    return !this.#missing.has(fibComment);
  }

  get canUntrack(): boolean {
    return this.hasFib && !this.#missing.has(untrackedComment);
  }

  /** @returns what to tell, if the error says that a feature is missing, without which to try again */
  learn(error: unknown): string | undefined {
    const isRefusal = error instanceof NetlinkError && hasCode(error, 'ENOENT', 'EOPNOTSUPP');
    const what = isRefusal && typeof error.subject === 'string' ? error.subject : '';
    const told = missing[what];
    if (told === undefined || this.#missing.has(what)) return undefined;
    this.#missing.add(what);
    return told;
  }
}

/** By the comment of the rules that need it. */
const missing: Readonly<Record<string, string>> = {
  [fibComment]:
    'This kernel has no nft_fib, so the peer lock cannot tell where packets come from: it does not drop packets with a forged source that containers send, nor those that come in without the tunnel; load the module "nft_fib_inet", then restart weftd',
  [untrackedComment]:
    'This kernel cannot leave packets untracked, so the tunnel\'s packets take places in the table of connections; load the modules "nft_ct" and "nft_fib_inet", then restart weftd',
};
