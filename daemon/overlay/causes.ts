/**
 * Why a step is due: because the desired state has changed, or because somebody has changed the kernel's state.
 *
 * A step counts as healing if it restores something that was desired and present before: an entry that the last comparison
 * left in place, or the absence of one that it left out. No event is asked for its author. Steps that follow the cluster,
 * the configuration or the external interface lead to another state than before. At the start nothing is known, so nothing
 * counts as healing.
 */

import { isDeepStrictEqual } from 'node:util';
import { addressKey, sameAddress } from '../../net/address.ts';
import { macKey, sameMac } from '../../net/mac.ts';
import { networkKey, samePrefix } from '../../net/prefix.ts';
import {
  type DesiredState,
  type DeviceAddress,
  type FdbEntry,
  type NeighbourEntry,
  type RouteEntry,
  sameWay,
} from '../backends/entries.ts';
import { deviceOf, formatOperation, isDeviceOperation, type Operation } from './plan.ts';

/** Up to this many are searched one by one; for more, an index pays. */
const scannedAtMost = 8;

type Test<E> = (entry: E) => boolean;

/**
 * Whether an entry is among these.
 * @param keyOf a key that is unique on a device
 */
function memberTest<E extends { readonly device: string }>(
  entries: () => readonly E[],
  questions: number,
  same: (a: E, b: E) => boolean,
  keyOf: (entry: E) => number | string,
): Test<E> {
  if (questions <= scannedAtMost) return (entry) => entries().some((other) => same(other, entry));
  let devices: Map<string, Map<number | string, E>> | undefined;
  const index = (): Map<string, Map<number | string, E>> => {
    const made = new Map<string, Map<number | string, E>>();
    for (const entry of entries()) {
      let keys = made.get(entry.device);
      if (!keys) {
        keys = new Map();
        made.set(entry.device, keys);
      }
      keys.set(keyOf(entry), entry);
    }
    return made;
  };
  return (entry) => {
    devices ??= index();
    const other = devices.get(entry.device)?.get(keyOf(entry));
    return other !== undefined && same(other, entry);
  };
}

const sameDeviceAddress = (a: DeviceAddress, b: DeviceAddress): boolean =>
  a.device === b.device && samePrefix(a.prefix, b.prefix);
const sameNeighbour = (a: NeighbourEntry, b: NeighbourEntry): boolean =>
  a.device === b.device && sameAddress(a.address, b.address) && sameMac(a.mac, b.mac);
const sameFdbEntry = (a: FdbEntry, b: FdbEntry): boolean =>
  a.device === b.device && sameMac(a.mac, b.mac) && sameAddress(a.destination, b.destination);
const sameRoute = (a: RouteEntry, b: RouteEntry): boolean => sameWay(a, b) && samePrefix(a.destination, b.destination);

/** The state that was desired before; answers about one step at a time. */
class Before {
  readonly #before: DesiredState;
  readonly #now: DesiredState;
  readonly #hasAddress: Test<DeviceAddress>;
  readonly #hasNeighbour: Test<NeighbourEntry>;
  readonly #hasFdbEntry: Test<FdbEntry>;
  readonly #hasRoute: Test<RouteEntry>;

  constructor(before: DesiredState, now: DesiredState, questions: number) {
    this.#before = before;
    this.#now = now;
    this.#hasAddress = (address) => before.addresses.some((other) => sameDeviceAddress(other, address));
    const test = <E extends { readonly device: string }>(
      entries: () => readonly E[],
      same: (a: E, b: E) => boolean,
      keyOf: (entry: E) => number | string,
    ): Test<E> => memberTest(entries, questions, same, keyOf);
    this.#hasNeighbour = test(
      () => before.neighbours,
      sameNeighbour,
      ({ address }) => addressKey(address),
    );
    this.#hasFdbEntry = test(
      () => before.fdb,
      sameFdbEntry,
      ({ mac }) => macKey(mac),
    );
    this.#hasRoute = test(
      () => before.routes,
      sameRoute,
      ({ destination }) => networkKey(destination),
    );
  }

  /** Whether the step restores what was desired before. */
  wanted(operation: Operation): boolean {
    switch (operation.kind) {
      case 'add-device':
      case 'change-device':
        return this.#wantedDevice(deviceOf(operation));
      case 'remove-device': {
        // Either to be made again, or unwanted.
        const isWanted = this.#now.devices.some(({ name }) => name === operation.name);
        return isWanted ? this.#wantedDevice(operation.name) : !this.#hadDevice(operation.name);
      }
      case 'add-address':
        return this.#hasAddress(operation.address);
      case 'remove-address':
        return !this.#hasAddress(operation.address);
      case 'set-neighbour':
        return this.#hasNeighbour(operation.neighbour);
      case 'remove-neighbour':
        return !this.#hasNeighbour(operation.neighbour);
      case 'set-fdb':
        return this.#hasFdbEntry(operation.entry);
      case 'remove-fdb':
        return !this.#hasFdbEntry(operation.entry);
      case 'set-route':
        return this.#hasRoute(operation.route);
      case 'remove-route':
        return !this.#hasRoute(operation.route);
    }
  }

  #hadDevice(name: string): boolean {
    return this.#before.devices.some((device) => device.name === name);
  }

  #wantedDevice(name: string): boolean {
    const before = this.#before.devices.find((device) => device.name === name);
    const now = this.#now.devices.find((device) => device.name === name);
    return before !== undefined && now !== undefined && isDeepStrictEqual(before, now);
  }
}

export class Causes {
  #before: DesiredState | undefined;
  /** Steps due since an earlier comparison, and whether they heal. */
  readonly #due = new Map<string, boolean>();

  /** @returns the planned steps that heal */
  judge(desired: DesiredState, planned: readonly Operation[]): ReadonlySet<Operation> {
    const mending = new Set<Operation>();
    if (!this.#before || planned.length === 0) return mending;
    const before = new Before(this.#before, desired, planned.length);
    /** Devices that are recreated because another one is desired: their entries follow. */
    const replaced = new Set<string>();
    for (const operation of planned) {
      const known = this.#due.size > 0 ? this.#due.get(formatOperation(operation)) : undefined;
      const mends = known ?? (!replaced.has(deviceOf(operation)) && before.wanted(operation));
      if (mends) mending.add(operation);
      else if (isDeviceOperation(operation)) replaced.add(deviceOf(operation));
    }
    return mending;
  }

  /**
   * The result of the steps.
   * @param open the planned steps that are still due
   */
  note(desired: DesiredState, open: readonly Operation[], mending: ReadonlySet<Operation>): void {
    this.#before = desired;
    this.#due.clear();
    for (const operation of open) this.#due.set(formatOperation(operation), mending.has(operation));
  }

  /** Forgets everything, as at the start. */
  forget(): void {
    this.#before = undefined;
    this.#due.clear();
  }
}
