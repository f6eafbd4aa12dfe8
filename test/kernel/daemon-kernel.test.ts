/**
 * The daemon's kernel adapter against this machine's kernel, in a namespace of its own. As root.
 * @guest
 */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { DesiredState } from '../../daemon/backends/entries.ts';
import { backends } from '../../daemon/backends/map.ts';
import { tableName } from '../../daemon/filter/packet-filter.ts';
import { DeviceBusyError, DeviceLocks } from '../../daemon/host/device-lock.ts';
import { type EventSubject, subjectOf } from '../../daemon/host/events.ts';
import { chooseInterface } from '../../daemon/host/external-interface.ts';
import { type Desired, deriveDesired, nothingDesired } from '../../daemon/overlay/desired.ts';
import { interestOf } from '../../daemon/overlay/interest.ts';
import { Kernel } from '../../daemon/overlay/kernel.ts';
import { narrowToPeers } from '../../daemon/overlay/narrow.ts';
import { formatOperation, plan } from '../../daemon/overlay/plan.ts';
import { openEvents, rtnlgrp } from '../../linux/netlink/events.ts';
import { decodeNeighbour, rtmNeighbour } from '../../linux/netlink/neighbour.ts';
import { openNft, tableDifference } from '../../linux/nft/connection.ts';
import { sys } from '../../linux/sys-bun.ts';
import { run } from '../lab/commands.ts';
import { desiredTable, openRules, type RuleSettings, type RulesOptions } from '../lab/filter-rules.ts';
import { describeHost, difference, readFdb, readNeighbours, readRoutes } from '../lab/kernel-state.ts';
import { insideNamespace, ipBatch } from '../lab/namespaces.ts';
import { Scratch } from '../lab/scratch.ts';
import { startSquatter } from '../lab/strangers.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';
import { decodeMessages } from '../support/netlink-messages.ts';
import { removeTable } from '../support/nft-tables.ts';
import {
  address,
  dualStack,
  mac,
  type OwnBackend,
  overlay,
  peer,
  prefix,
  vxlan,
} from '../unit/daemon/overlay/cluster-of.ts';

const test = suite('daemon/kernel');

const host = fixture(
  test,
  () => {
    const scratch = new Scratch('dk');
    const name = scratch.addNamespace('host');
    ipBatch(name, [
      'link add eth0 type veth peer name far',
      'link set far up',
      'link set eth0 up',
      'addr add 192.0.2.1/24 dev eth0',
      'addr add 2001:db8::1/64 dev eth0 nodad',
      'route add default via 192.0.2.254',
      'route add 10.1.200.0/24 via 192.0.2.254',
      'route add 203.0.113.0/24 via 192.0.2.254',
    ]);
    return { scratch, name };
  },
  ({ scratch }) => scratch.remove(),
);

/** Runs `body` in the host's namespace. */
const inside = <T>(body: () => T): T => insideNamespace(host().name, body);

const names = new Set(['flannel.1', 'flannel-v6.1', 'flannel.2']);

/** Brings the namespace to the state, and gives the steps as text. */
function reconcile(desired: DesiredState): string[] {
  return inside(() => {
    const kernel = new Kernel(sys);
    try {
      const state = kernel.readHost();
      const { operations, problems } = plan(desired, kernel.readActual(state, names));
      assert.equal(problems, []);
      for (const { error } of kernel.apply(operations, state)) if (error) throw error;
      return operations.map(formatOperation);
    } finally {
      kernel.close();
    }
  });
}

const externalIndex = (): number =>
  inside(() => {
    const kernel = new Kernel(sys);
    const view = kernel.hostView(kernel.readHost());
    kernel.close();
    const choice = { names: [], patterns: [], canReach: undefined, publicAddresses: {} };
    return chooseInterface(choice, [4, 6], view).index;
  });

const derive = (changes: Parameters<typeof overlay>[0] = {}): Desired => {
  const { external } = overlay();
  return deriveDesired(overlay({ external: { ...external, index: externalIndex() }, ...changes }));
};
const desired = (changes?: Parameters<typeof overlay>[0]): DesiredState => derive(changes).state;

