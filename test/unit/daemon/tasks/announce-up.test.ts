import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Bell } from '../../../../daemon/pace/bell.ts';
import type { ProblemKind } from '../../../../daemon/report/problem-catalogue.ts';
import { Progress } from '../../../../daemon/report/progress.ts';
import { AnnounceUp } from '../../../../daemon/tasks/announce-up.ts';

const test = suite('daemon/tasks/announce-up');

class Scene {
  announced = 0;
  mustAnnounce = false;
  rings = 0;
  readonly problems: (string | undefined)[] = [];
  readonly progress = new Progress(0);
  readonly task: AnnounceUp;

  constructor() {
    const bell = new Bell();
    bell.listen(() => this.rings++);
    const scene = this;
    this.task = new AnnounceUp({
      store: {
        announceUp: async () => void this.announced++,
        get mustAnnounce() {
          return scene.mustAnnounce;
        },
      },
      progress: this.progress,
      problems: { report: (_: ProblemKind, problem: string | undefined) => void this.problems.push(problem) },
      bells: { announce: bell },
      deadlineMs: 1000,
    });
  }
}

test('nothing is announced before the data path stands; then once, and again when somebody says otherwise', async () => {
  const scene = new Scene();
  assert.is(await scene.task.run(), Number.POSITIVE_INFINITY);
  assert.is(scene.announced, 0);
  scene.progress.becomeReady();
  await Promise.resolve();
  assert.is(scene.rings, 1);
  await scene.task.run();
  await scene.task.run();
  assert.is(scene.announced, 1);
  scene.mustAnnounce = true;
  await scene.task.run();
  assert.is(scene.announced, 2);
});

test('a failure is told, and its end as well', async () => {
  const scene = new Scene();
  scene.task.failed(new Error('No right'));
  scene.progress.becomeReady();
  await scene.task.run();
  assert.equal(scene.problems, [
    'No right; trying again; Kubernetes may place no pods on this node until then',
    undefined,
  ]);
});

test.run();
