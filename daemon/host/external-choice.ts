/**
 * The external interface in use. It stays while it is valid; then the choice is made again. If the choice finds none for a while (mostly because the default route is missing),
 * the previous interface is kept as long as it is usable.
 */

import { families, type NetworkConfig, valuesOf } from '../../cluster/network-config.ts';
import { outer } from '../backends/map.ts';
import {
  chooseInterface,
  type ExternalInterface,
  findInnerProblem,
  findSourceProblem,
  type HostView,
  type InterfaceChoice,
  InterfaceError,
  keepInterface,
  stayOn,
} from './external-interface.ts';

export interface FoundInterface {
  readonly external: ExternalInterface;
  /** Why the previous interface was kept, or why the interface is not the desired one. */
  readonly problem: string | undefined;
}

export class ExternalChoice {
  readonly #choice: InterfaceChoice;
  /**
   * Whether peers accept packets from known addresses only. Peers are assumed to have the same options as this host.
   */
  readonly #peerLock: boolean;
  #used: ExternalInterface | undefined;
  #problem: string | undefined;

  constructor(choice: InterfaceChoice, peerLock: boolean) {
    this.#choice = choice;
    this.#peerLock = peerLock;
  }

  /** The interface in use; undefined before the first choice. */
  get used(): ExternalInterface | undefined {
    return this.#used;
  }

  /** The interface that was found and noted last. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Changes nothing. @throws InterfaceError */
  find({ networks, backend }: NetworkConfig, view: HostView): FoundInterface {
    const inUse = families.filter((family) => networks[family]);
    const cluster = valuesOf(networks).map(({ network }) => network);
    const before = this.#used;
    const chosen = before && stayOn(before, this.#choice, inUse, view, cluster);
    try {
      const external = chosen ?? chooseInterface(this.#choice, inUse, view, cluster);
      const isLocked = this.#peerLock && inUse.some((family) => outer(backend, family));
      const problem = findInnerProblem(external, view, cluster);
      return { external, problem: problem ?? (isLocked ? findSourceProblem(external, view) : undefined) };
    } catch (error) {
      if (!(error instanceof InterfaceError) || !this.#used) throw error;
      try {
        const names = [this.#used.name];
        return { external: chooseInterface({ ...this.#choice, names }, inUse, view, cluster), problem: undefined };
      } catch {
        const kept = keepInterface(this.#used, this.#choice, inUse, view);
        if (!kept) throw error;
        return { external: kept, problem: `${error.message}; trying again; the existing setup stays` };
      }
    }
  }

  note({ problem }: FoundInterface): void {
    this.#problem = problem;
  }

  /** Uses this interface from now on. */
  use(found: FoundInterface): void {
    this.note(found);
    this.#used = found.external;
  }
}
