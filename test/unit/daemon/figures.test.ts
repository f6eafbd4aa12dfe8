import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { capacityOf, countAddresses } from '../../../daemon/answers/addresses.ts';
import { parseProcess } from '../../../daemon/answers/process-figures.ts';
import { watchdogIntervalMs } from '../../../daemon/answers/service-manager.ts';
import { errno } from '../../../linux/errors.ts';
import type { Sys } from '../../../linux/sys.ts';
import { readReservedAddresses } from '../../../reservations/reader.ts';
import { prefix } from './overlay/cluster-of.ts';

const test = suite('daemon/figures');

test('addresses that containers hold, of all that the store has', () => {
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

test('the process, by what the kernel wrote', () => {
  const stat = `42 (weftd) (x) S 1 42 42 0 -1 4194560 900 0 0 0 150 50 0 0 20 0 9 0 1200 99999999 18000 0 0`;
  const status = 'Name:\tweftd\nVmSize:\t    2048 kB\nVmRSS:\t   1024 kB\n';
  assert.equal(parseProcess(stat, status, 1_000_000), {
    cpuSeconds: 2,
    residentBytes: 1024 * 1024,
    virtualBytes: 2048 * 1024,
    startSeconds: 1_000_012,
  });
  assert.is(parseProcess('42 (weftd) S', status, 0), undefined);
});

test('the watchdog is fed at half of its time, by the process that it is for', () => {
  assert.is(watchdogIntervalMs({ WATCHDOG_USEC: '60000000' }, 7), 30_000);
  assert.is(watchdogIntervalMs({ WATCHDOG_USEC: '60000000', WATCHDOG_PID: '7' }, 7), 30_000);
  assert.is(watchdogIntervalMs({ WATCHDOG_USEC: '60000000', WATCHDOG_PID: '8' }, 7), undefined);
  for (const text of [undefined, '', '0', '-1', '1s'])
    assert.is(watchdogIntervalMs({ WATCHDOG_USEC: text }, 7), undefined);
});

test.run();
