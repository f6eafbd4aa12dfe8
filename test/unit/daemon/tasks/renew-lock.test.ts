/** The renewal of the peer lock as a task. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { FilterSession } from '../../../../daemon/filter/filter-session.ts';
import { LockRenewal } from '../../../../daemon/filter/lock-renewal.ts';
import { renewLockTask } from '../../../../daemon/tasks/renew-lock.ts';
import type { Sys } from '../../../../linux/sys.ts';

const test = suite('daemon/tasks/renew-lock');
const signal = new AbortController().signal;

test('the peer lock is renewed soon, then three times in its life; a failure has the packet filter looked at', () => {
  let fails = false;
  let renewed = 0;
  let looks = 0;
  const renewalOf = (lifeMs: number) => {
    const options = { tables: [], lifeMs, keepFormer: false };
    const { firstMs, everyMs } = new LockRenewal(new FilterSession({} as Sys), options);
    const run = (): void => {
      if (fails) throw new Error('no such table');
      renewed++;
    };
    return { firstMs, everyMs, run };
  };
  const task = renewLockTask(renewalOf(30_000), { heard: () => void looks++ });
  assert.equal([task.firstMs, task.everyMs, task.jitter], [1000, 10_000, 0]);
  assert.is(renewLockTask(renewalOf(1500), { heard() {} }).firstMs, 500);
  assert.is(task.run(signal), undefined);
  assert.equal([renewed, looks], [1, 0]);
  fails = true;
  assert.is(task.run(signal), undefined);
  assert.equal([renewed, looks], [1, 1]);
});

test.run();
