/**
 * The external interface in use. It stays while it is valid, also across a restart of weftd; then the choice is made again.
 * If the choice finds none for a while (mostly because the default route is missing), the previous interface is kept as
 * long as it is usable.
 */

import { families, type NetworkConfig, perFamily, valuesOf } from '../../cluster/network-config.ts';
import type { NodeAddresses } from '../../cluster/store.ts';
import { type Address, type Family, formatAddress } from '../../net/address.ts';
import type { Prefix } from '../../net/prefix.ts';
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
  recallInterface,
  stayOn,
} from './external-interface.ts';
import type { RememberedState } from './remembered-state.ts';

export interface FoundInterface {
  readonly external: ExternalInterface;
  /** Why the previous interface was kept, or why the interface is not the desired one. */
  readonly problem: string | undefined;
  /** The choice that found it, as text. */
  readonly chosenBy?: string;
  /** The interface that weftd would choose today, if it stays on the one before its restart. */
  readonly other?: string | undefined;
}

export interface ExternalChoiceOptions {
  readonly choice: InterfaceChoice;
  /**
   * Whether peers accept packets from known addresses only. Peers are assumed to have the same options as this host.
   */
  readonly peerLock: boolean;
  readonly remembered: Pick<RememberedState, 'current' | 'setExternal'>;
  /** Addresses of the cluster's store, as far as they are known. */
  readonly storeAddresses: () => readonly Address[];
  /** The addresses that people have set for this node in the store; they come before the command line's. */
  readonly told?: () => NodeAddresses | undefined;
}

/** The administrator's options as text: another choice than before is made anew. */
const textOf = ({ names, patterns, canReach, publicAddresses }: InterfaceChoice): string =>
  JSON.stringify([
    names,
    patterns,
    canReach ? formatAddress(canReach) : '',
    families.map((family) => (publicAddresses[family] ? formatAddress(publicAddresses[family]) : '')),
  ]);

export class ExternalChoice {
  readonly #options: ExternalChoiceOptions;
  #used: ExternalInterface | undefined;
  #usedBy: string | undefined;
  #problem: string | undefined;

  constructor(options: ExternalChoiceOptions) {
    this.#options = options;
  }

  /** The interface in use; undefined before the first choice. */
  get used(): ExternalInterface | undefined {
    return this.#used;
  }

  /** The interface that was found and noted last. */
  get problem(): string | undefined {
    return this.#problem;
  }

  get #choice(): InterfaceChoice {
    const { choice, storeAddresses, told } = this.#options;
    const publicAddresses = { ...choice.publicAddresses, ...told?.()?.interfaces };
    return { ...choice, publicAddresses, storeAddresses: storeAddresses() };
  }

  /** Differs when people have set other addresses in the store. */
  get told(): string {
    return JSON.stringify(this.#options.told?.() ?? {});
  }

  /** Changes nothing. @throws InterfaceError */
  find(config: NetworkConfig, view: HostView): FoundInterface {
    const { overwrites = {}, problems = [] } = this.#options.told?.() ?? {};
    const found = this.#find(config, view);
    const { publicAddresses } = found.external;
    const published = perFamily((family) => publicAddresses[family] && (overwrites[family] ?? publicAddresses[family]));
    const problem = found.problem ?? problems[0];
    return { ...found, problem, external: { ...found.external, publicAddresses: published } };
  }

  #find({ networks, backend }: NetworkConfig, view: HostView): FoundInterface {
    const inUse = families.filter((family) => networks[family]);
    const cluster = valuesOf(networks).map(({ network }) => network);
    const choice = this.#choice;
    const chosenBy = textOf(choice);
    // An address that people no longer set keeps nothing.
    const isSame = this.#usedBy === undefined || this.#usedBy === chosenBy;
    const before = isSame ? (this.#used ?? this.#recall(inUse, view, chosenBy)) : undefined;
    const chosen = before && stayOn(before, choice, inUse, view, cluster);
    try {
      const external = chosen ?? chooseInterface(choice, inUse, view, cluster);
      const isLocked = this.#options.peerLock && inUse.some((family) => outer(backend, family));
      const problem = findInnerProblem(external, view, cluster);
      return {
        external,
        chosenBy,
        problem: problem ?? (isLocked ? findSourceProblem(external, view) : undefined),
        ...(chosen && !this.#used && { other: otherThan(chosen, choice, inUse, view, cluster) }),
      };
    } catch (error) {
      if (!(error instanceof InterfaceError) || !this.#used) throw error;
      try {
        const names = [this.#used.name];
        const external = chooseInterface({ ...choice, names }, inUse, view, cluster);
        return { external, chosenBy, problem: undefined };
      } catch {
        const kept = keepInterface(this.#used, choice, inUse, view);
        if (!kept) throw error;
        return { external: kept, chosenBy, problem: `${error.message}; trying again; the existing setup stays` };
      }
    }
  }

  /** The interface that the weftd before this one used. */
  #recall(inUse: readonly Family[], view: HostView, chosenBy: string): ExternalInterface | undefined {
    const { external } = this.#options.remembered.current;
    return external?.choice === chosenBy ? recallInterface(external, inUse, view) : undefined;
  }

  note({ problem }: FoundInterface): void {
    this.#problem = problem;
  }

  /** Uses this interface from now on. */
  use(found: FoundInterface): void {
    this.note(found);
    this.#used = found.external;
    this.#usedBy = found.chosenBy;
    const { name, addresses } = found.external;
    const choice = found.chosenBy ?? textOf(this.#choice);
    this.#options.remembered.setExternal({ name, addresses: valuesOf(addresses), choice });
  }
}

/** The name of the interface that a new choice would take instead of this one. */
function otherThan(
  { index }: ExternalInterface,
  choice: InterfaceChoice,
  inUse: readonly Family[],
  view: HostView,
  cluster: readonly Prefix[],
): string | undefined {
  try {
    const fresh = chooseInterface(choice, inUse, view, cluster);
    return fresh.index === index ? undefined : fresh.name;
  } catch (error) {
    if (error instanceof InterfaceError) return undefined;
    throw error;
  }
}
