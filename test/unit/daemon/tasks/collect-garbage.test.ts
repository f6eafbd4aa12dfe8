/** The collection of the garbage that changes make, as a task. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Bell } from '../../../../daemon/pace/bell.ts';
import { collectGarbageTask } from '../../../../daemon/tasks/collect-garbage.ts';

const test = suite('daemon/tasks/collect-garbage');
const signal = new AbortController().signal;
const megabyte = 2 ** 20;

class Heap {
  megabytes = 30;
  collected = 0;
  isFlooded = true;
  nowMs = 0;
  readonly task = collectGarbageTask({
    collect: () => {
      this.collected++;
      this.megabytes = 26;
      this.nowMs += 100;
    },
    memoryBytes: () => this.megabytes * megabyte,
    isFlooded: () => this.isFlooded,
    changed: new Bell(),
    now: () => this.nowMs,
  });

  /** @returns how many collections there were so far */
  at(megabytes: number): number {
    this.megabytes = megabytes;
    assert.is(this.task.run(signal), Number.POSITIVE_INFINITY);
    return this.collected;
  }

  get pauseMs(): number {
    const { pauseMs } = this.task;
    return typeof pauseMs === 'function' ? pauseMs() : (pauseMs ?? 0);
  }
}

test('in a flood garbage is collected where memory has grown by 2 MB and by a twentieth, and by no less', () => {
  const heap = new Heap();
  const counts = [20, 22, 23, 28, 29, 100].map((megabytes) => heap.at(megabytes));
  // It counts from what was left.
  assert.equal(counts, [0, 0, 1, 1, 2, 3]);
});

test('without a flood nothing is collected', () => {
  const heap = new Heap();
  heap.isFlooded = false;
  assert.equal([heap.at(20), heap.at(500)], [0, 0]);
});

test('a collection that takes 100 ms is followed by none for a second, a shorter one by none for 0.3 s', () => {
  const heap = new Heap();
  assert.is(heap.pauseMs, 300);
  heap.at(20);
  heap.at(60);
  assert.is(Math.round(heap.pauseMs), 1000);
});

test('where nobody tells how much memory there is, nothing is collected', () => {
  const collect = (): void => assert.unreachable();
  const options = { collect, memoryBytes: () => undefined, isFlooded: () => true, changed: new Bell(), now: () => 0 };
  assert.is(collectGarbageTask(options).run(signal), Number.POSITIVE_INFINITY);
});

test.run();
