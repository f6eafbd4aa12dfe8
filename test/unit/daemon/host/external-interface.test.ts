import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  chooseInterface,
  findInnerProblem,
  findSourceProblem,
  type HostInterface,
  type HostView,
  type InterfaceChoice,
  InterfaceError,
  keepInterface,
  stayOn,
} from '../../../../daemon/host/external-interface.ts';
import { address, prefix } from '../overlay/cluster-of.ts';

const test = suite('daemon/host/external-interface');

const view: HostView = {
  interfaces: [
    { index: 1, name: 'lo', up: true, loopback: true, mtuBytes: 65536, addresses: [address('127.0.0.1')] },
    {
      index: 2,
      name: 'eth0',
      up: true,
      loopback: false,
      mtuBytes: 1500,
      addresses: [address('192.0.2.1'), address('192.0.2.77'), address('2001:db8::1'), address('fe80::1')],
    },
    { index: 3, name: 'eth1', up: true, loopback: false, mtuBytes: 9000, addresses: [address('198.51.100.1')] },
    { index: 4, name: 'eth2', up: false, loopback: false, mtuBytes: 1500, addresses: [] },
    { index: 5, name: 'flannel.1', up: true, loopback: false, mtuBytes: 1450, addresses: [address('10.1.1.0')] },
  ],
  defaultRoutes: (family) => (family === 4 ? [{ index: 2, source: undefined }] : []),
  lookupRoute: (destination) =>
    destination.bytes[0] === 203 ? { index: 3, source: address('198.51.100.1') } : undefined,
};

const choice = (changes: Partial<InterfaceChoice> = {}): InterfaceChoice => ({
  names: [],
  patterns: [],
  canReach: undefined,
  publicAddresses: {},
  ...changes,
});

const nameOf = (changes: Partial<InterfaceChoice>): string => chooseInterface(choice(changes), [4], view).name;
const errorOf = (changes: Partial<InterfaceChoice>, host = view, families: readonly (4 | 6)[] = [4]): string => {
  try {
    chooseInterface(choice(changes), families, host);
  } catch (error) {
    assert.instance(error, InterfaceError);
    return (error as Error).message;
  }
  throw new Error('it was accepted');
};

test("nothing given: the default route's", () => {
  assert.equal(chooseInterface(choice(), [4], view), {
    index: 2,
    name: 'eth0',
    mtuBytes: 1500,
    addresses: { 4: address('192.0.2.1') },
    publicAddresses: { 4: address('192.0.2.1') },
  });
});

test('by name, by address, by pattern, by what it reaches; the first that fits', () => {
  assert.is(nameOf({ names: ['eth1'] }), 'eth1');
  assert.is(nameOf({ names: ['eth9', 'eth1'] }), 'eth1');
  assert.is(nameOf({ names: ['198.51.100.1'] }), 'eth1');
  assert.is(nameOf({ patterns: ['^eth1$'] }), 'eth1');
  assert.is(nameOf({ patterns: ['^198\\.51\\.'] }), 'eth1');
  assert.is(nameOf({ patterns: ['(?i)^ETH[[:digit:]]\\z'] }), 'eth0');
  assert.is(nameOf({ canReach: address('203.0.113.9') }), 'eth1');
});

test('an address that is asked for is the one that is used', () => {
  assert.equal(chooseInterface(choice({ names: ['192.0.2.77'] }), [4], view).addresses[4], address('192.0.2.77'));
  assert.equal(
    chooseInterface(choice({ publicAddresses: { 4: address('192.0.2.77') } }), [4], view).addresses[4],
    address('192.0.2.77'),
  );
});

test('what peers are told is what packets come from, whatever else was asked for', () => {
  const told = { publicAddresses: { 4: address('192.0.2.77') } };
  for (const asked of [{ names: ['192.0.2.1'] }, { patterns: ['^192\\.0\\.2\\.1$'] }]) {
    const { addresses, publicAddresses } = chooseInterface(choice({ ...asked, ...told }), [4], view);
    assert.equal([addresses[4], publicAddresses[4]], [told.publicAddresses[4], told.publicAddresses[4]]);
  }
});

test('a public address that no interface has (NAT): told to others, not used as a source', () => {
  const chosen = chooseInterface(choice({ publicAddresses: { 4: address('203.0.113.5') } }), [4], view);
  assert.equal(chosen.addresses[4], address('192.0.2.1'));
  assert.equal(chosen.publicAddresses[4], address('203.0.113.5'));
});

test('a public address that an interface has says which one', () => {
  assert.is(nameOf({ publicAddresses: { 4: address('198.51.100.1') } }), 'eth1');
});