test('one run makes the devices, routes and entries of both families, and the second run changes nothing', () => {
  const state = desired(dualStack);
  assert.is(reconcile(state).length, 16);
  const { name } = host();
  assert.equal(
    readRoutes(name, 4)
      .filter(({ device }) => device === 'flannel.1')
      .map(({ destination, gateway, flags }) => [destination, gateway, flags]),
    [
      ['10.1.2.0/24', '10.1.2.0', ['onlink']],
      ['10.1.3.0/24', '10.1.3.0', ['onlink']],
    ],
  );
  assert.equal(
    readFdb(name)
      .map(({ device, mac: own, destination }) => `${device} ${own} ${destination}`)
      .sort(),
    [
      'flannel-v6.1 02:00:00:00:00:66 2001:db8::2',
      'flannel-v6.1 02:00:00:00:00:67 2001:db8::3',
      'flannel.1 02:00:00:00:00:02 192.0.2.2',
      'flannel.1 02:00:00:00:00:03 192.0.2.3',
    ],
  );
  assert.is(readNeighbours(name).filter(({ device }) => names.has(device)).length, 4);
  assert.equal(reconcile(state), []);
});

test('a peer that leaves causes no event that wakes weftd, but somebody who deletes a neighbour does', () => {
  reconcile(desired(dualStack));
  const derived = derive(dualStack);
  const [, leaving] = derived.peers;
  const state = {
    devices: new Map([...names].map((name) => [name, undefined])),
    networks: [],
    subnets: [],
    gateways: [],
  };
  const { RTNLGRP_NEIGH, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE } = rtnlgrp;
  inside(() => {
    const kernel = new Kernel(sys);
    const now = kernel.readHost();
    const events = openEvents(sys, [RTNLGRP_NEIGH, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE], { receiveTimeoutMs: 5000 });
    try {
      const changed = derived.table.change([leaving!.peer], [])!;
      const { desired: wanted, actual } = narrowToPeers(derived.state, changed);
      const { operations } = plan(wanted, actual);
      assert.is(operations.length, 6, 'route, neighbour and FDB entry of both families');
      for (const { error } of kernel.apply(operations, now)) if (error) throw error;
      const interest = interestOf(backends.get('vxlan')!, derived, 'eth0', state, now, kernel);
      const subjects: (EventSubject | undefined)[] = [];
      const deletedNeighbour = (): void => {
        for (let isOver = false; !isOver; ) {
          const bytes = events.receiveEvents();
          assert.ok(bytes instanceof Uint8Array, `${bytes} after ${subjects.join()}`);
          for (const message of decodeMessages(bytes)) {
            subjects.push(subjectOf(message, interest));
            const isDeleted = message.type === rtmNeighbour.RTM_DELNEIGH;
            isOver ||= isDeleted && decodeNeighbour(message.body)?.family === 4;
          }
        }
      };
      deletedNeighbour();
      assert.equal(new Set(subjects), new Set([undefined]));
      run(['ip', 'neigh', 'del', '10.1.2.0', 'dev', 'flannel.1']);
      deletedNeighbour();
      assert.is(subjects.at(-1), 'entry');
    } finally {
      events.close();
      kernel.close();
    }
  });
  assert.is(reconcile(desired(dualStack)).length, 7, 'what was deleted is made again');
});

