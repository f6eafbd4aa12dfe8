import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type PlanInput, planAttachment } from '../../../cni/plan.ts';
import { readSettings } from '../../../cni/settings.ts';
import type { JsonObject } from '../../../cni/spec/request.ts';
import { parseRoute, type ResultIp } from '../../../cni/spec/results.ts';
import { formatAddress, parseAddress } from '../../../net/address.ts';
import { parseMac } from '../../../net/mac.ts';
import { formatPrefix, parsePrefix } from '../../../net/prefix.ts';

const test = suite('cni/plan');

const mac = (text: string) => parseMac(text)!;
const ip = (address: string, gateway?: string): ResultIp => ({
  address: parsePrefix(address)!,
  ...(gateway ? { gateway: parseAddress(gateway)! } : {}),
});

const plan = (configuration: JsonObject, ips: ResultIp[], routes: unknown[] = [], changes: Partial<PlanInput> = {}) =>
  planAttachment({
    attachment: { network: 'net', containerId: 'abc', ifname: 'eth0' },
    netns: '/run/netns/x',
    settings: readSettings(configuration),
    nodeMtuBytes: undefined,
    ipam: { ips, routes: routes.map((route) => parseRoute(route, 'route')), dns: { nameservers: ['1.1.1.1'] } },
    knownGateways: [],
    hostMac: mac('02:00:00:00:00:01'),
    containerMac: mac('02:00:00:00:00:02'),
    ...changes,
  });

const overlay = { ipam: { type: 'weft-ipam' } };
const both = [ip('10.5.2.9/24', '10.5.2.1'), ip('fd00:5::9/64', 'fd00:5::1')];

const routesOf = ({ container }: ReturnType<typeof planAttachment>) =>
  container.routes.map(({ destination, gateway, ...rest }) => [
    formatPrefix(destination),
    gateway && formatAddress(gateway),
    rest,
  ]);
const sysctls = (list: readonly { path: readonly string[]; value: string }[]) =>
  list.map(({ path, value }) => `${path.slice(1).join('/')}=${value}`);

test('the overlay is planned for both families', () => {
  const { bridge, host, container, bridgeSysctls, hostSysctls, containerSysctls } = plan(overlay, both, [], {
    nodeMtuBytes: 1450,
  });
  assert.equal(bridge.gateways.map(formatPrefix), ['10.5.2.1/24', 'fd00:5::1/64']);
  assert.is(bridge.tolerated, 'any');
  assert.is(bridge.mtuBytes, 1450);
  assert.match(host.name, /^veth[0-9a-f]{11}$/);
  assert.is(host.alias, 'weft net abc eth0');
  assert.equal([host.hairpin, host.isolated, host.mtuBytes], [true, false, 1450]);
  assert.equal(
    container.addresses.map(({ prefix, broadcast, noDad }) => [
      formatPrefix(prefix),
      broadcast && formatAddress(broadcast),
      noDad,
    ]),
    [
      ['10.5.2.9/24', '10.5.2.255', undefined],
      ['fd00:5::9/64', undefined, true],
    ],
  );
  assert.equal(routesOf(plan(overlay, both)), [
    ['0.0.0.0/0', '10.5.2.1', {}],
    ['::/0', 'fd00:5::1', {}],
  ]);
  assert.equal(sysctls(bridgeSysctls), [
    'ipv6/conf/cni0/accept_ra=0',
    'ipv4/ip_forward=1',
    'ipv6/conf/all/forwarding=1',
    'ipv6/conf/cni0/disable_ipv6=0',
  ]);
  assert.equal(sysctls(hostSysctls), [`ipv6/conf/${host.name}/accept_ra=0`]);
  assert.equal(sysctls(containerSysctls), [
    'ipv4/conf/eth0/arp_notify=1',
    'ipv6/conf/eth0/disable_ipv6=0',
    'ipv6/conf/eth0/ndisc_notify=1',
    'ipv6/conf/eth0/keep_addr_on_down=1',
    'ipv6/conf/eth0/accept_ra=0',
    'ipv6/conf/eth0/accept_dad=0',
  ]);
});