test('a public address of another interface than the one that was asked for: what comes of it, and what to do', () => {
  const problem = (changes: Partial<InterfaceChoice>): string | undefined =>
    findSourceProblem(chooseInterface(choice(changes), [4], view), view);
  assert.is(
    problem({ names: ['eth0'], publicAddresses: { 4: address('198.51.100.1') } }),
    'The public address "198.51.100.1" (--public-ip) is "eth1"\'s, but packets leave by "eth0" with the address "192.0.2.1", which peers with a peer lock drop: run weftd with --iface=eth1, or without --public-ip',
  );
  assert.match(problem({ names: ['eth0'], publicAddresses: { 4: address('127.0.0.1') } })!, /: run weftd without --p/);
  for (const fine of ['192.0.2.77', '203.0.113.5']) {
    assert.is(problem({ names: ['eth0'], publicAddresses: { 4: address(fine) } }), undefined);
  }
  assert.is(problem({ publicAddresses: { 4: address('198.51.100.1') } }), undefined);
});

test('IPv6: never a link-local address', () => {
  assert.equal(chooseInterface(choice(), [4, 6], view).addresses[6], address('2001:db8::1'));
  assert.match(errorOf({ names: ['eth1'] }, view, [4, 6]), /"eth1" has no IPv6 address \(it has 198\.51\.100\.1\)/);
});

test('while the choice fits nothing, the interface of before keeps what it has lost', () => {
  const before = chooseInterface(choice({ names: ['eth0'] }), [4, 6], view);
  const host = (changes: Partial<HostView['interfaces'][0]>): HostView => ({
    ...view,
    interfaces: view.interfaces.map((each) => (each.name === 'eth0' ? { ...each, ...changes } : each)),
  });
  const keep = (changes: Partial<HostView['interfaces'][0]>, families: readonly (4 | 6)[] = [4, 6]) =>
    keepInterface(before, choice(), families, host(changes));
  assert.equal(keep({ addresses: [address('192.0.2.1'), address('fe80::1')], mtuBytes: 1400 }), {
    ...before,
    mtuBytes: 1400,
  });
  assert.equal(keep({ addresses: [address('192.0.2.77')] })!.addresses, {
    4: address('192.0.2.77'),
    6: address('2001:db8::1'),
  });
  for (const gone of [{ up: false }, { index: 9 }, { name: 'eth9' }]) assert.is(keep(gone), undefined);
  assert.is(keepInterface({ ...before, addresses: { 4: before.addresses[4]! } }, choice(), [4, 6], view), undefined);
});

test('a choice that fits nothing says what there is', () => {
  const there = 'there are eth0 (192.0.2.1, 192.0.2.77, 2001:db8::1, fe80::1), eth1 (198.51.100.1), eth2 (down)';
  assert.is(
    errorOf({ names: ['eth9'] }),
    `Cannot choose the external interface: no interface has the name or address "eth9" (--iface); ${there}; give one of these`,
  );
  assert.match(errorOf({ patterns: ['^wlan'] }), /matches "\^wlan" \(--iface-regex\); there are eth0/);
  assert.match(errorOf({ canReach: address('8.8.8.8') }), /no route leads to "8\.8\.8\.8" \(--iface-can-reach\)/);
  assert.match(errorOf({}, { ...view, defaultRoutes: () => [] }), /there is no default route; there are eth0/);
  assert.match(
    errorOf({}, { ...view, interfaces: view.interfaces.slice(0, 1) }),
    /this host has none besides loopback/,
  );
  assert.is(errorOf({ names: ['eth2'] }), 'The external interface "eth2" is down');
});

const bridge: HostInterface = {
  index: 9,
  name: 'cni0',
  up: true,
  loopback: false,
  mtuBytes: 1450,
  addresses: [address('10.1.1.1')],
  isInnerBridge: true,
};
const cluster = [prefix('10.1.0.0/16')];
/** The host with further interfaces first, and default routes by them. */
const withInner = (...inner: readonly HostInterface[]): HostView => ({
  ...view,
  interfaces: [...inner, ...view.interfaces],
  defaultRoutes: (family) => [
    ...inner.map(({ index }) => ({ index, source: undefined })),
    ...view.defaultRoutes(family),
  ],
});

test('interfaces of containers are never candidates, and no hint; only --iface can name one', () => {
  const docker = { ...bridge, index: 8, name: 'docker0', addresses: [address('172.17.0.1')], servesContainers: true };
  const host = withInner(bridge, docker);
  for (const changes of [{}, { patterns: ['^10\\.', '^172\\.', '0$'] }]) {
    assert.is(chooseInterface(choice(changes), [4], host, cluster).name, 'eth0');
  }
  const canReach = { ...host, lookupRoute: () => ({ index: 9, source: undefined }) };
  assert.match(
    errorWith({ canReach: address('203.0.113.9') }, canReach),
    /; there are eth0 \(.*\), eth1 \(198\.51\.100\.1\), eth2 \(down\); /,
  );
  const named = chooseInterface(choice({ names: ['cni0'] }), [4], host, cluster);
  assert.match(findInnerProblem(named, host, cluster)!, /"cni0" \(--iface\) serves containers or is a tunnel/);
  assert.is(findInnerProblem(chooseInterface(choice(), [4], host, cluster), host, cluster), undefined);
});