test('everything that is deleted or changed is restored as it was', async () => {
  const { name } = host();
  const state = desired(dualStack);
  reconcile(state);
  const before = describeHost(name).filter((line) => !line.includes('"index"'));
  const harms = [
    'ip route del 10.1.2.0/24',
    'ip route replace 10.1.2.0/24 via 192.0.2.254',
    'ip route replace blackhole 10.1.2.0/24',
    'ip route add 10.1.2.0/24 via 10.1.2.0 dev flannel.1 onlink metric 9',
    'ip -6 route del fd00:0:0:2::/64',
    'ip neigh del 10.1.2.0 dev flannel.1',
    'ip neigh replace 10.1.2.0 lladdr 02:00:00:00:00:99 dev flannel.1',
    'ip neigh add 10.1.77.0 lladdr 02:00:00:00:00:99 dev flannel.1',
    'bridge fdb del 02:00:00:00:00:02 dev flannel.1 dst 192.0.2.2',
    'bridge fdb replace 02:00:00:00:00:02 dev flannel.1 dst 192.0.2.99',
    'bridge fdb add 02:00:00:00:00:99 dev flannel.1 dst 192.0.2.99',
    'ip addr del 10.1.1.0/32 dev flannel.1',
    'ip addr add 10.1.1.9/32 dev flannel.1',
    'ip addr flush dev flannel-v6.1',
    'ip link set flannel.1 mtu 1300',
    'ip link set flannel.1 down',
    'ip link set flannel-v6.1 down',
    'ip link set flannel.1 address 02:00:00:00:00:99',
    'ip link del flannel.1',
    'ip link del flannel-v6.1',
    'ip -6 route replace fd00:0:0:2::/64 via 2001:db8::99',
    'ip -6 route replace blackhole fd00:0:0:2::/64',
    'ip route replace 10.1.2.0/24 via 10.1.2.0 dev flannel.1 onlink src 192.0.2.1',
    'ip route replace 10.1.2.0/24 via 10.1.2.0 dev flannel.1 onlink mtu 600',
    'ip route replace 10.1.2.0/24 nexthop via 192.0.2.7 nexthop via 192.0.2.8',
    'ip -6 route replace fd00:0:0:2::/64 nexthop via 2001:db8::7 nexthop via 2001:db8::8',
    'ip neigh replace 10.1.2.0 lladdr 02:00:00:00:00:99 dev flannel.1 nud reachable',
    'bridge fdb replace 02:00:00:00:00:02 dev flannel.1 dst 192.0.2.2 port 9999',
    'bridge fdb replace 02:00:00:00:00:02 dev flannel.1 dst 192.0.2.2 vni 7',
    'bridge fdb replace 02:00:00:00:00:02 dev flannel.1 dst 192.0.2.2 via eth0',
    'bridge fdb add 02:00:00:00:00:99 dev flannel.1 dst 192.0.2.99 port 9999 vni 7 via eth0',
    'bridge fdb append 00:00:00:00:00:00 dev flannel.1 dst 192.0.2.99',
    'ip addr add 10.1.1.0/24 dev flannel.1',
    'ip addr add 10.1.1.9 peer 10.1.77.0/24 dev flannel.1',
    'ip addr del 10.1.1.0/32 dev flannel.1; ip addr add 10.1.1.0/32 dev flannel.1 scope link',
    'ip addr del 10.1.1.0/32 dev flannel.1; ip addr add 10.1.1.0 peer 10.1.77.0/32 dev flannel.1',
    'ip -6 addr change fd00:0:0:1::/128 dev flannel-v6.1 valid_lft forever preferred_lft 0',
    'ip link set flannel.1 arp off',
    // Linux before 6.2 renames only links that are down.
    'ip link set flannel.1 down; ip link set flannel.1 name foreign; ip link set foreign mtu 1400 up',
    'ip link set flannel.1 type vxlan ttl 1',
    'ip link set flannel-v6.1 type vxlan tos inherit',
    'ip link set flannel.1 type vxlan remote 192.0.2.99',
    'ip link set flannel.1 type vxlan local 192.0.2.99',
    'ip link del flannel.1; ip link add flannel.1 type vxlan id 99 dev eth0 dstport 8472',
    'ip link del flannel.1; ip link add flannel.1 type vxlan external dstport 8472',
    'ip link del flannel.1; ip link add flannel.1 type vxlan id 1 dev eth0 dstport 8472 nolearning proxy rsc',
  ];
  for (const harm of harms) {
    for (const command of harm.split('; ')) run(command.split(' '), { namespace: name });
    assert.ok(reconcile(state).length > 0, harm);
    assert.equal(reconcile(state), [], harm);
    const changed = () => {
      const after = describeHost(name).filter((line) => !line.includes('"index"'));
      return difference(before, after);
    };
    // The kernel makes an IPv6 address's local route a moment after the address.
    await waitFor('the kernel', () => changed().length === 0).catch(() => undefined);
    assert.equal(changed(), [], harm);
  }
});

