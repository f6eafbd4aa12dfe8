/** The state of this host that outlives weftd, with its file. */

import { sameSubnets } from '../../cluster/lease.ts';
import type { PerFamily } from '../../cluster/network-config.ts';
import { valuesOf } from '../../cluster/network-config.ts';
import { SyscallError } from '../../linux/errors.ts';
import { type Address, addressKey } from '../../net/address.ts';
import { sameMac } from '../../net/mac.ts';
import { type Prefix, samePrefix } from '../../net/prefix.ts';
import { type ChosenInterface, emptyState, type NodeFiles, type NodeState } from './files.ts';

export class RememberedState {
  readonly #files: Pick<NodeFiles, 'readState' | 'writeState'>;
  readonly #onResult: (error: SyscallError | undefined) => void;
  #state: NodeState;
  /** Whether the file has the content of `#state`, as far as is known. */
  #isWritten = false;

  /** @param onResult called after each write with its error, if any, and if the file cannot be read */
  constructor(files: Pick<NodeFiles, 'readState' | 'writeState'>, onResult: (error: SyscallError | undefined) => void) {
    this.#files = files;
    this.#onResult = onResult;
    this.#state = this.#read() ?? emptyState;
  }

  /** A file that cannot be read must not stop weftd: the kernel and the store have the same facts. */
  #read(): NodeState | undefined {
    try {
      return this.#files.readState();
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      this.#onResult(error);
      return undefined;
    }
  }

  get current(): NodeState {
    return this.#state;
  }

  /** Another weftd may have written the file. */
  reload(): void {
    this.#state = this.#read() ?? this.#state;
  }

  /** Adds devices and networks: the union of what was and is, as removal needs all of it. */
  add(networks: PerFamily<Prefix>, devices: NodeState['devices']): void {
    const before = this.#state;
    const all = [...before.networks];
    for (const network of valuesOf(networks)) {
      if (!all.some((known) => samePrefix(known, network))) all.push(network);
    }
    const isNew =
      all.length > before.networks.length ||
      [...devices].some(([name, mac]) => {
        const known = before.devices.get(name);
        return !before.devices.has(name) || (mac && (!known || !sameMac(known, mac)));
      });
    if (!isNew && this.#isWritten) return;
    this.#save({ ...before, devices: new Map([...before.devices, ...devices]), networks: all });
  }

  /** Sets the peers through which flannel's plain routes lead. */
  setGateways(all: readonly Address[]): void {
    const gateways = [...new Map(all.map((gateway) => [addressKey(gateway), gateway])).values()];
    this.#save({ ...this.#state, gateways });
  }

  /** Sets the subnets that this node has leases of. */
  setSubnets(subnets: NodeState['subnets']): void {
    const { subnets: before } = this.#state;
    const isSame = subnets.length === before.length && subnets.every((each, i) => sameSubnets(each, before[i]!));
    if (!isSame || !this.#isWritten) this.#save({ ...this.#state, subnets: [...subnets] });
  }

  setExternal(external: ChosenInterface): void {
    const { external: before } = this.#state;
    const textOf = ({ name, choice, addresses }: ChosenInterface): string =>
      JSON.stringify([name, choice, addresses.map(addressKey)]);
    if (!before || textOf(before) !== textOf(external)) this.#save({ ...this.#state, external });
  }

  /** Keeps these devices and forgets all others. */
  keepDevices(isKept: (name: string) => boolean): void {
    const devices = new Map([...this.#state.devices].filter(([name]) => isKept(name)));
    if (devices.size < this.#state.devices.size) this.#save({ ...this.#state, devices });
  }

  /** A full disk must not stop packets. A state that cannot be written now is written at the next change. */
  #save(state: NodeState): void {
    this.#state = state;
    this.#isWritten = false;
    try {
      this.#files.writeState(state);
      this.#isWritten = true;
      this.#onResult(undefined);
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      this.#onResult(error);
    }
  }
}
