/** The seam takes a backend that weftd does not have: one that reaches every peer by a device of its own kind. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { LeaseFormatError, parseLeaseValue } from '../../../../cluster/lease.ts';
import { parseNetworkConfig } from '../../../../cluster/network-config.ts';
import type { Backend } from '../../../../daemon/backends/backend.ts';
import type { DeviceRules } from '../../../../daemon/backends/entries.ts';
import type { Backends } from '../../../../daemon/backends/map.ts';
import { deriveDesired } from '../../../../daemon/overlay/desired.ts';
import { formatOperation, plan } from '../../../../daemon/overlay/plan.ts';
import { address, mac, overlay, peer } from '../overlay/cluster-of.ts';
import { SimulatedKernel } from '../overlay/simulated-kernel.ts';

const test = suite('daemon/backends/toy');

interface ToyConfig {
  readonly type: 'toy';
  readonly colour: string;
}

const rules: DeviceRules<string> = {
  difference: ({ data: wanted }, { data }) => (data === wanted ? undefined : `it is ${data}`),
  clash: () => undefined,
};

/** Its lease data is a number, of which one host only may have one. */
const toy: Backend<ToyConfig, number> = {
  name: 'toy',
  families: [4],
  apart: 'give one of them another name',
  parseConfig: (section) => ({ type: 'toy', colour: section.text('Colour', 'a colour') ?? 'red' }),
  formatConfig: ({ colour }) => ({ Colour: colour }),
  parseLeaseData(value, path) {
    if (typeof value !== 'number') throw new LeaseFormatError(`"${path}" is no number`);
    return value;
  },
  formatLeaseData: (data) => data,
  isDeviceName: (name) => name === 'toy0',
  deviceName: () => 'toy0',
  device: ({ config, external }, family, mtuBytes) => ({
    name: 'toy0',
    kind: 'toy',
    local: external.addresses[family]!,
    mtuBytes,
    data: config.colour,
    rules,
  }),
  overheadBytes: () => 8,
  claims: { kind: 'fdb', format: ({ claim }) => `number ${claim}` },
  entries: (_, { host, subnet, leaseData }) =>
    leaseData === undefined
      ? 'it has no number'
      : {
          path: 'tunnel',
          routes: [{ destination: subnet, gateway: host, device: 'toy0', onlink: true }],
          fdb: [{ device: 'toy0', mac: mac(leaseData), destination: host }],
          claim: leaseData,
        },
  routesDirectly: () => false,
  outer: () => ({ ipProtocol: 17, udpPort: 9 }),
};
const backends: Backends = new Map([['toy', toy as Backend]]);

const text = '{"Network":"10.1.0.0/16","Backend":{"Type":"Toy","colour":"blue"}}';

test('its config and lease data are its own', () => {
  const { backend } = parseNetworkConfig(text, backends);
  assert.equal(backend, { type: 'toy', colour: 'blue' });
  const lease = (data: unknown) =>
    parseLeaseValue(JSON.stringify({ PublicIP: '192.0.2.2', BackendType: 'toy', BackendData: data }), backends);
  assert.equal(lease(5).backendData, { 4: 5 });
  assert.throws(() => lease('5'), '"BackendData" is no number');
});

test('its devices and entries are planned, conflicts seen, and a second plan has nothing to do', () => {
  const of = (numbers: readonly (number | undefined)[]) =>
    deriveDesired({
      ...overlay({
        backends,
        peers: numbers.map((number, i) =>
          peer(i + 2, { backendType: 'toy', backendData: number === undefined ? {} : { 4: number } }),
        ),
      }),
      backend: parseNetworkConfig(text, backends).backend,
    });
  const kernel = new SimulatedKernel();
  const reconcile = (numbers: readonly (number | undefined)[]): string[] => {
    const { operations } = plan(of(numbers).state, kernel.dump());
    for (const operation of operations) kernel.apply(operation);
    return operations.map(formatOperation);
  };
  assert.equal(reconcile([1, 1, undefined]), [
    'add TOY device "toy0"',
    'add address "10.1.1.0/32" to "toy0"',
    'set FDB entry "02:00:00:00:00:01" to "192.0.2.2" on "toy0"',
    'set route "10.1.2.0/24" via "192.0.2.2" on "toy0"',
  ]);
  assert.equal(reconcile([1, 1, undefined]), []);
  assert.equal(
    of([1, 1, undefined]).peers.map(({ problem }) => problem),
    [undefined, 'lease "/p/subnets/10.1.2.0-24" of another host has the same number 1', 'it has no number'],
  );
  assert.is(of([1]).mtuBytes, 1492);
  assert.is(of([1]).table.hostOf(4, 1)?.bytes[3], 2);
  kernel.state.devices = kernel.state.devices.map((device) => ({ ...device, data: 'green' }));
  assert.is(reconcile([1])[0], 'remove device "toy0"');
  assert.equal(address('192.0.2.2'), of([1]).state.routes[0]!.gateway);
});

test.run();
