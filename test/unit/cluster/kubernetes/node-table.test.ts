import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { annotationKeys } from '../../../../cluster/kubernetes/annotations.ts';
import { formatMemory, KubeMark, parseMemory } from '../../../../cluster/kubernetes/lease-memory.ts';
import {
  isOlder,
  type NodeMeta,
  parsePodCidrs,
  podCidrsOf,
  reduceMeta,
} from '../../../../cluster/kubernetes/node-object.ts';
import { NodeTable } from '../../../../cluster/kubernetes/node-table.ts';
import { formatSubnets } from '../../../../cluster/lease.ts';
import { backends } from '../../../../daemon/backends/map.ts';

const test = suite('cluster/kubernetes/node-table');
const keys = annotationKeys('p/');

const node = (name: string, uid: string, version: number, more: Record<string, string> = {}): NodeMeta =>
  reduceMeta(
    {
      metadata: {
        name,
        uid,
        resourceVersion: String(version),
        creationTimestamp: '2026-01-01T00:00:00Z',
        annotations: {
          'p/kube-subnet-manager': 'true',
          'p/backend-type': 'host-gw',
          'p/public-ip': '10.0.0.1',
          other: 'x',
          ...more,
        },
      },
    },
    keys,
  )!;
const cidrs = (...list: string[]) => parsePodCidrs(list)!;
const subnetsOf = (table: NodeTable): string[] => table.leases.all.map(({ subnets }) => formatSubnets(subnets));

test('a Node whose podCIDRs cannot be asked for is reported until they are known', () => {
  const table = new NodeTable(backends);
  table.apply(node('a', 'u1', 1));
  const refuse = (uid: string): boolean => table.refuse({ name: 'a', uid }, 'no right');
  assert.equal([refuse('u2'), refuse('u1'), refuse('u1')], [false, true, false], 'once, and for this Node alone');
  assert.equal(table.malformed, [{ ownerId: 'a/u1', reason: 'no right' }]);
  table.apply(node('a', 'u1', 2));
  assert.is(table.malformed.length, 1);
  assert.equal(
    table.lacking().map(({ name }) => name),
    ['a'],
    'it is still asked about',
  );
  table.learn({ name: 'a', uid: 'u1' }, cidrs('10.244.1.0/24'));
  assert.equal([table.malformed, subnetsOf(table)], [[], ['10.244.1.0/24']]);
  assert.not.ok(refuse('u1'), 'they are known');
});

test('a lease has the word in which its node says what is wrong, and no text that is none', () => {
  const table = new NodeTable(backends);
  table.learn({ name: 'a', uid: 'u1' }, cidrs('10.244.1.0/24'));
  let version = 1;
  const healthIn = (weft: string): string | undefined => {
    table.apply(node('a', 'u1', version++, { 'p/weft': weft }));
    return table.leases.all[0]?.health;
  };
  assert.is(healthIn('{"version":"1.0.0"}'), undefined);
  assert.is(healthIn('{"version":"1.0.0","health":"external-interface"}'), 'external-interface');
  for (const bad of ['7', '"two words"', '"\\u001b[31m"', `"${'x'.repeat(65)}"`, '""', 'null', '{"a":1}']) {
    assert.is(healthIn(`{"version":"1.0.0","health":${bad}}`), undefined, bad);
  }
});

test('a Node is a lease once it is managed and its podCIDRs are known', () => {
  const table = new NodeTable(backends);
  assert.not.ok(table.apply(node('a', 'u1', 1)));
  assert.equal(
    table.lacking().map(({ name }) => name),
    ['a'],
  );
  assert.ok(table.learn({ name: 'a', uid: 'u1' }, cidrs('10.244.1.0/24')));
  assert.equal(subnetsOf(table), ['10.244.1.0/24']);
  assert.ok(table.apply(node('a', 'u1', 2, { 'p/kube-subnet-manager': 'false' })));
  assert.equal(subnetsOf(table), []);
});

test('podCIDRs come from spec alone, in any order, and never from annotations', () => {
  assert.equal(podCidrsOf({ spec: { podCIDRs: ['fd00::1/64', '10.1.2.3/24'] } }), cidrs('10.1.2.0/24', 'fd00::/64'));
  assert.equal(podCidrsOf({ spec: { podCIDR: '10.1.2.0/24', podCIDRs: [] } }), cidrs('10.1.2.0/24'));
  for (const object of [undefined, {}, { spec: {} }, { spec: { podCIDR: '', podCIDRs: ['x', 7] } }]) {
    assert.is(podCidrsOf(object), undefined);
  }
});

