import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  type ConfigPorts,
  listClusterNodes,
  RefusedError,
  readConfigDocument,
  updateConfig,
} from '../../../cluster/administration.ts';
import { keysBelow } from '../../../cluster/etcd/keys.ts';
import { parseLeaseKey } from '../../../cluster/etcd/lease-key.ts';
import { type Lease, parseLeaseValue } from '../../../cluster/lease.ts';
import { LeaseSet } from '../../../cluster/lease-set.ts';
import type { ClusterStore, Liveness, NodeRecord, StoredConfig } from '../../../cluster/store.ts';
import { backends } from '../../../daemon/backends/map.ts';
import { parseAddress } from '../../../net/address.ts';

const test = suite('administration');
const keys = keysBelow('/p');

const leaseOf = (name: string, value: object, reservation = false): Lease => {
  const { extra: _, ...said } = parseLeaseValue(JSON.stringify(value), backends);
  return {
    ...said,
    ownerId: keys.subnets + name,
    subnets: parseLeaseKey(keys, keys.subnets + name),
    reservation,
    ofFlannel: said.node === undefined,
    seniority: '1',
    handle: undefined,
  };
};

/** A store in memory, as far as these functions use one. */
function memoryStore(leases: Lease[], records: NodeRecord[] = []) {
  const unused = (): never => {
    throw new Error('not asked for here');
  };
  let stored: StoredConfig | undefined;
  const config: ConfigPorts['config'] = {
    path: '/p/config',
    place: 'etcd key "/p/config"',
    read: async () => stored,
    write: async (text, expected) => {
      if (expected !== undefined && expected !== (stored?.version ?? '0')) return false;
      stored = { text, version: String(Number(stored?.version ?? '0') + 1) };
      return true;
    },
  };
  const list: ClusterStore['list'] = async () => ({
    leases: LeaseSet.of(leases),
    malformed: [{ ownerId: 'k', reason: 'why' }],
    continuity: 'same',
    mark: undefined,
  });
  const liveness: Liveness = {
    list: async () => ({ nodes: records, malformed: [] }),
    publish: unused,
    withdraw: unused,
    count: unused,
    living: unused,
  };
  return { config, leases: { list, liveness } };
}

const record = (node: string, ip: string, more: Partial<NodeRecord> = {}): NodeRecord => ({
  node,
  version: '0.1.0',
  publicAddresses: { 4: parseAddress(ip)! },
  backendType: 'vxlan',
  startedAtMs: 0,
  health: 'ok',
  ...more,
});

async function refusal(work: Promise<unknown>): Promise<RefusedError> {
  try {
    await work;
  } catch (error) {
    if (error instanceof RefusedError) return error;
    throw error;
  }
  throw new Error('not refused');
}

test('nodes are listed by subnet with their records; flannel’s are neither up nor down', async () => {
  const store = memoryStore(
    [
      leaseOf('10.5.20.0-24', { PublicIP: '192.0.2.20', BackendType: 'vxlan', Weft: { node: 'b', version: '1' } }),
      leaseOf('10.5.100.0-24', { PublicIP: '192.0.2.100', BackendType: 'host-gw' }),
      leaseOf('10.5.3.0-24', { PublicIP: '192.0.2.3', BackendType: 'vxlan', Weft: { node: 'a', version: '1' } }, true),
    ],
    [record('a', '192.0.2.3', { containers: 4 }), record('late', '192.0.2.50')],
  );
  const { nodes, malformed } = await listClusterNodes(store.leases);
  assert.equal(
    nodes.map(({ node, subnets, alive, containers, reservation }) => [
      node,
      subnets[0],
      alive,
      containers,
      reservation,
    ]),
    [
      ['a', '10.5.3.0/24', true, 4, true],
      ['b', '10.5.20.0/24', false, undefined, false],
      [undefined, '10.5.100.0/24', undefined, undefined, false],
      ['late', undefined, true, undefined, false],
    ],
  );
  assert.equal(malformed, ['k: why']);
});

test('a config is written only if it is valid, weftd can run it, and no lease is stranded', async () => {
  const store = memoryStore([
    leaseOf('10.5.20.0-24', { PublicIP: '192.0.2.20', Weft: { node: 'b' } }),
    leaseOf('10.5.3.0-24', { PublicIP: '192.0.2.3' }),
  ]);
  const vxlan = '"Backend":{"Type":"vxlan"}';
  const good = `{"Network":"10.5.0.0/16",${vxlan}}`;

  assert.is((await refusal(readConfigDocument(store.config))).reason, 'missing');
  assert.is((await refusal(updateConfig(store, { text: '{"Network":1}' }, backends))).reason, 'invalid');
  const udp = await refusal(updateConfig(store, { text: '{"Network":"10.5.0.0/16"}' }, backends));
  assert.is(udp.reason, 'conflict');
  assert.match(udp.message, /its backend is "udp", which Weft does not run/);
  const elsewhere = `{"Network":"10.6.0.0/16",${vxlan}}`;
  const stranded = await refusal(updateConfig(store, { text: elsewhere }, backends));
  assert.match(stranded.message, /it leaves no place for 2 leases/);
  assert.equal(stranded.details, ['10.5.3.0/24 of 192.0.2.3', '10.5.20.0/24 of b']);

  assert.equal(await updateConfig(store, { text: good, expected: '0' }, backends), { text: good, modRevision: '1' });
  const late = await refusal(updateConfig(store, { text: good, expected: '0' }, backends));
  assert.match(late.message, /somebody else has changed it meanwhile/);
  assert.is((await updateConfig(store, { text: elsewhere, force: true }, backends)).text, elsewhere);
});

test('a config source without write: `config set` is refused', async () => {
  const { config, leases } = memoryStore([]);
  const { write: _, ...source } = config;
  const refused = await refusal(
    updateConfig({ config: source, leases }, { text: '{"Network":"10.5.0.0/16"}' }, backends),
  );
  assert.is(refused.reason, 'conflict');
  assert.match(refused.message, /only reads it; change it at its source, etcd key "\/p\/config"$/);
});

test.run();
