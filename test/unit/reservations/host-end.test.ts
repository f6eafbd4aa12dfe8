import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { hostVethName } from '../../../reservations/host-end.ts';

const test = suite('reservations/host-end');

/** FNV-1a of 64 bits with the numbers of its authors. */
function fnv1a(text: string): bigint {
  let hash = 0xcbf29ce484222325n;
  for (const byte of new TextEncoder().encode(text))
    hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & 0xffffffffffffffffn;
  return hash;
}

test("the host's end is named by FNV-1a's lower 44 bits", () => {
  for (let i = 0; i < 500; i++) {
    const attachment = { network: `net${i % 7}`, containerId: (i * 7919).toString(36), ifname: `eth${i % 3}` };
    const { network, containerId, ifname } = attachment;
    const hash = fnv1a(`${network}/${containerId}/${ifname}`) & 0xfffffffffffn;
    assert.is(hostVethName(attachment), `veth${hash.toString(16).padStart(11, '0')}`);
  }
});

test('the name never changes, so that links of older versions are found', () => {
  assert.is(hostVethName({ network: 'weft', containerId: 'c1', ifname: 'eth0' }), 'veth1e1ef56fba0');
});

test.run();
