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

import { check, errno } from '../linux/errors.ts';
import type { Sys } from '../linux/sys.ts';
import { type Address, formatAddress } from '../net/address.ts';
import { type Prefix, prefixContains } from '../net/prefix.ts';
import { parseReservationName } from '../reservations/format.ts';
import type { AddressStore } from './address-store.ts';

/** Missing, or no folder: then there is nothing in it. */
const isAbsent = (result: unknown): boolean => result === -errno.ENOENT || result === -errno.ENOTDIR;

/** @throws SyscallError, because a folder that cannot be read may hold the address */
function namesIn(sys: Sys, folder: string): readonly string[] {
  const names = sys.getdents(folder);
  return isAbsent(names) ? [] : check(names, ['list', folder]);
}

/** The other networks in `base`. Names with a dot before them are no networks'. */
const networksIn = (sys: Sys, base: string, own: string): string[] =>
  namesIn(sys, base).filter((name) => name !== own && !name.startsWith('.'));

const splitPath = (folder: string): [base: string, name: string] => {
  const slash = folder.lastIndexOf('/');
  return [folder.slice(0, slash), folder.slice(slash + 1)];
};

export class OtherStores {
  readonly #sys: Sys;
  readonly #base: string;
  readonly #own: string;
  readonly #isShared: (address: Address) => boolean;

  /**
   * @param folder the network's own store
   * @param isShared whether other networks may not have the address, too; asked only about an address that one has
   */
  constructor(sys: Sys, folder: string, isShared: (address: Address) => boolean) {
    [this.#base, this.#own] = splitPath(folder);
    this.#sys = sys;
    this.#isShared = isShared;
  }

  /** The other networks now. */
  list(): readonly string[] {
    return networksIn(this.#sys, this.#base, this.#own);
  }

  /** The one of these networks that has the address. @throws SyscallError */
  findHolder(networks: readonly string[], address: Address): string | undefined {
    const name = formatAddress(address);
    const found = networks.find((network) => {
      const path = `${this.#base}/${network}/${name}`;
      const status = this.#sys.stat(path);
      return !isAbsent(status) && check(status, ['look for', path]);
    });
    return found !== undefined && this.#isShared(address) ? found : undefined;
  }

  /** The network's store, which takes no address that another network has. */
  guard(store: AddressStore): AddressStore {
    const known = this.list();
    const isFree = (networks: readonly string[], address: Address): boolean =>
      this.findHolder(networks, address) === undefined;
    return {
      ...store,
      isReserved: (address) => store.isReserved(address) || !isFree(known, address),
      reserve: (address, holder) => {
        if (!store.reserve(address, holder)) return false;
        let isOurs = false;
        try {
          isOurs = isFree(this.list(), address);
        } finally {
          if (!isOurs) store.release(address, holder);
        }
        return isOurs;
      },
      otherHolder: (address) => this.findHolder(this.list(), address),
    };
  }
}

/** A reservation of another network than `folder`'s in these subnets. */
export function findWithin(
  sys: Sys,
  folder: string,
  subnets: readonly Prefix[],
): { readonly network: string; readonly address: Address } | undefined {
  const [base, own] = splitPath(folder);
  for (const network of networksIn(sys, base, own)) {
    for (const name of namesIn(sys, `${base}/${network}`)) {
      const address = parseReservationName(name);
      if (address && subnets.some((subnet) => prefixContains(subnet, address))) return { network, address };
    }
  }
  return undefined;
}