const ipTunnels: readonly [backend: OwnBackend, devices: readonly string[], modules: readonly string[]][] = [
  [{ type: 'ipip', directRouting: false }, ['flannel.ipip'], ['ipip']],
  [{ type: 'gre' }, ['weft-gre', 'weft-gre6'], ['ip_gre', 'ip6_gre']],
  [{ type: 'gre', key: 7 }, ['weft-gre', 'weft-gre6'], ['ip_gre', 'ip6_gre']],
];
for (const [backend, devices, modules] of ipTunnels) {
  test(`${JSON.stringify(backend)}: made in one run and restored, or one failure a device that names the module`, async () => {
    const networks = backend.type === 'ipip' ? {} : dualStack;
    const peers = [2, 3].map((n) => peer(n, { backendType: backend.type, backendData: {} }));
    const state = desired({ ...networks, backend, leaseData: {}, peers });
    const apply = (wanted: DesiredState): { steps: string[]; errors: string[] } =>
      inside(() => {
        const kernel = new Kernel(sys);
        const before = kernel.readHost();
        const { operations, problems } = plan(wanted, kernel.readActual(before, new Set(devices)));
        assert.equal(problems, []);
        const outcomes = kernel.apply(operations, before);
        kernel.close();
        const errors = outcomes.flatMap(({ error }) => (error ? [error.message] : []));
        return { steps: operations.map(formatOperation), errors: [...new Set(errors)] };
      });
    const { errors } = apply(state);
    if (errors.length > 0) {
      assert.equal(
        errors.map((message) => /the kernel has no module "(\w+)"; install it$/.exec(message)?.[1]),
        modules,
      );
      return;
    }
    assert.equal(apply(state), { steps: [], errors: [] });
    const { name } = host();
    const show = (): string[] => describeHost(name).filter((line) => !line.includes('"index"'));
    const before = show();
    const [device] = devices;
    const kind = backend.type;
    for (const harm of [
      'ip route del 10.1.2.0/24',
      'ip route replace 10.1.2.0/24 via 192.0.2.254',
      `ip link set ${device} mtu 1300`,
      `ip link set ${device} down`,
      `ip addr flush dev ${device}`,
      `ip link del ${device}; ip link add ${device} type ${kind} local 192.0.2.1 remote 192.0.2.99`,
      `ip link del ${device}; ip link add ${device} type ${kind} local 192.0.2.1 ttl 3`,
      `ip link del ${device}; ip link add ${device} type ${kind} local 192.0.2.99`,
      `ip link del ${device}`,
      ...(devices.length === 1
        ? []
        : [
            'ip neigh del 10.1.2.0 dev weft-gre',
            'ip neigh replace 10.1.2.0 lladdr 192.0.2.99 dev weft-gre',
            'ip -6 route del fd00:0:0:2::/64',
            'ip -6 route replace fd00:0:0:2::/64 encap ip6 id 9 dst 2001:db8::99 dev weft-gre6',
            'ip -6 route replace fd00:0:0:2::/64 dev weft-gre6',
            'ip link del weft-gre6',
          ]),
    ]) {
      run(['sh', '-c', harm], { namespace: name });
      const { steps, errors: failed } = apply(state);
      assert.equal(failed, [], harm);
      assert.ok(steps.length > 0, `${harm} is seen`);
      assert.equal(apply(state).steps, [], harm);
      // The kernel makes an IPv6 address's local route a moment after the address.
      await waitFor('the kernel', () => difference(before, show()).length === 0).catch(() => undefined);
      assert.equal(difference(before, show()), [], harm);
    }
    const gone = nothingDesired([prefix('10.1.0.0/16'), prefix('fd00::/48')], devices, []);
    assert.equal(apply(gone).errors, []);
  });
}

const squat = (name: string, asRoot = false) => startSquatter(host().scratch, host().name, name, asRoot);

