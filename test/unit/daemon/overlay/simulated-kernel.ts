/** A kernel of lists, with the real one's rules for what replaces what, for the planner's tests. */

import {
  type ActualDevice,
  type ActualRoute,
  type ActualState,
  type DeviceAddress,
  defaultMetric,
  type FdbEntry,
  type NeighbourEntry,
  routeProtocol,
  sameWay,
} from '../../../../daemon/backends/entries.ts';
import { formatOperation, type Operation } from '../../../../daemon/overlay/plan.ts';
import { type Address, formatAddress, sameAddress } from '../../../../net/address.ts';
import { formatMac, sameMac } from '../../../../net/mac.ts';
import { formatPrefix, samePrefix } from '../../../../net/prefix.ts';

export interface MutableState {
  devices: ActualDevice[];
  addresses: DeviceAddress[];
  neighbours: NeighbourEntry[];
  fdb: FdbEntry[];
  routes: ActualRoute[];
}

export class SimulatedKernel {
  readonly state: MutableState;
  #nextIndex = 100;

  constructor(state: Partial<MutableState> = {}) {
    this.state = { devices: [], addresses: [], neighbours: [], fdb: [], routes: [], ...state };
  }

  /** The state as the planner gets it: entries of the devices it asks for, like `kernel.ts` does. */
  dump(): ActualState {
    return structuredClone(this.state);
  }

  /** Does the step; throws where the kernel would refuse it. */
  apply(operation: Operation): void {
    const { state } = this;
    const fail = (why: string): never => {
      throw new Error(`${formatOperation(operation)}: ${why}`);
    };
    const deviceOf = (name: string): ActualDevice =>
      state.devices.find((device) => device.name === name) ?? fail('ENODEV');
    const removeFrom = <T>(list: T[], matches: (entry: T) => boolean): void => {
      const at = list.findIndex(matches);
      if (at < 0) fail('ENOENT');
      list.splice(at, 1);
    };
    switch (operation.kind) {
      case 'add-device': {
        const { name, kind, mac, mtuBytes, data } = operation.device;
        if (state.devices.some((device) => device.name === name)) fail('EEXIST');
        state.devices.push({ name, index: this.#nextIndex++, kind, up: true, mac, mtuBytes, data });
        return;
      }
      case 'change-device': {
        const device = deviceOf(operation.name);
        state.devices[state.devices.indexOf(device)] = { ...device, ...operation.changes };
        return;
      }
      case 'remove-device': {
        deviceOf(operation.name);
        state.devices = state.devices.filter(({ name }) => name !== operation.name);
        for (const key of ['addresses', 'neighbours', 'fdb', 'routes'] as const) {
          const kept = (state[key] as { device: string }[]).filter(({ device }) => device !== operation.name);
          Object.assign(state, { [key]: kept });
        }
        return;
      }
      case 'add-address': {
        const { device, prefix } = operation.address;
        deviceOf(device);
        if (state.addresses.some((own) => own.device === device && samePrefix(own.prefix, prefix))) fail('EEXIST');
        state.addresses.push(operation.address);
        return;
      }
      case 'remove-address': {
        const { device, prefix } = operation.address;
        removeFrom(state.addresses, (own) => own.device === device && samePrefix(own.prefix, prefix));
        return;
      }
      case 'set-neighbour': {
        const { device, address } = operation.neighbour;
        deviceOf(device);
        state.neighbours = state.neighbours.filter(
          (own) => own.device !== device || !sameAddress(own.address, address),
        );
        state.neighbours.push(operation.neighbour);
        return;
      }
      case 'remove-neighbour': {
        const { device, address } = operation.neighbour;
        removeFrom(state.neighbours, (own) => own.device === device && sameAddress(own.address, address));
        return;
      }
      case 'set-fdb': {
        // vxlan_fdb_update: NLM_F_REPLACE overwrites the first destination of the MAC, and only that.
        const { device, mac } = operation.entry;
        deviceOf(device);
        const at = state.fdb.findIndex((own) => own.device === device && sameMac(own.mac, mac));
        if (at < 0) state.fdb.push(operation.entry);
        else state.fdb[at] = operation.entry;
        return;
      }
      case 'remove-fdb': {
        const { device, mac, destination } = operation.entry;
        removeFrom(
          state.fdb,
          (own) => own.device === device && sameMac(own.mac, mac) && sameAddress(own.destination, destination),
        );
        return;
      }
      case 'set-route': {
        const { route } = operation;
        const device = deviceOf(route.device);
        if (!device.up) fail('ENETDOWN');
        const metric = defaultMetric[route.destination.address.family];
        const added: ActualRoute = { ...route, metric, protocol: routeProtocol.RTPROT_WEFT };
        const at = state.routes.findIndex(
          (own) => samePrefix(own.destination, route.destination) && own.metric === metric,
        );
        if (at < 0) state.routes.push(added);
        else state.routes[at] = added;
        return;
      }
      case 'remove-route': {
        const { destination, metric } = operation.route;
        removeFrom(
          state.routes,
          (own) => samePrefix(own.destination, destination) && sameWay(own, operation.route) && own.metric === metric,
        );
        return;
      }
    }
  }
}

const text = (address: Address | undefined): string => (address ? formatAddress(address) : '-');

/** The state as sorted lines, for comparison. */
export function formatState(state: ActualState): string[] {
  return [
    ...state.devices.map(
      ({ name, kind, up, mac, mtuBytes, data }) =>
        `device ${name} ${kind} ${up ? 'up' : 'down'} ${mac ? formatMac(mac) : '-'} ${mtuBytes} ${JSON.stringify(data)}`,
    ),
    ...state.addresses.map(({ device, prefix }) => `address ${device} ${formatPrefix(prefix)}`),
    ...state.neighbours.map(({ device, address, mac }) => `neighbour ${device} ${text(address)} ${formatMac(mac)}`),
    ...state.fdb.map(({ device, mac, destination }) => `fdb ${device} ${formatMac(mac)} ${text(destination)}`),
    ...state.routes.map(
      ({ device, destination, gateway, metric }) =>
        `route ${formatPrefix(destination)} via ${text(gateway)} ${device} ${metric}`,
    ),
  ].sort();
}