test('an unchanged lease stays the same object, whatever else its Node says', () => {
  const table = new NodeTable(backends);
  table.learn({ name: 'a', uid: 'u1' }, cidrs('10.244.1.0/24'));
  table.replace([node('a', 'u1', 1)]);
  const { leases } = table;
  assert.not.ok(table.apply(node('a', 'u1', 2, { other: 'y' })));
  assert.not.ok(table.replace([node('a', 'u1', 3)]));
  assert.is(table.leases, leases);
  assert.ok(table.apply(node('a', 'u1', 4, { 'p/public-ip': '10.0.0.2' })));
  assert.equal(table.leases.changesSince(leases)?.length, 1);
});

test('an older state of a Node is ignored, an older delete as well', () => {
  const table = new NodeTable(backends);
  table.learn({ name: 'a', uid: 'u2' }, cidrs('10.244.2.0/24'));
  table.apply(node('a', 'u2', 10, { 'p/public-ip': '10.0.0.2' }));
  assert.not.ok(table.apply(node('a', 'u2', 9)));
  assert.not.ok(table.remove({ name: 'a', uid: 'u1' }));
  assert.is(table.leases.size, 1);
  assert.ok(isOlder('9', '10'));
  assert.not.ok(isOlder('10', '9'));
  assert.not.ok(isOlder('x', '9'));
});

test('a Node that is made anew has no podCIDR of the old one', () => {
  const table = new NodeTable(backends);
  table.learn({ name: 'a', uid: 'u1' }, cidrs('10.244.1.0/24'));
  table.apply(node('a', 'u1', 1));
  table.apply(node('a', 'u2', 2));
  assert.equal(subnetsOf(table), []);
  table.learn({ name: 'a', uid: 'u2' }, cidrs('10.244.9.0/24'));
  assert.equal(subnetsOf(table), ['10.244.9.0/24']);
});

test('one that cannot be read is told, and hides no other', () => {
  const table = new NodeTable(backends);
  table.learn({ name: 'a', uid: 'u1' }, cidrs('10.244.1.0/24'));
  table.learn({ name: 'b', uid: 'u2' }, cidrs('10.244.2.0/24'));
  table.replace([node('a', 'u1', 1, { 'p/public-ip': 'nonsense' }), node('b', 'u2', 2)]);
  assert.equal(subnetsOf(table), ['10.244.2.0/24']);
  assert.is(table.malformed[0]?.ownerId, 'a/u1');
  const { malformed } = table;
  table.apply(node('b', 'u2', 3, { 'p/public-ip': '10.0.0.7' }));
  assert.is(table.malformed, malformed);
});

test('the memory keeps podCIDRs by uid, and the peers', () => {
  const table = new NodeTable(backends);
  table.learn({ name: 'a', uid: 'u1' }, cidrs('10.244.1.0/24', 'fd00:1::/64'));
  table.apply(node('a', 'u1', 1, { 'p/weft': '{"version":"1.0.0"}' }));
  const [lease] = table.leases.all;
  const memory = { mark: new KubeMark('77'), own: 'x/u0', ownUntilMs: 5, peers: [{ lease: lease!, untilMs: 6 }] };
  const { text, leftOut } = formatMemory(memory, 'p/', backends);
  assert.is(leftOut, 0);
  const other = new NodeTable(backends);
  const read = parseMemory(text, 'p/', backends, (found, itsCidrs) => void other.learn(found, itsCidrs))!;
  assert.equal({ ...read }, memory);
  assert.equal(other.cidrsOf('u1'), lease!.subnets);
  for (const wrong of ['', '{}', 'null', text.slice(1), text.replace('"p/"', '"q/"'), '{"version":1,"prefix":"p/"}']) {
    assert.is(
      parseMemory(wrong, 'p/', backends, () => undefined),
      undefined,
    );
  }
  const damaged = text.replace('"created"', '"x"');
  assert.equal(parseMemory(damaged, 'p/', backends, () => undefined)?.peers, []);
});

test.run();