const told: string[] = [];
const openLocks = (): DeviceLocks => new DeviceLocks(sys, (message) => told.push(message));
const take = (locks: DeviceLocks, device: string): void => inside(() => locks.take(device, 'give another name'));
const isBusy = (text: string) => (error: Error) => error instanceof DeviceBusyError && error.message.includes(text);

test('only one weftd keeps a device, and the other is told which', () => {
  const [one, two] = [openLocks(), openLocks()];
  take(one, 'flannel.1');
  take(one, 'flannel.1');
  take(two, 'flannel.2');
  assert.throws(() => take(two, 'flannel.1'), isBusy(`(process ${process.pid})`));
  one.close();
  take(two, 'flannel.1');
  two.close();
  // In another namespace the same name is another device's.
  const elsewhere = openLocks();
  take(two, 'flannel.1');
  elsewhere.take(`flannel.${process.pid}`, 'give another name');
  elsewhere.close();
  two.close();
  assert.equal(told, []);
});

test('a program without rights that has the name of a lock is named, and neither stops a weftd nor hides one', async () => {
  const squatter = await squat('@weftd/flannel.3');
  const [one, two] = [openLocks(), openLocks()];
  take(one, 'flannel.3');
  assert.is(told.length, 1);
  assert.match(
    told.pop()!,
    /^process \d+ \(".+"\) of user 65534 has the name of weftd's lock for "flannel\.3"; weftd uses another name$/,
  );
  assert.throws(() => take(two, 'flannel.3'), isBusy(`(process ${process.pid})`));
  // The name is free again, and the first weftd still counts.
  await squatter.stop('SIGKILL');
  assert.throws(() => take(two, 'flannel.3'), isBusy(`(process ${process.pid})`));
  one.close();
  take(two, 'flannel.3');
  two.close();
});

test('a name that only ends like a lock, or begins like one without rights, means nothing', async () => {
  for (const name of ['@x @weftd/flannel.3', '@weftd/flannel.3/77', '@weftd/flannel.33']) {
    const squatter = await squat(name);
    const [one, two] = [openLocks(), openLocks()];
    take(one, 'flannel.3');
    assert.throws(() => take(two, 'flannel.3'), isBusy(`(process ${process.pid})`), name);
    one.close();
    await squatter.stop('SIGKILL');
  }
  // One of root with another ending is a weftd that found the name taken.
  const other = await squat('@weftd/flannel.3/77', true);
  assert.throws(() => take(openLocks(), 'flannel.3'), isBusy('Another weftd (process '));
  await other.stop('SIGKILL');
  told.length = 0;
});

test('the lock works where the unit of weftd leaves it few rights', async () => {
  const squatter = await squat('@weftd/flannel.3');
  const few = ['setpriv', '--bounding-set=-all,+net_admin', '--inh-caps=-all', '--'];
  const module = new URL('../../daemon/host/device-lock.ts', import.meta.url);
  const adapter = new URL('../../linux/sys-bun.ts', import.meta.url);
  const script = `const { DeviceLocks } = await import('${module.pathname}');
    const { sys } = await import('${adapter.pathname}');
    new DeviceLocks(sys, (message) => console.log(message)).take('flannel.3', 'stop');
    console.log('taken');
    process.exit(0);`;
  const said = run([...few, process.execPath, '-e', script], { namespace: host().name });
  // Other users' processes are none of its business.
  assert.match(said, /^a process of user 65534 has the name .*\ntaken$/m);
  await squatter.stop('SIGKILL');
});

