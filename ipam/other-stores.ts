/**
 * The stores of other networks, beside a network's own. A node's subnet has one name in its conflist, and may have had
 * another: `cbr0` with flannel before, `weft` now. Both stores then hold addresses of the same subnet, and no address may
 * be given twice.
 *
 * An address is reserved first, and then looked for in the other stores. Two calls for two networks hold two locks, and
 * may take one address at once: at least one of them sees the other's reservation, and takes another address. host-local
 * does not look, so a caller of host-local asks `findWithin` before.
 *
 * This holds for the node's own subnets alone. Networks with ranges of their own may share addresses, as two bridges
 * without a connection do.
 */

import type { Sys } from '../linux/sys.ts';
import { type Address, formatAddress } from '../net/address.ts';
import { type Prefix, prefixContains } from '../net/prefix.ts';
import { parseReservationName } from '../reservations/format.ts';
import type { AddressStore } from './address-store.ts';

/** A folder that is missing or cannot be read counts as empty. */
function namesIn(sys: Sys, folder: string): readonly string[] {
  const names = sys.getdents(folder);
  return typeof names === 'number' ? [] : names;
}

export class OtherStores {
  readonly #sys: Sys;
  readonly #base: string;
  readonly #own: string;
  readonly #isShared: (address: Address) => boolean;
  #known: readonly string[] | undefined;

  /**
   * @param folder the network's own store
   * @param isShared whether other networks may not have the address, too; asked only about an address that one has
   */
  constructor(sys: Sys, folder: string, isShared: (address: Address) => boolean) {
    const slash = folder.lastIndexOf('/');
    this.#sys = sys;
    this.#base = folder.slice(0, slash);
    this.#own = folder.slice(slash + 1);
    this.#isShared = isShared;
  }

  /** The other networks now. One folder is read, whatever there is: every ADD does this. */
  #list(): readonly string[] {
    // Names with a dot before them are no networks'.
    return namesIn(this.#sys, this.#base).filter((name) => name !== this.#own && !name.startsWith('.'));
  }

  #findIn(networks: readonly string[], address: Address): string | undefined {
    const name = formatAddress(address);
    const found = networks.find((network) => typeof this.#sys.stat(`${this.#base}/${network}/${name}`) !== 'number');
    return found !== undefined && this.#isShared(address) ? found : undefined;
  }

  /** The network that has the address now. */
  holderOf(address: Address): string | undefined {
    return this.#findIn(this.#list(), address);
  }

  /** The network's store, which takes no address that another network has. */
  guard(store: AddressStore): AddressStore {
    return {
      ...store,
      // Without a conflict, nobody looks at the other networks but `reserve`.
      isReserved: (address) =>
        store.isReserved(address) || (this.#known !== undefined && this.#findIn(this.#known, address) !== undefined),
      reserve: (address, holder) => {
        if (!store.reserve(address, holder)) return false;
        const networks = this.#list();
        if (this.#findIn(networks, address) === undefined) return true;
        this.#known = networks;
        store.release(address, holder);
        return false;
      },
      otherHolder: (address) => this.holderOf(address),
    };
  }
}

/** A reservation of another network than `folder`'s in these subnets. */
export function findWithin(
  sys: Sys,
  folder: string,
  subnets: readonly Prefix[],
): { readonly network: string; readonly address: Address } | undefined {
  const slash = folder.lastIndexOf('/');
  const base = folder.slice(0, slash);
  for (const network of namesIn(sys, base)) {
    if (network === folder.slice(slash + 1) || network.startsWith('.')) continue;
    for (const name of namesIn(sys, `${base}/${network}`)) {
      const address = parseReservationName(name);
      if (address && subnets.some((subnet) => prefixContains(subnet, address))) return { network, address };
    }
  }
  return undefined;
}
