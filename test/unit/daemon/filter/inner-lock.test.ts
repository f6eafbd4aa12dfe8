import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { LeaseSet } from '../../../../cluster/lease-set.ts';
import { parseNetworkConfig } from '../../../../cluster/network-config.ts';
import { backends } from '../../../../daemon/backends/map.ts';
import { innerLocking } from '../../../../daemon/filter/inner-lock.ts';
import type { ElementChange, FilterView, PartContent, Placement } from '../../../../daemon/filter/part.ts';
import { address, type OwnBackend, peer, prefix } from '../overlay/cluster-of.ts';

const test = suite('daemon/filter/inner-lock');

const at = (host: string, subnet: string): Placement => ({ host: address(host), subnet: prefix(subnet) });
const [two, three] = [at('192.0.2.2', '10.1.2.0/24'), at('192.0.2.3', '10.1.3.0/24')];

interface Given {
  readonly backend?: string;
  readonly placements?: readonly Placement[];
  readonly networks?: readonly string[];
}
function view({ backend = 'vxlan', placements = [two, three], networks = [] }: Given = {}): FilterView {
  const config = parseNetworkConfig(JSON.stringify({ Network: '10.1.0.0/16', Backend: { Type: backend } }), backends);
  return {
    config,
    backend: config.backend as OwnBackend,
    own: peer(1),
    peers: LeaseSet.of([]),
    formerSubnets: [],
    links: { external: 'eth0', inner: [], networks: networks.map(prefix), addresses: {} },
    placements: { placementSource: placements, placements },
  };
}
const key = (bytes: Uint8Array): string => `${bytes.subarray(0, 4).join('.')} ${bytes.subarray(4).join('.')}`;
const sets = (content: PartContent | undefined): unknown =>
  content?.sets.map(({ name, elements }) => [name, ...elements().map(key)]);
const texts = (changes: readonly ElementChange[] | undefined): unknown =>
  changes?.map(({ set, added, removed }) => [set, added.map(key), removed.map(key)]);

test('it wants a set of pairs for each length of subnets', () => {
  const wider = at('192.0.2.3', '10.1.16.0/20');
  assert.equal(sets(innerLocking().wants(view({ placements: [two, three, wider] }))), [
    ['inner4-20', '192.0.2.3 10.1.16.0'],
    ['inner4-24', '192.0.2.2 10.1.2.0', '192.0.2.3 10.1.3.0'],
  ]);
  assert.is(innerLocking().wants(view({ backend: 'host-gw' })), undefined);
  const { placements: _, ...without } = view();
  assert.is(innerLocking().wants(without), undefined);
});

test('pairs come and go singly; a pair that a changed lease still has stays', () => {
  const part = innerLocking();
  assert.equal(part.changes!(view(), [], [], { added: [two], removed: [] }), [], 'before it wants anything');
  part.wants(view());
  const change = (added: readonly Placement[], removed: readonly Placement[]): unknown =>
    texts(part.changes!(view(), [], [], { added, removed }));
  assert.equal(change([], []), []);
  assert.equal(change([three], [two]), [['inner4-24', ['192.0.2.3 10.1.3.0'], ['192.0.2.2 10.1.2.0']]]);
  assert.equal(change([two], [two]), [['inner4-24', ['192.0.2.2 10.1.2.0'], []]]);
  // The subnet moves to another host.
  const moved = at('192.0.2.9', '10.1.2.0/24');
  assert.equal(change([moved], [two]), [['inner4-24', ['192.0.2.9 10.1.2.0'], ['192.0.2.2 10.1.2.0']]]);
});

test('a subnet of a new length needs a rule of its own, which stays', () => {
  const part = innerLocking();
  const before = part.wants(view())!;
  const wide = at('192.0.2.4', '10.1.128.0/18');
  assert.is(part.changes!(view(), [], [], { added: [wide], removed: [] }), undefined);
  const after = part.wants(view({ placements: [two, wide] }))!;
  assert.is.not(after.structure, before.structure);
  assert.equal(texts(part.changes!(view(), [], [], { added: [], removed: [wide] })), [
    ['inner4-18', [], ['192.0.2.4 10.1.128.0']],
  ]);
  assert.is(part.wants(view())!.structure, after.structure);
});

test('hosts inside the cluster’s network may send in their own name', () => {
  const host = at('10.1.200.3', '10.1.3.0/24');
  const part = innerLocking();
  const content = part.wants(view({ placements: [host], networks: ['10.1.200.0/24', '192.0.2.0/24'] }))!;
  assert.equal(sets(content), [
    ['inner4-24', '10.1.200.3 10.1.3.0'],
    ['inner4-32', '10.1.200.3 10.1.200.3'],
  ]);
  const structureWith = (...networks: string[]) => part.wants(view({ placements: [host], networks }))!.structure;
  assert.is(structureWith('10.1.200.0/24'), content.structure);
  // A network around the cluster's has hosts outside of it; this node's own subnet has no other hosts.
  assert.is(structureWith('10.0.0.0/8', '10.1.1.0/24', '10.1.0.0/16'), structureWith());
  assert.is.not(structureWith(), content.structure);
});

test.run();
