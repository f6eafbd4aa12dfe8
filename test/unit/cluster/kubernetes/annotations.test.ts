import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  annotationKeys,
  formatAnnotations,
  missingAnnotations,
  parseAnnotations,
  parseNodeAddresses,
} from '../../../../cluster/kubernetes/annotations.ts';
import { reduceMeta } from '../../../../cluster/kubernetes/node-object.ts';
import { LeaseFormatError, type LeaseValue, sameLeaseValue } from '../../../../cluster/lease.ts';
import { backends } from '../../../../daemon/backends/map.ts';
import { parseAddress } from '../../../../net/address.ts';
import { parseMac } from '../../../../net/mac.ts';

const test = suite('cluster/kubernetes/annotations');
const keys = annotationKeys('flannel.alpha.coreos.com/');

const [v4, v6] = [parseAddress('192.168.190.1')!, parseAddress('fd19:190::1')!];
const data = (mac: string) => ({ vni: 1, vtepMac: parseMac(mac)! });
const value = (backendType: string, more: Partial<LeaseValue>): LeaseValue & { node: string } => ({
  backendType,
  publicAddresses: { 4: v4 },
  backendData: {},
  node: 'node1',
  version: '1.2.3',
  ...more,
});

const nodeOf = (annotations: Readonly<Record<string, string | null>>) => {
  const prefixed = Object.entries(annotations).map(([name, text]) => [keys.prefix + name, text]);
  const metadata = { name: 'node1', uid: 'u1', resourceVersion: '7', annotations: Object.fromEntries(prefixed) };
  return reduceMeta({ metadata }, keys)!;
};

// From a real flanneld 0.28.10 (the table "Annotations" of its contract).
const cases: readonly [name: string, value: LeaseValue & { node: string }, written: Record<string, string | null>][] = [
  [
    'vxlan, both families',
    value('vxlan', {
      publicAddresses: { 4: v4, 6: v6 },
      backendData: { 4: data('66:fd:7f:86:7e:a7'), 6: data('aa:01:c6:8c:8f:3d') },
    }),
    {
      'backend-data': '{"VNI":1,"VtepMAC":"66:fd:7f:86:7e:a7"}',
      'public-ip': '192.168.190.1',
      'backend-v6-data': '{"VNI":1,"VtepMAC":"aa:01:c6:8c:8f:3d"}',
      'public-ipv6': 'fd19:190::1',
    },
  ],
  [
    'vxlan, IPv6 alone',
    value('vxlan', { publicAddresses: { 6: v6 }, backendData: { 6: data('aa:01:c6:8c:8f:3d') } }),
    {
      'backend-data': null,
      'public-ip': null,
      'backend-v6-data': '{"VNI":1,"VtepMAC":"aa:01:c6:8c:8f:3d"}',
      'public-ipv6': 'fd19:190::1',
    },
  ],
  [
    'host-gw',
    value('host-gw', {}),
    { 'backend-data': 'null', 'public-ip': '192.168.190.1', 'backend-v6-data': null, 'public-ipv6': null },
  ],
  [
    'host-gw, IPv6 alone',
    value('host-gw', { publicAddresses: { 6: v6 } }),
    { 'backend-data': 'null', 'public-ip': '0.0.0.0', 'backend-v6-data': 'null', 'public-ipv6': 'fd19:190::1' },
  ],
  [
    'ipip',
    value('ipip', {}),
    { 'backend-data': 'null', 'public-ip': '192.168.190.1', 'backend-v6-data': null, 'public-ipv6': null },
  ],
];

for (const [name, said, written] of cases) {
  test(`${name}: flannel's annotations byte for byte, and read again as the same`, () => {
    const all = formatAnnotations(said, backends);
    assert.equal(all, {
      ...written,
      'kube-subnet-manager': 'true',
      'backend-type': said.backendType,
      weft: '{"version":"1.2.3"}',
    });
    const node = nodeOf(all);
    assert.ok(sameLeaseValue(parseAnnotations(node, backends), said));
    assert.equal(missingAnnotations(all, node), {}, 'nothing is written again');
  });
}

test('only what differs is written, and what another backend has left goes', () => {
  const node = nodeOf({ ...formatAnnotations(value('host-gw', {}), backends), 'public-ipv6': 'fd00::9', weft: 'x' });
  assert.equal(missingAnnotations(formatAnnotations(value('host-gw', {}), backends), node), {
    'public-ipv6': null,
    weft: '{"version":"1.2.3"}',
  });
});

test('a malformed annotation is told by its name, in few words', () => {
  const wrong: readonly [annotations: Record<string, string>, told: RegExp][] = [
    [{ 'public-ip': 'x'.repeat(8000) }, /^"public-ip" is "x{199}… \(8002 characters\), which is no IPv4 address$/],
    [{ 'public-ip': 'fd00::1' }, /which is no IPv4 address/],
    [{ 'public-ipv6': '10.0.0.1' }, /which is no IPv6 address/],
    [{ 'backend-data': '['.repeat(8000) }, /^"backend-data" is "\[{199}… \(8002 characters\), which is not JSON$/],
    [{ 'backend-data': '{"VtepMAC":"no"}' }, /"backend-data\.VtepMAC" is "no"/],
    [{ 'backend-data': '[]' }, /not an object/],
    [{ 'backend-v6-data': '7' }, /"backend-v6-data" is 7, not an object/],
    [{ 'backend-type': 'y'.repeat(200_000) }, /^"backend-type" has more than 8192 characters/],
    [{ weft: '{}' }, /"weft" is "\{\}", which has no version/],
    [{ weft: 'null' }, /which has no version/],
  ];
  for (const [annotations, told] of wrong) {
    const node = nodeOf({ 'backend-type': 'vxlan', ...annotations });
    assert.throws(
      () => parseAnnotations(node, backends),
      (error: Error) => error instanceof LeaseFormatError && told.test(error.message) && error.message.length < 400,
      JSON.stringify(annotations).slice(0, 80),
    );
  }
});

test("people's addresses are read, and wrong ones told", () => {
  const node = nodeOf({ 'public-ip-overwrite': '10.0.0.1', 'node-public-ipv6': 'fd00::1', 'node-public-ip': 'x' });
  assert.equal(parseNodeAddresses(node, keys.prefix), {
    overwrites: { 4: parseAddress('10.0.0.1') },
    interfaces: { 6: parseAddress('fd00::1') },
    problems: ['"flannel.alpha.coreos.com/node-public-ip" is "x", which is no IPv4 address; it is not used'],
  });
});

test.run();
