/**
 * The external interface that is in use. Where the choice leads to none for a while (mostly for want of a default route),
 * it stays the one that it was, as long as that will do.
 */

import { families, type NetworkConfig } from '../../cluster/network-config.ts';
import { outer } from '../backends/map.ts';
import {
  chooseInterface,
  type ExternalInterface,
  findSourceProblem,
  type HostView,
  type InterfaceChoice,
  InterfaceError,
  keepInterface,
} from './external-interface.ts';

export interface FoundInterface {
  readonly external: ExternalInterface;
  /** Why it is the one of before, or not the one that it should be. */
  readonly problem: string | undefined;
}

export class ExternalChoice {
  readonly #choice: InterfaceChoice;
  /** Whether peers take packets from known addresses alone. They are taken to be run as this host is. */
  readonly #peerLock: boolean;
  #used: ExternalInterface | undefined;
  #problem: string | undefined;

  constructor(choice: InterfaceChoice, peerLock: boolean) {
    this.#choice = choice;
    this.#peerLock = peerLock;
  }

  /** The one in use; undefined before the first. */
  get used(): ExternalInterface | undefined {
    return this.#used;
  }

  /** Of the one that was found last and noted. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Changes nothing. @throws InterfaceError */
  find({ networks, backend }: NetworkConfig, view: HostView): FoundInterface {
    const inUse = families.filter((family) => networks[family]);
    try {
      const external = chooseInterface(this.#choice, inUse, view);
      const isLocked = this.#peerLock && inUse.some((family) => outer(backend, family));
      return { external, problem: isLocked ? findSourceProblem(external, view) : undefined };
    } catch (error) {
      if (!(error instanceof InterfaceError) || !this.#used) throw error;
      try {
        const names = [this.#used.name];
        return { external: chooseInterface({ ...this.#choice, names }, inUse, view), problem: undefined };
      } catch {
        const kept = keepInterface(this.#used, this.#choice, inUse, view);
        if (!kept) throw error;
        return { external: kept, problem: `${error.message}; trying again, what is set up stays as it is` };
      }
    }
  }

  note({ problem }: FoundInterface): void {
    this.#problem = problem;
  }

  /** It is used from now on. */
  use(found: FoundInterface): void {
    this.note(found);
    this.#used = found.external;
  }
}