test('an interface is found by an altname; control characters in a name are escaped', () => {
  const host: HostView = {
    ...view,
    interfaces: view.interfaces.map((each) =>
      each.index === 3
        ? { ...each, altNames: ['enp1s0', 'enx0'] }
        : each.index === 4
          ? { ...each, name: 'a\x1b[31m' }
          : each,
    ),
  };
  assert.is(chooseInterface(choice({ names: ['enp1s0'] }), [4], host).name, 'eth1');
  assert.is(chooseInterface(choice({ patterns: ['^enx'] }), [4], host).name, 'eth1');
  assert.ok(errorWith({ names: ['none'] }, host).includes(', a\\u001b[31m (down);'));
});

test('an interface with an address of the cluster is chosen only where no other fits', () => {
  const inside = { ...bridge, name: 'eth5', isInnerBridge: false };
  assert.is(chooseInterface(choice(), [4], withInner(inside), cluster).name, 'eth0');
  const only = { ...withInner(inside), defaultRoutes: () => [{ index: 9, source: undefined }] };
  assert.is(chooseInterface(choice(), [4], only, cluster).name, 'eth5', "the hosts' network is part of the cluster's");
});

function errorWith(changes: Partial<InterfaceChoice>, host: HostView): string {
  try {
    chooseInterface(choice(changes), [4], host, cluster);
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error('it was accepted');
}

/** The host with other addresses of eth0. */
const withAddresses = (...texts: readonly string[]): HostView => ({
  ...view,
  interfaces: view.interfaces.map((each) =>
    each.index === 2
      ? {
          ...each,
          addresses: texts.map((text) => address(text.split('/')[0]!)),
          networks: texts.map((text) => prefix(text)),
        }
      : each,
  ),
  defaultRoutes: (family) =>
    family === 4
      ? [{ index: 2, source: undefined, gateway: address('192.0.2.254') }]
      : [{ index: 2, source: undefined, gateway: address('2001:db8::fe') }],
});

test('the address whose network holds the next hop comes first, a floating one does not', () => {
  const host = withAddresses('203.0.113.7/32', '198.51.100.2/24', '192.0.2.1/24', 'fd99::100/128', '2001:db8::1/64');
  assert.equal(chooseInterface(choice(), [4, 6], host).addresses, {
    4: address('192.0.2.1'),
    6: address('2001:db8::1'),
  });
  assert.equal(
    chooseInterface(choice({ names: ['203.0.113.7'] }), [4], host).addresses[4],
    address('203.0.113.7'),
    'unless it was asked for',
  );
});

test('a chosen interface stays while it is up and has its addresses', () => {
  const before = chooseInterface(choice(), [4, 6], view);
  const stay = (host: HostView, changes: Partial<InterfaceChoice> = {}) =>
    stayOn(before, choice(changes), [4, 6], host, cluster);
  const more = withAddresses('203.0.113.7/32', '192.0.2.1/24', 'fd99::100/128', '2001:db8::1/64');
  const routed = { ...more, defaultRoutes: () => [{ index: 3, source: undefined }] };
  assert.equal(stay(more), before);
  assert.equal(stay(routed), before, 'the default route is elsewhere now');
  assert.is(stay(withAddresses('192.0.2.1/24')), undefined, 'an address is gone');
  assert.is(stay(withAddresses('203.0.113.7/32', '2001:db8::1/64')), undefined);
  const changed = (changes: Partial<HostInterface>): HostView => ({
    ...view,
    interfaces: view.interfaces.map((each) => (each.index === 2 ? { ...each, ...changes } : each)),
  });
  assert.is(stay(changed({ up: false })), undefined);
  assert.is(stay(changed({ index: 77 })), undefined);
  assert.is(stay(changed({ servesContainers: true })), undefined);
  assert.equal(stay(changed({ name: 'lan0', mtuBytes: 1400 })), { ...before, name: 'lan0', mtuBytes: 1400 });
});

test('a public address that appears is what counts', () => {
  const before = chooseInterface(choice(), [4], view);
  const told = (text: string) => stayOn(before, choice({ publicAddresses: { 4: address(text) } }), [4], view, cluster);
  assert.is(told('198.51.100.1'), undefined, 'on another interface');
  assert.is(told('192.0.2.77'), undefined, 'on the same');
  assert.equal(told('203.0.113.9')!.publicAddresses[4], address('203.0.113.9'));
});

test.run();
