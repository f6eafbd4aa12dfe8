import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { errno, NetlinkError } from '../../../../linux/errors.ts';
import { retryRace } from '../../../../linux/nft/retry.ts';

const test = suite('linux/nft/retry');

/** Fails with the error as often as said. */
function failing(number: number, times: number) {
  const calls = { count: 0 };
  const work = (): string => {
    if (++calls.count <= times) throw new NetlinkError('change a chain', number);
    return 'done';
  };
  return { calls, work };
}

test('work that meets a change by another program is done again', () => {
  const { calls, work } = failing(errno.ENOENT, 3);
  assert.is(retryRace(work, 'ENOENT', 'EBUSY'), 'done');
  assert.is(calls.count, 4);
});

test('it gives up in the end, and at once after any other error', () => {
  const endless = failing(errno.EBUSY, Number.POSITIVE_INFINITY);
  assert.throws(() => retryRace(endless.work, 'EBUSY'), /EBUSY/);
  assert.is(endless.calls.count, 8);
  const other = failing(errno.EPERM, 1);
  assert.throws(() => retryRace(other.work, 'EBUSY'), /EPERM/);
  assert.is(other.calls.count, 1);
});

test.run();
