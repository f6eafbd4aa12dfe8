import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { LeaseSet } from '../../../../cluster/lease-set.ts';
import { parseNetworkConfig } from '../../../../cluster/network-config.ts';
import { backends } from '../../../../daemon/backends/map.ts';
import { containerLocking, directGraceMs, fibComment } from '../../../../daemon/filter/container-lock.ts';
import type { FilterView, PartContent } from '../../../../daemon/filter/part.ts';
import { type OwnBackend, peer } from '../overlay/cluster-of.ts';

const test = suite('daemon/filter/container-lock');

const links = { external: 'eth0', inner: ['cni0', 'flannel.1'], networks: [], addresses: {} };
function view(backend: object, changes: Partial<FilterView> = {}): FilterView {
  const text = JSON.stringify({ Network: '10.1.0.0/16', Backend: backend });
  const config = parseNetworkConfig(text, backends);
  const own = peer(1);
  return {
    config,
    backend: config.backend as OwnBackend,
    own,
    peers: LeaseSet.of([]),
    formerSubnets: [],
    links,
    ...changes,
  };
}
const chains = (content: PartContent | undefined): unknown =>
  content?.chains().map(({ name, base, rules }) => [name, base?.hook, rules.length]);
const part = (hasFib = true, now = (): number => 0) => containerLocking({ lifeMs: 1000, now, hasFib: () => hasFib });

test('it wants rules where packets come in, and the interfaces by name', () => {
  const content = part().wants(view({ Type: 'vxlan' }))!;
  assert.equal(chains(content), [
    ['container-lock', 'input', 1],
    ['container-lock-out', 'forward', 2],
    ['plain-lock', 'prerouting', 1],
    ['container-lock-drop', undefined, 2],
  ]);
  const text = (bytes: Uint8Array): string => String.fromCharCode(...bytes).replace(/\0+$/, '');
  assert.equal(
    content.sets.map(({ name, timeoutMs, elements }) => [name, timeoutMs, elements().map(text)]),
    [
      ['inner-links', 1000, ['cni0', 'flannel.1']],
      ['outer-links', 1000, ['eth0']],
    ],
  );
  const other = part().wants(
    view({ Type: 'vxlan' }, { links: { external: 'eth1', inner: [], networks: [], addresses: {} } }),
  )!;
  assert.is(other.structure, content.structure, 'interfaces are no part of the structure');
  // A packet of a former subnet may come in plain, too.
  const former = part().wants(view({ Type: 'vxlan' }, { formerSubnets: [peer(9).subnets] }))!;
  assert.is(former.chains().at(-2)!.rules.length, 2);
});

test('it wants nothing without a tunnel, or before the interfaces are known', () => {
  assert.is(part().wants(view({ Type: 'host-gw' })), undefined);
  const { links: _, ...without } = view({ Type: 'vxlan' });
  assert.is(part().wants(without), undefined);
});

test('a kernel without nft_fib gets the rule that does without', () => {
  const content = part(false).wants(view({ Type: 'vxlan' }))!;
  assert.equal(chains(content), [
    ['container-lock-out', 'forward', 1],
    ['container-lock-drop', undefined, 2],
  ]);
  assert.not(content.chains().some(({ rules }) => rules.some(({ comment }) => comment === fibComment)));
});

test('where plain routes are in use, or were a moment ago, plain packets pass', () => {
  let nowMs = 5000;
  const one = part(true, () => nowMs);
  const direct = view({ Type: 'vxlan', DirectRouting: true });
  const names = (content: PartContent | undefined) =>
    content!.chains().flatMap(({ name, base }) => (base ? [name] : []));
  assert.equal(names(one.wants(direct)), ['container-lock', 'container-lock-out']);
  assert.is(one.wants(direct)!.validMs, undefined);
  nowMs += 100_000;
  one.wants(direct);
  nowMs += 1000;
  const after = one.wants(view({ Type: 'vxlan' }))!;
  assert.equal([names(after).length, after.validMs], [2, directGraceMs - 1000]);
  nowMs += after.validMs!;
  assert.equal(names(one.wants(view({ Type: 'vxlan' }))).length, 3);
  // Peers of a host-gw network that becomes one with tunnels.
  one.wants(view({ Type: 'host-gw' }));
  assert.is(names(one.wants(view({ Type: 'vxlan' }))).length, 2);
});

test.run();
