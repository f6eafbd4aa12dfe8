import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  formatLeaseValue,
  LeaseFormatError,
  parseLeaseValue,
  sameLeaseValue,
  samePublicAddress,
} from '../../../cluster/lease.ts';
import { backends } from '../../../daemon/backends/map.ts';
import type { VxlanLeaseData } from '../../../daemon/backends/vxlan.ts';

const test = suite('lease');

/** As flannel v0.28.9 writes them, FLANNEL.md. */
const flannelValues = {
  vxlan:
    '{"PublicIP":"192.168.64.3","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:01:02:03:04:05"}}',
  'host-gw': '{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"host-gw"}',
  'dual stack':
    '{"PublicIP":"192.0.2.1","PublicIPv6":"2001:db8::1","BackendType":"vxlan",' +
    '"BackendData":{"VNI":1,"VtepMAC":"c6:01:02:03:04:05"},"BackendV6Data":{"VNI":1,"VtepMAC":"c6:01:02:03:04:06"}}',
  'IPv6 alone':
    '{"PublicIP":"0.0.0.0","PublicIPv6":"2001:db8::1","BackendType":"vxlan","BackendV6Data":{"VNI":1,"VtepMAC":"c6:01:02:03:04:06"}}',
};

test('flannel’s values survive byte for byte', () => {
  for (const [what, text] of Object.entries(flannelValues)) {
    const { extra, ...value } = parseLeaseValue(text, backends);
    assert.is(formatLeaseValue(value, backends, extra), text, what);
  }
});

test('ours has a Weft object after flannel’s keys, and keeps what it does not know', () => {
  const { extra, ...value } = parseLeaseValue(
    '{"Note":"rack 4","publicip":"192.0.2.1","BACKENDTYPE":"host-gw","BackendData":null,"More":[1,{"a":2}]}',
    backends,
  );
  assert.equal(extra, { Note: 'rack 4', More: [1, { a: 2 }] });
  const text = formatLeaseValue({ ...value, node: 'n1', version: '0.1.0' }, backends, extra);
  assert.is(
    text,
    '{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"host-gw","Weft":{"node":"n1","version":"0.1.0"},' +
      '"Note":"rack 4","More":[1,{"a":2}]}',
  );
  const again = parseLeaseValue(text, backends);
  assert.is(again.node, 'n1');
  assert.is(again.version, '0.1.0');
});

test('a reservation made by hand need not say anything; an old flannel says no VNI', () => {
  assert.equal(parseLeaseValue('{}', backends), { publicAddresses: {}, backendType: '', backendData: {}, extra: {} });
  const old = parseLeaseValue(
    '{"PublicIP":"192.0.2.1","BackendType":"vxlan","BackendData":{"VtepMAC":"c6:01:02:03:04:05"}}',
    backends,
  );
  assert.is((old.backendData[4] as VxlanLeaseData).vni, 0);
});

test('malformed values say why', () => {
  for (const [text, message] of [
    ['x', 'its value is not JSON'],
    ['null', 'its value is not a JSON object'],
    ['[]', 'its value is not a JSON object'],
    ['{"PublicIP":"::1"}', '"PublicIP" is "::1", which is no IPv4 address'],
    ['{"PublicIPv6":"10.0.0.1"}', '"PublicIPv6" is "10.0.0.1", which is no IPv6 address'],
    ['{"BackendType":4}', '"BackendType" is 4, not a string'],
    ['{"BackendType":"vxlan","BackendData":"x"}', '"BackendData" is "x", not an object'],
    ['{"BackendType":"vxlan","BackendData":{}}', '"BackendData.VtepMAC" is undefined, which is no MAC address'],
    [
      '{"BackendType":"vxlan","BackendV6Data":{"VtepMAC":"c6:01:02:03:04:05","VNI":"1"}}',
      '"BackendV6Data.VNI" is "1", not a number',
    ],
  ] as const) {
    assert.throws(
      () => parseLeaseValue(text, backends),
      (error: unknown) => error instanceof LeaseFormatError && error.message === message,
      text,
    );
  }
});

test('a value of any size and depth is refused, or read in part, and never shown whole', () => {
  const deep = '['.repeat(4000) + ']'.repeat(4000);
  const cases: [string, RegExp][] = [
    [`{"PublicIP":${'['.repeat(400_000)}`, /^its value has 400012 bytes; at most 8192 are read$/],
    [`{"PublicIP":${'['.repeat(4000)}`, /^its value is not JSON$/],
    [`{"PublicIP":${deep}}`, /^"PublicIP" is \[+… \(8000 characters\), which is no IPv4 address$/],
    [`{"PublicIP":"${'é'.repeat(4090)}"}`, /^its value has 8195 bytes/],
    [`{"BackendType":[${deep.slice(1, -1)}]}`, /^"BackendType" is \[+… /],
    [`{"BackendType":"vxlan","BackendData":[${deep.slice(2000, -2000)}]}`, /^"BackendData" is \[+… .*, not an object$/],
    [`{"BackendType":"${'x'.repeat(300)}"}`, /^"BackendType" has 300 characters; at most 253 are read$/],
    [`{"Weft":{"node":"${'x'.repeat(300)}"}}`, /^"Weft\.node" has 300 characters/],
  ];
  for (const [text, expected] of cases) {
    assert.throws(
      () => parseLeaseValue(text, backends),
      (error: unknown) =>
        error instanceof LeaseFormatError && expected.test(error.message) && error.message.length < 300,
      `${text.slice(0, 40)} ${expected}`,
    );
  }
  // Its owner can write it again, in a length that everybody reads.
  const padded = parseLeaseValue(`{"PublicIP":"192.0.2.1","Note":"${'x'.repeat(7000)}"}`, backends);
  assert.equal(padded.extra, {});
  assert.equal(parseLeaseValue(`{"Note":"${'x'.repeat(1000)}"}`, backends).extra, { Note: 'x'.repeat(1000) });
});

test('comparison is of the whole value (flannel’s defect 4)', () => {
  const a = parseLeaseValue(flannelValues['dual stack'], backends);
  assert.ok(sameLeaseValue(a, parseLeaseValue(flannelValues['dual stack'], backends)));
  for (const [from, to] of [
    ['192.0.2.1', '192.0.2.2'],
    ['2001:db8::1', '2001:db8::2'],
    ['03:04:06', '03:04:07'],
    ['"VNI":1', '"VNI":2'],
  ] as const) {
    assert.not.ok(sameLeaseValue(a, parseLeaseValue(flannelValues['dual stack'].replace(from, to), backends)), to);
  }
  const v4 = parseLeaseValue(flannelValues['host-gw'], backends);
  const v6 = parseLeaseValue(flannelValues['IPv6 alone'], backends);
  assert.ok(samePublicAddress(a, v4));
  assert.ok(samePublicAddress(a, v6));
  assert.not.ok(samePublicAddress(v4, v6));
  assert.not.ok(samePublicAddress(parseLeaseValue('{}', backends), parseLeaseValue('{}', backends)));
});

test.run();