test('a tunnel device whose UDP port another device has says which one', () => {
  const { name } = host();
  const errorsOf = (state: DesiredState): string[] =>
    inside(() => {
      const kernel = new Kernel(sys);
      const now = kernel.readHost();
      const { operations } = plan(state, kernel.readActual(now, names));
      const outcomes = kernel.apply(operations, now);
      kernel.close();
      return outcomes.flatMap(({ error }) => (error ? [error.message] : []));
    });
  const state = desired();
  // flannel-v6.1 stays, and has the port by IPv6.
  reconcile(desired(dualStack));
  run(['ip', '-n', name, 'link', 'del', 'flannel.1']);
  // Two devices share a port, unless their packets have another form.
  const other = ['link', 'add', 'other', 'type', 'vxlan', 'id', '77', 'local', '192.0.2.1', 'dstport', '8472', 'gbp'];
  run(['ip', '-n', name, ...other]);
  run(['ip', '-n', name, 'link', 'set', 'other', 'up']);
  const [error] = errorsOf(state);
  assert.is(
    error,
    'Cannot add VXLAN device "flannel.1": the device "other" has the UDP port 8472; stop it, or give the network config another Backend.Port',
  );
  run(['ip', '-n', name, 'link', 'del', 'other']);
  assert.equal(errorsOf(state), []);
});

test('a device with a wrong attribute is made anew, a former device is removed, and entries follow', () => {
  const { name } = host();
  reconcile(desired());
  for (const backend of [{ ...vxlan, port: 4789 }, { ...vxlan, learning: true }, vxlan]) {
    const state = desired({ backend });
    assert.equal(reconcile(state).slice(0, 2), ['remove device "flannel.1"', 'add VXLAN device "flannel.1"']);
    assert.equal(reconcile(state), []);
  }
  const other = desired({ backend: { ...vxlan, vni: 2 }, formerDevices: ['flannel.1'] });
  reconcile(other);
  assert.equal(reconcile(other), []);
  assert.not(run(['ip', '-n', name, '-br', 'link']).includes('flannel.1'));
  reconcile(nothingDesired([], ['flannel.2'], []));
});

test("flannel's device, routes and entries are taken over without a change", () => {
  const { name } = host();
  const batch = [
    'link add flannel.1 address 02:00:00:00:00:01 mtu 1450 type vxlan id 1 dev eth0 local 192.0.2.1 dstport 8472 nolearning',
    'addr add 10.1.1.0/32 dev flannel.1',
    'link set flannel.1 up',
    'neigh add 10.1.2.0 lladdr 02:00:00:00:00:02 dev flannel.1 nud permanent',
    'route add 10.1.2.0/24 via 10.1.2.0 dev flannel.1 onlink',
  ];
  run(['ip', '-n', name, '-batch', '-'], { stdin: batch.join('\n') });
  run(['bridge', '-n', name, 'fdb', 'add', '02:00:00:00:00:02', 'dev', 'flannel.1', 'dst', '192.0.2.2']);
  assert.equal(reconcile(desired({ peers: [peer(2)] })), []);
});

test("direct routes replace the tunnel's and go again, and routes of others stay", () => {
  const { name } = host();
  const others = (): string[] =>
    readRoutes(name).flatMap(({ device, gateway, destination }) =>
      device === 'eth0' && gateway === '192.0.2.254' ? [destination] : [],
    );
  const before = others();
  const direct = desired({ backend: { ...vxlan, directRouting: true } });
  reconcile(direct);
  assert.equal(reconcile(direct), []);
  assert.equal(
    readRoutes(name).flatMap(({ destination, gateway, device }) =>
      device === 'eth0' && gateway !== '192.0.2.254' && gateway ? [`${destination} ${gateway}`] : [],
    ),
    ['10.1.2.0/24 192.0.2.2', '10.1.3.0/24 192.0.2.3'],
  );
  reconcile(desired());
  assert.equal(reconcile(desired()), []);
  reconcile(nothingDesired([prefix('10.1.0.0/16')], [...names], [address('192.0.2.2')]));
  assert.equal(others(), before);
  assert.not(run(['ip', '-n', name, '-br', 'link']).includes('flannel'));
});

