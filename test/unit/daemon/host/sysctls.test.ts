import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { planSysctls, type SysctlNeeds } from '../../../../daemon/host/sysctls.ts';

const test = suite('daemon/host/sysctls');

/** What is planned, as `net.ipv4.ip_forward=1`; the settings are as told, and absent otherwise. */
function planned(needs: Partial<SysctlNeeds>, settings: Record<string, string> = {}): string[] {
  return planSysctls({
    families: [4],
    tunnels: [{ name: 'flannel.1', family: 4 }],
    external: 'eth0',
    advertised: [],
    forwardsExternal: false,
    read: (path) => settings[path.join('/')],
    ...needs,
  }).map(({ path, value }) => `${path.join('/')}=${value}`);
}

test('each family has its own', () => {
  assert.equal(planned({}), [
    'net/ipv6/conf/flannel.1/accept_ra=0',
    'net/ipv4/conf/flannel.1/forwarding=1',
    'net/ipv4/ip_forward=1',
  ]);
  assert.equal(planned({ families: [6], tunnels: [{ name: 'flannel-v6.1', family: 6 }] }), [
    'net/ipv6/conf/flannel-v6.1/accept_ra=0',
    'net/ipv6/conf/flannel-v6.1/disable_ipv6=0',
    'net/ipv6/conf/all/forwarding=1',
  ]);
});

test('the outer interface forwards where packets come in by it as they are', () => {
  assert.equal(planned({ tunnels: [], forwardsExternal: true }), [
    'net/ipv4/ip_forward=1',
    'net/ipv4/conf/eth0/forwarding=1',
  ]);
});

test('a strict filter of the return path, which would drop what comes by the tunnel, is made loose; others stay', () => {
  const filter = (all: string, own: string): string | undefined =>
    planned({}, { 'net/ipv4/conf/all/rp_filter': all, 'net/ipv4/conf/flannel.1/rp_filter': own }).find((setting) =>
      setting.includes('rp_filter'),
    );
  const loose = 'net/ipv4/conf/flannel.1/rp_filter=2';
  assert.equal([filter('1', '0'), filter('0', '1'), filter('1', '1')], [loose, loose, loose]);
  for (const [all, own] of ['00', '02', '20', '12', '21']) assert.is(filter(all!, own!), undefined, `${all} ${own}`);
});

test('a host that listens to routers goes on listening when it forwards', () => {
  const listening = { 'net/ipv6/conf/eth0/accept_ra': '1' };
  assert.ok(planned({ families: [6], tunnels: [] }, listening).includes('net/ipv6/conf/eth0/accept_ra=2'));
  assert.not(planned({ families: [6], tunnels: [] }).some((setting) => setting.includes('eth0')));
  const both = { ...listening, 'net/ipv6/conf/wlan0/accept_ra': '1', 'net/ipv6/conf/usb0/accept_ra': '0' };
  const settings = planned({ families: [6], tunnels: [], advertised: ['eth0', 'wlan0', 'usb0'] }, both);
  assert.equal(settings, [
    'net/ipv6/conf/eth0/accept_ra=2',
    'net/ipv6/conf/wlan0/accept_ra=2',
    'net/ipv6/conf/all/forwarding=1',
  ]);
});

test.run();
