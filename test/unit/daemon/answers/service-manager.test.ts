import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { watchdogIntervalMs } from '../../../../daemon/answers/service-manager.ts';

const test = suite('daemon/answers/service-manager');

test('the watchdog interval is half of the one asked for, in the process that it is meant for', () => {
  assert.is(watchdogIntervalMs({ WATCHDOG_USEC: '60000000' }, 7), 30_000);
  assert.is(watchdogIntervalMs({ WATCHDOG_USEC: '60000000', WATCHDOG_PID: '7' }, 7), 30_000);
  assert.is(watchdogIntervalMs({ WATCHDOG_USEC: '60000000', WATCHDOG_PID: '8' }, 7), undefined);
  for (const text of [undefined, '', '0', '-1', '1s'])
    assert.is(watchdogIntervalMs({ WATCHDOG_USEC: text }, 7), undefined);
});

test.run();