test('a step that the kernel refuses does not stop the other steps', () => {
  const state = desired({ peers: [peer(2), peer(3, { backendData: { 4: { vni: 1, vtepMac: mac(0) } } })] });
  const outcomes = inside(() => {
    const kernel = new Kernel(sys);
    try {
      const before = kernel.readHost();
      // An all-zero MAC is the default entry, which the kernel does not replace by a request of this kind.
      const broken: DesiredState = {
        ...state,
        routes: state.routes.map((route) => ({ ...route, onlink: route.destination.address.bytes[2] === 2 })),
      };
      return kernel.apply(plan(broken, kernel.readActual(before, names)).operations, before);
    } finally {
      kernel.close();
    }
  });
  const failed = outcomes.filter(({ error }) => error).map(({ error }) => error!.message);
  assert.is(failed.length, 1, failed.join('\n'));
  assert.match(failed[0]!, /^Cannot set route "10\.1\.3\.0\/24" via "10\.1\.3\.0" on "flannel\.1": ENETUNREACH/);
  assert.ok(readRoutes(host().name).some(({ destination }) => destination === '10.1.2.0/24'));
});

const rulesOptions = (name: string): RulesOptions => ({
  name,
  now: () => 0,
  roads: () => ({ peers: [], external: 'eth0', containers: [] }),
  addresses: () => [],
});

test('rules are set once, left alone if right, set again if wrong, and removed', () => {
  const settings: RuleSettings = {
    networks: dualStack.networks,
    subnets: [{ 4: prefix('10.1.1.0/24'), 6: prefix('fd00:0:0:1::/64') }],
    ipMasq: true,
    randomPorts: true,
    forward: true,
    lock: undefined,
  };
  const silent = { debug() {}, info() {}, warn() {}, error() {} };
  inside(() => {
    const rules = openRules(sys, silent, rulesOptions('weft'));
    assert.is(rules.ensure(settings).changes, 1);
    assert.is(rules.ensure(settings).changes, 0);
    const nft = openNft(sys);
    const desiredRules = desiredTable(settings);
    assert.is(tableDifference(desiredRules, nft.readTable(desiredRules)!), undefined);
    removeTable(nft, desiredRules);
    assert.is(rules.ensure(settings).changes, 1);
    assert.is(rules.ensure({ ...settings, ipMasq: false }).changes, 1);
    assert.is(rules.ensure({ ...settings, ipMasq: false }).changes, 0);
    rules.remove();
    rules.remove();
    assert.is(nft.readTable(desiredRules), undefined);
    // A second network on the host: each weftd minds its own table.
    const other = openRules(sys, silent, rulesOptions(tableName('/blue/network')));
    assert.is(rules.ensure(settings).changes, 1);
    assert.is(other.ensure({ ...settings, ipMasq: false }).changes, 1);
    assert.is(rules.ensure(settings).changes, 0);
    assert.is(other.ensure({ ...settings, ipMasq: false }).changes, 0);
    rules.remove();
    assert.match(run(['nft', 'list', 'tables'], { namespace: host().name }), /^table inet weft\/blue\/network\s*$/);
    other.remove();
    for (const one of [rules, other, nft]) one.close();
  });
});

test('a route that has vanished counts as removed; a device that has vanished is one problem', () => {
  const state = desired({ peers: [peer(2)] });
  reconcile(state);
  const errors = inside(() => {
    const kernel = new Kernel(sys);
    try {
      const before = kernel.readHost();
      const { operations } = plan({ ...state, routes: [] }, kernel.readActual(before, names));
      run(['ip', 'route', 'del', '10.1.2.0/24'], { namespace: host().name });
      const removed = kernel.apply(operations, before);
      const withoutDevice = { ...before, links: before.links.filter(({ name }) => name !== 'flannel.1') };
      const set = kernel.apply(plan(state, kernel.readActual(kernel.readHost(), names)).operations, withoutDevice);
      return [...removed, ...set].flatMap(({ error }) => error?.message ?? []);
    } finally {
      kernel.close();
    }
  });
  assert.equal([...new Set(errors)], ['Cannot set entries of "flannel.1": the device is gone']);
  reconcile(nothingDesired([prefix('10.1.0.0/16')], [...names], []));
});

test('a device with a greater MTU than the interface takes is settled after one run', () => {
  const state = desired({ backend: { ...vxlan, mtuBytes: 9000 } });
  reconcile(state);
  assert.equal(reconcile(state), []);
  reconcile(nothingDesired([prefix('10.1.0.0/16')], [...names], []));
});

test.run();
