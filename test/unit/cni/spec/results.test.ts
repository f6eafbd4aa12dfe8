import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { CniError } from '../../../../cni/spec/errors.ts';
import { checkExpressible, formatResult, parseResult, type Result, ResultError } from '../../../../cni/spec/results.ts';
import { type CniVersion, supportedVersions } from '../../../../cni/spec/versions.ts';
import { parseAddress } from '../../../../net/address.ts';
import { parsePrefix } from '../../../../net/prefix.ts';

const test = suite('cni/spec/results');

const prefix = (text: string) => parsePrefix(text)!;
const address = (text: string) => parseAddress(text)!;

const result: Result = {
  interfaces: [
    { name: 'cni0', mac: '02:00:00:00:00:01' },
    { name: 'eth0', mac: '02:00:00:00:00:02', sandbox: '/run/netns/x', mtu: 1450 },
  ],
  ips: [
    { address: prefix('10.1.2.3/24'), gateway: address('10.1.2.1'), interface: 1 },
    { address: prefix('fd00::3/64'), gateway: address('fd00::1'), interface: 1 },
  ],
  routes: [{ dst: prefix('0.0.0.0/0'), gw: address('10.1.2.1'), mtu: 1400, priority: 5 }, { dst: prefix('fd01::/64') }],
  dns: { nameservers: ['10.0.0.10'], search: ['x.y'] },
};
const format = (version: CniVersion, value = result) => JSON.parse(formatResult(value, version));

test('results are written as 0.1.0 and 0.2.0 have them', () => {
  for (const version of ['0.1.0', '0.2.0'] as const) {
    assert.equal(format(version), {
      cniVersion: version,
      ip4: { ip: '10.1.2.3/24', gateway: '10.1.2.1', routes: [{ dst: '0.0.0.0/0', gw: '10.1.2.1' }] },
      ip6: { ip: 'fd00::3/64', gateway: 'fd00::1', routes: [{ dst: 'fd01::/64' }] },
      dns: { nameservers: ['10.0.0.10'], search: ['x.y'] },
    });
  }
});

test('results are written as 0.3.0 to 0.4.0 have them', () => {
  for (const version of ['0.3.0', '0.3.1', '0.4.0'] as const) {
    const { interfaces, ips, dns } = format(version);
    assert.equal(interfaces[1], { name: 'eth0', mac: '02:00:00:00:00:02', sandbox: '/run/netns/x' });
    assert.equal(ips[0], { version: '4', interface: 1, address: '10.1.2.3/24', gateway: '10.1.2.1' });
    assert.is(ips[1].version, '6');
    assert.equal(dns, { nameservers: ['10.0.0.10'], search: ['x.y'] });
    assert.equal(format(version, { ...result, dns: {} }).dns, {});
  }
});

test('results are written as 1.0.0 and 1.1.0 have them', () => {
  for (const version of ['1.0.0', '1.1.0'] as const) {
    const { interfaces, ips, routes } = format(version);
    assert.is(interfaces[1].mtu, 1450);
    assert.equal(ips[0], { interface: 1, address: '10.1.2.3/24', gateway: '10.1.2.1' });
    assert.equal(routes[0], { dst: '0.0.0.0/0', gw: '10.1.2.1', mtu: 1400, priority: 5 });
    assert.not('dns' in format(version, { ...result, dns: {} }));
  }
});

test('an IPAM result has no interfaces', () => {
  const ips = result.ips.map(({ address: ip }) => ({ address: ip }));
  const document = format('1.1.0', { ...result, interfaces: [], ips });
  assert.not('interfaces' in document);
  assert.equal(document.ips, [{ address: '10.1.2.3/24' }, { address: 'fd00::3/64' }]);
});

test('colons follow their keys without a space', () => assert.match(formatResult(result, '1.1.0'), /"ips":\[/));

test('a result that the version cannot express is refused before any work', () => {
  const refused = (count: number, version: CniVersion) => {
    const ips = Array.from({ length: count }, () => ({ address: prefix('10.0.0.2/24') }));
    try {
      checkExpressible(ips, version);
      return false;
    } catch (error) {
      assert.is((error as CniError).code, 7);
      return true;
    }
  };
  assert.ok(refused(0, '0.2.0'));
  assert.ok(refused(2, '0.1.0'));
  assert.not(refused(1, '0.2.0'));
  assert.not(refused(0, '0.3.0'));
  assert.not(refused(2, '0.3.0'));
  checkExpressible(result.ips, '0.2.0');
});

test('every version reads what it writes', () => {
  for (const version of supportedVersions) {
    const text = formatResult(result, version);
    assert.is(formatResult(parseResult(JSON.parse(text), version), version), text, version);
  }
});

test('a result without a version has the version in use, and one of an incompatible version is refused', () => {
  assert.is(parseResult({ ips: [{ address: '10.0.0.2/24' }] }, '0.4.0').ips.length, 1);
  assert.is(parseResult({ cniVersion: '0.3.0', ips: [] }, '0.4.0').ips.length, 0);
  const refused = (own: string, version: CniVersion) =>
    assert.throws(
      () => parseResult({ cniVersion: own }, version),
      (error: unknown) => error instanceof ResultError,
    );
  refused('0.2.0', '0.4.0');
  refused('0.4.0', '1.0.0');
  refused('1.1.0', '0.4.0');
  refused('9.9.9', '1.1.0');
});

test('null counts as absent', () => {
  const { interfaces, ips, routes, dns } = parseResult(
    { interfaces: null, ips: null, routes: null, dns: null },
    '1.1.0',
  );
  assert.equal({ interfaces, ips, routes, dns }, { interfaces: [], ips: [], routes: [], dns: {} });
});

test('the error names the part of a result that cannot be read', () => {
  for (const [value, message] of [
    [null, /it is not an object/],
    [{ ips: {} }, /^ips is not a list/],
    [{ ips: [{ address: '10.0.0.2' }] }, /^ips\[0\]\.address is "10\.0\.0\.2", not an address with a prefix length/],
    [{ ips: [{ address: '10.0.0.2/24', gateway: 'x' }] }, /^ips\[0\]\.gateway/],
    [{ interfaces: [{}] }, /^interfaces\[0\] has no name/],
    [{ routes: [{ dst: '0.0.0.0/0', mtu: 'x' }] }, /^routes\[0\]\.mtu is not a whole number/],
    [{ dns: { search: [1] } }, /^dns\.search holds 1/],
  ] as const) {
    assert.throws(() => parseResult(value, '1.1.0'), message);
  }
});

test.run();