test('the result lists bridge, host end and container end, with the addresses on the third', () => {
  const { result, host } = plan({ ...overlay, mtu: 1400 }, both);
  const { interfaces, ips, routes, dns } = result(mac('02:00:00:00:00:03'));
  assert.equal(interfaces, [
    { name: 'cni0', mac: '02:00:00:00:00:03' },
    { name: host.name, mac: '02:00:00:00:00:01', mtu: 1400 },
    { name: 'eth0', mac: '02:00:00:00:00:02', mtu: 1400, sandbox: '/run/netns/x' },
  ]);
  assert.equal(
    ips.map((entry) => entry.interface),
    [2, 2],
  );
  assert.is(routes.length, 2);
  assert.equal(dns, { nameservers: ['1.1.1.1'] });
  assert.equal(plan({ ...overlay, dns: { domain: 'x' } }, both).result(undefined).dns, { domain: 'x' });
});

test('only isGateway puts addresses on the bridge, only isDefaultGateway makes default routes', () => {
  const ranged = { ipam: { type: 'weft-ipam', subnet: '10.5.2.0/24' } };
  const known = [parsePrefix('10.5.9.1/24')!];
  const plain = plan(ranged, both, [], { knownGateways: known });
  assert.equal([plain.bridge.gateways, plain.container.routes], [[], []]);
  assert.equal(plain.bridge.tolerated, known);
  const gateway = plan({ ...ranged, isGateway: true }, [ip('10.5.2.9/24')]);
  assert.equal(gateway.bridge.gateways.map(formatPrefix), ['10.5.2.1/24']);
  assert.equal(gateway.container.routes, []);
  assert.equal(plan({ ...ranged, isGateway: true }, [both[0]!, both[0]!]).bridge.gateways.length, 1);
});

test('routes from IPAM get their gateways and extras, and a default route is not doubled', () => {
  const routes = [
    { dst: '0.0.0.0/0' },
    { dst: '10.9.0.0/16', gw: '10.5.2.7', mtu: 1300, advmss: 1200, priority: 7, table: 99 },
    { dst: '10.8.0.0/16', scope: 253 },
  ];
  const planned = plan(overlay, both, routes);
  assert.equal(routesOf(planned), [
    ['0.0.0.0/0', '10.5.2.1', {}],
    ['10.9.0.0/16', '10.5.2.7', { mtuBytes: 1300, advmss: 1200, metric: 7, table: 99 }],
    ['10.8.0.0/16', undefined, { scope: 253 }],
    ['::/0', 'fd00:5::1', {}],
  ]);
  assert.is(planned.result(undefined).routes.length, 4);
});

test('a container without addresses may take them from a router', () => {
  assert.not(sysctls(plan({}, []).containerSysctls).some((setting) => setting.includes('accept_ra')));
});

test('duplicate address detection, isolation and a disabled interface are planned as configured', () => {
  const detecting = plan({ ...overlay, enabledad: true }, both);
  assert.is(detecting.container.addresses[1]!.noDad, false);
  assert.ok(sysctls(detecting.containerSysctls).includes('ipv6/conf/eth0/accept_dad=1'));
  const { host, container } = plan({ portIsolation: true, disableContainerInterface: true }, []);
  assert.equal([host.isolated, host.hairpin, container.up], [true, false, false]);
});

test('a long alias is cut before the kernel refuses it', () => {
  const attachment = { network: 'n'.repeat(200), containerId: 'c'.repeat(100), ifname: 'eth0' };
  assert.is(plan(overlay, both, [], { attachment }).host.alias.length, 254);
});

test('an IPv6 address where the MTU is too small is refused by name', () => {
  assert.throws(() => plan({ mtu: 1279 }, both), /An IPv6 address needs an MTU of 1280 or more, and "mtu" is 1279/);
  assert.throws(() => plan(overlay, both, [], { nodeMtuBytes: 1210 }), /that of this node's containers is 1210/);
  plan({ mtu: 1280 }, both);
  plan({ mtu: 1000 }, both.slice(0, 1));
});

test.run();
