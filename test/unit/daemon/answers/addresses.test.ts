import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { capacityOf, countAddresses } from '../../../../daemon/answers/addresses.ts';
import { errno } from '../../../../linux/errors.ts';
import type { Sys } from '../../../../linux/sys.ts';
import { readReservedAddresses } from '../../../../reservations/reader.ts';
import { prefix } from '../overlay/cluster-of.ts';

const test = suite('daemon/answers/addresses');

test('addresses of containers are counted per subnet', () => {
  const folders: Record<string, string[]> = {
    '/data': ['weft', 'other', 'file'],
    '/data/weft': ['10.1.1.2', '10.1.1.3', '10.1.2.9', 'fd00::5', 'lock', 'last_reserved_ip.0', '.weft-index'],
    '/data/other': ['10.1.1.77'],
  };
  const sys = { getdents: (path: string) => folders[path] ?? -errno.ENOENT } as unknown as Sys;
  assert.equal(countAddresses(readReservedAddresses(sys, '/data'), [prefix('10.1.1.0/24'), prefix('fd00::/64')]), [
    { subnet: '10.1.1.0/24', used: 3, free: 250 },
    { subnet: 'fd00::/64', used: 1, free: 2 ** 64 - 3 },
  ]);
  assert.equal(countAddresses(readReservedAddresses(sys, '/nowhere'), [prefix('10.1.1.0/30')]), [
    { subnet: '10.1.1.0/30', used: 0, free: 1 },
  ]);
  assert.is(capacityOf(prefix('10.0.0.0/31')), 0);
});

test.run();
